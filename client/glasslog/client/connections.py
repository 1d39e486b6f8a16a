"""Paths to brokers: one channel per address, unary calls of protobuf messages, correlated streams.

A stream carries requests with correlation ids, each answered through a future; when it breaks, everything
under way fails with a ``TransportError``, and the next use opens a new one.  Refuses to know what requests
mean and whether to retry them.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Channel, Runtime, Stream, TransportError
from google.protobuf.message import DecodeError, Message

_SERVICE = "/glasslog.v1.Broker/"


class Correlated(Protocol):
    """An answer that names its request."""

    @property
    def correlation_id(self) -> int: ...


Answer = TypeVar("Answer", bound=Correlated)
Reply = TypeVar("Reply", bound=Message)


class RequestStream(Generic[Answer]):
    """One long-lived stream of one method to one broker; unusable once broken."""

    def __init__(
        self, scope: TaskScope, stream: Stream, decode: Callable[[bytes], Answer], name: str
    ) -> None:
        self._stream = stream
        self._decode = decode
        self._name = name
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self.broken: GlasslogError | None = None
        self._reader = scope.spawn(self._read(), f"{name} reader")
        self._writer = scope.spawn(self._write(), f"{name} writer")

    def submit(self, correlation_id: int, request: bytes) -> asyncio.Future[Answer]:
        """Queue a request; the caller bounds how many are under way. Fails at once on a broken stream."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self.broken is not None:
            _fail(future, self.broken)
        else:
            self._pending[correlation_id] = future
            self._outbox.put_nowait(request)
        return future

    def post(self, request: bytes) -> None:
        """Queue a request that gets no answer."""
        if self.broken is None:
            self._outbox.put_nowait(request)

    def abandon(self, why: str) -> None:
        """Give up on the peer: everything under way fails as if the connection had broken."""
        self._break(TransportError(f"{self._name}: {why}"))

    def _break(self, error: GlasslogError) -> None:
        if self.broken is not None:
            return
        self.broken = error
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                _fail(future, error)
        current = asyncio.current_task()
        for task in (self._reader, self._writer):
            if task is not current:
                task.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self._stream.send(await self._outbox.get())
        except GlasslogError as error:
            self._break(error)

    async def _read(self) -> None:
        try:
            async for message in self._stream:
                answer = self._decode(message)
                future = self._pending.pop(answer.correlation_id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
            self._break(TransportError(f"{self._name}: the broker closed the stream"))
        except DecodeError as error:
            self._break(TransportError(f"{self._name}: the answer makes no sense: {error}"))
        except GlasslogError as error:
            self._break(error)
        finally:
            await self._stream.close()


class Connections:
    """The channels of one client, by address."""

    def __init__(self, runtime: Runtime, scope: TaskScope) -> None:
        self._transport = runtime.transport
        self._scope = scope
        self._channels: dict[str, Channel] = {}

    async def unary(
        self, address: str, method: str, request: Message, reply: type[Reply], *, timeout_ms: int
    ) -> Reply:
        """One call of the broker at ``address``. Raises ``TransportError`` or the broker's error."""
        answer = await self._channel(address).unary(
            _SERVICE + method, request.SerializeToString(), timeout_ms=timeout_ms
        )
        try:
            return reply.FromString(answer)
        except DecodeError as error:
            raise TransportError(f"{method} at {address}: the answer makes no sense: {error}") from None

    def stream(self, address: str, method: str, decode: Callable[[bytes], Answer]) -> RequestStream[Answer]:
        """A new stream of ``method``."""
        return RequestStream(self._scope, self.open(address, method), decode, f"{method} at {address}")

    def open(self, address: str, method: str) -> Stream:
        """A new stream of ``method`` whose messages are not requests; the caller closes it."""
        return self._channel(address).stream(_SERVICE + method)

    async def retain(self, addresses: Collection[str]) -> None:
        """Close the channels to all other addresses."""
        gone = [address for address in self._channels if address not in addresses]
        for channel in [self._channels.pop(address) for address in gone]:
            await channel.close()

    async def close(self) -> None:
        await self.retain(())

    def _channel(self, address: str) -> Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._transport.dial(address)
        return channel


def _fail(future: "asyncio.Future[Answer]", error: GlasslogError) -> None:
    """Tell whoever waits. If that is nobody any more, because the client is closing, it is no news either."""
    future.set_exception(error)
    future.exception()


def error_of(code: int) -> ErrorCode:
    """The code, or ``UNKNOWN_SERVER_ERROR`` for a number that this version does not know."""
    try:
        return ErrorCode(code)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
