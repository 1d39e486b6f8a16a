"""A tiny HTTP/1.1 server for GETs: probes and metrics.

One answer a connection, bounded headers, bounded patience.  Refuses to know the paths.
"""

import asyncio
import logging
from typing import cast

import h11
from glasslog.common.runtime.addresses import split_address
from glasslog.common.runtime.production.sockets import bound_port, explained
from glasslog.common.runtime.protocols import HttpAnswer, HttpHandler

_LOGGER = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 16 << 10
_PATIENCE_S = 30.0
_MAX_CONNECTIONS = 128


class HttpListener:
    """See ``protocols.Listener``."""

    def __init__(self, handler: HttpHandler) -> None:
        self.handler = handler
        self._server: asyncio.Server | None = None
        self._connections: dict[_HttpProtocol, None] = {}

    async def start(self, address: str) -> None:
        host, port = split_address(address)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _HttpProtocol(self), host, port
            )
        except OSError as error:
            raise explained(error, address) from None

    @property
    def port(self) -> int:
        assert self._server is not None
        return bound_port(self._server)

    async def close(self, *, grace_ms: int = 0) -> None:
        assert self._server is not None
        self._server.close()
        answering = [each.task for each in self._connections if each.task is not None]
        if answering and grace_ms > 0:
            await asyncio.wait(answering, timeout=grace_ms / 1_000)
        for connection in list(self._connections):
            connection.abort()
        if answering:
            await asyncio.wait(answering)

    def opened(self, connection: "_HttpProtocol") -> bool:
        """Whether there is room for one more."""
        self._connections[connection] = None
        return len(self._connections) <= _MAX_CONNECTIONS

    def closed(self, connection: "_HttpProtocol") -> None:
        self._connections.pop(connection, None)


class _HttpProtocol(asyncio.Protocol):
    """One connection: one request, one answer, the end."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._listener.opened(self):
            self._transport.abort()
            return
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        if self.task is not None:
            # A second request on the connection, or a body: neither is read.
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._send(HttpAnswer(status=error.error_status_hint, body=f"{error}\n".encode()))
            return
        if isinstance(event, h11.Request):
            self.task = asyncio.get_running_loop().create_task(self._answer(event))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self.task is not None:
            self.task.cancel()
        self._listener.closed(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _answer(self, request: h11.Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            self._send(HttpAnswer(status=405, body=b"only GET is served here\n"), allow=True)
            return
        path = request.target.decode("latin-1").partition("?")[0]
        try:
            answer = await self._listener.handler(path)
        except Exception:
            _LOGGER.exception("answering GET %s failed", path)
            answer = HttpAnswer(status=500, body=b"internal error\n")
        self._send(answer, with_body=request.method == b"GET")

    def _send(self, answer: HttpAnswer, *, with_body: bool = True, allow: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ]
        if allow:
            headers.append(("Allow", "GET, HEAD"))
        if self._http.our_state is not h11.ERROR:
            head = self._http.send(h11.Response(status_code=answer.status, headers=headers))
            self._transport.write((head or b"") + (answer.body if with_body else b""))
        self._transport.close()
