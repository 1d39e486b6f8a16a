"""``flush.messages`` and ``flush.ms``: what is answered only once it is durable, and one sync for many."""

import asyncio
import errno

import pytest
from glasslog.broker.requests import ACKS_ALL, ACKS_LEADER
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.files import Operation
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.metadata.records import ConfigChange, ResourceType

from tests.unit.replication.replica_cluster import ReplicaCluster, batch, until


def count_syncs(cluster: ReplicaCluster, node_id: int) -> list[str]:
    found: list[str] = []

    def on_operation(operation: Operation, path: str) -> None:
        if operation == "sync" and path.endswith(".log"):
            found.append(path)

    cluster.world.disk(f"b{node_id}").on_operation = on_operation
    return found


def test_an_answer_means_durable_on_every_replica_in_sync() -> None:
    """With flush.messages=1 a power loss of every broker takes nothing that was acknowledged."""
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), flush_messages="1")
        for number in range(5):
            result = await cluster.produced(1, batch(f"v{number}"), acks=ACKS_ALL)
            assert result.error is ErrorCode.NONE
        for node_id in (1, 2):
            await cluster.kill(node_id, power_loss="none")
            await cluster.start(node_id)
            cluster.elect(node_id, (node_id,))
            assert cluster.values(node_id) == [f"v{number}" for number in range(5)]
        await cluster.stop_all()

    run_virtual(story())


def test_without_it_the_replicas_are_what_keeps_a_record() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        await cluster.start(1)
        cluster.create(replicas=(1,))
        syncs = count_syncs(cluster, 1)
        await cluster.produced(1, batch("a"), acks=ACKS_LEADER)
        assert syncs == []
        await cluster.stop_all()

    run_virtual(story())


def test_one_sync_serves_all_that_wait() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        await cluster.start(1)
        cluster.create(replicas=(1,), flush_messages="1")
        syncs = count_syncs(cluster, 1)
        answers = await asyncio.gather(
            *(cluster.produced(1, batch(f"v{number}"), acks=ACKS_LEADER) for number in range(50))
        )
        assert [answer.error for answer in answers] == [ErrorCode.NONE] * 50
        assert 1 <= len(syncs) <= 2
        assert cluster.partition(1).log.recovery_point == 50
        await cluster.stop_all()

    run_virtual(story())


def test_every_third_record_is_synced() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world, log_flush_interval_messages="3")
        await cluster.start(1)
        cluster.create(replicas=(1,))
        points = []
        for number in range(6):
            await cluster.produced(1, batch(f"v{number}"), acks=ACKS_LEADER)
            points.append(cluster.partition(1).log.recovery_point)
        assert points == [0, 0, 3, 3, 3, 6]
        await cluster.stop_all()

    run_virtual(story())


def test_a_disk_that_can_not_sync_is_told_to_whom_waits() -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world, log_dirs="/data,/other")
        await cluster.start(1)
        cluster.create(replicas=(1,), flush_messages="1")
        world.disk("b1").fail_next("sync", "*.log", OSError(errno.EIO, "bad disk"))
        result = await cluster.produced(1, batch("a"), acks=ACKS_LEADER)
        assert result.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert not cluster.partition(1).is_online
        await cluster.stop_all()

    run_virtual(story())


@pytest.mark.parametrize(("flush_ms", "is_synced"), [("500", True), ("60000", False)])
def test_records_are_synced_when_their_time_is_over(flush_ms: str, is_synced: bool) -> None:
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world, log_flush_scheduler_interval_ms="100")
        await cluster.start(1)
        cluster.create(replicas=(1,), flush_ms=flush_ms)
        await cluster.produced(1, batch("a"), acks=ACKS_LEADER)
        assert cluster.partition(1).log.recovery_point == 0
        await asyncio.sleep(1)
        assert (cluster.partition(1).log.recovery_point == 1) is is_synced
        await cluster.stop_all()

    run_virtual(story())


def test_nobody_is_shown_what_flush_messages_wants_synced_before_it_is() -> None:
    """The high watermark went ahead of the sync: a consumer could read a record that a power loss took."""
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        await cluster.start(1)
        cluster.create(replicas=(1,), flush_messages="3")
        partition = cluster.partition(1)
        seen: list[tuple[int, int]] = []

        def on_operation(operation: Operation, path: str) -> None:
            if operation == "sync" and path.endswith(".log"):
                seen.append((partition.high_watermark, partition.log_end_offset))

        cluster.world.disk("b1").on_operation = on_operation
        for number in range(7):
            await cluster.produced(1, batch(f"v{number}"), acks=ACKS_LEADER)
        assert seen == [(2, 3), (5, 6)]
        assert partition.high_watermark == 7
        await cluster.stop_all()

    run_virtual(story())


def test_a_new_leader_syncs_what_flush_messages_wants_synced() -> None:
    """What it has from before it led waits for a sync too, and nobody produces anything any more."""
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world)
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2))
        for number in range(5):
            await cluster.produced(1, batch(f"v{number}"), acks=ACKS_ALL)
        assert cluster.partition(2).log.recovery_point == 0
        cluster.write(
            ConfigChange(resource_type=ResourceType.TOPIC, resource_name="t", key="flush.messages", value="1")
        )
        cluster.elect(2, (2,))
        await until(lambda: cluster.partition(2).log.recovery_point == 5)
        await until(lambda: cluster.partition(2).high_watermark == 5)
        await cluster.stop_all()

    run_virtual(story())


def test_a_follower_without_a_session_does_not_wait_for_its_sync_at_the_leader() -> None:
    """A follower leaves a partition out of its requests till what came is durable. With another partition and
    no session, which nobody has to get, the next request went without it, waited 500 ms at the leader, and
    nothing could follow it: a fetch each half second, and an ISR that shrank and grew.
    """
    world = MemoryWorld(seed=1)

    async def story() -> None:
        cluster = ReplicaCluster(world, max_incremental_fetch_session_cache_slots="0")
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), partitions=2, flush_messages="1")
        now_s = asyncio.get_running_loop().time
        await cluster.produced(1, batch("first"), acks=ACKS_ALL)
        started_s = now_s()
        for number in range(5):
            result = await cluster.produced(1, batch(f"v{number}"), acks=ACKS_ALL)
            assert result.error is ErrorCode.NONE
        assert now_s() - started_s < 0.5
        await cluster.stop_all()

    run_virtual(story())
