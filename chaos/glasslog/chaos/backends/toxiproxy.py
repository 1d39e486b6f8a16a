"""Faults between nodes, by a Toxiproxy server whose proxies are on the ways between them.

Speaks Toxiproxy's HTTP API; refuses to know who runs the server, and when a fault is due.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

from glasslog.chaos.backends.links import PREFIX, Link, Placement, parse_link, placements
from glasslog.chaos.scenario.model import Fault
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json

_TIMEOUT_S = 10.0
_GONE, _THERE = 404, 409
_LARGEST_ANSWER_BYTES = 16 << 20


class Toxiproxy:
    """The server at ``host:port``. Methods raise ``CommandError`` when it can not do what it is asked for."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._host, _, self._port = address.rpartition(":")

    def links(self) -> list[Link]:
        """Its proxies that are called like links between nodes."""
        return [link for name in sorted(self.toxics()) if (link := parse_link(name)) is not None]

    def toxics(self) -> dict[str, list[str]]:
        """The names of all toxics by that of their proxy."""
        with self._connection() as ask:
            found = ask.json("GET", "/proxies")
        if not isinstance(found, dict):
            raise CommandError(f"there is no Toxiproxy at {self.address}: it says {found!r}")
        return {str(name): _names(proxy) for name, proxy in found.items()}

    def take_away_all(self) -> None:
        """Every toxic of ours; those of others stay."""
        with self._connection() as ask:
            for proxy, toxics in self.toxics().items():
                for toxic in toxics:
                    if toxic.startswith(PREFIX):
                        ask.json("DELETE", _path(proxy, toxic), bears=_GONE)

    def reset(self) -> None:
        """No toxics, every proxy open."""
        with self._connection() as ask:
            ask.json("POST", "/reset", {})

    def put(self, wanted: Sequence[Placement]) -> None:
        """One that is there already stays."""
        with self._connection() as ask:
            for each in wanted:
                ask.json("POST", f"/proxies/{quote(each.proxy)}/toxics", each.body, bears=_THERE)

    def take_away(self, placed: Sequence[Placement]) -> None:
        """One that is gone already was taken away by a reset."""
        with self._connection() as ask:
            for each in placed:
                ask.json("DELETE", _path(each.proxy, each.toxic), bears=_GONE)

    def _connection(self) -> "_Connection":
        return _Connection(self.address, HTTPConnection(self._host, int(self._port), timeout=_TIMEOUT_S))


def _path(proxy: str, toxic: str) -> str:
    return f"/proxies/{quote(proxy)}/toxics/{quote(toxic)}"


def _names(proxy: object) -> list[str]:
    """Of a proxy's toxics."""
    match proxy:
        case {"toxics": list(toxics)}:
            return [str(toxic["name"]) for toxic in toxics if isinstance(toxic, dict) and "name" in toxic]
        case _:
            return []


class _Connection:
    """Requests one after the other on one connection."""

    def __init__(self, address: str, connection: HTTPConnection) -> None:
        self._address = address
        self._connection = connection

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def json(
        self, method: str, path: str, body: Mapping[str, Json] | None = None, *, bears: int = 0
    ) -> object:
        """The answer's body, if any. A status of ``bears`` is well."""
        try:
            headers = {"Content-Type": "application/json"}
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._connection.getresponse()
            text = answer.read(_LARGEST_ANSWER_BYTES)
            said: object = json.loads(text) if text else None
        except (OSError, HTTPException, ValueError) as error:
            raise CommandError(f"the proxies at {self._address} do not answer: {error}") from None
        if answer.status >= 400 and answer.status != bears:
            reason = said.get("error") if isinstance(said, dict) else text.decode("utf-8", "replace")
            raise CommandError(f"the proxies at {self._address} refuse {method} {path}: {reason}")
        return said


class ProxyFaults:
    """Does and undoes faults between nodes."""

    def __init__(self, server: Toxiproxy) -> None:
        self._server = server

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        """Raises ``CommandError`` also when no proxy is concerned; then nothing of it is left."""
        await asyncio.to_thread(self._disturb, fault, sorted(names), others)

    def _disturb(self, fault: Fault, names: Sequence[str], others: Collection[str]) -> None:
        wanted = placements(fault, names, others, self._server.links())
        if not wanted:
            raise CommandError(f"no proxy at {self._server.address} is between {', '.join(names)} and others")
        try:
            self._server.put(wanted)
        except CommandError:
            self._server.take_away(wanted)
            raise

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        """End a fault."""
        await asyncio.to_thread(self._calm, fault, sorted(names), others)

    def _calm(self, fault: Fault, names: Sequence[str], others: Collection[str]) -> None:
        self._server.take_away(placements(fault, names, others, self._server.links()))

    async def end_all(self) -> None:
        """Whoever began them."""
        await asyncio.to_thread(self._server.take_away_all)
