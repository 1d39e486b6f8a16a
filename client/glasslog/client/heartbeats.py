"""A member's signs of life: one stream to its group's coordinator, for as long as it is in one generation.

The coordinator tells of a rebalance at once, so heartbeats only keep the session: few are sent, and only
those answered that tell a coordinator that lives from one that has fallen silent.  Refuses to know what an
answer means for the member.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from glasslog.client.connections import error_of
from glasslog.client.coordinator import CoordinatorClient
from glasslog.client.options import ConsumerOptions
from glasslog.client.session import Session
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Clock, Stream, TransportError
from glasslog.v1.broker_pb2 import HeartbeatRequest, HeartbeatResponse
from google.protobuf.message import DecodeError

OnAnswer = Callable[[ErrorCode], None]

_METHOD = "Heartbeats"
_LONGEST_PATIENCE_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    """Silence and patience together are less than the session that the next coordinator begins with."""

    interval_ms: int
    longest_silence_ms: int
    patience_ms: int


class Heartbeats:
    """See the module."""

    def __init__(self, session: Session, options: ConsumerOptions, coordinator: CoordinatorClient) -> None:
        self._session = session
        self._coordinator = coordinator
        self._pace = _Pace(
            interval_ms=options.heartbeat_every_ms,
            longest_silence_ms=options.session_timeout_ms * 7 // 10,
            patience_ms=min(_LONGEST_PATIENCE_MS, options.session_timeout_ms // 4),
        )

    async def keep_up(self, member: HeartbeatRequest, on_answer: OnAnswer) -> None:
        """Until cancelled, wherever the coordinator goes. What an answer says may be news, or not."""
        attempts = 0

        def heard(code: ErrorCode) -> None:
            nonlocal attempts
            attempts = 0
            on_answer(code)

        async def converse(address: str) -> NoReturn:
            stream = self._session.connections.open(address, _METHOD)
            clock = self._session.runtime.clock
            try:
                await _Conversation(stream, clock, self._pace, f"{_METHOD} at {address}").hold(member, heard)
            finally:
                await stream.close()

        while True:
            # The next attempt tells whether the member still is one; nobody has asked for this one.
            with suppress(GlasslogError):
                await self._coordinator.attempt(converse)
            attempts += 1
            await self._coordinator.pause(attempts)


class _Conversation:
    """On one stream, until it breaks."""

    def __init__(self, stream: Stream, clock: Clock, pace: _Pace, name: str) -> None:
        self._stream = stream
        self._clock = clock
        self._pace = pace
        self._name = name
        self._beat_at_ms = clock.now_ms()
        self._heard_ms = self._beat_at_ms - pace.longest_silence_ms
        self._answer_by_ms: int | None = None

    async def hold(self, member: HeartbeatRequest, on_answer: OnAnswer) -> NoReturn:
        """Raises what ends it: at the latest when the coordinator owes an answer for too long."""
        answers = aiter(self._stream)
        while True:
            if self._clock.now_ms() >= self._beat_at_ms:
                await self._beat(member)
            message = await self._next(answers)
            if message is not None:
                on_answer(self._code_of(message))

    async def _beat(self, member: HeartbeatRequest) -> None:
        now_ms = self._clock.now_ms()
        self._beat_at_ms = now_ms + self._pace.interval_ms
        would_be_silent_ms = self._beat_at_ms - self._heard_ms
        asks = self._answer_by_ms is None and would_be_silent_ms > self._pace.longest_silence_ms
        if asks:
            self._answer_by_ms = now_ms + self._pace.patience_ms
        member.wants_answer = asks
        try:
            async with asyncio.timeout(self._pace.patience_ms / 1_000):
                await self._stream.send(member.SerializeToString())
        except TimeoutError:
            raise TransportError(f"{self._name}: takes nothing") from None

    async def _next(self, answers: AsyncIterator[bytes]) -> bytes | None:
        """An answer, or ``None`` when it is time for the next heartbeat."""
        until_ms = self._beat_at_ms
        if self._answer_by_ms is not None:
            until_ms = min(until_ms, self._answer_by_ms)
        try:
            async with asyncio.timeout(max(1, until_ms - self._clock.now_ms()) / 1_000):
                return await anext(answers)
        except StopAsyncIteration:
            raise TransportError(f"{self._name}: the broker closed the stream") from None
        except TimeoutError:
            if self._answer_by_ms is not None and self._clock.now_ms() >= self._answer_by_ms:
                raise TransportError(f"{self._name}: no answer for {self._pace.patience_ms} ms") from None
            return None

    def _code_of(self, message: bytes) -> ErrorCode:
        """What the coordinator says to the member; raises what it says to one who has to ask elsewhere."""
        self._heard_ms, self._answer_by_ms = self._clock.now_ms(), None
        try:
            code = error_of(HeartbeatResponse.FromString(message).error_code)
        except DecodeError as error:
            raise TransportError(f"{self._name}: the answer makes no sense: {error}") from None
        CoordinatorClient.check(code, self._name)
        return code
