"""Heartbeats on a stream, from the wire to the coordinator: what is answered, and what is told unasked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import LeavingMember, MemberIdentity
from glasslog.broker.grpc.heartbeats import HeartbeatHandlers
from glasslog.broker.grpc.serving import BROKER_SERVICE, guarded
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Services, Stream
from glasslog.v1 import broker_pb2 as pb

from tests.unit.group.test_group_coordinator import Storage, join_alone, join_request, running

METHOD = BROKER_SERVICE + "Heartbeats"
SILENCE_S = 0.2


class Line:
    """A member's end of its stream."""

    def __init__(self, stream: Stream, identity: MemberIdentity) -> None:
        self._stream = stream
        self._answers = aiter(stream)
        self.identity = identity

    async def beat(self, *, wants_answer: bool = False) -> None:
        message = pb.HeartbeatRequest(
            group_id=self.identity.group_id,
            generation_id=self.identity.generation_id,
            member_id=self.identity.member_id,
            group_instance_id=self.identity.group_instance_id,
            wants_answer=wants_answer,
        )
        await self._stream.send(message.SerializeToString())

    async def send(self, message: bytes) -> None:
        await self._stream.send(message)

    async def hear(self) -> ErrorCode:
        async with asyncio.timeout(30):
            return ErrorCode(pb.HeartbeatResponse.FromString(await anext(self._answers)).error_code)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE_S):
                await anext(self._answers)
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        await self._stream.close()


@asynccontextmanager
async def listening(coordinator: GroupCoordinator) -> AsyncIterator[Callable[[MemberIdentity], Line]]:
    world = MemoryWorld(seed=1)
    handler = guarded(HeartbeatHandlers(coordinator).heartbeats, lambda error: None)
    listener = await world.runtime("broker").transport.listen(
        "broker:9192", Services(streams={METHOD: handler})
    )
    channel = world.runtime("client").transport.dial("broker:9192")
    try:
        yield lambda identity: Line(channel.stream(METHOD), identity)
    finally:
        await channel.close()
        await listener.close()


Scene = Callable[[GroupCoordinator, Line], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        async with running(Storage()) as coordinator:
            identity = await join_alone(coordinator)
            async with listening(coordinator) as dial:
                await scene(coordinator, dial(identity))

    run_virtual(main())


def test_a_heartbeat_is_answered_only_if_it_asks() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        await line.beat()
        assert await line.hears_nothing()
        await line.beat(wants_answer=True)
        assert await line.hear() is ErrorCode.NONE
        assert await line.hears_nothing()

    play(scene)


def test_heartbeats_on_a_stream_keep_the_session_and_an_open_stream_alone_does_not() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        for _ in range(5):
            await asyncio.sleep(0.9)
            await line.beat()
            assert coordinator.heartbeat(line.identity) is ErrorCode.NONE
        await asyncio.sleep(1.1)
        assert await line.hear() is ErrorCode.UNKNOWN_MEMBER_ID

    play(scene)


def test_a_rebalance_is_told_at_once_and_once() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        await line.beat()
        await asyncio.sleep(0.1)
        await coordinator.join(join_request("", "other"))
        assert await line.hears_nothing(), "nobody has joined yet"
        joining = asyncio.create_task(coordinator.join(join_request("other")))
        began_s = asyncio.get_running_loop().time()
        assert await line.hear() is ErrorCode.REBALANCE_IN_PROGRESS
        assert asyncio.get_running_loop().time() - began_s < 0.05
        assert await line.hears_nothing()
        await line.beat()
        assert await line.hear() is ErrorCode.REBALANCE_IN_PROGRESS, "who is busy learns it again"
        joining.cancel()

    play(scene)


def test_a_member_that_comes_late_to_a_rebalance_is_told_that_it_is_none() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        await line.beat()
        await asyncio.sleep(0.1)
        await coordinator.join(join_request("", "other"))
        joining = asyncio.create_task(coordinator.join(join_request("other")))
        assert await line.hear() is ErrorCode.REBALANCE_IN_PROGRESS
        while not joining.done():
            await line.beat()
            heard = await line.hear()
            await asyncio.sleep(0.4)
        if heard is ErrorCode.REBALANCE_IN_PROGRESS:
            heard = await line.hear()
        assert heard is ErrorCode.UNKNOWN_MEMBER_ID

    play(scene)


def test_who_leaves_by_another_hand_is_told() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        await line.beat()
        await asyncio.sleep(0.1)
        coordinator.leave("g", (LeavingMember(member_id="m", group_instance_id=""),))
        assert await line.hear() is ErrorCode.UNKNOWN_MEMBER_ID

    play(scene)


def test_a_coordinator_that_is_none_any_more_says_so() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        await line.beat()
        await asyncio.sleep(0.1)
        coordinator.on_resigned(0)
        assert await line.hear() is ErrorCode.NOT_COORDINATOR
        await line.beat()
        assert await line.hear() is ErrorCode.NOT_COORDINATOR

    play(scene)


def test_a_stranger_is_told_and_what_is_no_heartbeat_ends_the_stream() -> None:
    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        line.identity = MemberIdentity(group_id="g", generation_id=1, member_id="nobody")
        await line.beat()
        assert await line.hear() is ErrorCode.UNKNOWN_MEMBER_ID
        await line.send(b"\xff\xff")
        with pytest.raises(GlasslogError) as caught:
            await line.hear()
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    play(scene)


def test_nothing_is_left_of_a_stream_that_has_ended() -> None:
    """Whoever watches a group holds a place in the coordinator; streams come and go without end."""

    async def scene(coordinator: GroupCoordinator, line: Line) -> None:
        before = len(coordinator._waiters)
        await line.beat(wants_answer=True)
        await line.hear()
        assert len(coordinator._waiters) == before + 1
        await line.beat(wants_answer=True)
        await line.hear()
        assert len(coordinator._waiters) == before + 1, "one for each stream"
        await line.close()
        await asyncio.sleep(0.1)
        assert len(coordinator._waiters) == before
        coordinator.leave("g", (LeavingMember(member_id="m", group_instance_id=""),))

    play(scene)
