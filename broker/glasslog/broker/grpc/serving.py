"""How handlers are hung into the RPC endpoint: parse, call, serialize; streams with many requests in flight.

Knows messages only as protobuf messages; refuses to know what any of them says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.runtime.protocols import (
    Peer,
    Stream,
    StreamHandler,
    TransportError,
    UnaryHandler,
)
from google.protobuf.message import DecodeError, Message

Request = TypeVar("Request", bound=Message)
OnFatal = Callable[[InvariantViolation], None]
"""Told of a broken invariant met while serving: it must stop the node."""

Mute = Callable[[int], None]
"""Takes nothing more of a stream for so many ms."""

BROKER_SERVICE = "/glasslog.v1.Broker/"


def parse(kind: type[Request], data: bytes) -> Request:
    """The message in ``data``; raises INVALID_REQUEST for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"not a {kind.DESCRIPTOR.full_name} message: {error}"
        ) from error


def unary(
    kind: type[Request], handle: Callable[[Request, Peer], Awaitable[Message]], on_fatal: OnFatal
) -> UnaryHandler:
    """``handle`` as an RPC handler on bytes."""

    async def serve(data: bytes, peer: Peer) -> bytes:
        try:
            answer = await handle(parse(kind, data), peer)
        except InvariantViolation as error:
            on_fatal(error)
            raise GlasslogError(ErrorCode.UNKNOWN_SERVER_ERROR, str(error)) from error
        return answer.SerializeToString()

    return serve


def stream(
    kind: type[Request],
    handle: Callable[[Request, Mute], Awaitable[Message | None]],
    on_fatal: OnFatal,
    *,
    max_in_flight: int,
) -> StreamHandler:
    """``handle`` for every message of a stream, ``max_in_flight`` at a time; ``None`` is not answered.

    Calls start in the order of the messages; answers go in the order in which they are ready. When the peer
    closes its side, what is in flight is answered first; when the stream breaks, it is dropped.
    """

    return guarded(lambda messages: _serve_stream(messages, kind, handle, max_in_flight), on_fatal)


def guarded(work: Callable[[Stream], Awaitable[None]], on_fatal: OnFatal) -> StreamHandler:
    """``work`` as the handler of a stream; it works in a ``TaskGroup``. A broken one is no news."""

    async def serve(messages: Stream, peer: Peer) -> None:
        try:
            await work(messages)
        except BaseExceptionGroup as group:
            error = _worst(group)
            if isinstance(error, InvariantViolation):
                on_fatal(error)
                raise GlasslogError(ErrorCode.UNKNOWN_SERVER_ERROR, str(error)) from error
            if not isinstance(error, TransportError):
                raise error from None

    return serve


class _Gate:
    """Keeps a stream's messages back for a while."""

    def __init__(self) -> None:
        self._opens_at_s = 0.0

    def mute(self, delay_ms: int) -> None:
        if delay_ms:
            self._opens_at_s = max(self._opens_at_s, asyncio.get_running_loop().time() + delay_ms / 1000)

    async def opened(self) -> None:
        left_s = self._opens_at_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)


async def _serve_stream(
    messages: Stream,
    kind: type[Request],
    handle: Callable[[Request, Mute], Awaitable[Message | None]],
    max_in_flight: int,
) -> None:
    gate = _Gate()
    free = asyncio.Semaphore(max_in_flight)
    sending = asyncio.Lock()

    async def answer(data: bytes) -> None:
        try:
            message = await handle(parse(kind, data), gate.mute)
            if message is not None:
                payload = message.SerializeToString()
                async with sending:
                    await messages.send(payload)
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        async for data in messages:
            await free.acquire()
            await gate.opened()
            group.create_task(answer(data))


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error in ``group`` that matters most: a broken invariant, then anything, then a broken stream."""
    return min(_leaves(group), key=_rank)


def _rank(error: BaseException) -> int:
    match error:
        case InvariantViolation():
            return 0
        case TransportError():
            return 2
        case _:
            return 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
