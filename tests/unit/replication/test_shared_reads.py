"""Followers that wait for the same records are told them from one read, and only then."""

from collections.abc import Callable

import pytest
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.reads import PartitionAsk, ReadOutcome
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch, until
from tests.unit.replication.test_replication import play

OTHER = TopicPartition("t", 1)


@pytest.fixture
def with_records(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TopicPartition, int]]:
    """Of each read that found something: of which partition, from which offset."""
    seen: list[tuple[TopicPartition, int]] = []
    read: Callable[..., ReadOutcome] = Partition.read

    def noting(self: Partition, ask: PartitionAsk, **how: bool) -> ReadOutcome:
        outcome = read(self, ask, **how)
        if len(outcome.records):
            seen.append((self.name, ask.fetch_offset))
        return outcome

    monkeypatch.setattr(Partition, "read", noting)
    return seen


async def settled(cluster: ReplicaCluster, end: int) -> None:
    """Every replica has all, and asks for more."""
    await until(lambda: all(cluster.partition(node).log_end_offset == end for node in cluster.nodes))
    await until(lambda: cluster.partition(1).high_watermark == end)


def test_one_read_for_all_followers(with_records: list[tuple[TopicPartition, int]]) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3), partitions=2)
        # Who follows is there.
        assert (await cluster.produced(1, batch("a"))).error is ErrorCode.NONE
        await settled(cluster, 1)
        with_records.clear()
        first = cluster.produce(1, batch("b", "c"))
        other = cluster.produce(1, batch("of another"), partition=OTHER)
        assert (await first)[0].error is (await other)[0].error is ErrorCode.NONE
        assert sorted(with_records) == [(PARTITION, 1), (OTHER, 0)]
        assert [cluster.values(node) for node in (2, 3)] == [["a", "b", "c"]] * 2
        assert [cluster.values(node, OTHER) for node in (2, 3)] == [["of another"]] * 2

    play(story)


def test_who_is_elsewhere_has_a_read_of_its_own(with_records: list[tuple[TopicPartition, int]]) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await settled(cluster, 1)
        await cluster.kill(3)
        cluster.set_isr((1, 2))
        await cluster.produced(1, batch("b"))
        with_records.clear()
        await cluster.start(3)
        await cluster.produced(1, batch("c"))
        await settled(cluster, 3)
        assert (PARTITION, 2) in with_records
        assert (PARTITION, 1) in with_records
        assert cluster.values(3) == ["a", "b", "c"]

    play(story)


def test_nothing_is_kept_when_everybody_is_told(with_records: list[tuple[TopicPartition, int]]) -> None:
    """What a log holds may be other bytes by the next turn of the loop."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        for number in range(3):
            await cluster.produced(1, batch(str(number)))
        await settled(cluster, 3)
        assert [each for each in with_records if each[1] == 2] == [(PARTITION, 2)]

    play(story)
