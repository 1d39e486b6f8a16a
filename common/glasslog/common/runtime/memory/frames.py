"""Framed connections over the in-memory network.

Refuses to know what a frame means. A handler that keeps a frame's memory after the call finds it overwritten.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.connection import (
    Broken,
    Cancelled,
    Connection,
    Data,
    Ended,
    Item,
    Opened,
    Opening,
    Window,
)
from glasslog.common.runtime.memory.network import Host, MemoryNetwork
from glasslog.common.runtime.protocols import Buffer, FrameHandler, Peer, TransportError

WINDOW_FRAMES = 65_536
WINDOW_BYTES = 4 << 20

_POISON = 0xDD


class FrameOpening(Connection):
    """A framed connection's knock."""

    def __init__(self, network: MemoryNetwork, client: Host, server: Host, port: int) -> None:
        super().__init__(network, client, server, port)


class MemoryFrameConnection:
    """One end; see ``protocols.FrameConnection``."""

    def __init__(
        self,
        connection: FrameOpening,
        *,
        is_client: bool,
        max_frame_bytes: int,
        on_done: Callable[["MemoryFrameConnection"], None],
    ) -> None:
        self.window = Window(messages=WINDOW_FRAMES, size_bytes=WINDOW_BYTES)
        self._connection = connection
        self._is_client = is_client
        self._max_frame_bytes = max_frame_bytes
        self._outgoing = connection.to_server if is_client else connection.to_client
        self._host = connection.client if is_client else connection.server
        address = connection.server_address if is_client else connection.client_address
        self._peer = Peer(address)
        self._on_done = on_done
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handler: FrameHandler | None = None
        self._inbox: deque[Data | Ended | Broken] = deque()
        self._paused = False
        self._delivering = False
        self._closed = False
        self._host.residents[self] = None

    @property
    def peer(self) -> Peer:
        return self._peer

    async def connect(self, handler: FrameHandler, *, timeout_ms: int) -> None:
        """The client's way in: ``handler`` receives the events once the server accepted."""
        self._handler = handler
        self._connection.open(self)
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._opened
        except TimeoutError:
            self.cut("the dialler gave up")
            text = f"connection to {self._peer.address} timed out after {timeout_ms} ms"
            raise TransportError(text, ErrorCode.REQUEST_TIMED_OUT) from None
        except asyncio.CancelledError:
            self.cut("the dialler gave up")
            raise

    def start(self, handler: FrameHandler) -> None:
        """The server's way in."""
        self._handler = handler
        # Whoever accepts may have closed it at once.
        if not self._opened.done():
            self._opened.set_result(None)
        self._deliver()

    def send(self, parts: Sequence[Buffer]) -> None:
        if self._closed:
            return
        payload = b"".join(parts)
        self.window.sent(len(payload))
        self._outgoing.send(Data(payload))

    async def writable(self) -> None:
        while not self._closed:
            if self.window.is_open:
                return
            await self.window.opening()
        raise TransportError(f"connection with {self._peer.address} is closed")

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._deliver)

    def close(self) -> None:
        if not self._closed:
            self._outgoing.send(Ended())
            self._finish(None)

    def receive(self, item: Item) -> None:
        match item:
            case Broken(why=why, code=code) if not self._opened.done():
                self._finish(TransportError(f"connection to {self._peer.address} failed: {why}", code))
            case Data() | Ended() | Broken():
                self._inbox.append(item)
                self._deliver()
            case Opened():
                if not self._opened.done():
                    self._opened.set_result(None)
            case Opening() | Cancelled():
                pass
            case _:
                assert_never(item)

    def fail(self, error: TransportError) -> None:
        self._finish(error)

    def cut(self, why: str) -> None:
        """This end gives up: the peer sees a broken connection."""
        if not self._closed:
            self._outgoing.send(Broken(why))
            self._finish(TransportError(f"connection with {self._peer.address}: {why}"))

    def vanish(self) -> None:
        self.cut("connection reset by peer")

    def _deliver(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._inbox and self._handler is not None and not self._paused and not self._closed:
                self._deliver_one(self._handler, self._inbox.popleft())
        finally:
            self._delivering = False

    def _deliver_one(self, handler: FrameHandler, item: Data | Ended | Broken) -> None:
        match item:
            case Data(payload=payload) if len(payload) > self._max_frame_bytes:
                self._reject(len(payload))
            case Data(payload=payload):
                self._consumed(len(payload))
                self._call(handler, payload)
            case Ended():
                self._finish(None)
            case Broken(why=why, code=code):
                self._finish(TransportError(f"connection with {self._peer.address} broke: {why}", code))
            case _:
                assert_never(item)

    def _call(self, handler: FrameHandler, payload: bytes) -> None:
        memory = bytearray(payload)
        frame = memoryview(memory)
        try:
            handler.on_frame(frame)
        except Exception as error:
            self._report(error)
            self.cut(f"handling a frame failed with {type(error).__name__}")
        finally:
            # What was not copied is not valid any more: make a mistake visible.
            frame.release()
            memory[:] = bytes([_POISON]) * len(memory)

    def _reject(self, size_bytes: int) -> None:
        limit = self._max_frame_bytes
        text = f"a frame of {size_bytes} bytes from {self._peer.address} exceeds the limit of {limit}"
        self._outgoing.send(Broken("connection reset by peer"))
        self._finish(TransportError(text, ErrorCode.INVALID_REQUEST))

    def _consumed(self, size_bytes: int) -> None:
        if self._is_client:
            self._connection.consumed_by_client(size_bytes)
        else:
            self._connection.consumed_by_server(size_bytes)

    def _finish(self, error: TransportError | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._inbox.clear()
        self._host.residents.pop(self, None)
        if self._is_client:
            self._connection.client_done()
        else:
            self._connection.server_done()
        self._on_done(self)
        self.window.wake_all()
        if self._opened.done() and not self._opened.cancelled():
            asyncio.get_running_loop().call_soon(self._tell_closed, error, context=self._host.context())
        elif not self._opened.done():
            self._opened.set_exception(
                error or TransportError(f"connection to {self._peer.address} was closed")
            )
            # The dialler may have given up at this very moment.
            self._opened.exception()

    def _tell_closed(self, error: TransportError | None) -> None:
        if self._handler is not None:
            try:
                self._handler.on_closed(error)
            except Exception as failure:
                self._report(failure)

    def _report(self, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"a frame handler of {self._peer.address} failed", "exception": error}
        )
