"""Consumers of committed records: how far they may read, and what they are told was aborted."""

from glasslog.broker.requests import (
    LATEST_TIMESTAMP,
    AbortedRange,
    Consumer,
    FetchPartition,
    FetchPartitionResult,
    FetchRequest,
    IsolationLevel,
    ListOffsetsPartition,
)
from glasslog.common.ids import Offset
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.batch import iterate_batches
from glasslog.log.markers import EndTransactionMarker, encode_marker
from glasslog.log.records import encode_batch

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch

COMMITTED, ALL = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED


async def fetch(cluster: ReplicaCluster, offset: int, isolation: IsolationLevel) -> FetchPartitionResult:
    (result,) = await cluster.nodes[1].manager.fetch(
        FetchRequest(
            reader=Consumer(isolation_level=isolation),
            max_wait_ms=0,
            min_bytes=1,
            max_bytes=1 << 20,
            partitions=(FetchPartition(partition=PARTITION, fetch_offset=Offset(offset), max_bytes=1 << 20),),
        )
    )
    return result


def offsets(result: FetchPartitionResult) -> list[int]:
    return [header.base_offset for header, _ in iterate_batches(result.records)]


async def transact(cluster: ReplicaCluster, producer: int) -> None:
    data = encode_batch(
        [(1, None, b"v", ())], producer_id=producer, producer_epoch=0, base_sequence=0, transactional=True
    )
    await cluster.produced(1, data)


async def end(cluster: ReplicaCluster, producer: int, *, commit: bool) -> None:
    marker = encode_marker(
        EndTransactionMarker(commit, 0), producer_id=producer, producer_epoch=0, timestamp_ms=1
    )
    await cluster.nodes[1].manager.append_local(PARTITION, marker, timeout_ms=1_000)


def test_readers_of_committed_records_stop_at_the_first_undecided_one() -> None:
    async def story() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=1))
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2))
        await cluster.produced(1, batch("a"))
        await transact(cluster, 7)
        await cluster.produced(1, batch("b"))
        found = await fetch(cluster, 0, COMMITTED)
        assert (offsets(found), found.last_stable_offset, found.high_watermark) == ([0], 1, 3)
        assert offsets(await fetch(cluster, 0, ALL)) == [0, 1, 2]
        assert listed(cluster, COMMITTED) == 1
        assert listed(cluster, ALL) == 3
        await end(cluster, 7, commit=False)
        found = await fetch(cluster, 0, COMMITTED)
        assert (offsets(found), found.last_stable_offset) == ([0, 1, 2, 3], 4)
        assert found.aborted_transactions == (AbortedRange(producer_id=7, first_offset=1),)
        assert (await fetch(cluster, 0, ALL)).aborted_transactions == ()
        assert listed(cluster, COMMITTED) == 4
        await cluster.stop_all()

    def listed(cluster: ReplicaCluster, isolation: IsolationLevel) -> int:
        each = ListOffsetsPartition(partition=PARTITION, timestamp=LATEST_TIMESTAMP)
        (result,) = cluster.nodes[1].manager.list_offsets((each,), isolation)
        return result.offset

    run_virtual(story())


def test_a_new_leader_knows_what_is_undecided_and_what_was_aborted() -> None:
    async def story() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=1))
        for node_id in (2, 1):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2))
        await transact(cluster, 7)
        await end(cluster, 7, commit=False)
        await transact(cluster, 8)
        await cluster.kill(1)
        cluster.elect(2, (2,))
        cluster.nodes[1] = cluster.nodes[2]
        found = await fetch(cluster, 0, COMMITTED)
        assert found.last_stable_offset == 2
        assert found.aborted_transactions == (AbortedRange(producer_id=7, first_offset=0),)
        del cluster.nodes[1]
        await cluster.stop_all()

    run_virtual(story())
