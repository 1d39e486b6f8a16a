"""Replicas whose logs lost synced records: offline while they count, a follower like any other afterwards."""

import asyncio

from glasslog.broker.log_return import is_spare
from glasslog.broker.partition.partition import Offline
from glasslog.common.ids import LeaderEpoch, NodeId, PartitionEpoch, TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.metadata.image import PartitionImage

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch, until

_VALUES = [f"value {number}" for number in range(6)]


async def _with_rot_below_the_recovery_point(cluster: ReplicaCluster) -> None:
    """Broker 2 of three, which follows, crashes with synced records; a bit of a header flips meanwhile."""
    for node_id in (1, 2, 3):
        await cluster.start(node_id)
    cluster.create(replicas=(1, 2, 3))
    for value in _VALUES:
        assert (await cluster.produced(1, batch(value))).error_message == ""
    await until(lambda: cluster.partition(2).high_watermark == len(_VALUES))
    await cluster.stop(2)
    disk = cluster.world.disk("b2")
    disk.remove("/data/.kafka_cleanshutdown")
    disk.flip_bit(f"/data/{PARTITION}/{0:020d}.log", len(batch(_VALUES[0])) * 2 + 16)


def test_a_follower_with_rot_in_a_synced_header_comes_back_once_it_is_out_of_the_isr() -> None:
    """A bit of a header flipped below the recovery point of a broker that had crashed. Its replica stayed
    offline for ever, although the leader and another replica had all that it lacked.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=3))
        await _with_rot_below_the_recovery_point(cluster)
        cluster.set_isr((1, 3))
        await cluster.start(2)
        assert isinstance(cluster.partition(2).role, Offline)
        await until(lambda: cluster.partition(2).is_online)
        await until(lambda: cluster.partition(2).high_watermark == len(_VALUES))
        assert cluster.values(2) == _VALUES
        assert (await cluster.produced(1, batch("more"))).error_message == ""
        await until(lambda: cluster.values(2) == [*_VALUES, "more"])
        await cluster.stop_all()
        await cluster.start(2)
        assert cluster.values(2) == [*_VALUES, "more"]
        await cluster.stop(2)

    run_virtual(main, timeout_ms=600_000)


def test_a_replica_that_counts_is_never_cut() -> None:
    """The leader, members of the ISR and of the ELR may be the ones that have what was acknowledged."""

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=3))
        await _with_rot_below_the_recovery_point(cluster)
        cluster.set_isr((1, 2, 3))
        await cluster.start(2)
        disk = cluster.world.disk("b2")
        before = disk.read(f"/data/{PARTITION}/{0:020d}.log")
        for leader, isr in ((1, (1, 2, 3)), (2, (2,)), (-1, (2,)), (-1, (1, 3))):
            cluster.elect(leader, isr)
            await asyncio.sleep(30)
            assert isinstance(cluster.partition(2).role, Offline)
        assert disk.read(f"/data/{PARTITION}/{0:020d}.log") == before
        await cluster.stop_all()

    run_virtual(main, timeout_ms=600_000)


def test_who_is_missed() -> None:
    placed = PartitionImage(
        topic_id=TopicId(b"0123456789abcdef"),
        topic="t",
        partition=0,
        replicas=(NodeId(1), NodeId(2), NodeId(3), NodeId(4)),
        isr=(NodeId(1), NodeId(2)),
        leader=NodeId(1),
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
        elr=(NodeId(3),),
    )
    assert [is_spare(placed, node) for node in (1, 2, 3, 4)] == [False, False, False, True]
    assert not is_spare(placed._replace(leader=NodeId(-1)), 4)
