"""Partitions of a fetch session that have no news are not looked at, and nothing is lost by that."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.requests import DivergingEpoch
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch, until

Story = Callable[[ReplicaCluster], Awaitable[None]]

_QUIET = 40


def _other(number: int) -> TopicId:
    return TopicId(b"quiet-id" + number.to_bytes(8, "big"))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each look at a partition for a fetch, by the partition's topic."""
    seen: list[str] = []
    check = Partition.check_fetch

    def noting(self: Partition, ask: PartitionAsk) -> DivergingEpoch | None:
        seen.append(self.name.topic)
        return check(self, ask)

    monkeypatch.setattr(Partition, "check_fetch", noting)
    return seen


def test_what_a_follower_has_whole_is_looked_at_when_there_is_news(looks: list[str]) -> None:
    """Three idle brokers with 3,333 partitions took a third of a core: each of four fetches a second and
    broker looked at every partition twice."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        for number in range(_QUIET):
            cluster.create(replicas=(1, 2), topic=f"quiet-{number}", topic_id=_other(number))
        await asyncio.sleep(2)
        looks.clear()
        await asyncio.sleep(10)
        assert looks == []
        assert (await cluster.produced(1, batch("a"))).error is ErrorCode.NONE
        # The follower asks on, and the high watermark that follows is news to it once more.
        await until(lambda: cluster.partition(2).high_watermark == 1)
        assert set(looks) == {PARTITION.topic}
        assert len(looks) < 10

    _play(story)


def test_a_follower_that_was_quiet_has_the_whole_lag_time_after_its_last_request() -> None:
    """What is not looked at is not noted either: a follower of a partition idle for an hour must not count
    as an hour behind with the first record, nor one that died meanwhile as never behind."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        await cluster.produced(1, batch("a"))
        await asyncio.sleep(60)
        (follower,) = cluster.nodes[1].manager.describe_leader(PARTITION).followers
        assert follower.caught_up_ms_ago is not None
        assert follower.caught_up_ms_ago <= 500, "the longest that it waits for an answer"
        await cluster.kill(2)
        waiting = asyncio.ensure_future(cluster.produced(1, batch("b")))
        await asyncio.sleep(1.2)
        assert cluster.isr_changes == []
        await asyncio.sleep(2)
        assert cluster.isr_changes == [(1, (1,))]
        assert (await waiting).error is ErrorCode.NONE

    _play(story, replica_lag_time_max_ms="2000")


def test_a_new_leader_epoch_is_news() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await asyncio.sleep(5)
        cluster.elect(3, (1, 2, 3))
        assert (await cluster.produced(3, batch("b"))).base_offset == 1
        cluster.elect(1, (1, 2, 3))
        assert (await cluster.produced(1, batch("c"))).base_offset == 2
        assert cluster.values(2) == ["a", "b", "c"]

    _play(story, brokers=(1, 2, 3))


def _play(
    story: Callable[[ReplicaCluster], Awaitable[None]], *, brokers: tuple[int, ...] = (1, 2), **settings: str
) -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7), **settings)
        for node_id in brokers:
            await cluster.start(node_id)
        await story(cluster)
        await cluster.stop_all()
        assert cluster.fatal == []

    run_virtual(main, timeout_ms=200_000)
