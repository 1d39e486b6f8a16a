"""Bidirectional streams over the in-memory network, with bounded windows.

Refuses to know methods, services and what the messages mean.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NoReturn, assert_never

from glasslog.common.errors import ErrorCode, GlasslogError
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
from glasslog.common.runtime.protocols import Peer, StreamHandler, TransportError

WINDOW_MESSAGES = 64
WINDOW_BYTES = 4 << 20

_LOGGER = logging.getLogger(__name__)


def unexpected(error: Exception, method: str) -> GlasslogError:
    """What a caller may learn of an error that the handler did not raise on purpose."""
    return GlasslogError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{method} failed with {type(error).__name__}")


class _StreamEnd(ABC):
    """What both ends do alike; see ``protocols.Stream``."""

    def __init__(self, address: str) -> None:
        self.window = Window(messages=WINDOW_MESSAGES, size_bytes=WINDOW_BYTES)
        self._address = address
        self._inbox: deque[bytes] = deque()
        self._end: Ended | TransportError | None = None
        self._closed = False
        self._reader: asyncio.Future[None] | None = None

    async def send(self, message: bytes) -> None:
        self._check_sendable()
        while not self.window.is_open:
            await self.window.opening()
            self._check_sendable()
        self.window.sent(len(message))
        self._transmit(Data(bytes(message)))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._inbox:
            if self._end is not None:
                self._raise(self._end)
            await self._wait()
        message = self._inbox.popleft()
        self._on_consumed(len(message))
        return message

    @abstractmethod
    def _transmit(self, item: Item) -> None: ...

    @abstractmethod
    def _on_consumed(self, size_bytes: int) -> None: ...

    def _raise(self, end: Ended | TransportError) -> NoReturn:
        match end:
            case TransportError() as error:
                raise TransportError(str(error), error.code)
            case Ended():
                if end.error is None:
                    raise StopAsyncIteration
                raise GlasslogError(end.error.code, str(end.error))
            case _:
                assert_never(end)

    def _end_with(self, end: Ended | TransportError) -> bool:
        """Remember the first end and wake everyone; returns whether this was it."""
        first = self._end is None
        if first:
            self._end = end
        self.window.wake_all()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        return first

    async def _wait(self) -> None:
        if self._reader is not None:
            raise RuntimeError("a stream has one reader at a time")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _take(self, payload: bytes) -> None:
        self._inbox.append(payload)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _check_sendable(self) -> None:
        if isinstance(self._end, TransportError):
            raise TransportError(str(self._end), self._end.code)
        if self._closed:
            raise TransportError(f"stream with {self._address} is closed")


class StreamOpening(Connection):
    """A stream's connection: it knocks with the method it wants."""

    def __init__(self, network: MemoryNetwork, client: Host, server: Host, port: int, method: str) -> None:
        super().__init__(network, client, server, port)
        self.method = method


class ClientStream(_StreamEnd):
    """The dialling end."""

    def __init__(self, connection: StreamOpening) -> None:
        super().__init__(connection.server_address)
        self._connection = connection
        connection.client.residents[self] = None
        connection.open(self)

    @property
    def is_finished(self) -> bool:
        return self._end is not None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._end is None:
            self._transmit(Ended())
            self._transmit(Cancelled())
        self._finish(Ended())

    def receive(self, item: Item) -> None:
        match item:
            case Data(payload=payload):
                self._take(payload)
            case Ended():
                self._finish(item)
            case Broken(why=why, code=code):
                self.fail(TransportError(f"stream to {self._address} broke: {why}", code))
            case Opening() | Opened() | Cancelled():
                pass
            case _:
                assert_never(item)

    def fail(self, error: TransportError) -> None:
        self._finish(error)

    def vanish(self) -> None:
        self._transmit(Cancelled())
        self.fail(TransportError("this process is dead"))

    def _finish(self, end: Ended | TransportError) -> None:
        if self._end_with(end):
            # Whatever the handler's outcome, a client can not send to it any more.
            self._closed = True
            self._connection.client.residents.pop(self, None)
            self._connection.client_done()

    def _transmit(self, item: Item) -> None:
        self._connection.to_server.send(item)

    def _on_consumed(self, size_bytes: int) -> None:
        self._connection.consumed_by_client(size_bytes)


class ServerStream(_StreamEnd):
    """The serving end, with the task of its handler."""

    def __init__(self, connection: StreamOpening, handler: StreamHandler, on_done: "DoneHook") -> None:
        super().__init__(connection.client_address)
        self._connection = connection
        self._on_done = on_done
        self._peer_gone = False
        self._outcome = Ended()
        connection.server.residents[self] = None
        connection.accept(self)
        self.task = asyncio.get_running_loop().create_task(
            self._serve(handler), name=f"serve {connection.method} on {connection.server.name}"
        )
        # Not a ``finally`` in the task: one that is cancelled before its first step never runs at all.
        self.task.add_done_callback(self._conclude)

    async def close(self) -> None:
        """No more is sent; the client sees the end once the handler returns."""
        self._closed = True

    def receive(self, item: Item) -> None:
        match item:
            case Data(payload=payload):
                self._take(payload)
            case Ended():
                # The client is done sending; the handler may go on answering.
                self._half_close()
            case Cancelled():
                self.fail(TransportError(f"stream from {self._address} was cancelled"))
            case Broken(why=why, code=code):
                self.fail(TransportError(f"stream from {self._address} broke: {why}", code))
            case Opening() | Opened():
                pass
            case _:
                assert_never(item)

    def fail(self, error: TransportError) -> None:
        self._peer_gone = True
        self._end = None
        self._end_with(error)
        self.task.cancel()

    def cut(self, why: str) -> None:
        """The endpoint stops: tell the client and cancel the handler."""
        self._transmit(Broken(why))
        self.fail(TransportError(why))

    def vanish(self) -> None:
        self.cut("connection reset by peer")

    async def _serve(self, handler: StreamHandler) -> None:
        try:
            await handler(self, Peer(self._connection.client_address))
        except GlasslogError as error:
            self._outcome = Ended(GlasslogError(error.code, str(error)))
        except asyncio.CancelledError:
            if not self._peer_gone:
                self._transmit(Broken("the handler was cancelled"))
                self._peer_gone = True
                raise
        except Exception as error:
            _LOGGER.exception("%s failed", self._connection.method)
            self._outcome = Ended(unexpected(error, self._connection.method))

    def _conclude(self, task: asyncio.Task[None]) -> None:
        self._closed = True
        if not self._peer_gone:
            self._transmit(self._outcome)
        self._end_with(Ended())
        self._connection.server.residents.pop(self, None)
        self._connection.server_done()
        self._on_done(self)

    def _half_close(self) -> None:
        self._end_with(Ended())

    def _transmit(self, item: Item) -> None:
        self._connection.to_client.send(item)

    def _on_consumed(self, size_bytes: int) -> None:
        self._connection.consumed_by_server(size_bytes)


DoneHook = Callable[[ServerStream], None]
