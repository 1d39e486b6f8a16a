"""Replicas that move between the data directories of one broker (KIP-113)."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.directory_sizes import ReplicaSize
from glasslog.broker.replica_moves import DirectoryWish
from glasslog.broker.requests import DeleteRecordsPartition
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset, TopicId, TopicPartition
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.records import encode_batch

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch

BAD_DISK = OSError(errno.EIO, "bad disk")
DIRECTORIES = ("/d1", "/d2", "/d3")


def run(scenario: Callable[[ReplicaCluster], Awaitable[None]], **settings: str) -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=5), log_dirs="/d1,/d2,/d3", **settings)
        cluster.hears_directories = True
        await scenario(cluster)
        assert not cluster.fatal
        await cluster.stop_all()

    run_virtual(main, timeout_ms=300_000)


async def one_broker(
    cluster: ReplicaCluster,
    *,
    batches: int = 20,
    flush_messages: str = "1000000",
    cleanup_policy: str = "delete",
    segment_bytes: str = "1000000",
) -> None:
    await cluster.start(1)
    cluster.create(
        replicas=(1,),
        # Old timestamps are no reason for retention to look at these records.
        retention_ms="-1",
        segment_bytes=segment_bytes,
        min_cleanable_dirty_ratio="0.01",
        flush_messages=flush_messages,
        cleanup_policy=cleanup_policy,
    )
    for number in range(batches):
        await cluster.produced(1, batch(f"v{number}"))


def where(cluster: ReplicaCluster, node_id: int = 1, name: TopicPartition = PARTITION) -> str:
    """The directory that a replica lies in, which must be one."""
    files = cluster.world.disk(f"b{node_id}")
    (found,) = [path for path in DIRECTORIES if files.exists(f"{path}/{name}")]
    return found


def futures(cluster: ReplicaCluster, node_id: int = 1) -> list[str]:
    files = cluster.world.disk(f"b{node_id}")
    return [f"{path}/{each}" for path in DIRECTORIES for each in files.list(path) if each.endswith("-future")]


def other(cluster: ReplicaCluster, *, than: str = "") -> str:
    return next(path for path in DIRECTORIES if path not in (where(cluster), than))


async def moved(
    cluster: ReplicaCluster, path: str, *, node_id: int = 1, name: TopicPartition = PARTITION
) -> ErrorCode:
    """What becomes of the wish."""
    (outcome,) = await cluster.nodes[node_id].manager.alter_log_dirs([DirectoryWish(name, path)])
    return outcome


async def until(condition: Callable[[], bool], what: str, *, timeout_ms: int = 60_000) -> None:
    async with asyncio.timeout(timeout_ms / 1000):
        while not condition():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
    assert condition(), what


async def until_there(cluster: ReplicaCluster, path: str, *, node_id: int = 1) -> None:
    await until(lambda: not futures(cluster, node_id), "nothing is on its way")
    assert where(cluster, node_id) == path


def test_a_replica_moves_while_it_is_written_and_nothing_is_lost() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        expected = [f"v{number}" for number in range(20)]
        target = other(cluster)
        directory_id = cluster.image_of().directories
        assert await moved(cluster, target) is ErrorCode.NONE
        for number in range(20, 60):
            assert (await cluster.produced(1, batch(f"v{number}"))).error is ErrorCode.NONE
            expected.append(f"v{number}")
            await asyncio.sleep(0.001)
        await until_there(cluster, target)
        assert cluster.values(1) == expected
        assert (await cluster.produced(1, batch("after"))).base_offset == 60
        assert cluster.partition(1).high_watermark == 61
        await asyncio.sleep(1)
        assert cluster.image_of().directories != directory_id, "the controller is told"
        await cluster.kill(1, power_loss="all")
        await cluster.start(1)
        cluster.elect(1, (1,))
        assert where(cluster) == target
        assert cluster.values(1) == [*expected, "after"]

    run(scenario)


SLOW = {"replica_alter_log_dirs_io_max_bytes_per_second": "100"}


def shown(cluster: ReplicaCluster) -> list[tuple[str, ReplicaSize]]:
    return [(each.path, size) for each in cluster.nodes[1].manager.log_sizes() for size in each.replicas]


def test_what_is_left_to_copy_is_shown() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        source, target = where(cluster), other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        await cluster.produced(1, batch("x", "y", "z"))
        (real,) = [size for path, size in shown(cluster) if path == source]
        (future,) = [size for path, size in shown(cluster) if path == target]
        assert (real.is_future, real.offset_lag, real.size_bytes) == (
            False,
            0,
            cluster.partition(1).log.size_bytes,
        )
        assert (future.is_future, future.offset_lag) == (True, 3)
        assert 0 < future.size_bytes < real.size_bytes
        await until_there(cluster, target)
        assert [(path, size.is_future) for path, size in shown(cluster)] == [(target, False)]

    run(scenario, **SLOW)


# --- what is asked for ---


def test_what_can_not_be_done_is_refused_as_kafka_does() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        here, target = where(cluster), other(cluster)
        assert await moved(cluster, "/nowhere") is ErrorCode.LOG_DIR_NOT_FOUND
        assert await moved(cluster, here) is ErrorCode.NONE
        long = TopicPartition("x" * 230, 0)
        assert await moved(cluster, target, name=long) is ErrorCode.INVALID_TOPIC_EXCEPTION
        unknown = TopicPartition("unknown", 0)
        assert await moved(cluster, target, name=unknown) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        cluster.create(replicas=(2,), topic="elsewhere", topic_id=TopicId(b"topic-id-0000002"))
        elsewhere = TopicPartition("elsewhere", 0)
        assert await moved(cluster, target, name=elsewhere) is ErrorCode.REPLICA_NOT_AVAILABLE
        assert futures(cluster) == []
        third = other(cluster, than=target)
        cluster.world.disk("b1").fail_next("*", f"{third}/*", BAD_DISK, times=None)
        assert await moved(cluster, third) is ErrorCode.KAFKA_STORAGE_ERROR
        assert await moved(cluster, third) is ErrorCode.KAFKA_STORAGE_ERROR
        # As in Kafka: a copy may lie in the directory that has failed.
        assert await moved(cluster, target) is ErrorCode.KAFKA_STORAGE_ERROR
        assert cluster.values(1)[0] == "v0"

    run(scenario)


def test_a_replica_that_is_not_here_yet_is_made_where_somebody_wished() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await cluster.start(1)
        for number, path in enumerate(("/d3", "/d3", "/d2")):
            name, topic_id = TopicPartition(f"new{number}", 0), TopicId(b"topic-id-000001" + bytes([number]))
            assert await moved(cluster, path, name=name) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            cluster.create(replicas=(1,), topic=name.topic, topic_id=topic_id)
            assert where(cluster, name=name) == path

    run(scenario)


def test_a_move_is_given_up_for_another_one() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        here, target = where(cluster), other(cluster)
        third = other(cluster, than=target)
        assert await moved(cluster, target) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        assert [each.rpartition("/")[0] for each in futures(cluster)] == [target]
        assert await moved(cluster, third) is ErrorCode.NONE
        assert [each.rpartition("/")[0] for each in futures(cluster)] == [third]
        assert await moved(cluster, here) is ErrorCode.NONE
        assert futures(cluster) == []
        await asyncio.sleep(60)
        assert where(cluster) == here
        disk = cluster.world.disk("b1")
        assert not [each for path in DIRECTORIES for each in disk.list(path) if each.endswith("-delete")]

    run(scenario, **SLOW)


def test_a_replica_that_goes_takes_its_copy_along() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        assert await moved(cluster, other(cluster)) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        cluster.delete()
        await asyncio.sleep(30)
        disk = cluster.world.disk("b1")
        assert not [each for path in DIRECTORIES for each in disk.list(path) if each.startswith("t-0")]

    run(scenario, **SLOW)


# --- crashes ---


@pytest.mark.parametrize("is_orderly", [False, True])
def test_a_restart_goes_on_with_what_was_copied(is_orderly: bool) -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster, flush_messages="1")
        target = other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        (folder,) = futures(cluster)
        if is_orderly:
            await cluster.stop(1)
        else:
            await cluster.kill(1, power_loss="all")
        opened: list[str] = []
        cluster.world.disk("b1").on_operation = lambda operation, path: opened.append(f"{operation} {path}")
        await cluster.start(1)
        cluster.elect(1, (1,))
        await cluster.produced(1, batch("more"))
        await until_there(cluster, target)
        assert cluster.values(1) == [*(f"v{number}" for number in range(20)), "more"]
        begun = f"{folder}/{0:020d}.log"
        assert f"pread {begun}" in opened
        assert f"remove {begun}" not in opened, "what was there was not copied again"

    run(scenario, **SLOW)


def value(number: int) -> str:
    """Large enough that a few of them fill a segment."""
    return f"v{number}".ljust(300, ".")


def fail_at(number: int, keep: Keep, *, only_there: bool = False) -> int:
    """Let the disk refuse the ``number``-th operation after a move was asked for and, unless ``only_there``,
    all that follow; then the power fails.  Start again and look at everything.

    Returns how many operations there were.
    """
    seen = 0

    def count(operation: str, path: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number or (seen > number and not only_there):
            raise OSError(errno.EIO, "no power")

    async def main() -> None:
        cluster = ReplicaCluster(
            MemoryWorld(seed=11), log_dirs=",".join(DIRECTORIES), log_flush_interval_messages="1"
        )
        cluster.hears_directories = True
        await cluster.start(1)
        cluster.create(replicas=(1,), segment_bytes="1024", retention_ms="-1")
        acknowledged = []
        for each in range(12):
            await cluster.produced(1, batch(value(each), producer_id=7, producer_epoch=0, base_sequence=each))
            acknowledged.append(value(each))
        await asyncio.sleep(70)
        disk = cluster.world.disk("b1")
        target = other(cluster)
        disk.on_operation = count
        await moved(cluster, target)
        for each in range(12, 16):
            more = batch(value(each), producer_id=7, producer_epoch=0, base_sequence=each)
            if (await cluster.produced(1, more, timeout_ms=500)).error is ErrorCode.NONE:
                acknowledged.append(value(each))
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        disk.on_operation = None
        await cluster.kill(1, power_loss=keep)
        await cluster.start(1)
        cluster.elect(1, (1,))
        assert cluster.partition(1).is_online
        values = cluster.values(1)
        assert values[: len(acknowledged)] == acknowledged
        end = len(values)
        again = batch(value(11), producer_id=7, producer_epoch=0, base_sequence=11)
        assert (await cluster.produced(1, again)).base_offset == 11, "the producer is known"
        assert (await cluster.produced(1, batch("after"))).base_offset == end
        await asyncio.sleep(5)
        assert futures(cluster) == []
        assert where(cluster) in DIRECTORIES
        assert cluster.values(1) == [*values, "after"]
        await cluster.stop_all()
        assert not cluster.fatal

    run_virtual(main, timeout_ms=300_000)
    return seen


@pytest.mark.parametrize(("keep", "every"), [("none", 2), ("all", 5), ("torn", 5)])
def test_power_may_fail_at_every_step_of_a_move(keep: Keep, every: int) -> None:
    """What was acknowledged, and so synced, is there afterwards, once, and the move is over or goes on."""
    steps = fail_at(1 << 30, keep)
    assert steps > 40
    for number in range(1, steps + 1, every):
        fail_at(number, keep)


def test_a_disk_may_refuse_any_step_of_a_move() -> None:
    """Whichever of the two directories it was, the other one has all of the replica."""
    for number in range(1, fail_at(1 << 30, "none") + 1, 3):
        fail_at(number, "none", only_there=True)


# --- what happens to the log meanwhile ---


def test_the_producers_that_only_deleted_batches_tell_of_are_known_where_the_replica_went() -> None:
    """What a copy learns from batches is less than what the replica knows: it would take a batch twice."""

    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster, batches=3)
        await cluster.produced(1, batch("once", producer_id=9, producer_epoch=0, base_sequence=0))
        await cluster.produced(1, batch("later"))
        wish = DeleteRecordsPartition(partition=PARTITION, offset=Offset(4))
        (deleted,) = await cluster.nodes[1].manager.delete_records([wish], timeout_ms=1_000)
        assert deleted.error is ErrorCode.NONE
        target = other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await until_there(cluster, target)
        again = await cluster.produced(1, batch("once", producer_id=9, producer_epoch=0, base_sequence=0))
        assert (again.error, again.base_offset) == (ErrorCode.NONE, 3)
        assert cluster.values(1) == ["later"]
        assert cluster.partition(1).log_start_offset == 4

    run(scenario)


def test_a_copy_follows_where_the_replica_is_cut() -> None:
    """A follower was cut at its new leader's end while its copy had more: the copy kept records that
    the partition never had.
    """

    async def scenario(cluster: ReplicaCluster) -> None:
        for node_id in (1, 2):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2), min_insync_replicas="1", retention_ms="-1")
        await cluster.produced(1, batch("both"))
        await until(lambda: cluster.partition(2).log_end_offset == 1, "it is copied")
        await cluster.kill(2)
        cluster.set_isr((1,))
        for number in range(5):
            await cluster.produced(1, batch(f"lost{number}"))
        target = other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        assert [size.offset_lag for _, size in shown(cluster) if size.is_future] == [0]
        await cluster.start(2)
        cluster.elect(2, (2,))
        await cluster.produced(2, batch("new"))
        await until_there(cluster, target)
        await until(lambda: cluster.partition(1).log_end_offset == 2, "it has followed")
        assert cluster.values(1) == cluster.values(2) == ["both", "new"]
        assert cluster.log_bytes(1) == cluster.log_bytes(2)

    run(scenario, **SLOW)


def test_an_epoch_without_batches_moves_along() -> None:
    """A leader that had not been written to in its epoch knew it no more in the other directory, and would
    have sent its followers to the end of the epoch before.
    """

    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster, batches=2)
        cluster.elect(1, (1,))
        before = cluster.partition(1).log.epochs.entries
        assert before == ((0, 0), (1, 2))
        target = other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await until_there(cluster, target)
        assert cluster.partition(1).log.epochs.entries == before

    run(scenario)


def test_a_log_that_moves_is_not_compacted_meanwhile() -> None:
    """A tombstone that compaction took away while its older records were in the copy already would have
    brought them back.
    """

    def keyed(number: int) -> bytearray:
        return bytearray(encode_batch([(1_000, b"k%d" % (number % 3), b"v" * 100, ())]))

    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster, batches=0, cleanup_policy="compact", segment_bytes="1024")
        for number in range(30):
            assert (await cluster.produced(1, keyed(number))).error is ErrorCode.NONE
        log, target = cluster.partition(1).log, other(cluster)
        await asyncio.sleep(20)
        rewrites = log.rewrites
        assert await moved(cluster, target) is ErrorCode.NONE
        for number in range(30):
            await cluster.produced(1, keyed(number))
            await asyncio.sleep(1)
        assert futures(cluster)
        assert log.rewrites == rewrites
        await until_there(cluster, target)
        assert cluster.partition(1).log.size_bytes == log.size_bytes
        assert cluster.partition(1).log_end_offset == 60
        await until(lambda: cluster.partition(1).log.rewrites > 0, "it is compacted then")
        # How far the cleaner was goes along, too.
        cleaned = cluster.partition(1).log.cleaner_offset
        assert cleaned > 0
        assert await moved(cluster, other(cluster)) is ErrorCode.NONE
        await until(lambda: not futures(cluster), "it has moved again")
        assert cluster.partition(1).log.cleaner_offset == cleaned

    run(scenario, replica_alter_log_dirs_io_max_bytes_per_second="100")


def test_a_directory_that_fails_takes_copies_along_and_no_replicas() -> None:
    async def scenario(cluster: ReplicaCluster) -> None:
        await one_broker(cluster)
        source, target = where(cluster), other(cluster)
        assert await moved(cluster, target) is ErrorCode.NONE
        await asyncio.sleep(0.5)
        cluster.world.disk("b1").fail_next("*", f"{target}/*", BAD_DISK, times=None)
        await asyncio.sleep(30)
        assert cluster.partition(1).is_online
        assert (await cluster.produced(1, batch("on"))).error is ErrorCode.NONE
        lines = [(each.path, each.is_online) for each in cluster.nodes[1].manager.log_sizes()]
        assert (source, True) in lines
        assert (target, False) in lines
        assert [path for path, _ in shown(cluster)] == [source]
        cluster.world.disk("b1").clear_failures()

    run(scenario, **SLOW)
