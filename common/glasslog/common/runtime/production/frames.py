"""Length-prefixed frames over TCP, on asyncio's buffered protocol.

All connections receive into one shared buffer, so an idle connection holds none; only an unfinished frame has
memory of its own, which grows as its bytes arrive and never by its declared length alone.  Refuses to know
what a frame means.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.addresses import split_address
from glasslog.common.runtime.production.sockets import bound_port, explained, peer_address, tune
from glasslog.common.runtime.protocols import (
    Buffer,
    FrameAcceptor,
    FrameConnection,
    FrameHandler,
    Peer,
    TransportError,
)

_LOGGER = logging.getLogger(__name__)

_PREFIX = struct.Struct(">i")
_GREETINGS = {
    b"PRI ": "HTTP/2, as gRPC clients speak it: is it meant for a GRPC listener?",
    b"GET ": "HTTP",
    b"POST": "HTTP",
    b"HEAD": "HTTP",
}
"""Other protocols by their first four bytes, which are no length of a frame."""

_RECEIVE_BYTES = 256 << 10
_JOIN_BELOW_BYTES = 4 << 10
_HIGH_WATER_BYTES = 1 << 20
_GROWTH = 4
_LINGER_S = 1.0
_ABORT_PATIENCE_MS = 1_000


class ReceiveBuffer:
    """The memory that all connections of one loop receive into, one read at a time."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_RECEIVE_BYTES))


class FrameProtocol(asyncio.BufferedProtocol):
    """One connection; see ``protocols.FrameConnection`` for the calls and ``FrameHandler`` for the events."""

    def __init__(
        self,
        shared: ReceiveBuffer,
        make_handler: FrameAcceptor,
        *,
        max_frame_bytes: int,
        on_done: Callable[["FrameProtocol"], None],
    ) -> None:
        self._shared = shared
        self._make_handler = make_handler
        self._max_frame_bytes = max_frame_bytes
        self._on_done = on_done
        self._peer = Peer("unknown")
        self._transport: asyncio.Transport | None = None
        self._handler: FrameHandler | None = None
        self._error: Exception | None = None
        self._closing = False
        self._reading_paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed_here = False
        self._linger_timer: asyncio.TimerHandle | None = None
        # Small frames sent while those of one read are handled: they leave together, in one system call.
        self._gathered: list[Buffer] = []
        self._gathers = False
        # Received while reading was paused, not looked at yet.
        self._backlog = b""
        # An unfinished frame, its prefix included, and how much of it is there.
        self._partial = bytearray()
        self._partial_end = 0

    # --- FrameConnection --------------------------------------------------------------------------------

    @property
    def peer(self) -> Peer:
        return self._peer

    def send(self, parts: Sequence[Buffer]) -> None:
        """Queue one frame. The parts are not copied if large: leave them unchanged until sent."""
        if self._transport is None or self._closing:
            return
        size_bytes = sum(map(len, parts))
        prefix = _PREFIX.pack(size_bytes)
        if size_bytes >= _JOIN_BELOW_BYTES:
            self._send_gathered()
            self._transport.writelines((prefix, *parts))
        elif self._gathers:
            self._gathered += (prefix, *parts)
        else:
            self._transport.write(b"".join((prefix, *parts)))

    def _send_gathered(self) -> None:
        if self._gathered and self._transport is not None:
            gathered, self._gathered = self._gathered, []
            self._transport.write(b"".join(gathered))

    async def writable(self) -> None:
        await self._writable.wait()
        if self._closing:
            raise TransportError(f"connection with {self._peer.address} is closed")

    def pause_reading(self) -> None:
        self._reading_paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            asyncio.get_running_loop().call_soon(self._continue_reading)

    def close(self) -> None:
        """Send what is queued, then end. What still arrives is read and dropped.

        A socket closed with unread data makes the kernel reset the connection, and the peer may lose what it
        has not read yet; so this end first only stops sending, and waits a while for the peer to hang up.
        """
        if self._closing or self._transport is None or self._transport.is_closing():
            return
        self._send_gathered()
        self._closed_here = True
        self._closing = True
        self._writable.set()
        self._transport.write_eof()
        self._transport.resume_reading()
        self._linger(unsent_bytes=-1)

    # --- asyncio's events -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface of asyncio.Transport without its class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._peer = Peer(peer_address(transport))
        tune(transport.get_extra_info("socket"))
        try:
            self._handler = self._make_handler(self)
        except Exception:
            _LOGGER.exception("accepting a connection from %s failed", self._peer.address)
            self._fail(TransportError("the connection was not accepted"))

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._partial:
            return memoryview(self._partial)[self._partial_end :]
        return self._shared.view

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        if self._reading_paused:
            self._keep_for_later(nbytes)
        elif self._partial:
            self._partial_end += nbytes
            self._continue_partial()
        else:
            self._feed(self._shared.view[:nbytes])

    def eof_received(self) -> bool:
        """Answers under way are not cut: the transport closes itself once they are written."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._writable.set()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._on_done(self)
        if self._closed_here:
            pass
        elif self._error is None and exc is not None:
            self._error = TransportError(f"connection with {self._peer.address} broke: {exc}")
        elif self._error is None and self._partial:
            self._error = TransportError(f"{self._peer.address} hung up in the middle of a frame")
        self._partial = bytearray()
        self._backlog = b""
        self._gathered = []
        if self._handler is not None:
            try:
                self._handler.on_closed(self._error)
            except Exception:
                _LOGGER.exception("the end of a connection with %s was not handled", self._peer.address)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def abort(self) -> None:
        """Close without sending what is queued."""
        self._closing = True
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()

    def _linger(self, *, unsent_bytes: int) -> None:
        """Give the peer another while as long as it takes something in."""
        if self._transport is None or self._transport.is_closing():
            return
        now_unsent_bytes = self._transport.get_write_buffer_size()
        if now_unsent_bytes == unsent_bytes:
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._linger_timer = loop.call_later(_LINGER_S, lambda: self._linger(unsent_bytes=now_unsent_bytes))

    # --- parsing ----------------------------------------------------------------------------------------

    def _feed(self, data: memoryview) -> None:
        """Deliver the whole frames in ``data`` and keep the rest."""
        self._gathers = True
        self._deliver_all(data)
        self._gathers = False
        if not self._closing:
            self._send_gathered()

    def _deliver_all(self, data: memoryview) -> None:
        position, end = 0, len(data)
        while end - position >= _PREFIX.size:
            if self._reading_paused:
                self._backlog = bytes(data[position:])
                return
            (length,) = _PREFIX.unpack_from(data, position)
            if not self._is_acceptable(length):
                return
            frame_end = position + _PREFIX.size + length
            if frame_end > end:
                break
            self._deliver(data[position + _PREFIX.size : frame_end])
            if self._closing:
                return
            position = frame_end
        if position < end:
            self._begin_partial(data[position:])

    def _keep_for_later(self, size_bytes: int) -> None:
        """A read was under way at the pause; uvloop also starts reading only after ``connection_made``."""
        if self._partial:
            self._partial_end += size_bytes
            self._backlog = bytes(memoryview(self._partial)[: self._partial_end])
            self._partial = bytearray()
        else:
            self._backlog += self._shared.view[:size_bytes]
        assert self._transport is not None
        self._transport.pause_reading()

    def _begin_partial(self, rest: memoryview) -> None:
        self._partial = bytearray(max(_PREFIX.size, len(rest)))
        self._partial[: len(rest)] = rest
        self._partial_end = len(rest)
        if self._partial_end > _PREFIX.size:
            self._grow_partial(_PREFIX.unpack_from(self._partial)[0])

    def _continue_partial(self) -> None:
        if self._partial_end < len(self._partial):
            return
        (length,) = _PREFIX.unpack_from(self._partial)
        if not self._is_acceptable(length):
            return
        if self._partial_end < _PREFIX.size + length:
            self._grow_partial(length)
            return
        whole, self._partial = self._partial, bytearray()
        self._deliver(memoryview(whole)[_PREFIX.size :])

    def _grow_partial(self, length: int) -> None:
        """More room for the unfinished frame, never beyond its end and not far beyond what has arrived."""
        room = min(_PREFIX.size + length, max(_RECEIVE_BYTES, _GROWTH * self._partial_end))
        larger = bytearray(room)
        larger[: self._partial_end] = memoryview(self._partial)[: self._partial_end]
        self._partial = larger

    def _is_acceptable(self, length: int) -> bool:
        if 0 <= length <= self._max_frame_bytes:
            return True
        self._fail(
            TransportError(
                f"a frame from {self._peer.address} declares {length} bytes; "
                f"allowed are 0 to {self._max_frame_bytes}{_greeting(length)}",
                ErrorCode.INVALID_REQUEST,
            )
        )
        return False

    def _deliver(self, frame: memoryview) -> None:
        assert self._handler is not None
        try:
            self._handler.on_frame(frame)
        except Exception as error:
            _LOGGER.exception("a frame from %s was not handled", self._peer.address)
            self._fail(TransportError(f"handling a frame failed with {type(error).__name__}"))

    def _continue_reading(self) -> None:
        if self._reading_paused or self._closing or self._transport is None:
            return
        backlog, self._backlog = self._backlog, b""
        if backlog:
            self._feed(memoryview(backlog))
        if not self._reading_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _fail(self, error: TransportError) -> None:
        if self._error is None:
            self._error = error
        self.abort()


class FrameListener:
    """See ``protocols.Listener``."""

    def __init__(self) -> None:
        self._connections: dict[FrameProtocol, None] = {}
        self._idle = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(
        self, address: str, make: Callable[[Callable[[FrameProtocol], None]], FrameProtocol]
    ) -> None:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()

        def accept() -> FrameProtocol:
            protocol = make(self._on_done)
            self._connections[protocol] = None
            return protocol

        try:
            self._server = await loop.create_server(accept, host, port)
        except OSError as error:
            raise explained(error, address) from None

    @property
    def port(self) -> int:
        assert self._server is not None
        return bound_port(self._server)

    async def close(self, *, grace_ms: int = 0) -> None:
        assert self._server is not None
        self._server.close()
        if self._connections and grace_ms > 0:
            await self._until_idle(grace_ms)
        for protocol in list(self._connections):
            protocol.abort()
        await self._until_idle(_ABORT_PATIENCE_MS)

    async def _until_idle(self, timeout_ms: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1_000):
                while self._connections:
                    self._idle.clear()
                    await self._idle.wait()

    def _on_done(self, protocol: FrameProtocol) -> None:
        self._connections.pop(protocol, None)
        self._idle.set()


def _greeting(length: int) -> str:
    """What other protocol it is, where that is known."""
    first = _PREFIX.pack(length)
    if first[:2] == b"\x16\x03":
        return ". These bytes begin TLS, which is not spoken here"
    protocol = _GREETINGS.get(first)
    return "" if protocol is None else f". These bytes begin {protocol}"


async def dial_frames(
    address: str, handler: FrameHandler, shared: ReceiveBuffer, *, timeout_ms: int, max_frame_bytes: int
) -> FrameConnection:
    """Connect within ``timeout_ms`` or raise ``TransportError``."""
    host, port = split_address(address)

    def make() -> FrameProtocol:
        return FrameProtocol(
            shared, lambda _: handler, max_frame_bytes=max_frame_bytes, on_done=lambda _: None
        )

    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            _, protocol = await asyncio.get_running_loop().create_connection(make, host, port)
            return protocol
    except TimeoutError:
        raise TransportError(
            f"connection to {address} timed out after {timeout_ms} ms", ErrorCode.REQUEST_TIMED_OUT
        ) from None
    except OSError as error:
        raise TransportError(f"connection to {address} failed: {error.strerror or error}") from None


async def listen_frames(
    address: str, accept: FrameAcceptor, shared: ReceiveBuffer, *, max_frame_bytes: int
) -> FrameListener:
    """Accept framed connections on ``address``; ``OSError`` when it can not be had."""
    listener = FrameListener()
    await listener.start(
        address,
        lambda on_done: FrameProtocol(shared, accept, max_frame_bytes=max_frame_bytes, on_done=on_done),
    )
    return listener
