"""The in-memory transport of one process on one host: channels, framed connections, listeners.

Refuses to know what travels. After its host was killed, a transport is as dead as its process.
"""

import asyncio
import errno
import os
from typing import Protocol

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.addresses import join_address, split_address
from glasslog.common.runtime.memory.calls import Call, ServedCall
from glasslog.common.runtime.memory.frames import FrameOpening, MemoryFrameConnection
from glasslog.common.runtime.memory.network import Endpoint, Host, Knock, MemoryNetwork
from glasslog.common.runtime.memory.streams import ClientStream, ServerStream, StreamOpening
from glasslog.common.runtime.protocols import (
    Channel,
    FrameAcceptor,
    FrameConnection,
    FrameHandler,
    HttpAnswer,
    HttpHandler,
    Listener,
    Services,
    Stream,
    TransportError,
)

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})
_SHUTTING_DOWN = "the server is shutting down"


class _DrainableEndpoint(Endpoint, Protocol):
    async def drain(self, grace_ms: int) -> None:
        """Wait up to that long for what is in flight, then cut it."""
        ...


class RpcEndpoint:
    """Serves unary calls and streams on a port."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._active: dict[ServedCall | ServerStream, None] = {}

    def arrive(self, knock: Knock) -> None:
        match knock:
            case Call():
                unary = self._services.unary.get(knock.method)
                if unary is None:
                    knock.refuse(f"no such method: {knock.method}", ErrorCode.UNSUPPORTED_VERSION)
                else:
                    self._active[knock.serve(unary, self._on_done)] = None
            case StreamOpening():
                streaming = self._services.streams.get(knock.method)
                if streaming is None:
                    knock.refuse(f"no such method: {knock.method}", ErrorCode.UNSUPPORTED_VERSION)
                else:
                    self._active[ServerStream(knock, streaming, self._on_done)] = None
            case _:
                knock.refuse("the port serves RPC only")

    def vanish(self) -> None:
        self._active.clear()

    async def drain(self, grace_ms: int) -> None:
        in_flight = [each.task for each in self._active if each.task is not asyncio.current_task()]
        if in_flight and grace_ms > 0:
            await asyncio.wait(in_flight, timeout=grace_ms / 1_000)
        for each in list(self._active):
            each.cut(_SHUTTING_DOWN)

    def _on_done(self, served: ServedCall | ServerStream) -> None:
        self._active.pop(served, None)


class FrameEndpoint:
    """Accepts framed connections on a port."""

    def __init__(self, accept: FrameAcceptor, *, max_frame_bytes: int) -> None:
        self._accept = accept
        self._max_frame_bytes = max_frame_bytes
        self._active: dict[MemoryFrameConnection, None] = {}
        self._idle = asyncio.Event()

    def arrive(self, knock: Knock) -> None:
        if not isinstance(knock, FrameOpening):
            knock.refuse("the port serves frames only")
            return
        end = MemoryFrameConnection(
            knock, is_client=False, max_frame_bytes=self._max_frame_bytes, on_done=self._on_done
        )
        self._active[end] = None
        knock.accept(end)
        end.start(self._accept(end))

    def vanish(self) -> None:
        self._active.clear()

    async def drain(self, grace_ms: int) -> None:
        if self._active and grace_ms > 0:
            self._idle.clear()
            try:
                async with asyncio.timeout(grace_ms / 1_000):
                    await self._idle.wait()
            except TimeoutError:
                pass
        for connection in list(self._active):
            connection.close()

    def _on_done(self, connection: MemoryFrameConnection) -> None:
        self._active.pop(connection, None)
        if not self._active:
            self._idle.set()


class HttpEndpoint:
    """Answers HTTP GETs on a port; tests ask through ``MemoryTransport.http_get``."""

    def __init__(self, handler: HttpHandler) -> None:
        self.handler = handler

    def arrive(self, knock: Knock) -> None:
        knock.refuse("the port serves HTTP only")

    def vanish(self) -> None: ...

    async def drain(self, grace_ms: int) -> None: ...


class MemoryListener:
    """See ``protocols.Listener``."""

    def __init__(self, host: Host, port: int, endpoint: _DrainableEndpoint) -> None:
        self._host = host
        self._port = port
        self._endpoint = endpoint
        host.endpoints[port] = endpoint

    @property
    def port(self) -> int:
        return self._port

    async def close(self, *, grace_ms: int = 0) -> None:
        if self._host.endpoints.get(self._port) is self._endpoint:
            del self._host.endpoints[self._port]
        await self._endpoint.drain(grace_ms)


class MemoryChannel:
    """See ``protocols.Channel``."""

    def __init__(self, transport: "MemoryTransport", address: str) -> None:
        self._transport = transport
        self._server, self._port = transport.locate(address)
        self._address = join_address(self._server.name, self._port)
        host = transport.host
        self._client_address = join_address(host.name, host.take_ephemeral_port())
        self._streams: dict[ClientStream, None] = {}
        self._calls: dict[Call, None] = {}
        self._closed = False

    async def unary(self, method: str, request: bytes, *, timeout_ms: int) -> bytes:
        self._check_usable()
        call = Call(
            self._transport.network,
            self._transport.host,
            self._server,
            port=self._port,
            client_address=self._client_address,
            method=method,
            request=bytes(request),
            timeout_ms=timeout_ms,
        )
        self._calls[call] = None
        try:
            return await call.run()
        finally:
            self._calls.pop(call, None)

    def stream(self, method: str) -> Stream:
        self._check_usable()
        network = self._transport.network
        opening = StreamOpening(network, self._transport.host, self._server, self._port, method)
        stream = ClientStream(opening)
        self._streams = {each: None for each in self._streams if not each.is_finished}
        self._streams[stream] = None
        return stream

    async def close(self) -> None:
        self._closed = True
        for call in list(self._calls):
            call.give_up("the channel was closed")
        streams, self._streams = self._streams, {}
        for stream in streams:
            await stream.close()

    def _check_usable(self) -> None:
        self._transport.check_alive()
        if self._closed:
            raise TransportError(f"channel to {self._address} is closed")


class MemoryTransport:
    """See ``protocols.Transport``; made by ``MemoryWorld`` or directly, one for each life of a host."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self.network = network
        self.host = network.host(host)
        self._incarnation = self.host.incarnation

    def dial(self, address: str) -> Channel:
        return MemoryChannel(self, address)

    async def listen(self, address: str, services: Services) -> Listener:
        return self._bind(address, RpcEndpoint(services))

    async def dial_frames(
        self, address: str, handler: FrameHandler, *, timeout_ms: int, max_frame_bytes: int
    ) -> FrameConnection:
        self.check_alive()
        server, port = self.locate(address)
        connection = MemoryFrameConnection(
            FrameOpening(self.network, self.host, server, port),
            is_client=True,
            max_frame_bytes=max_frame_bytes,
            on_done=lambda _: None,
        )
        await connection.connect(handler, timeout_ms=timeout_ms)
        return connection

    async def listen_frames(self, address: str, accept: FrameAcceptor, *, max_frame_bytes: int) -> Listener:
        return self._bind(address, FrameEndpoint(accept, max_frame_bytes=max_frame_bytes))

    async def listen_http(self, address: str, handler: HttpHandler) -> Listener:
        return self._bind(address, HttpEndpoint(handler))

    async def http_get(self, address: str, path: str) -> HttpAnswer:
        """Ask an HTTP endpoint in memory, for tests; ``TransportError`` when nothing listens there."""
        self.check_alive()
        server, port = self.locate(address)
        await asyncio.sleep(self.network.draw_delay_s(self.host.name, server.name))
        endpoint = server.endpoints.get(port)
        if not isinstance(endpoint, HttpEndpoint):
            raise TransportError(f"no HTTP endpoint on {address}")
        answer = await endpoint.handler(path)
        await asyncio.sleep(self.network.draw_delay_s(server.name, self.host.name))
        return answer

    def locate(self, address: str) -> tuple[Host, int]:
        """The host and port an address means, seen from this host."""
        name, port = split_address(address)
        return (self.host if name in _OWN_NAMES else self.network.host(name)), port

    def check_alive(self) -> None:
        """``TransportError`` when this process was killed."""
        if self._incarnation != self.host.incarnation:
            raise TransportError(f"this process on {self.host.name} is dead")

    def _bind(self, address: str, endpoint: _DrainableEndpoint) -> MemoryListener:
        self.check_alive()
        host, port = self.locate(address)
        if host is not self.host:
            raise OSError(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: {address}")
        if port == 0:
            port = host.take_free_port()
        if port in host.endpoints:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {address}")
        return MemoryListener(host, port, endpoint)
