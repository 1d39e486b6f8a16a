"""What the checkpoints of a broker's disks say, and what a start after a crash makes of them."""

import asyncio
import errno

from glasslog.broker.partition.partition import Offline
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replica_manager import ReplicaManager
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_BROKER_EPOCH, TopicId, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.topic_config import topic_config
from glasslog.log.directories import OpenedDirectories
from glasslog.log.directory import LogDirectory

from tests.unit.replication.replica_cluster import CLUSTER_ID, PARTITION, ReplicaCluster, batch

OTHER_ID = TopicId(b"topic-id-0000002")


def open_directory(cluster: ReplicaCluster, path: str = "/data") -> LogDirectory:
    runtime = cluster.world.runtime("b1")
    return LogDirectory.open(
        files=runtime.files,
        path=path,
        cluster_id=CLUSTER_ID,
        node_id=1,
        new_directory_id=runtime.random.uuid(),
    )


async def one_broker(cluster: ReplicaCluster) -> None:
    await cluster.start(1)
    cluster.create(replicas=(1,))
    await cluster.produced(1, batch("a", "b"))


def test_a_broker_that_finds_no_controller_keeps_its_high_watermarks() -> None:
    """Before the metadata is known nothing plays a role, and the periodic checkpoint wrote that nothing.

    A broker that waited for its controllers for some seconds and crashed came back with every high watermark
    at zero; below ``min.insync.replicas`` committed records stayed invisible then.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        await one_broker(cluster)
        await cluster.stop(1)
        manager = ReplicaManager(
            runtime=cluster.world.runtime("b1"),
            config=cluster.config(1),
            directories=OpenedDirectories(usable=(open_directory(cluster),)),
            alter_partition=cluster.submitter(1),
            broker_epoch=lambda: NO_BROKER_EPOCH,
        )
        await manager.start()
        running = asyncio.ensure_future(manager.run())
        await asyncio.sleep(20)
        cluster.world.kill("b1")
        running.cancel()
        await asyncio.wait([running])
        assert open_directory(cluster).read_high_watermarks() == {PARTITION: 2}

    run_virtual(main, timeout_ms=120_000)


def damage_synced_batch(cluster: ReplicaCluster) -> None:
    """A bit of the first batch's magic, which recovery looks at even where it trusts the checksums."""
    cluster.world.disk("b1").flip_bit(f"/data/{PARTITION}/{0:020d}.log", 16)


def test_a_damaged_log_stays_offline_start_after_start() -> None:
    """Its recovery point left the checkpoint while it was offline, so the next unclean start took the damage
    for the torn end of a write: it cut synced records away in silence, and the partition led without them.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        await one_broker(cluster)
        await cluster.stop(1)
        open_directory(cluster).abandon()
        damage_synced_batch(cluster)
        for _ in range(2):
            await cluster.start(1)
            assert isinstance(cluster.partition(1).role, Offline)
            await asyncio.sleep(200)
            await cluster.kill(1)
        found = open_directory(cluster)
        assert found.read_recovery_points() == {PARTITION: 2}
        assert found.read_high_watermarks() == {PARTITION: 2}

    run_virtual(main, timeout_ms=1_000_000)


def test_an_orderly_stop_does_not_vouch_for_a_log_that_was_never_recovered() -> None:
    """The marker of a clean shutdown was written for the whole directory, so the next start opened a log that
    recovery had refused as if it were sound.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        await one_broker(cluster)
        await cluster.stop(1)
        open_directory(cluster).abandon()
        damage_synced_batch(cluster)
        await cluster.start(1)
        await cluster.stop(1)
        await cluster.start(1)
        assert isinstance(cluster.partition(1).role, Offline)
        assert (await cluster.produced(1, batch("c"))).error is ErrorCode.KAFKA_STORAGE_ERROR
        await cluster.stop(1)

    run_virtual(main, timeout_ms=120_000)


def test_a_namesake_does_not_move_into_a_folder_that_could_not_be_removed() -> None:
    """The disk refused once while a deleted topic's folder was put aside. The topic of the same name that
    came next was made in that folder, and served the records of the deleted one.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        await one_broker(cluster)
        cluster.world.disk("b1").fail_next("rename", f"/data/{PARTITION}", OSError(errno.EIO, "bad disk"))
        cluster.delete()
        cluster.create(replicas=(1,), topic_id=OTHER_ID)
        assert isinstance(cluster.partition(1).role, Offline)
        cluster.world.disk("b1").clear_failures()
        await cluster.stop(1)
        await cluster.start(1)
        assert cluster.values(1) == []
        assert (await cluster.produced(1, batch("c"))).base_offset == 0
        await cluster.stop(1)

    run_virtual(main, timeout_ms=120_000)


def test_a_checkpoint_under_way_says_nothing_about_a_namesake() -> None:
    """It was composed before the topic was deleted and written after: the namesake inherited a recovery point
    and a high watermark that its log had never reached, and was offline after the next crash.
    """

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7, blocking_delay_ms=50))
        runtime, config = cluster.world.runtime("b1"), cluster.config(1)
        directory = open_directory(cluster)
        logs = PartitionLogs(runtime=runtime, config=config, directories=[directory])
        kept = TopicPartition("kept", 0)
        for name in (PARTITION, kept):
            logs.adopt(name, TopicId(b"topic-id-0000001"), topic_config(config, {}))
        writing = asyncio.ensure_future(logs.checkpoint_high_watermarks({PARTITION: 7, kept: 8}))
        flushing = asyncio.ensure_future(logs.flush_closed_segments())
        await asyncio.sleep(0)
        logs.retire(PARTITION)
        logs.adopt(PARTITION, OTHER_ID, topic_config(config, {}))
        await asyncio.gather(writing, flushing)
        assert directory.read_high_watermarks() == {kept: 8}
        assert directory.read_recovery_points() == {kept: 0}
        logs.abandon()

    run_virtual(main, timeout_ms=120_000)
