"""Heartbeats of ``glasslog.v1.Broker``: a stream for each member, on which hardly anything is said.

Most of what a heartbeat costs is its message: clients send few, because they need none to hear of a
rebalance, and ask for fewer answers.  Refuses to know how groups work.
"""

import asyncio
from collections.abc import Callable

from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import MemberIdentity
from glasslog.broker.grpc.serving import parse
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.protocols import Stream
from glasslog.v1 import broker_pb2 as pb


class HeartbeatHandlers:
    """See the module."""

    def __init__(self, coordinator: GroupCoordinator) -> None:
        self._coordinator = coordinator

    async def heartbeats(self, messages: Stream) -> None:
        """Serve one member until its stream ends."""
        attendance = _Attendance(self._coordinator, messages)
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(attendance.tell())
                async for data in messages:
                    await attendance.take(parse(pb.HeartbeatRequest, data))
                telling.cancel()
        finally:
            attendance.end()


class _Attendance:
    """A member on its stream. News it has not been told yet are replaced by what is newer."""

    def __init__(self, coordinator: GroupCoordinator, messages: Stream) -> None:
        self._coordinator = coordinator
        self._messages = messages
        self._sending = asyncio.Lock()
        self._end_watch: Callable[[], None] = lambda: None
        self._watched: tuple[MemberIdentity, ErrorCode] | None = None
        self._news = ErrorCode.NONE
        self._has_news = asyncio.Event()

    async def take(self, message: pb.HeartbeatRequest) -> None:
        identity = MemberIdentity(
            group_id=message.group_id,
            generation_id=message.generation_id,
            member_id=message.member_id,
            group_instance_id=message.group_instance_id,
        )
        answer = self._coordinator.heartbeat(identity)
        if self._watched != (identity, answer):
            self._end_watch()
            self._end_watch = self._coordinator.watch(identity, answer, self._on_news)
            self._watched = identity, answer
        if message.wants_answer or answer is not ErrorCode.NONE:
            await self._send(answer)

    async def tell(self) -> None:
        """Send what is new, until cancelled."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await self._send(self._news)

    def end(self) -> None:
        """Nobody is there any more."""
        self._end_watch()

    def _on_news(self, news: ErrorCode) -> None:
        self._watched = None
        self._news = news
        self._has_news.set()

    async def _send(self, answer: ErrorCode) -> None:
        async with self._sending:
            await self._messages.send(pb.HeartbeatResponse(error_code=answer).SerializeToString())
