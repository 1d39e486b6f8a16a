"""Partitions move between brokers of a cluster on virtual time, while records are written and nodes die."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.producer import Producer
from glasslog.client.reassignment_plan import drained
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.log.batch import iterate_batches
from glasslog.log.records import decode_records
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192,broker-4:9192"
PARTITION = TopicPartition("t", 0)


class Moving:
    """A cluster with topic ``t`` on brokers 1, 2, 3, and a writer that never stops by itself."""

    def __init__(self, cluster: MemoryCluster, admin: Admin, producer: Producer) -> None:
        self.cluster = cluster
        self.admin = admin
        self._producer = producer
        self.sent = 0
        self._writing = asyncio.create_task(self._write(), name="writer")

    async def _write(self) -> None:
        while True:
            await self._producer.send_records("t", [(None, b"%06d" % (self.sent + n)) for n in range(5)])
            self.sent += 5
            await asyncio.sleep(0.01)

    async def move(self, *replicas: int, partition: TopicPartition = PARTITION) -> None:
        assert await self.admin.alter_partition_reassignments({partition: replicas}) == {}

    async def cancel(self) -> None:
        assert await self.admin.alter_partition_reassignments({PARTITION: None}) == {}

    async def settled(self, *replicas: int) -> None:
        """Until the partition is there and everybody is in sync."""

        def is_there() -> bool:
            placed = self.cluster.partition("t")
            return (
                placed.replicas == replicas
                and not placed.is_moving
                and sorted(placed.isr) == sorted(replicas)
            )

        await self.cluster.until(is_there, within_ms=60_000, what=f"t-0 on {replicas}")
        assert await self.admin.list_partition_reassignments([PARTITION]) == {}

    async def until_files_are_only_on(self, *brokers: int) -> None:
        def holders() -> list[int]:
            return [
                int(name[-1])
                for name in self.cluster.broker_names
                if any(path.startswith("t-0") for path in self.cluster.world.disk(name).list("data"))
            ]

        await self.cluster.until(
            lambda: holders() == sorted(brokers), within_ms=30_000, what=f"files on {brokers} only"
        )

    async def check(self) -> None:
        """Everything that was acknowledged is there, once, in order."""
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        await self._producer.flush()
        assert self._producer.stats.records_failed == 0
        values: list[bytes] = []
        async with asyncio.timeout(30):
            while len(values) < self.sent:
                answer = await self.cluster.fetch(self.cluster.leader_of("t"), "t", offset=len(values))
                # A leader may be named before it knows of it itself.
                assert answer.error_code in (ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER)
                for _, position in iterate_batches(answer.records):
                    values += [record.value or b"" for record in decode_records(answer.records, position)]
        assert self.sent > 0
        assert [int(value) for value in values[: self.sent]] == list(range(self.sent))


Story = Callable[[Moving], Awaitable[None]]


def tell(
    story: Story,
    *,
    seed: int = 0,
    replicas: Sequence[int] = (1, 2, 3),
    settings: Mapping[str, str] | None = None,
) -> None:
    async def main() -> None:
        async with MemoryCluster(seed=seed, brokers=5, settings=settings) as cluster:
            runtime = cluster.world.runtime("writer")
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                await admin.create_topics([NewTopic(name="t", assignment={0: replicas})])
                async with Producer(BOOTSTRAP, runtime=runtime, linger_ms=0) as producer:
                    moving = Moving(cluster, admin, producer)
                    await story(moving)
                    await moving.check()

    run_virtual(main, timeout_ms=300_000)


def test_a_partition_moves_to_other_brokers_with_all_its_records() -> None:
    async def story(moving: Moving) -> None:
        await asyncio.sleep(1)
        await moving.move(4, 5, 3)
        await moving.settled(4, 5, 3)
        assert moving.cluster.leader_of("t") in ("broker-3", "broker-4", "broker-5")
        await moving.until_files_are_only_on(3, 4, 5)
        await asyncio.sleep(1)

    tell(story, settings={"min.insync.replicas": "2"})


def test_while_it_moves_both_sides_are_told() -> None:
    async def story(moving: Moving) -> None:
        await moving.cluster.kill("broker-4")
        await moving.move(4, 5)
        (found,) = (await moving.admin.list_partition_reassignments()).values()
        assert (found.replicas, found.adding_replicas, found.removing_replicas) == (
            (4, 5, 1, 2, 3),
            (4, 5),
            (1, 2, 3),
        )
        assert found.target_replicas == (4, 5)
        (topic,) = await moving.admin.describe_topics(["t"])
        assert topic.partitions[0].adding_replicas == (4, 5)
        assert topic.partitions[0].removing_replicas == (1, 2, 3)
        moving.cluster.start("broker-4")
        await moving.settled(4, 5)

    tell(story)


def test_a_cancelled_move_leaves_nothing_behind() -> None:
    async def story(moving: Moving) -> None:
        await moving.cluster.kill("broker-4")
        await moving.move(4, 5)
        await moving.cluster.until(lambda: 5 in moving.cluster.partition("t").isr, what="5 in the ISR")
        await moving.cancel()
        await moving.settled(1, 2, 3)
        await moving.until_files_are_only_on(1, 2, 3)
        moving.cluster.start("broker-4")
        await moving.cluster.healthy()
        await moving.until_files_are_only_on(1, 2, 3)

    tell(story)


@pytest.mark.parametrize("victim", ["broker-1", "broker-4"])
def test_a_broker_that_dies_in_the_middle_only_delays_the_move(victim: str) -> None:
    async def story(moving: Moving) -> None:
        await asyncio.sleep(0.5)
        await moving.move(4, 5)
        await moving.cluster.kill(victim)
        await asyncio.sleep(2)
        moving.cluster.start(victim)
        await moving.settled(4, 5)
        await moving.cluster.healthy()
        await moving.until_files_are_only_on(4, 5)

    tell(story)


@pytest.mark.parametrize("seed", range(3))
def test_a_controller_that_dies_in_the_middle_is_not_missed(seed: int) -> None:
    async def story(moving: Moving) -> None:
        await moving.move(4, 5)
        await moving.cluster.kill(moving.cluster.active_controller())
        await moving.settled(4, 5)

    tell(story, seed=seed)


def test_moves_there_and_back_as_fast_as_they_can_be_asked_for_lose_nothing() -> None:
    async def story(moving: Moving) -> None:
        for target in ((4, 5), (1, 2), (5, 4, 3), (2,), (1, 2, 3), (3, 4), (1, 5)) * 2:
            await moving.move(*target)
            await asyncio.sleep(0.1)
        await moving.settled(1, 5)
        await moving.until_files_are_only_on(1, 5)

    tell(story, settings={"unclean.leader.election.enable": "false"})


def test_one_replica_grows_to_three_and_shrinks_to_another() -> None:
    async def story(moving: Moving) -> None:
        await moving.move(2, 3, 4)
        await moving.settled(2, 3, 4)
        await moving.move(5)
        await moving.settled(5)
        await moving.until_files_are_only_on(5)

    tell(story, replicas=(1,))


def test_a_topic_that_is_deleted_in_the_middle_is_gone_everywhere() -> None:
    async def story(moving: Moving) -> None:
        await moving.admin.create_topics([NewTopic(name="gone", assignment={0: (1, 2)})])
        await moving.cluster.kill("broker-4")
        await moving.move(4, 5, partition=TopicPartition("gone", 0))
        await moving.admin.delete_topics(["gone"])
        assert await moving.admin.list_partition_reassignments() == {}
        moving.cluster.start("broker-4")
        await moving.cluster.healthy()
        disks = [moving.cluster.world.disk(name) for name in moving.cluster.broker_names]
        await moving.cluster.until(
            lambda: not any(path.startswith("gone") for disk in disks for path in disk.list("data")),
            within_ms=30_000,
            what="no files of the topic",
        )

    tell(story)


def test_a_broker_leaves_for_good() -> None:
    async def story(moving: Moving) -> None:
        admin, cluster = moving.admin, moving.cluster
        with pytest.raises(GlasslogError, match="broker 3 is alive; stop it first"):
            await admin.unregister_broker(3)
        racks = {each.node_id: each.rack for each in (await admin.describe_cluster()).brokers}
        current = {
            TopicPartition(topic.name, each.partition): each.replicas
            for topic in await admin.describe_topics()
            for each in topic.partitions
        }
        for move in drained(current, racks, leaving=NodeId(3)):
            await moving.move(*move.after, partition=move.partition)
        await cluster.until(lambda: 3 not in cluster.partition("t").replicas, within_ms=60_000)
        await cluster.stop("broker-3")
        await admin.unregister_broker(3)
        assert NodeId(3) not in cluster.image.brokers
        await asyncio.sleep(1)

    tell(story)


def test_a_living_broker_that_was_forgotten_by_force_registers_anew() -> None:
    async def story(moving: Moving) -> None:
        cluster = moving.cluster
        before = cluster.image.brokers[NodeId(5)].broker_epoch
        await moving.admin.unregister_broker(5, force=True)

        def is_back() -> bool:
            found = cluster.image.brokers.get(NodeId(5))
            return found is not None and found.active and found.broker_epoch > before

        await cluster.until(is_back, within_ms=30_000, what="broker 5 registered anew")

    tell(story)


def test_refusals_say_which_partition_and_why() -> None:
    async def story(moving: Moving) -> None:
        refused = await moving.admin.alter_partition_reassignments(
            {
                PARTITION: (1, 9),
                TopicPartition("t", 7): (1, 2),
                TopicPartition("u", 0): None,
            }
        )
        assert {name: error.code for name, error in refused.items()} == {
            PARTITION: ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            TopicPartition("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            TopicPartition("u", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        assert "not registered: [9]" in str(refused[PARTITION])
        refused = await moving.admin.alter_partition_reassignments({PARTITION: None})
        assert refused[PARTITION].code is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        await asyncio.sleep(0.1)

    tell(story)
