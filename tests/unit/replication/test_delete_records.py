"""Deleting the oldest records: what may be deleted, that every replica follows, and that it stays so."""

import asyncio

import pytest
from glasslog.broker.requests import ACKS_ALL, DeleteRecordsPartition, DeleteRecordsResult
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch, until


async def delete(
    cluster: ReplicaCluster,
    node_id: int,
    offset: int,
    *,
    timeout_ms: int = 5_000,
    partition: TopicPartition = PARTITION,
) -> DeleteRecordsResult:
    (result,) = await cluster.nodes[node_id].manager.delete_records(
        [DeleteRecordsPartition(partition=partition, offset=Offset(offset))], timeout_ms=timeout_ms
    )
    return result


async def filled(
    world: MemoryWorld, *replicas: int, flush_messages: str = "1000", cleanup_policy: str = "delete"
) -> ReplicaCluster:
    cluster = ReplicaCluster(world)
    for node_id in replicas:
        await cluster.start(node_id)
    cluster.create(replicas=replicas, flush_messages=flush_messages, cleanup_policy=cleanup_policy)
    for number in range(10):
        await cluster.produced(1, batch(f"v{number}"), acks=ACKS_ALL)
    return cluster


def test_every_replica_begins_later_and_soon() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, 2, 3)
        loop = asyncio.get_running_loop()
        started = loop.time()
        result = await delete(cluster, 1, 6)
        assert result == DeleteRecordsResult(partition=PARTITION, low_watermark=Offset(6))
        # Followers that wait for records must not make it wait for replica.fetch.wait.max.ms.
        assert loop.time() - started < 0.2
        assert [cluster.partition(node_id).log_start_offset for node_id in (1, 2, 3)] == [6, 6, 6]
        assert (await cluster.fetched(1, 5)).error is ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await cluster.fetched(1, 6)).log_start_offset == 6
        await cluster.stop_all()

    run_virtual(story())


def test_it_stays_deleted_after_a_power_loss_of_all() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, flush_messages="1")
        await delete(cluster, 1, 6)
        await cluster.kill(1, power_loss="none")
        await cluster.start(1)
        cluster.elect(1, (1,))
        await until(lambda: cluster.nodes[1].manager.find(PARTITION) is not None)
        assert cluster.partition(1).log_start_offset == 6
        assert cluster.values(1) == ["v6", "v7", "v8", "v9"]
        await cluster.stop_all()

    run_virtual(story())


def test_all_that_is_committed() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, 2)
        assert (await delete(cluster, 1, -1)).low_watermark == 10
        assert cluster.values(2) == []
        await cluster.produced(1, batch("next"), acks=ACKS_ALL)
        assert cluster.values(1) == cluster.values(2) == ["next"]
        await cluster.stop_all()

    run_virtual(story())


def test_to_delete_what_is_gone_changes_nothing() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1)
        await delete(cluster, 1, 6)
        assert (await delete(cluster, 1, 2)).low_watermark == 6
        assert cluster.partition(1).log_start_offset == 6
        await cluster.stop_all()

    run_virtual(story())


@pytest.mark.parametrize(
    ("offset", "policy", "code"),
    [
        (11, "delete", ErrorCode.OFFSET_OUT_OF_RANGE),
        (-2, "delete", ErrorCode.OFFSET_OUT_OF_RANGE),
        (5, "compact", ErrorCode.POLICY_VIOLATION),
    ],
)
def test_refusals_name_what_is_wrong(offset: int, policy: str, code: ErrorCode) -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, cleanup_policy=policy)
        result = await delete(cluster, 1, offset)
        assert result.error is code
        assert "t-0" in result.error_message
        assert cluster.partition(1).log_start_offset == 0
        await cluster.stop_all()

    run_virtual(story())


def test_only_the_leader_and_no_internal_topic() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, 2)
        internal, unknown = TopicPartition("__consumer_offsets", 0), TopicPartition("u", 0)
        assert (await delete(cluster, 2, 3)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await delete(cluster, 1, 3, partition=internal)).error is ErrorCode.INVALID_TOPIC_EXCEPTION
        assert (await delete(cluster, 1, 3, partition=unknown)).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await cluster.stop_all()

    run_virtual(story())


def test_a_dead_follower_is_not_waited_for_but_one_that_seems_alive_is() -> None:
    """As in Kafka: whether a broker lives is what the metadata say."""
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = await filled(world, 1, 2)
        await cluster.kill(2)
        assert (await delete(cluster, 1, 3, timeout_ms=200)).error is ErrorCode.REQUEST_TIMED_OUT
        assert cluster.partition(1).log_start_offset == 3
        cluster.fence(2)
        assert (await delete(cluster, 1, 4, timeout_ms=200)).low_watermark == 4
        await cluster.stop_all()

    run_virtual(story())


def test_a_new_replica_begins_where_the_leader_does_within_a_batch() -> None:
    """What begins within a batch could be copied to nobody: the batch began before the new replica's log, was
    refused as corrupt, and the reassignment never ended.
    """
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1,))
        await cluster.produced(1, batch("a", "b", "c"))
        await cluster.produced(1, batch("d"))
        assert (await delete(cluster, 1, 1)).low_watermark == 1
        cluster.reassign((1, 2), isr=(1,))
        await until(lambda: set(cluster.leader_state(1).isr) == {1, 2})
        assert cluster.partition(2).log_start_offset == 1
        assert cluster.log_bytes(2) == cluster.log_bytes(1)
        await cluster.stop_all()

    run_virtual(story())
