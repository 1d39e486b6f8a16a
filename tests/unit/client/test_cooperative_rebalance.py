"""KIP-429 in the consumer: members read on while they rebalance, and only what moves is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from glasslog.client.consumer import Consumer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.records import encode_batch

from tests.unit.client.fake_broker import FakeBroker

PARTITIONS = [TopicPartition("t", number) for number in range(4)]
Make = Callable[..., Consumer]
Scene = Callable[[FakeBroker, Make], Awaitable[None]]


class Listener:
    """What it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[int, ...]]] = []

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", tuple(each.partition for each in partitions)))

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assigned", tuple(each.partition for each in partitions)))

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", tuple(each.partition for each in partitions)))


def play(scene: Scene, strategy: Sequence[str] = ("cooperative-sticky",)) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", len(PARTITIONS))

            def consumer(*topics: str, **options: object) -> Consumer:
                given = {"heartbeat_interval_ms": 100, "partition_assignment_strategy": strategy, **options}
                return Consumer(
                    *topics or ("t",),
                    bootstrap_servers=broker.address,
                    runtime=world.runtime("client"),
                    group_id="g",
                    auto_offset_reset="earliest",
                    **given,  # type: ignore[arg-type]  # tests mix types
                )

            await scene(broker, consumer)

    run_virtual(main, timeout_ms=600_000)


def put(broker: FakeBroker, value: bytes, partitions: Sequence[TopicPartition] = PARTITIONS) -> None:
    for partition in partitions:
        batch = bytes(encode_batch([(1_000, None, value, ())]))
        broker.logs[partition.topic][partition.partition].append(batch)


async def settle(*consumers: Consumer) -> None:
    """Poll in turn until all partitions are given out evenly."""
    share = len(PARTITIONS) // len(consumers)
    async with asyncio.timeout(30):
        while any(len(consumer.assignment) != share for consumer in consumers):
            await asyncio.gather(*(consumer.poll(timeout_ms=50) for consumer in consumers))


def test_only_what_moves_is_given_up() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        one, other = Listener(), Listener()
        async with make(listener=one) as first, make(listener=other) as second:
            await settle(first)
            joining = asyncio.create_task(settle(first, second))
            await joining
            assert one.told[0] == ("assigned", (0, 1, 2, 3))
            (moved,) = [numbers for what, numbers in one.told if what == "revoked"]
            assert len(moved) == 2
            assert ("assigned", moved) in other.told, "given away once it was given up"
            assert not any(what == "lost" for what, _ in [*one.told, *other.told])

    play(scene)


def test_records_flow_while_the_group_waits_for_a_member() -> None:
    """An eager member has nothing to read until the last one has come; a cooperative one reads on."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as first, make() as second:
            await settle(first)
            joining = asyncio.create_task(second.poll(timeout_ms=60_000))
            while broker.groups["g"].rebalance is None:  # noqa: ASYNC110 - simple beats quick here
                await asyncio.sleep(0.01)
            # A member that never comes holds the rebalance up.
            broker.groups["g"].members["sleeper"] = b""
            await asyncio.sleep(1)
            put(broker, b"meanwhile")
            found: list[bytes | None] = []
            async with asyncio.timeout(5):
                while len(found) < len(PARTITIONS):
                    found += [record.value for record in await first.poll(timeout_ms=100)]
            assert broker.groups["g"].rebalance is not None, "the rebalance still waits"
            await first.commit()
            assert [item.offset for item in broker.groups["g"].offsets.values()] == [1] * 4
            del broker.groups["g"].members["sleeper"]
            joining.cancel()
            await asyncio.wait([joining])
            await settle(first, second)

    play(scene)


def test_a_member_is_not_parted_from_records_it_is_busy_with() -> None:
    """What the group decides is acted upon by the next poll: until then the partitions are the member's."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        listener = Listener()
        async with make(listener=listener, auto_commit_interval_ms=60_000) as first:
            await settle(first)
            put(broker, b"work")
            found: list[object] = []
            while len(found) < len(PARTITIONS):
                found += await first.poll(timeout_ms=50)
            async with make() as second:
                while broker.groups["g"].generation < 2:
                    await asyncio.gather(second.poll(timeout_ms=50), first.poll(timeout_ms=0))
                joined = len(listener.told)
                await asyncio.sleep(2)
                assert len(listener.told) == joined, "nothing is taken away between two polls"
                await settle(first, second)
                offsets = broker.groups["g"].offsets
                (moved,) = [numbers for what, numbers in listener.told if what == "revoked"]
                assert all(offsets["t", number].offset == 1 for number in moved), "committed when given up"

    play(scene)


def test_a_member_expelled_while_it_joins_has_lost_what_it_kept() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        listener = Listener()
        async with make(listener=listener) as consumer:
            await settle(consumer)
            broker.faults["JoinGroup"] = [ErrorCode.UNKNOWN_MEMBER_ID]
            broker.faults["Heartbeat"] = [ErrorCode.REBALANCE_IN_PROGRESS]
            broker.groups["g"].members.clear()
            async with asyncio.timeout(10):
                while len(listener.told) < 3:
                    await consumer.poll(timeout_ms=100)
            every = tuple(range(len(PARTITIONS)))
            assert listener.told == [("assigned", every), ("lost", every), ("assigned", every)]

    play(scene)


def test_a_topic_no_longer_wanted_is_given_up_before_joining() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.create("u", 1)
        listener = Listener()
        async with make("t", "u", listener=listener) as consumer:
            while len(consumer.assignment) < 5:
                await consumer.poll(timeout_ms=100)
            consumer.subscribe(["t"])
            while len(consumer.assignment) != 4 or len(listener.told) < 3:
                await consumer.poll(timeout_ms=100)
            assert listener.told[1:] == [("revoked", (0,)), ("assigned", ())]

    play(scene)


def test_together_with_an_eager_assignor_everything_is_given_up() -> None:
    """As in Kafka: the protocol is the one that all of a member's assignors follow."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        listener = Listener()
        async with make(listener=listener) as first, make() as second:
            await settle(first)
            await settle(first, second)
            assert listener.told[1] == ("revoked", (0, 1, 2, 3))

    play(scene, ("range", "cooperative-sticky"))


def test_a_listener_that_raises_is_heard_by_the_poll() -> None:
    class Broken(Listener):
        async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
            raise ValueError("disk full")

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as second:
            first = make(listener=Broken())
            await first.start()
            await settle(first)
            with pytest.raises(ValueError, match="disk full"):
                await settle(first, second)
            with pytest.raises(ValueError, match="disk full"):
                await first.close()
            with pytest.raises(GlasslogError, match="closed"):
                await first.poll()

    play(scene)
