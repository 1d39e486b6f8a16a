"""The proxies there are: named listeners, their toxics, their connections.

Refuses to know HTTP.  Source of the rules: Toxiproxy 2.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from glasslog.chaos.toxiproxy.errors import (
    BadRequestBody,
    CannotListen,
    MissingField,
    ProxyAlreadyExists,
    ProxyNotFound,
    ToxicAlreadyExists,
    ToxicNotFound,
)
from glasslog.chaos.toxiproxy.link import Link
from glasslog.chaos.toxiproxy.toxics import (
    Direction,
    Toxic,
    as_object,
    parse_toxic,
    text_of,
    update_toxic,
)
from glasslog.common.errors import ConfigError
from glasslog.common.runtime.addresses import join_address, split_address

_LOGGER = logging.getLogger(__name__)
_MAX_CONNECTIONS = 10_000
"""Per proxy; what comes beyond is closed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a request says of a proxy; an empty ``listen`` is a free port of this machine."""

    name: str
    listen: str
    upstream: str
    enabled: bool


class Proxy:
    """A listener that forwards to ``upstream``; once it listened, ``shape.listen`` is the address it got."""

    def __init__(self, shape: Shape, random: Random) -> None:
        self.shape = shape
        self._random = random
        self._toxics: dict[str, Toxic] = {}
        self._links: dict[Link, asyncio.Task[None] | None] = {}
        self._server: asyncio.Server | None = None

    # --- running ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, if it does not already. Raises ``CannotListen`` or ``BadRequestBody``."""
        if self._server is not None:
            return
        host, port = _address(self.shape.listen or "127.0.0.1:0", "listen")
        try:
            self._server = await asyncio.start_server(self._serve, host, port)
        except OSError as error:
            raise CannotListen(f"{self.shape.listen}: {error.strerror or error}") from error
        bound_host, bound_port = self._server.sockets[0].getsockname()[:2]
        self._become(listen=join_address(bound_host, bound_port), enabled=True)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        tasks = [task for task in self._links.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._become(enabled=False)

    async def update(self, wanted: Shape) -> None:
        """Change address, upstream or whether it is enabled; a change of either address restarts it."""
        _address(wanted.upstream, "upstream")
        if (wanted.listen, wanted.upstream) != (self.shape.listen, self.shape.upstream):
            await self.stop()
            self.shape = wanted
        if wanted.enabled:
            await self.start()
        else:
            await self.stop()

    def _become(self, *, enabled: bool, listen: str | None = None) -> None:
        self.shape = Shape(
            name=self.shape.name,
            listen=self.shape.listen if listen is None else listen,
            upstream=self.shape.upstream,
            enabled=enabled,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._links) >= _MAX_CONNECTIONS:
            writer.close()
            return
        host, port = _address(self.shape.upstream, "upstream")
        try:
            server = await asyncio.open_connection(host, port)
        except OSError as error:
            _LOGGER.warning("%s: upstream %s: %s", self.shape.name, self.shape.upstream, error)
            writer.close()
            return
        link = Link(
            client=(reader, writer),
            server=server,
            toxics={direction: self._of(direction) for direction in Direction},
            random=self._random,
        )
        if self._server is None:
            # Disabled while the upstream was dialled.
            writer.close()
            server[1].close()
            return
        self._links[link] = asyncio.current_task()
        try:
            await link.run()
        finally:
            del self._links[link]

    # --- toxics -----------------------------------------------------------------------------------------

    @property
    def toxics(self) -> Sequence[Toxic]:
        return tuple(self._toxics.values())

    def toxic(self, name: str) -> Toxic:
        """The toxic of that name; raises ``ToxicNotFound``."""
        try:
            return self._toxics[name]
        except KeyError:
            raise ToxicNotFound(name) from None

    def add_toxic(self, body: object) -> Toxic:
        """Let a new toxic act, on connections that are open as well.

        Raises ``ToxicAlreadyExists`` and what ``parse_toxic`` raises.
        """
        toxic = parse_toxic(body)
        if toxic.name in self._toxics:
            raise ToxicAlreadyExists(toxic.name)
        self._put(toxic)
        return toxic

    def update_toxic(self, name: str, body: object) -> Toxic:
        """Change what ``body`` names; raises ``ToxicNotFound`` or ``BadRequestBody``."""
        changed = update_toxic(self.toxic(name), body)
        self._put(changed)
        return changed

    def remove_toxic(self, name: str) -> None:
        """Stop a toxic; raises ``ToxicNotFound``."""
        toxic = self.toxic(name)
        del self._toxics[name]
        self._tell(toxic.direction)

    def remove_toxics(self) -> None:
        """Stop all of them."""
        self._toxics.clear()
        for direction in Direction:
            self._tell(direction)

    def _put(self, toxic: Toxic) -> None:
        self._toxics[toxic.name] = toxic
        self._tell(toxic.direction)

    def _tell(self, direction: Direction) -> None:
        toxics = self._of(direction)
        for link in self._links:
            link.set_toxics(direction, toxics)

    def _of(self, direction: Direction) -> list[Toxic]:
        return [toxic for toxic in self._toxics.values() if toxic.direction == direction]

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.shape.name,
            "listen": self.shape.listen,
            "upstream": self.shape.upstream,
            "enabled": self.shape.enabled,
            "toxics": [toxic.to_json() for toxic in self._toxics.values()],
        }


class Proxies:
    """All proxies by name. ``random`` decides on jitter and toxicity."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._proxies: dict[str, Proxy] = {}

    @property
    def by_name(self) -> Mapping[str, Proxy]:
        return self._proxies

    def get(self, name: str) -> Proxy:
        """The proxy of that name; raises ``ProxyNotFound``."""
        try:
            return self._proxies[name]
        except KeyError:
            raise ProxyNotFound(name) from None

    async def create(self, body: object) -> Proxy:
        """A new proxy.

        Raises ``MissingField``, ``BadRequestBody``, ``ProxyAlreadyExists`` or ``CannotListen``.
        """
        shape = _parse_new(body)
        if shape.name in self._proxies:
            raise ProxyAlreadyExists(shape.name)
        return await self._add(shape)

    async def populate(self, body: object) -> list[Proxy]:
        """Create the proxies of a list; those that exist as asked stay, others are replaced."""
        if not isinstance(body, list):
            raise BadRequestBody("a JSON list of proxies is wanted")
        shapes = [_parse_new(each) for each in body]
        populated = []
        for shape in shapes:
            known = self._proxies.get(shape.name)
            if known is not None and _is_same(known.shape, shape):
                await known.update(_with_listen(shape, known.shape.listen))
                populated.append(known)
                continue
            if known is not None:
                await self.remove(shape.name)
            populated.append(await self._add(shape))
        return populated

    async def _add(self, shape: Shape) -> Proxy:
        proxy = Proxy(_with_listen(shape, shape.listen, enabled=False), self._random)
        if shape.enabled:
            await proxy.start()
        self._proxies[shape.name] = proxy
        return proxy

    async def update(self, name: str, body: object) -> Proxy:
        """Change a proxy; raises as ``create`` does, or ``ProxyNotFound``."""
        proxy = self.get(name)
        given = {
            "listen": proxy.shape.listen,
            "upstream": proxy.shape.upstream,
            "enabled": proxy.shape.enabled,
            **as_object(body),
            "name": name,
        }
        await proxy.update(_parse_new(given))
        return proxy

    async def remove(self, name: str) -> None:
        """Stop and forget a proxy; raises ``ProxyNotFound``."""
        proxy = self.get(name)
        await proxy.stop()
        del self._proxies[name]

    async def reset(self) -> None:
        """Every toxic goes, every proxy is enabled."""
        for proxy in list(self._proxies.values()):
            proxy.remove_toxics()
            await proxy.start()

    async def close(self) -> None:
        """Stop all proxies."""
        for name in list(self._proxies):
            await self.remove(name)


def _parse_new(body: object) -> Shape:
    given = as_object(body)
    shape = Shape(
        name=text_of(given, "name"),
        listen=text_of(given, "listen"),
        upstream=text_of(given, "upstream"),
        enabled=_flag(given),
    )
    if not shape.name:
        raise MissingField("name")
    if not shape.upstream:
        raise MissingField("upstream")
    _address(shape.upstream, "upstream")
    if shape.listen:
        _address(shape.listen, "listen")
    return shape


def _flag(given: Mapping[str, object]) -> bool:
    enabled = given.get("enabled", True)
    if not isinstance(enabled, bool):
        raise BadRequestBody(f"enabled must be true or false, not {enabled!r}")
    return enabled


def _is_same(known: Shape, wanted: Shape) -> bool:
    return known.upstream == wanted.upstream and wanted.listen in ("", known.listen)


def _with_listen(shape: Shape, listen: str, *, enabled: bool | None = None) -> Shape:
    return Shape(
        name=shape.name,
        listen=listen,
        upstream=shape.upstream,
        enabled=shape.enabled if enabled is None else enabled,
    )


def _address(text: str, what: str) -> tuple[str, int]:
    try:
        # An empty host means every interface, as in Go.
        return split_address(f"0.0.0.0{text}" if text.startswith(":") else text)
    except ConfigError as error:
        raise BadRequestBody(f"{what}: {error}") from None
