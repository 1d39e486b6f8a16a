"""Unary calls over the in-memory network: requests and replies that may be lost, late or doubled.

Refuses to know services and what the bytes mean.
"""

import asyncio
import logging
from collections.abc import Callable

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.network import Host, MemoryNetwork
from glasslog.common.runtime.memory.streams import unexpected
from glasslog.common.runtime.protocols import Peer, TransportError, UnaryHandler

_LOGGER = logging.getLogger(__name__)


class Call:
    """One call, as its caller holds it."""

    def __init__(
        self,
        network: MemoryNetwork,
        client: Host,
        server: Host,
        *,
        port: int,
        client_address: str,
        method: str,
        request: bytes,
        timeout_ms: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.network = network
        self.client = client
        self.server = server
        self.client_address = client_address
        self.method = method
        self.request = request
        self.timeout_ms = timeout_ms
        self.deadline = loop.time() + timeout_ms / 1_000
        self._port = port
        self._served: list[ServedCall] = []
        self._reply: asyncio.Future[bytes] = loop.create_future()

    async def run(self) -> bytes:
        """Send, wait, and tell the server when nobody waits any more."""
        self.client.residents[self] = None
        self._launch()
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._reply
        except TimeoutError:
            raise TransportError(
                f"{self.method} to {self.server.name}:{self._port} timed out after {self.timeout_ms} ms",
                ErrorCode.REQUEST_TIMED_OUT,
            ) from None
        finally:
            self.client.residents.pop(self, None)
            if self._reply.cancelled() or not self._reply.done():
                self._abandon()

    def serve(self, handler: UnaryHandler, on_done: "DoneHook") -> "ServedCall":
        """Start serving one arrival of this call."""
        served = ServedCall(self, handler, on_done)
        self._served.append(served)
        return served

    def succeed(self, reply: bytes) -> None:
        self._answer(lambda: self._settle(reply))

    def fail(self, error: GlasslogError) -> None:
        self._answer(lambda: self._settle(error))

    def refuse(self, why: str, code: ErrorCode = ErrorCode.NETWORK_EXCEPTION) -> None:
        self.fail(TransportError(f"{self.method} to {self.server.name}:{self._port} failed: {why}", code))

    def vanish(self) -> None:
        self.give_up("this process is dead")

    def give_up(self, why: str) -> None:
        """Fail at the caller's end and cancel the handler."""
        self._settle(TransportError(f"{self.method} to {self.server.name}:{self._port} failed: {why}"))
        self._abandon()

    def _launch(self) -> None:
        if not self.network.drawn(self.network.drop_probability):
            self.network.post(self.client.name, self.server.name, self._arrive)
        if self.network.drawn(self.network.duplicate_probability):
            self.network.post(self.client.name, self.server.name, self._arrive)

    def _arrive(self) -> None:
        # As a server that reads a deadline already past, after a pause.
        if asyncio.get_running_loop().time() >= self.deadline:
            return
        endpoint = self.server.endpoints.get(self._port)
        if endpoint is None:
            self.refuse("connection refused")
        else:
            endpoint.arrive(self)

    def _answer(self, action: Callable[[], None]) -> None:
        if not self.network.drawn(self.network.drop_probability):
            self.network.post(self.server.name, self.client.name, action)

    def _settle(self, result: bytes | GlasslogError) -> None:
        if self._reply.done():
            return
        if isinstance(result, bytes):
            self._reply.set_result(result)
        else:
            self._reply.set_exception(result)
            # A caller that was cancelled at the same moment never looks at it.
            self._reply.exception()

    def _abandon(self) -> None:
        self.network.post(self.client.name, self.server.name, self._cancel_served)

    def _cancel_served(self) -> None:
        for served in self._served:
            served.task.cancel()


class ServedCall:
    """One arrival of a call at its server, with the task of its handler."""

    def __init__(self, call: Call, handler: UnaryHandler, on_done: "DoneHook") -> None:
        loop = asyncio.get_running_loop()
        self._call = call
        self._on_done = on_done
        call.server.residents[self] = None
        self.task = loop.create_task(self._serve(handler), name=f"serve {call.method} on {call.server.name}")
        self._deadline = loop.call_at(call.deadline, self.task.cancel)
        # Not a ``finally`` in the task: one that is cancelled before its first step never runs at all.
        self.task.add_done_callback(self._conclude)

    def cut(self, why: str) -> None:
        """The endpoint stops: tell the caller and cancel the handler."""
        self._call.refuse(why)
        self.task.cancel()

    def vanish(self) -> None:
        self.cut("connection reset by peer")

    async def _serve(self, handler: UnaryHandler) -> None:
        try:
            self._call.succeed(await handler(self._call.request, Peer(self._call.client_address)))
        except GlasslogError as error:
            self._call.fail(GlasslogError(error.code, str(error)))
        except asyncio.CancelledError:
            # Nobody waits for the reply: the caller gave up or has been told.
            pass
        except Exception as error:
            _LOGGER.exception("%s failed", self._call.method)
            self._call.fail(unexpected(error, self._call.method))

    def _conclude(self, task: asyncio.Task[None]) -> None:
        self._deadline.cancel()
        self._call.server.residents.pop(self, None)
        self._on_done(self)


DoneHook = Callable[[ServedCall], None]
