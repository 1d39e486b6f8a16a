"""What users, clusters and rebalances have done to a ``Consumer``: each test tells the mishap it is for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from glasslog.client.consumer import Consumer
from glasslog.client.subscription import SubscriptionState
from glasslog.client.types import FetchedRecords
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.records import encode_batch
from glasslog.v1 import broker_pb2 as pb

from tests.unit.client.fake_broker import FakeBroker

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
Make = Callable[..., Consumer]


class SlowBroker(FakeBroker):
    """Holds commits back while ``hold_commits``, and keeps the requests for commits and heartbeats."""

    hold_commits = False
    commits: list[pb.OffsetCommitRequest]
    heartbeats = 0
    instance_fenced = False

    async def _on_OffsetCommit(  # noqa: N802
        self, request: pb.OffsetCommitRequest
    ) -> pb.OffsetCommitResponse:
        self.__dict__.setdefault("commits", []).append(request)
        while self.hold_commits:  # noqa: ASYNC110 - simple beats quick here
            await asyncio.sleep(0.01)
        return await super()._on_OffsetCommit(request)

    async def _on_Heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:  # noqa: N802
        self.heartbeats += 1
        if self.instance_fenced:
            return pb.HeartbeatResponse(error_code=ErrorCode.FENCED_INSTANCE_ID)
        return await super()._on_Heartbeat(request)

    async def _on_JoinGroup(self, request: pb.JoinGroupRequest) -> pb.JoinGroupResponse:  # noqa: N802
        if self.instance_fenced and request.member_id:
            return pb.JoinGroupResponse(error_code=ErrorCode.FENCED_INSTANCE_ID)
        self.instance_fenced = False
        return await super()._on_JoinGroup(request)


Scene = Callable[[SlowBroker, Make], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        broker = SlowBroker(world)
        async with broker:
            broker.create("t", 2)

            def consumer(*topics: str, **options: object) -> Consumer:
                runtime = world.runtime("client")
                options = {"auto_offset_reset": "earliest", **options}
                return Consumer(*topics, bootstrap_servers=broker.address, runtime=runtime, **options)  # type: ignore[arg-type]  # tests mix types

            await scene(broker, consumer)

    run_virtual(main, timeout_ms=3_600_000)


def put(broker: FakeBroker, partition: int, numbers: Sequence[int]) -> None:
    batch = encode_batch([(1_000 + n, b"k", b"%d" % n, ()) for n in numbers])
    broker.logs["t"][partition].append(bytes(batch))


async def read(consumer: Consumer, count: int, within_s: float = 30) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            found += [int(record.value or b"") for record in await consumer.poll()]
    return found


@pytest.mark.parametrize("error", [ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.INVALID_REQUEST])
def test_an_answer_for_a_partition_that_was_given_up_is_nobodys(error: ErrorCode) -> None:
    """A fetch was under way when its partition was taken away, and its answer was an error: moving a
    partition that was not assigned raised in the fetching task, and the consumer was broken for good. Had
    the partition been given back meanwhile, its new position would have been thrown away.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(5))
        put(broker, 1, range(5))
        async with make() as consumer:
            consumer.assign([T0])
            await read(consumer, 5)
            await asyncio.sleep(0.1)
            broker.faults["Fetch"] = [error]
            consumer.assign([T1])
            assert await read(consumer, 5) == list(range(5))
            await asyncio.sleep(1)
            put(broker, 1, [5])
            assert await read(consumer, 1) == [5]

    play(scene)


def test_unsubscribing_ends_a_join_in_the_background() -> None:
    """A poll without patience began to join, then the user unsubscribed. The join went on in the background
    and brought partitions to a consumer that had given everything up.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        async with make("t", group_id="g") as consumer:
            await consumer.poll(timeout_ms=0)
            await consumer.unsubscribe()
            await asyncio.sleep(2)
            assert consumer.assignment == ()
            assert consumer.subscription == ()

    play(scene)


def test_after_unsubscribing_a_manual_assignment_can_commit() -> None:
    """A consumer unsubscribed and assigned itself partitions; every commit was refused with the advice to
    poll, since it was still taken for a member between two generations.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(3))
        async with make("t", group_id="g") as consumer:
            await read(consumer, 3)
            await consumer.unsubscribe()
            consumer.assign([T0])
            await consumer.commit({T0: 2})
            assert broker.groups["g"].offsets["t", 0].offset == 2
            consumer.seek(T0, 2)
            assert await read(consumer, 1) == [2]

    play(scene)


def test_a_static_member_that_unsubscribes_no_longer_beats() -> None:
    """A static member does not leave its group: its session ends. But it went on sending heartbeats after it
    had unsubscribed, so its partitions were nobody's for ever.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(3))
        options = {"group_id": "g", "group_instance_id": "one", "heartbeat_interval_ms": 100}
        async with make("t", **options) as consumer:
            await read(consumer, 3)
            await asyncio.sleep(1)
            assert broker.heartbeats > 5
            await consumer.unsubscribe()
            before = broker.heartbeats
            await asyncio.sleep(1)
            assert broker.heartbeats == before

    play(scene)


def test_a_static_member_that_was_replaced_says_so() -> None:
    """Two processes were started with one ``group_instance_id``. The one that was fenced took a new member
    id and fenced the other in turn, and so on for ever; nobody was told.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(3))
        options = {"group_id": "g", "group_instance_id": "one", "heartbeat_interval_ms": 100}
        async with make("t", **options) as consumer:
            await read(consumer, 3)
            broker.instance_fenced = True
            with pytest.raises(GlasslogError, match="FENCED_INSTANCE_ID"):
                await read(consumer, 1)
            assert broker.instance_fenced

    play(scene)


def test_who_does_not_poll_loses_its_partitions() -> None:
    """A member that is busy for longer than ``max_poll_interval_ms`` keeps nobody from its partitions."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        options = {"group_id": "g", "enable_auto_commit": False, "max_poll_interval_ms": 1_000}
        async with make("t", heartbeat_interval_ms=100, **options) as consumer:
            await settled(consumer)
            await asyncio.sleep(2)
            assert broker.groups["g"].members == {}, "it has left"
            with pytest.raises(
                GlasslogError, match="poll more often or raise max_poll_interval_ms"
            ) as caught:
                await consumer.commit({T0: 1})
            assert caught.value.code is ErrorCode.UNKNOWN_MEMBER_ID
            await settled(consumer)
            assert len(broker.groups["g"].members) == 1, "and is back with its next poll"

    play(scene)


async def settled(consumer: Consumer) -> None:
    async with asyncio.timeout(30):
        await consumer.poll(timeout_ms=50)
        while not consumer.assignment:
            await consumer.poll(timeout_ms=50)


def test_waiting_inside_a_poll_is_polling() -> None:
    """A member waited for records in one long poll, as it may. After ``max_poll_interval_ms`` it was thrown
    out of its group for not polling.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        options = {"group_id": "g", "enable_auto_commit": False, "max_poll_interval_ms": 10_000}
        async with make("t", **options) as consumer:
            assert await consumer.poll(timeout_ms=60_000) == []
            assert broker.calls["JoinGroup"] == 2
            assert "LeaveGroup" not in broker.calls

    play(scene)


def test_a_commit_that_waited_too_long_is_not_a_simple_readers() -> None:
    """A commit waited for the one before it, and meanwhile the group threw the member out. It then went out
    without member and generation; the coordinator of the now empty group took it for a simple reader's.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(10))
        options = {"group_id": "g", "enable_auto_commit": False, "heartbeat_interval_ms": 100}
        async with make("t", **options) as consumer:
            await read(consumer, 10)
            broker.hold_commits = True
            first = asyncio.create_task(consumer.commit({T0: 1}))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(consumer.commit({T0: 2}))
            await asyncio.sleep(0.05)
            broker.groups["g"].members.clear()
            await asyncio.sleep(1)
            broker.hold_commits = False
            for commit in (first, second):
                with pytest.raises(GlasslogError) as caught:
                    await commit
                assert caught.value.code is ErrorCode.UNKNOWN_MEMBER_ID
            assert broker.groups["g"].offsets == {}
            assert all(request.member_id for request in broker.commits)

    play(scene)


def test_closing_does_not_queue_behind_an_automatic_commit() -> None:
    """The coordinator was silent. An automatic commit waited for it, and ``close`` waited for that commit:
    a minute, before its own five seconds began.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(10))
        async with make("t", group_id="g", auto_commit_interval_ms=500) as consumer:
            await read(consumer, 10)
            broker.hold_commits = True
            await asyncio.sleep(1)
            await consumer.poll(timeout_ms=10)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 12

    play(scene)


def test_a_waiting_poll_does_not_spin_while_a_commit_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator was away for some seconds. The next automatic commit was due, could not begin while the
    one before was under way, and a poll without records looked again every millisecond until it was over.
    """
    looks = 0
    take = SubscriptionState.take

    def counting(state: SubscriptionState, max_records: int) -> list[FetchedRecords]:
        nonlocal looks
        looks += 1
        return take(state, max_records)

    monkeypatch.setattr(SubscriptionState, "take", counting)

    async def scene(broker: SlowBroker, make: Make) -> None:
        nonlocal looks
        put(broker, 0, range(10))
        async with make("t", group_id="g", auto_commit_interval_ms=500) as consumer:
            await read(consumer, 10)
            broker.hold_commits = True
            await asyncio.sleep(1)
            await consumer.poll(timeout_ms=10)
            put(broker, 0, range(10, 20))
            await read(consumer, 10)
            looks = 0
            waiting = asyncio.create_task(consumer.poll(timeout_ms=10_000))
            await asyncio.sleep(4)
            assert looks < 100
            # What has become due meanwhile is committed as soon as it can be.
            broker.hold_commits = False
            await asyncio.sleep(0.1)
            assert [commit.partitions[0].offset for commit in broker.commits] == [10, 20]
            await waiting

    play(scene)


class Slowly:
    """A listener that takes its time to give partitions up."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.sleep(1)

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        return

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        return


def test_nothing_is_handed_out_of_partitions_that_are_being_given_up() -> None:
    """While a listener was still told of the partitions to be revoked, a poll without patience handed out
    more of their records: after the final commit, so that another member was given them too.
    """

    async def scene(broker: SlowBroker, make: Make) -> None:
        put(broker, 0, range(10))
        options = {"group_id": "g", "listener": Slowly(), "heartbeat_interval_ms": 100}
        async with make("t", **options) as consumer:
            assert await read(consumer, 10) == list(range(10))
            async with make("t", group_id="g", heartbeat_interval_ms=100) as other:
                joining = asyncio.create_task(other.poll(timeout_ms=5_000))
                await asyncio.sleep(0.5)
                put(broker, 0, [10])
                put(broker, 1, [10])
                handed_out = [await consumer.poll(timeout_ms=10) for _ in range(40)]
                assert handed_out == [[]] * 40
                await joining

    play(scene)
