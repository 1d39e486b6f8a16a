"""Dialling with gRPC: unary calls and streams of bytes.

Refuses to know what the bytes mean: no serializer is ever set.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import grpc
import grpc.aio
from glasslog.common.runtime.production.grpc_errors import from_rpc_error
from glasslog.common.runtime.protocols import Stream, TransportError

Call = grpc.aio.StreamStreamCall[bytes, bytes]
UnaryCallable = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

_LOCAL_ERRORS = (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.InternalError)
"""What gRPC raises for an operation on a call or channel that is over."""


class ClientStream:
    """See ``protocols.Stream``: the dialling end of one call.

    Cancelling a ``send`` or a read leaves the stream usable; a message whose ``send`` was cancelled may or
    may not arrive.  ``close`` does not wait for what the server has not read.
    """

    def __init__(self, call: Call, *, method: str, address: str) -> None:
        self._call = call
        self._method = method
        self._address = address
        self._closed = False
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[object] | None = None

    @property
    def is_finished(self) -> bool:
        return self._call.done()

    async def send(self, message: bytes) -> None:
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        if self._closed:
            raise TransportError(f"{self._method} to {self._address}: the stream is closed")
        # In its own task, because gRPC cancels the whole call when the writer is cancelled.
        writing = self._writing = asyncio.get_running_loop().create_task(self._call.write(message))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            if writing.cancelled():
                raise self._broken("it was cancelled") from None
            raise
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, method=self._method, address=self._address) from None
        except _LOCAL_ERRORS as error:
            raise await self._reason(error) from None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._reading is None:
            # In its own task for the same reason; a cancelled reader's message waits for the next one.
            self._reading = asyncio.get_running_loop().create_task(self._call.read())
        reading = self._reading
        try:
            message = await asyncio.shield(reading)
        except asyncio.CancelledError:
            if not reading.cancelled():
                raise
            self._end_or_raise(self._broken("it was cancelled"))
        except grpc.aio.AioRpcError as error:
            self._end_or_raise(from_rpc_error(error, method=self._method, address=self._address))
        except _LOCAL_ERRORS as error:
            self._end_or_raise(self._broken(str(error)))
        self._reading = None
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        return message

    async def close(self) -> None:
        self._closed = True
        self._call.cancel()
        pending = [task for task in (self._writing, self._reading) if task is not None]
        for task in pending:
            # gRPC wakes neither of its own accord when the call was cancelled before it had a connection.
            task.cancel()
        if pending:
            await asyncio.wait(pending)
            _look_at(pending)

    def _end_or_raise(self, error: Exception) -> NoReturn:
        self._reading = None
        if self._closed:
            raise StopAsyncIteration
        raise error

    def _broken(self, why: str) -> TransportError:
        return TransportError(f"{self._method} to {self._address} broke: {why}")

    async def _reason(self, error: Exception) -> Exception:
        """Why the call is over, where the server said so."""
        if not self._call.done():
            return self._broken(str(error))
        status = await self._call.code()
        if status is grpc.StatusCode.OK:
            return TransportError(f"{self._method} to {self._address}: the server has ended the stream")
        final = grpc.aio.AioRpcError(
            status,
            trailing_metadata=await self._call.trailing_metadata(),
            details=await self._call.details(),
        )
        return from_rpc_error(final, method=self._method, address=self._address)


class GrpcChannel:
    """See ``protocols.Channel``."""

    def __init__(self, address: str, options: Sequence[tuple[str, int]]) -> None:
        self._address = address
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._unary: dict[str, UnaryCallable] = {}
        self._streams: dict[ClientStream, None] = {}
        self._closed = False

    async def unary(self, method: str, request: bytes, *, timeout_ms: int) -> bytes:
        try:
            return await self._callable(method)(request, timeout=timeout_ms / 1_000)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, method=method, address=self._address) from None
        except _LOCAL_ERRORS as error:
            raise TransportError(f"{method} to {self._address} failed: {error}") from None
        except asyncio.CancelledError:
            # gRPC also says so to a caller whose channel was closed under it.
            if self._closed and not _is_cancelled():
                raise TransportError(f"{method}: the channel to {self._address} was closed") from None
            raise

    def stream(self, method: str) -> Stream:
        if self._closed:
            raise TransportError(f"{method}: the channel to {self._address} is closed")
        multi_callable: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(method)
        stream = ClientStream(multi_callable(), method=method, address=self._address)
        self._streams = {each: None for each in self._streams if not each.is_finished}
        self._streams[stream] = None
        return stream

    async def close(self) -> None:
        self._closed = True
        for stream in self._streams:
            await stream.close()
        self._streams.clear()
        await self._channel.close()

    def _callable(self, method: str) -> UnaryCallable:
        if self._closed:
            raise TransportError(f"{method}: the channel to {self._address} is closed")
        found = self._unary.get(method)
        if found is None:
            found = self._unary[method] = self._channel.unary_unary(method)
        return found


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _look_at(tasks: Sequence[asyncio.Task[None] | asyncio.Task[object]]) -> None:
    """Nobody waits for these any more: their failures are no news."""
    for task in tasks:
        if not task.cancelled():
            task.exception()
