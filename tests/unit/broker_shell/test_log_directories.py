"""A broker's data directories: which are used at the start, which folder counts, what fails together."""

import asyncio
import errno
from collections.abc import Sequence

import pytest
from glasslog.broker.log_creation import WantedLog
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.stored_logs import BrokenLog, StoredLog
from glasslog.common.config import parse
from glasslog.common.errors import StorageError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.files import Operation
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.topic_config import topic_config
from glasslog.log.directories import OpenedDirectories, open_directories
from glasslog.log.directory import MisplacedDirectory
from glasslog.log.records import encode_batch
from glasslog.metadata.records import UNASSIGNED_DIRECTORY

PATHS = ("/d1", "/d2")
PARTITION = TopicPartition("t", 0)
TOPIC_ID = TopicId(b"topic-id-0000001")
CONFIG = parse(
    NodeConfig, {"node.id": "1", "process.roles": "broker", "log.dirs": ",".join(PATHS)}, where="test"
)
TOPIC = topic_config(CONFIG, {})
BAD_DISK = OSError(errno.EIO, "bad disk")


def opened(
    world: MemoryWorld, paths: Sequence[str] = PATHS, *, node_id: int = 1, required: Sequence[str] = ()
) -> OpenedDirectories:
    runtime = world.runtime("b1")
    return open_directories(
        files=runtime.files,
        paths=paths,
        cluster_id="c",
        node_id=node_id,
        new_directory_id=runtime.random.uuid,
        required=required,
    )


async def recovered(world: MemoryWorld, directories: OpenedDirectories) -> PartitionLogs:
    logs = PartitionLogs(
        runtime=world.runtime("b1"),
        config=CONFIG,
        directories=directories.usable,
        missing=directories.missing,
    )
    await logs.recover()
    return logs


def abandon(directories: OpenedDirectories) -> None:
    for directory in directories.usable:
        directory.abandon()


def append(stored: StoredLog | BrokenLog, count: int, *, epoch: int = 0) -> None:
    assert isinstance(stored, StoredLog)
    for _ in range(count):
        data = bytearray(encode_batch([(0, None, b"v", ())]))
        stored.log.append_as_leader(data, leader_epoch=epoch, now_ms=0)


# --- which are used ---


def test_one_that_can_not_be_read_is_done_without() -> None:
    world = MemoryWorld()
    abandon(opened(world))
    world.disk("b1").fail_next("*", "/d2/*", BAD_DISK, times=None)
    found = opened(world)
    assert [each.path for each in found.usable] == ["/d1"]
    assert [(each.path, "bad disk" in each.reason) for each in found.missing] == [("/d2", True)]


def test_one_that_is_not_there_any_more_is_not_made_anew() -> None:
    """A disk was not mounted at the start: the broker made the folder on the disk below and filled that."""
    world = MemoryWorld()
    abandon(opened(world))
    world.disk("b1").remove_tree("/d2")
    found = opened(world)
    assert [each.path for each in found.missing] == ["/d2"]
    assert not world.disk("b1").exists("/d2")


def test_an_empty_one_is_a_new_disk() -> None:
    world = MemoryWorld()
    before = opened(world)
    abandon(before)
    world.disk("b1").remove_tree("/d2")
    world.disk("b1").make_dirs("/d2")
    after = opened(world)
    assert after.usable[0].directory_id == before.usable[0].directory_id
    assert after.usable[1].directory_id != before.usable[1].directory_id


def test_one_that_lost_its_identity_is_not_taken_for_a_new_disk() -> None:
    world = MemoryWorld()
    abandon(opened(world))
    world.disk("b1").remove("/d2/meta.properties")
    world.disk("b1").make_dirs("/d2/t-0")
    world.disk("b1").open("/d2/t-0/leader-epoch-checkpoint", create=True).close()
    found = opened(world)
    assert [(each.path, "holds partitions" in each.reason) for each in found.missing] == [("/d2", True)]


def test_what_only_the_operator_can_solve_stops_the_broker() -> None:
    world = MemoryWorld()
    first = opened(world)
    with pytest.raises(MisplacedDirectory, match="in use by another process"):
        opened(world, ("/d3", "/d1"))
    abandon(first)
    with pytest.raises(MisplacedDirectory, match="belongs to node 1"):
        opened(world, node_id=2)
    world.disk("b1").fail_next("*", "/d2/*", BAD_DISK, times=None)
    with pytest.raises(StorageError, match="bad disk"):
        opened(world, required=["/d2"])
    world.disk("b1").fail_next("*", "/d1/*", BAD_DISK, times=None)
    with pytest.raises(StorageError, match="bad disk"):
        opened(world)


# --- where partitions go ---


def wanted(topic: str, number: int, topic_id: TopicId = TOPIC_ID) -> WantedLog:
    name = TopicPartition(topic, number)
    return WantedLog(name=name, topic_id=topic_id, topic=TOPIC, directory_id=UNASSIGNED_DIRECTORY)


def test_many_are_made_ahead_where_they_would_be_made_one_by_one() -> None:
    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        logs.adopt(TopicPartition("t", 0), TOPIC_ID, TOPIC)
        other = TopicId(b"topic-id-0000002")
        await logs.create_ahead([wanted("t", 0, other), *(wanted("u", number) for number in range(5))])
        assert len(logs) == 6
        # What is there already is left to ``adopt``.
        assert logs.adopt(TopicPartition("t", 0), TOPIC_ID, TOPIC).topic_id == TOPIC_ID
        stored = [logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(5)]
        assert sorted(each.directory.path for each in stored) == ["/d1", "/d1", "/d2", "/d2", "/d2"]
        append(stored[0], 2)

    run_virtual(main)


def test_many_made_together_survive_a_power_loss_at_once() -> None:
    """One sync makes all their folders durable, one more the files of each: all before they are used."""

    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        await logs.create_ahead([wanted("u", number) for number in range(5)])
        logs.abandon()
        world.disk("b1").crash()
        directories = opened(world)
        found = {name: each for each in directories.usable for name in each.partitions()}
        assert sorted(found) == [TopicPartition("u", number) for number in range(5)]
        assert {each.topic_id_of(name) for name, each in found.items()} == {TOPIC_ID}
        assert all(world.disk("b1").exists(f"{each.path}/{name}/{0:020}.log") for name, each in found.items())
        append((await recovered(world, directories)).adopt(TopicPartition("u", 0), TOPIC_ID, TOPIC), 2)

    run_virtual(main)


def test_many_made_together_wait_for_the_disk_together() -> None:
    """A thousand new partitions took 1.5 s on a file system with a journal: each had two commits of its own.

    Where all is written before the first is synced, what the first one waits for is the others' as well.
    """

    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world, ("/d1",)))
        steps: list[tuple[str, str]] = []
        world.disk("b1").on_operation = lambda operation, path: steps.append((operation, path))
        await logs.create_ahead([wanted("u", number) for number in range(24)])
        name = "partition.metadata.tmp"
        # Each of eight threads has three of them.
        for first, last in ((number, number + 16) for number in range(8)):
            written = steps.index(("pwrite", f"/d1/u-{last}/{name}"))
            assert written < steps.index(("sync", f"/d1/u-{first}/{name}"))
            complete = steps.index(("open", f"/d1/u-{last}/{0:020}.log"))
            assert complete < steps.index(("sync_dir", f"/d1/u-{first}"))

    run_virtual(main)


def test_leaders_of_nothing_cost_no_sync_when_the_broker_stops() -> None:
    """A broker that led 666 empty partitions of 2,000 took 17 s to stop, and was killed after 15 s.

    For each of them it wrote where its leader epoch begins, durably and one after the other; at the next
    start an epoch without a batch was dropped again.
    """

    async def main() -> None:
        world = MemoryWorld()
        directories = opened(world)
        logs = await recovered(world, directories)
        await logs.create_ahead([wanted("u", number) for number in range(5)])
        stored = [logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(5)]
        for each in stored:
            assert isinstance(each, StoredLog)
            each.log.start_leader_epoch(3)
        append(stored[2], 1, epoch=3)
        touched: set[str] = set()
        world.disk("b1").on_operation = lambda _, path: touched.add(path)
        await logs.close(high_watermarks={})
        assert {each.split("/")[2] for each in touched if "/u-" in each} == {"u-2"}
        assert [each.clean_shutdown for each in opened(world).usable] == [True, True]

    run_virtual(main)


def test_one_log_that_does_not_close_leaves_only_its_directory_to_recovery() -> None:
    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        await logs.create_ahead([wanted("u", number) for number in range(6)])
        for number in range(6):
            append(logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC), 1)
        world.disk("b1").fail_next("sync", "/d2/u-*/*.log", BAD_DISK)
        await logs.close(high_watermarks={})
        directories = opened(world)
        assert [each.clean_shutdown for each in directories.usable] == [True, False]
        again = await recovered(world, directories)
        ends = [again.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(6)]
        assert [each.log.log_end_offset for each in ends if isinstance(each, StoredLog)] == [1] * 6

    run_virtual(main)


def test_one_that_can_not_be_made_does_not_keep_its_neighbours_from_it() -> None:
    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world, ("/d1",)))
        world.disk("b1").fail_next("make_dirs", "/d1/u-1", OSError(errno.ENAMETOOLONG, "too long"))
        await logs.create_ahead([wanted("u", number) for number in range(3)])
        stored = [logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(3)]
        assert [type(each) for each in stored] == [StoredLog, BrokenLog, StoredLog]

    run_virtual(main)


def test_a_disk_that_fails_under_new_ones_takes_only_these() -> None:
    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        world.disk("b1").fail_next("*", "/d2/*", BAD_DISK, times=None)
        await logs.create_ahead([wanted("u", number) for number in range(4)])
        stored = [logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(4)]
        kinds = [(each.directory.path, type(each)) for each in stored]
        assert sorted(kinds, key=str) == [("/d1", StoredLog)] * 2 + [("/d2", BrokenLog)] * 2

    run_virtual(main)


def test_a_new_partition_goes_where_the_fewest_are() -> None:
    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        for number in range(5):
            logs.adopt(TopicPartition("t", number), TOPIC_ID, TOPIC)
        logs.retire(TopicPartition("t", 1))
        logs.retire(TopicPartition("t", 3))
        stored = [logs.adopt(TopicPartition("u", number), TOPIC_ID, TOPIC) for number in range(3)]
        assert [each.directory.path for each in stored] == ["/d2", "/d2", "/d2"]

    run_virtual(main)


def test_what_may_lie_in_a_missing_directory_is_not_made_anew() -> None:
    async def main() -> None:
        world = MemoryWorld()
        directories = opened(world)
        missing_id = directories.usable[1].directory_id
        abandon(directories)
        world.disk("b1").fail_next("*", "/d2/*", BAD_DISK, times=None)
        logs = await recovered(world, opened(world))
        lost = logs.adopt(PARTITION, TOPIC_ID, TOPIC, directory_id=missing_id)
        assert isinstance(lost, BrokenLog)
        assert "may lie in /d2" in lost.reason
        new = logs.adopt(TopicPartition("new", 0), TOPIC_ID, TOPIC)
        assert isinstance(new, StoredLog)

    run_virtual(main)


async def two_folders(world: MemoryWorld) -> OpenedDirectories:
    """One partition in both: three old records in the first, one of a newer epoch in the second."""
    for path, count, epoch in (("/d1", 3, 0), ("/d2", 1, 4)):
        directories = opened(world)
        one = [each for each in directories.usable if each.path == path]
        logs = await recovered(world, OpenedDirectories(usable=tuple(one)))
        append(logs.adopt(PARTITION, TOPIC_ID, TOPIC), count, epoch=epoch)
        await logs.close(high_watermarks={})
        abandon(directories)
    return opened(world)


@pytest.mark.parametrize(("named", "expected"), [(None, "/d2"), (0, "/d1"), (1, "/d2")])
def test_of_two_folders_the_one_that_the_metadata_names_counts(named: int | None, expected: str) -> None:
    """The broker did not start. Without the metadata's word the newer epoch counts, then the longer log."""

    async def main() -> None:
        world = MemoryWorld()
        directories = await two_folders(world)
        logs = await recovered(world, directories)
        directory_id = bytes(16) if named is None else directories.usable[named].directory_id
        stored = logs.adopt(PARTITION, TOPIC_ID, TOPIC, directory_id=directory_id)
        assert isinstance(stored, StoredLog)
        assert stored.directory.path == expected
        assert stored.log.log_end_offset == (3 if expected == "/d1" else 1)
        other = "/d1" if expected == "/d2" else "/d2"
        assert not world.disk("b1").exists(f"{other}/t-0")

    run_virtual(main)


def test_a_folder_that_a_crash_left_without_an_id_is_not_a_namesakes_too() -> None:
    """Power went between the making of a partition's folder and of the file with its topic's id. The broker
    used the folder from then on and never wrote the id. The topic was deleted while the disk was away, and
    the next one of that name began with the records of the deleted one.
    """

    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        logs.adopt(PARTITION, TOPIC_ID, TOPIC)
        world.disk("b1").remove("/d1/t-0/partition.metadata")
        logs.abandon()
        logs = await recovered(world, opened(world))
        append(logs.adopt(PARTITION, TOPIC_ID, TOPIC), 3)
        logs.abandon()
        logs = await recovered(world, opened(world))
        namesake = logs.adopt(PARTITION, TopicId(b"topic-id-0000002"), TOPIC)
        assert isinstance(namesake, StoredLog)
        assert namesake.log.log_end_offset == 0

    run_virtual(main)


def test_of_two_folders_one_of_a_deleted_namesake_never_counts() -> None:
    """It was the longer log of the two, so the live topic's folder was the one that went."""

    async def main() -> None:
        world = MemoryWorld()
        directories = await two_folders(world)
        world.disk("b1").remove("/d2/t-0/partition.metadata")
        directories.usable[1].create_partition(PARTITION, TopicId(b"topic-id-0000002"))
        logs = await recovered(world, directories)
        stored = logs.adopt(PARTITION, TOPIC_ID, TOPIC)
        assert isinstance(stored, StoredLog)
        assert stored.log.log_end_offset == 3

    run_virtual(main)


# --- failing together ---


@pytest.mark.parametrize(
    ("operation", "glob"), [("sync", "*/d1/*.log"), ("rename", "/d1/*checkpoint*"), ("sync_dir", "/d1/t-0")]
)
def test_a_refused_sync_or_checkpoint_fails_the_directory(operation: Operation, glob: str) -> None:
    """Only that log was marked, or nothing at all happened: its replica led on."""

    async def main() -> None:
        world = MemoryWorld()
        logs = await recovered(world, opened(world))
        told: list[TopicPartition] = []
        logs.on_failed_directory = lambda reason, lost: told.extend(lost)
        stored = [logs.adopt(TopicPartition("t", number), TOPIC_ID, TOPIC) for number in range(4)]
        for each in stored:
            append(each, 1)
            assert isinstance(each, StoredLog)
            each.log.config = each.log.config.__class__(segment_bytes=256)
            append(each, 4)
        world.disk("b1").fail_next(operation, glob, BAD_DISK)
        await logs.flush_closed_segments()
        assert told == [TopicPartition("t", 0), TopicPartition("t", 2)]
        assert logs.has_directory
        assert len(logs.offline_directory_ids) == 1

    run_virtual(main)


def test_a_start_that_was_taken_back_is_not_written_once_more() -> None:
    """A follower was cut below its start, where nothing is left of a log that an unclean leader never had,
    while the starts of all logs were just being written: the old one was found after a crash, and the log
    dropped what it had acknowledged since as lying before its start.
    """

    async def main() -> None:
        world = MemoryWorld(blocking_delay_ms=100)
        directories = opened(world)
        logs = await recovered(world, directories)
        stored = logs.adopt(PARTITION, TOPIC_ID, TOPIC)
        append(stored, 10)
        assert isinstance(stored, StoredLog)
        stored.log.advance_start(8)
        writing = asyncio.ensure_future(logs.checkpoint_log_starts())
        await asyncio.sleep(0.05)
        stored.log.truncate_to(3)
        assert await writing
        directory = stored.directory
        assert directory.read_log_start_offsets() == {PARTITION: 3}
        append(stored, 7, epoch=1)
        stored.log.advance_start(8)
        assert await logs.checkpoint_log_starts()
        stored.log.truncate_to(5)
        assert directory.read_log_start_offsets() == {PARTITION: 5}
        append(stored, 5, epoch=2)
        stored.log.flush()
        world.disk("b1").crash(keep="none")
        again = (await recovered(world, opened(world))).adopt(PARTITION, TOPIC_ID, TOPIC)
        assert isinstance(again, StoredLog)
        assert (again.log.log_start_offset, again.log.log_end_offset) == (5, 10)

    run_virtual(main)


def test_recovery_says_how_far_it_is() -> None:
    async def main() -> None:
        world = MemoryWorld(blocking_delay_ms=2_000)
        logs = await recovered(world, opened(world))
        for number in range(6):
            append(logs.adopt(TopicPartition("t", number), TOPIC_ID, TOPIC), 2)
        logs.abandon()
        logs = PartitionLogs(runtime=world.runtime("b1"), config=CONFIG, directories=opened(world).usable)
        running = asyncio.ensure_future(logs.recover())
        seen = set()
        while not running.done():
            seen.add(str(logs.recovery_progress).partition(",")[0])
            await asyncio.sleep(0.05)
        assert {"0 of 6 logs", "3 of 6 logs"} <= seen
        progress = logs.recovery_progress
        assert str(progress).startswith("6 of 6 logs")
        assert progress.bytes_done == progress.size_bytes > 0

    run_virtual(main)
