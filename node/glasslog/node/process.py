"""A node's life: start probes and roles, run until asked to stop or until one of them fails, end in order.

Refuses to know what roles do, and where settings come from.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from glasslog.common.addresses import parse_listeners
from glasslog.common.errors import ConfigError, GlasslogError, InvariantViolation
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import HttpAnswer, Listener, Runtime
from glasslog.node.metrics import CONTENT_TYPE, render
from glasslog.node.roles import Role

_log = logging.getLogger(__name__)

_HTTP_LISTENER = "http.listener"
_STOP_ORDER = ("broker", "controller")
"""A broker hands its leaderships over with a controller's help, so it goes first."""


class Node:
    """All roles of one process. ``run`` it once."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        config: NodeConfig,
        roles: Sequence[Role],
        termination: Callable[[], Awaitable[None]],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._roles = roles
        self._termination = termination
        self._settle = settle
        self._stopping = False

    async def run(self) -> None:
        """Until ``termination`` returns and everything has ended, or a role fails: its error is raised."""
        listener = await self._listen()
        try:
            await self._run_roles()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group
        finally:
            if listener is not None:
                await listener.close()

    async def _run_roles(self) -> None:
        async with asyncio.TaskGroup() as group:
            running = {
                role.name: group.create_task(self._run_role(role), name=role.name) for role in self._roles
            }
            ending = group.create_task(self._wait_for_end(), name="termination")
            await asyncio.wait((*running.values(), ending), return_when=asyncio.FIRST_COMPLETED)
            for name in _STOP_ORDER:
                for role in self._roles:
                    if role.name == name and not running[name].done():
                        role.stop()
                        await asyncio.wait((running[name],))
            ending.cancel()

    async def _run_role(self, role: Role) -> None:
        await role.run(lambda: self._on_ready(role))
        if not self._stopping:
            raise InvariantViolation(f"{role.name} {self._config.node_id} ended although nobody asked it to")

    def _on_ready(self, role: Role) -> None:
        _log.info("%s %d is ready", role.name, self._config.node_id)
        self._settle()

    async def _wait_for_end(self) -> None:
        await self._termination()
        self._stopping = True
        _log.info("asked to stop; a second signal ends the process at once")

    # --- probes and metrics ---

    async def _listen(self) -> Listener | None:
        address = self._config.http_listener
        return await self._runtime.transport.listen_http(address, self.answer) if address else None

    async def answer(self, path: str) -> HttpAnswer:
        """``/livez``: the process works; ``/readyz``: every role does; ``/insyncz``: none is behind.

        Who renews nodes one by one waits for ``/insyncz`` before the next: a broker is ready long before its
        replicas are in sync again.
        """
        match path:
            case "/livez":
                return _text(200, "alive")
            case "/readyz":
                return self._answer((role.name, role.missing()) for role in self._roles)
            case "/insyncz":
                return self._answer((role.name, role.behind()) for role in self._roles)
            case "/metrics":
                metrics = (metric for role in self._roles for metric in role.metrics())
                return HttpAnswer(status=200, body=render(metrics), content_type=CONTENT_TYPE)
            case _:
                return _text(404, "nothing here; try /livez, /readyz, /insyncz or /metrics")

    def _answer(self, said: Iterable[tuple[str, str]]) -> HttpAnswer:
        """What roles lack, by their names."""
        if self._stopping:
            return _text(503, "stopping")
        missing = [f"{name}: {lack}" for name, lack in said if lack]
        return _text(503, "\n".join(missing)) if missing else _text(200, "ready")


def explain(error: BaseException, config: NodeConfig) -> str:
    """One line on why the node stops; a refused port is named by its listener too."""
    text = str(error) or type(error).__name__
    match error:
        case InvariantViolation():
            return f"stopped by a bug rather than limp on: {text}"
        case OSError():
            text = error.strerror or text
            named = _listener_in(text, config)
            return f"{named}: {text}" if named else text
        case GlasslogError():
            return text
        case _:
            return f"stopped by an unexpected {type(error).__name__}: {text}"


def is_expected(error: BaseException) -> bool:
    """Whether it says all by itself, without a traceback."""
    return isinstance(error, GlasslogError | OSError)


def first_cause(error: BaseException) -> BaseException:
    """The first error that is no group: what happened first brought the others down."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _listener_in(text: str, config: NodeConfig) -> str:
    if config.http_listener and config.http_listener in text:
        return _HTTP_LISTENER
    try:
        listeners = parse_listeners(config.listeners)
    except ConfigError:
        return ""
    return next((f"listener {each.name}" for each in listeners if each.address in text), "")


def _text(status: int, body: str) -> HttpAnswer:
    return HttpAnswer(status=status, body=body.encode() + b"\n")
