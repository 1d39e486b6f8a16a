"""``Consumer`` and ``Admin`` against a fake broker: positions, groups, resets, errors."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.consumer import Consumer
from glasslog.client.options import ConsumerKeywords, ConsumerOptions, consumer_options
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.records import encode_batch

from tests.unit.client.fake_broker import FakeBroker

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
Make = Callable[..., Consumer]
Scene = Callable[[FakeBroker, Make], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", 2)

            def consumer(*topics: str, **options: object) -> Consumer:
                runtime = world.runtime("client")
                return Consumer(*topics, bootstrap_servers=broker.address, runtime=runtime, **options)  # type: ignore[arg-type]  # tests mix types

            await scene(broker, consumer)

    run_virtual(main, timeout_ms=600_000)


def put(broker: FakeBroker, partition: int, numbers: Sequence[int]) -> None:
    """One batch."""
    batch = encode_batch([(1_000 + n, b"k", b"%d" % n, (("h", b"v"),)) for n in numbers])
    broker.logs["t"][partition].append(bytes(batch))


async def read(consumer: Consumer, count: int, within_s: float = 30) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            found += [int(record.value or b"") for record in await consumer.poll()]
    return found


def test_an_assigned_partition_is_read_from_the_beginning() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        for start in range(0, 1_000, 100):
            put(broker, 0, range(start, start + 100))
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            first = (await consumer.poll(1))[0]
            assert (first.topic, first.partition, first.offset, first.timestamp) == ("t", 0, 0, 1_000)
            assert (first.key, first.value, first.headers) == (b"k", b"0", (("h", b"v"),))
            assert first.leader_epoch == 3
            assert await read(consumer, 999) == list(range(1, 1_000))
            assert await consumer.position(T0) == 1_000
            assert consumer.lag(T0) == 0
            assert await consumer.poll(timeout_ms=50) == []

    play(scene)


def test_latest_begins_at_the_end() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(10))
        async with make() as consumer:
            consumer.assign([T0])
            assert await consumer.position(T0) == 10
            put(broker, 0, [10])
            assert await read(consumer, 1) == [10]

    play(scene)


def test_seeking_into_the_middle_of_a_batch() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(10))
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            await read(consumer, 10)
            consumer.seek(T0, 7)
            assert await read(consumer, 3) == [7, 8, 9]
            consumer.seek_to_beginning()
            assert (await read(consumer, 10))[0] == 0
            consumer.seek_to_end(T0)
            assert await consumer.position(T0) == 10
            assert await consumer.end_offsets([T0, T1]) == {T0: 10, T1: 0}

    play(scene)


def test_a_paused_partition_is_not_handed_out() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(5))
        put(broker, 1, range(100, 105))
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0, T1])
            consumer.pause(T0)
            assert await read(consumer, 5) == list(range(100, 105))
            assert await consumer.poll(timeout_ms=100) == []
            consumer.resume(T0)
            assert await read(consumer, 5) == list(range(5))

    play(scene)


def test_an_offset_out_of_range_is_reset_or_reported() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(5))
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            consumer.seek(T0, 99)
            assert (await read(consumer, 5))[0] == 0
        async with make(auto_offset_reset="none") as consumer:
            consumer.assign([T0])
            with pytest.raises(GlasslogError, match="auto_offset_reset is 'none'") as caught:
                await consumer.poll()
            assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
            consumer.seek(T0, 3)
            assert await read(consumer, 2) == [3, 4]

    play(scene)


def test_fetch_errors_are_retried() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(5))
        broker.faults["Fetch"] = [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_LEADER_EPOCH]
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            assert await read(consumer, 5) == list(range(5))
            await broker.stop()
            await asyncio.sleep(1)
            put(broker, 0, [5])
            await broker.start()
            assert await read(consumer, 1) == [5]

    play(scene)


def test_a_damaged_record_is_an_error_that_says_where() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(3))
        put(broker, 0, range(3, 6))
        header, data = broker.logs["t"][0].batches[0]
        broker.logs["t"][0].batches[0] = (header, data[:-1] + bytes([data[-1] ^ 1]))
        async with make(auto_offset_reset="earliest") as consumer:
            consumer.assign([T0])
            for _ in range(2):
                with pytest.raises(
                    GlasslogError, match=r"t-0 can not be read at offset 0: .*checksum"
                ) as caught:
                    await consumer.poll()
                assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
            consumer.seek(T0, 3)
            assert await read(consumer, 3) == [3, 4, 5]

    play(scene)


def test_a_group_member_goes_on_where_it_committed() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(10))
        async with make("t", group_id="g", auto_offset_reset="earliest") as consumer:
            assert len(await read(consumer, 10)) == 10
            assert consumer.assignment == (T0, T1)
        assert broker.groups["g"].offsets["t", 0].offset == 10
        assert broker.groups["g"].members == {}
        put(broker, 0, [10])
        async with make("t", group_id="g", auto_offset_reset="earliest") as consumer:
            assert await read(consumer, 1) == [10]
            committed = await consumer.committed(T0)
            assert committed is not None
            assert committed.offset == 10
            await consumer.commit()
            assert broker.groups["g"].offsets["t", 0].offset == 11
            await consumer.commit({T0: 4})
            assert broker.groups["g"].offsets["t", 0].offset == 4

    play(scene)


def test_an_iteration_that_fails_does_not_commit_what_it_was_at() -> None:
    """Only what the body has come through is committed, be it in the middle of a fetched batch."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(10))

        async def iterate() -> None:
            async with make("t", group_id="g", auto_offset_reset="earliest") as consumer:
                async for record in consumer:
                    if record.offset == 4:
                        raise RuntimeError("record 4 is too much")

        with pytest.raises(RuntimeError, match="record 4"):
            await iterate()
        assert broker.groups["g"].offsets["t", 0].offset == 4

    play(scene)


def test_automatic_commits_never_run_ahead_of_the_user() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        put(broker, 0, range(10))
        async with make(
            "t", group_id="g", auto_offset_reset="earliest", auto_commit_interval_ms=100
        ) as consumer:
            assert len(await read(consumer, 10)) == 10
            await asyncio.sleep(1)
            assert ("t", 0) not in broker.groups["g"].offsets, "what was handed out is still being dealt with"
            await consumer.poll(timeout_ms=300)
            assert broker.groups["g"].offsets["t", 0].offset == 10

    play(scene)


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[TopicPartition, ...]]] = []

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", tuple(partitions)))

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assigned", tuple(partitions)))

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", tuple(partitions)))


def test_two_members_share_and_the_first_gets_all_back() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        listener = Listener()
        options = {"group_id": "g", "auto_offset_reset": "earliest", "heartbeat_interval_ms": 100}
        async with make("t", listener=listener, **options) as first:
            await first.poll(timeout_ms=500)
            assert set(first.assignment) == {T0, T1}
            async with make("t", **options) as second:
                while {len(first.assignment), len(second.assignment)} != {1}:
                    await asyncio.gather(first.poll(timeout_ms=100), second.poll(timeout_ms=100))
                assert {*first.assignment, *second.assignment} == {T0, T1}
                put(broker, 0, range(5))
                put(broker, 1, range(5, 10))
                one, other = await asyncio.gather(read(first, 5), read(second, 5))
                assert sorted(one + other) == list(range(10))
            while set(first.assignment) != {T0, T1}:
                await first.poll(timeout_ms=100)
            assert await first.poll(timeout_ms=100) == [], "the second has committed"
        assert [what for what, _ in listener.told] == [
            "assigned", "revoked", "assigned", "revoked", "assigned", "revoked",
        ]  # fmt: skip

    play(scene)


def test_an_expelled_member_joins_again_and_loses_its_partitions() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        listener = Listener()
        put(broker, 0, range(5))
        async with make(
            "t", group_id="g", listener=listener, auto_offset_reset="earliest", heartbeat_interval_ms=100
        ) as consumer:
            await read(consumer, 5)
            broker.groups["g"].members.clear()
            await asyncio.sleep(0.3)
            with pytest.raises(GlasslogError, match="the commit came too late"):
                await consumer.commit()
            assert len(await read(consumer, 5)) == 5, "nothing had been committed"
        assert [what for what, _ in listener.told] == ["assigned", "lost", "assigned", "revoked"]

    play(scene)


def test_the_coordinators_trouble_is_waited_out() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.faults["FindCoordinator"] = [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        broker.faults["JoinGroup"] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR]
        broker.faults["OffsetFetch"] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS]
        put(broker, 0, range(5))
        async with make(
            "t", group_id="g", auto_offset_reset="earliest", heartbeat_interval_ms=50
        ) as consumer:
            assert await read(consumer, 5) == list(range(5))
            generation = broker.groups["g"].generation
            await broker.stop()
            await asyncio.sleep(2)
            await broker.start()
            put(broker, 0, [5])
            assert await read(consumer, 1) == [5]
            assert broker.groups["g"].generation == generation, "its death does not end a membership"

    play(scene)


def test_a_refused_member_is_told_by_poll() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.faults["JoinGroup"] = [ErrorCode.INVALID_SESSION_TIMEOUT]
        async with make("t", group_id="g") as consumer:
            with pytest.raises(GlasslogError, match="group 'g' refuses this member") as caught:
                await consumer.poll()
            assert caught.value.code is ErrorCode.INVALID_SESSION_TIMEOUT

    play(scene)


def test_a_topic_that_appears_later_is_read() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(
            "new", group_id="g", auto_offset_reset="earliest", heartbeat_interval_ms=100
        ) as consumer:
            assert await consumer.poll(timeout_ms=500) == []
            broker.create("new", 1)
            broker.logs["new"][0].append(bytes(encode_batch([(0, None, b"1", ())])))
            assert await read(consumer, 1) == [1]

    play(scene)


def test_misuse_is_refused_with_its_reason() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        with pytest.raises(GlasslogError, match="subscribing needs a group_id"):
            make("t")
        async with make() as consumer:
            with pytest.raises(GlasslogError, match="t-0 is not assigned"):
                consumer.seek(T0, 1)
            with pytest.raises(GlasslogError, match="no group_id"):
                await consumer.commit()
        with pytest.raises(GlasslogError, match="the consumer is closed"):
            await consumer.poll()
        with pytest.raises(ConfigError, match="must be below session_timeout_ms"):
            consumer_options("a:1", {"heartbeat_interval_ms": 50_000})

    play(scene)


def test_keyword_types_cover_every_option() -> None:
    fields = set(ConsumerOptions.__dataclass_fields__) - {"bootstrap_servers", "group_id"}
    assert set(ConsumerKeywords.__annotations__) == fields


def test_admin_sees_and_changes_the_cluster() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker, Admin(broker.address, runtime=world.runtime("c")) as admin:
            broker.faults["CreateTopics"] = [ErrorCode.NOT_CONTROLLER]
            (created,) = await admin.create_topics([NewTopic(name="t", partitions=2, replication_factor=1)])
            assert created.partitions == 2
            with pytest.raises(GlasslogError, match="topic 't': TOPIC_ALREADY_EXISTS"):
                await admin.create_topics([NewTopic(name="t", partitions=2)])
            assert await admin.list_topics() == ["t"]
            cluster = await admin.describe_cluster()
            assert (cluster.cluster_id, [b.address for b in cluster.brokers]) == ("fake", [broker.address])
            put(broker, 1, range(5))
            assert await admin.end_offsets("t") == {T0: 0, T1: 5}
            assert await admin.list_offsets({T1: -2}) == {T1: 0}
            async with Consumer(
                "t",
                bootstrap_servers=broker.address,
                group_id="g",
                auto_offset_reset="earliest",
                runtime=world.runtime("client"),
            ) as consumer:
                await read(consumer, 5)
            assert {p: o.offset for p, o in (await admin.group_offsets("g")).items()} == {T0: 0, T1: 5}
            await admin.delete_topics(["t"])
            with pytest.raises(GlasslogError, match="topic 't'"):
                await admin.delete_topics(["t"])

    run_virtual(main)
