"""Reads of what is not in the page cache: off the event loop, and as if nothing were different."""

import asyncio

from glasslog.broker.requests import ACKS_LEADER, FetchPartitionResult
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.batch import iterate_batches

from tests.unit.replication.replica_cluster import ReplicaCluster, batch


async def filled() -> ReplicaCluster:
    """A log of several segments, opened anew: nothing of it was written by this process."""
    cluster = ReplicaCluster(MemoryWorld(seed=1))
    await cluster.start(1)
    cluster.create(replicas=(1,), segment_bytes="1024")
    for number in range(60):
        await cluster.produced(1, batch(f"value {number}"), acks=ACKS_LEADER)
    await cluster.stop(1)
    await cluster.start(1)
    cluster.elect(1, (1,))
    await asyncio.sleep(0.1)
    return cluster


def offsets(result: FetchPartitionResult) -> list[int]:
    return [header.base_offset for header, _ in iterate_batches(result.records)]


def test_the_loop_does_not_wait_for_the_disk() -> None:
    async def story() -> None:
        cluster = await filled()
        warm = await cluster.fetched(1, 3)
        cluster.world.disk("b1").drop_caches()
        fetch = asyncio.ensure_future(cluster.fetched(1, 3))
        await asyncio.sleep(0)
        assert not fetch.done()
        assert await fetch == warm
        assert offsets(warm)[0] == 3
        # The second time it is there.
        again = asyncio.ensure_future(cluster.fetched(1, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert again.done()
        await cluster.stop_all()

    run_virtual(story())


def test_what_this_process_wrote_is_read_at_once() -> None:
    async def story() -> None:
        cluster = await filled()
        # Its first read searches in what was there before; whoever reads on knows where it was.
        await cluster.produced(1, batch("new"), acks=ACKS_LEADER)
        end = cluster.partition(1).log_end_offset
        await cluster.fetched(1, end - 1)
        await cluster.produced(1, batch("newer"), acks=ACKS_LEADER)
        cluster.world.disk("b1").drop_caches()
        fetch = asyncio.ensure_future(cluster.fetched(1, end))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert fetch.done()
        assert offsets(fetch.result()) == [end]
        await cluster.stop_all()

    run_virtual(story())


def test_records_that_are_deleted_meanwhile_are_out_of_range() -> None:
    async def story() -> None:
        cluster = await filled()
        cluster.world.disk("b1").drop_caches()
        fetch = asyncio.ensure_future(cluster.fetched(1, 3))
        await asyncio.sleep(0)
        cluster.partition(1).delete_records(10)
        assert (await fetch).error is ErrorCode.OFFSET_OUT_OF_RANGE
        await cluster.stop_all()

    run_virtual(story())


def test_whoever_goes_away_meanwhile_is_not_answered() -> None:
    async def story() -> None:
        cluster = await filled()
        cluster.world.disk("b1").drop_caches()
        fetch = asyncio.ensure_future(cluster.fetched(1, 3))
        await asyncio.sleep(0)
        fetch.cancel()
        await asyncio.sleep(0.1)
        assert fetch.cancelled()
        await cluster.stop_all()

    run_virtual(story())
