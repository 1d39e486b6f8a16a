"""Compaction on a broker: when it comes, what it survives, and that nobody who appends or reads notices."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from glasslog.broker.throttle import Throttle
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.checkpoint import CLEANER_OFFSET_FILE, RECOVERY_POINT_FILE, read_offsets
from glasslog.log.records import BatchBuilder, decode_records
from glasslog.metadata.records import ConfigChange, ResourceType

from tests.unit.replication.replica_cluster import ReplicaCluster, until

PARTITION = TopicPartition("t", 0)
SETTINGS = {"log_cleaner_backoff_ms": "1000", "log_segment_delete_delay_ms": "2000"}

Scenario = Callable[[ReplicaCluster], Awaitable[None]]


def on_a_cluster(scenario: Scenario, **settings: str) -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=3, blocking_delay_ms=2.0), **{**SETTINGS, **settings})
        await scenario(cluster)
        await cluster.stop_all()

    run_virtual(main, timeout_ms=3_600_000)


async def write(cluster: ReplicaCluster, first: int, count: int, *, leader: int = 1, keys: int = 2) -> None:
    for number in range(first, first + count):
        builder = BatchBuilder()
        wall_ms = cluster.nodes[leader].runtime.clock.wall_ms()
        builder.append(wall_ms, b"key%d" % (number % keys), b"%d" % number * 100)
        answer = await cluster.produced(leader, builder.close())
        assert answer.error is ErrorCode.NONE


def offsets(cluster: ReplicaCluster, node_id: int) -> list[int]:
    log = cluster.partition(node_id).log
    found: list[int] = []
    offset = int(log.log_start_offset)
    while data := log.read(offset, max_bytes=1):
        records = decode_records(data)
        found += [record.offset for record in records]
        offset = 1 + int.from_bytes(bytes(data[:8])) + int.from_bytes(bytes(data[23:27]))
    return found


def is_compacted(cluster: ReplicaCluster, node_id: int) -> Callable[[], bool]:
    return lambda: cluster.nodes[node_id].manager.cleaner_status.cleanings > 0


def checkpointed(cluster: ReplicaCluster, node_id: int) -> int:
    path = f"/data/{CLEANER_OFFSET_FILE}"
    return read_offsets(cluster.world.disk(f"b{node_id}"), path).get(PARTITION, 0)


def has_checkpoint(cluster: ReplicaCluster, node_id: int) -> Callable[[], bool]:
    return lambda: checkpointed(cluster, node_id) > 0


def names(cluster: ReplicaCluster, suffix: str) -> list[str]:
    return [name for name in cluster.world.disk("b1").list(f"/data/{PARTITION}") if name.endswith(suffix)]


def test_every_replica_is_compacted_and_a_restart_knows_how_far() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        active = cluster.partition(1).log.segments[-1].base_offset
        for node_id in (1, 2):
            await until(is_compacted(cluster, node_id))
            await until(has_checkpoint(cluster, node_id))
            found = offsets(cluster, node_id)
            assert found == [active - 2, active - 1, *range(active, 20)]
        assert checkpointed(cluster, 1) == active
        assert names(cluster, ".log.deleted")
        await asyncio.sleep(3)
        assert not names(cluster, ".deleted")
        await cluster.kill(1)
        await cluster.start(1)
        cluster.elect(1, (1, 2))
        await write(cluster, 20, 1)
        assert cluster.partition(1).log.cleaner_offset == active
        assert cluster.nodes[1].manager.cleaner_status.cleanings == 0

    on_a_cluster(scenario)


def test_what_is_compacted_lies_below_the_recovery_point_on_disk() -> None:
    """Compaction put segments in place of others while the checkpoint still said that nothing was synced.
    After a crash leader epochs were learned from what it had left, and began too late.
    """

    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        disk = cluster.world.disk("b1")
        synced = list[int]()

        def look(operation: str, path: str) -> None:
            if operation == "rename" and path.endswith(".log.cleaned"):
                synced.append(read_offsets(disk, f"/data/{RECOVERY_POINT_FILE}").get(PARTITION, 0))

        disk.on_operation = look
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await until(has_checkpoint(cluster, 1))
        assert synced
        assert min(synced) >= checkpointed(cluster, 1) > 0

    on_a_cluster(scenario)


def test_consumers_and_followers_pass_over_what_is_gone() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1, 2), segment_bytes="1024", cleanup_policy="compact")
        cluster.set_isr((1,))
        await write(cluster, 0, 20)
        await until(is_compacted(cluster, 1))
        result = await cluster.fetched(1, 3)
        assert result.error is ErrorCode.NONE
        assert int.from_bytes(bytes(result.records[:8])) > 3
        await cluster.start(2)
        await until(lambda: cluster.partition(2).log_end_offset == 20)
        assert offsets(cluster, 2) == offsets(cluster, 1)

    on_a_cluster(scenario)


def test_a_topic_that_becomes_compacted_is_compacted() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024")
        await write(cluster, 0, 20)
        await asyncio.sleep(5)
        assert len(offsets(cluster, 1)) == 20
        cluster.write(
            ConfigChange(
                resource_type=ResourceType.TOPIC, resource_name="t", key="cleanup.policy", value="compact"
            )
        )
        await until(is_compacted(cluster, 1))
        assert len(offsets(cluster, 1)) < 6

    on_a_cluster(scenario)


def test_compacted_and_deleted_at_once() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(
            replicas=(1,), segment_bytes="1024", cleanup_policy="compact,delete", retention_ms="60000"
        )
        await write(cluster, 0, 20)
        await until(is_compacted(cluster, 1))
        assert cluster.partition(1).log_start_offset == 0
        await asyncio.sleep(62)
        assert cluster.partition(1).log_start_offset == 20

    on_a_cluster(scenario, log_retention_check_interval_ms="1000")


def test_no_cleaner_where_it_is_switched_off() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await asyncio.sleep(60)
        assert len(offsets(cluster, 1)) == 20

    on_a_cluster(scenario, log_cleaner_enable="false")


def test_appends_go_on_while_a_log_is_compacted() -> None:
    """The cleaner reads half a kilobyte a second here: it is at it all the time."""

    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await asyncio.sleep(1.5)
        assert names(cluster, ".cleaned") or cluster.nodes[1].manager.cleaner_status.cleanings == 0
        for number in range(20, 60):
            started = asyncio.get_running_loop().time()
            await write(cluster, number, 1)
            assert asyncio.get_running_loop().time() - started < 0.1
            await asyncio.sleep(0.5)
        await until(is_compacted(cluster, 1), within_ms=100_000)
        assert offsets(cluster, 1)[-20:] == list(range(40, 60))

    on_a_cluster(scenario, log_cleaner_io_max_bytes_per_second="512", log_cleaner_io_buffer_size="256")


def test_a_topic_deleted_while_it_is_compacted_is_gone() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await until(lambda: bool(names(cluster, ".cleaned")), within_ms=60_000)
        cluster.delete()
        await asyncio.sleep(30)
        assert not cluster.world.disk("b1").exists(f"/data/{PARTITION}")
        assert cluster.nodes[1].manager.count_unmaintained() == 0
        assert not cluster.nodes[1].task.done()

    on_a_cluster(scenario, log_cleaner_io_max_bytes_per_second="512", log_cleaner_io_buffer_size="256")


def test_a_truncation_stops_a_compaction() -> None:
    """A follower that lost its records began anew, and the cleaner put back what it had read before."""

    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await until(lambda: bool(names(cluster, ".cleaned")), within_ms=60_000)
        cluster.partition(1).log.truncate_to(1)
        await asyncio.sleep(30)
        assert offsets(cluster, 1) == [0]
        assert cluster.nodes[1].manager.count_unmaintained() == 0

    on_a_cluster(scenario, log_cleaner_io_max_bytes_per_second="512", log_cleaner_io_buffer_size="256")


def test_a_damaged_segment_makes_its_partition_uncleanable_and_no_more() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        cluster.world.disk("b1").flip_bit(f"/data/{PARTITION}/{0:020d}.log", 100)
        await until(lambda: cluster.nodes[1].manager.count_unmaintained() == 1)
        await write(cluster, 20, 1)
        await asyncio.sleep(5)
        assert cluster.nodes[1].manager.cleaner_status.cleanings == 0
        assert not names(cluster, ".cleaned")

    on_a_cluster(scenario)


def test_a_full_disk_costs_a_compaction_and_nothing_else() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        disk = cluster.world.disk("b1")
        disk.fail_next("pwrite", "*.log.cleaned", OSError(errno.ENOSPC, "full"))
        await write(cluster, 0, 20)
        await until(lambda: cluster.nodes[1].manager.count_unmaintained() == 1)
        assert len(offsets(cluster, 1)) == 20
        assert not names(cluster, ".cleaned")
        await write(cluster, 20, 1)

    on_a_cluster(scenario)


def test_a_kill_while_segments_are_swapped_costs_nothing() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", cleanup_policy="compact")
        await write(cluster, 0, 20)
        await until(lambda: bool(names(cluster, ".log.swap")))
        await cluster.kill(1, power_loss="none")
        await cluster.start(1)
        cluster.elect(1, (1,))
        await until(is_compacted(cluster, 1))
        assert offsets(cluster, 1)[-2:] == [18, 19]
        assert cluster.partition(1).log_end_offset == 20

    on_a_cluster(scenario)


def test_the_throttle_spreads_bytes_evenly() -> None:
    async def main() -> None:
        throttle = Throttle(MemoryWorld().runtime("h").clock, bytes_per_second=1_000)
        assert throttle.delay_ms(500) == 500
        assert throttle.delay_ms(500) == 1_000
        await asyncio.sleep(5)
        assert throttle.delay_ms(100) == 100

    run_virtual(main)
