"""Retention on a broker: what goes when, what is durable before, and what a refusing disk costs."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from glasslog.broker.log_retention import INITIAL_DELAY_MS
from glasslog.broker.partition.partition import Offline
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.checkpoint import LOG_START_OFFSET_FILE, read_offsets
from glasslog.log.records import BatchBuilder
from glasslog.metadata.records import ConfigChange, ResourceType

from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, until

PARTITION = TopicPartition("t", 0)
SETTINGS = {"log_retention_check_interval_ms": "1000", "log_segment_delete_delay_ms": "5000"}
MINUTE_MS = 60_000

Scenario = Callable[[ReplicaCluster], Awaitable[None]]


def on_a_cluster(scenario: Scenario, **settings: str) -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=3), **{**SETTINGS, **settings})
        await scenario(cluster)
        await cluster.stop_all()

    run_virtual(main, timeout_ms=3_600_000)


def batch(cluster: ReplicaCluster, *, age_ms: int = 0, size_bytes: int = 400) -> bytearray:
    wall_ms = cluster.nodes[min(cluster.nodes)].runtime.clock.wall_ms()
    builder = BatchBuilder()
    builder.append(wall_ms - age_ms, b"key", bytes(size_bytes))
    return builder.close()


async def write(cluster: ReplicaCluster, count: int, *, age_ms: int = 0, leader: int = 1) -> None:
    for _ in range(count):
        answer = await cluster.produced(leader, batch(cluster, age_ms=age_ms))
        assert answer.error is ErrorCode.NONE


def files_of(cluster: ReplicaCluster, node_id: int, suffix: str) -> list[str]:
    names = cluster.world.disk(f"b{node_id}").list(f"/data/{PARTITION}")
    return [name for name in names if name.endswith(suffix)]


def start_of(cluster: ReplicaCluster, node_id: int) -> int:
    return int(cluster.partition(node_id).log_start_offset)


def checkpointed_start(cluster: ReplicaCluster, node_id: int) -> int:
    path = f"/data/{LOG_START_OFFSET_FILE}"
    return read_offsets(cluster.world.disk(f"b{node_id}"), path).get(PARTITION, 0)


def test_old_records_go_from_every_replica_and_their_files_a_while_later() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), segment_bytes="1024", retention_ms="60000")
        await write(cluster, 6, age_ms=2 * MINUTE_MS)
        await write(cluster, 3)
        await until(lambda: start_of(cluster, 1) == start_of(cluster, 2) == 6, within_ms=3_000)
        assert checkpointed_start(cluster, 1) == 6
        assert len(files_of(cluster, 1, ".log.deleted")) == 3
        assert (await cluster.fetched(1, 5)).error is ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await cluster.fetched(1, 6)).error is ErrorCode.NONE
        counters = cluster.nodes[1].manager.counters
        assert (counters.segments_deleted, counters.segment_bytes_deleted > 6 * 400) == (3, True)
        await asyncio.sleep(6)
        assert files_of(cluster, 1, ".deleted") == []

    on_a_cluster(scenario)


def test_a_partition_whose_every_record_is_old_becomes_empty() -> None:
    """The active segment is begun anew first; a record that comes later finds it, at the next offset."""

    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), retention_ms="60000")
        await write(cluster, 4)
        await asyncio.sleep(50)
        assert start_of(cluster, 1) == 0
        await asyncio.sleep(12)
        log = cluster.partition(1).log
        assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (4, 4, 0)
        answer = await cluster.produced(1, batch(cluster))
        assert (answer.error, answer.base_offset) == (ErrorCode.NONE, 4)

    on_a_cluster(scenario)


def test_a_changed_setting_counts_at_the_next_look() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024")
        await write(cluster, 10)
        await asyncio.sleep(INITIAL_DELAY_MS / 1000 + 5)
        assert start_of(cluster, 1) == 0
        for key, value in (("retention.bytes", "1500"), ("file.delete.delay.ms", "0")):
            cluster.write(
                ConfigChange(resource_type=ResourceType.TOPIC, resource_name="t", key=key, value=value)
            )
        await until(lambda: start_of(cluster, 1) == 6, within_ms=1_100)
        assert cluster.partition(1).log.size_bytes >= 1_500
        await until(lambda: files_of(cluster, 1, ".deleted") == [], within_ms=10)

    on_a_cluster(scenario)


def test_what_followers_lack_is_not_deleted() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), segment_bytes="1024", retention_ms="60000")
        await write(cluster, 4, age_ms=2 * MINUTE_MS)
        await cluster.kill(2)
        for _ in range(4):
            await cluster.produced(1, batch(cluster, age_ms=2 * MINUTE_MS), acks=1)
        await asyncio.sleep(3)
        assert cluster.partition(1).log_end_offset == 8
        assert start_of(cluster, 1) == 4

    on_a_cluster(scenario)


def test_a_compacted_topic_keeps_its_old_records() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", retention_ms="1", cleanup_policy="compact")
        await write(cluster, 6, age_ms=MINUTE_MS)
        await asyncio.sleep(5)
        assert start_of(cluster, 1) == 0

    on_a_cluster(scenario)


def test_no_file_goes_while_the_new_start_can_not_be_made_durable() -> None:
    """After a crash the log began where the checkpoint says, in the middle of what was gone already."""

    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", retention_ms="60000")
        disk = cluster.world.disk("b1")
        disk.fail_next("rename", f"*/{LOG_START_OFFSET_FILE}*", OSError(errno.ENOSPC, "full"), times=None)
        await write(cluster, 6, age_ms=2 * MINUTE_MS)
        await write(cluster, 1)
        await asyncio.sleep(4)
        assert len(files_of(cluster, 1, ".log")) == 4
        # A disk that refuses a checkpoint is used no more; a restart after the repair goes on.
        assert isinstance(cluster.partition(1).role, Offline)
        disk.clear_failures()
        await cluster.kill(1)
        await cluster.start(1)
        cluster.elect(1, (1,))
        assert start_of(cluster, 1) == 0
        await until(lambda: len(files_of(cluster, 1, ".log")) == 1, within_ms=40_000)
        assert start_of(cluster, 1) == 6

    on_a_cluster(scenario)


def test_a_partition_whose_segments_can_not_go_is_left_alone_and_the_broker_lives() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", retention_ms="60000")
        disk = cluster.world.disk("b1")
        disk.fail_next("rename", "*.log", OSError(errno.EIO, "bad disk"))
        await write(cluster, 6, age_ms=2 * MINUTE_MS)
        await write(cluster, 1)
        await asyncio.sleep(5)
        manager = cluster.nodes[1].manager
        assert manager.count_unmaintained() == 1
        assert len(files_of(cluster, 1, ".log")) == 4
        await write(cluster, 1)
        cluster.delete()
        cluster.create(replicas=(1,), topic_id=type(TOPIC_ID)(b"topic-id-0000002"))
        assert manager.count_unmaintained() == 0

    on_a_cluster(scenario)
