"""What opening a log after a crash got wrong once; the model test found most of these."""

import errno
from contextlib import suppress

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.config import LogConfig
from glasslog.log.damage import DamagedLog, LostRecords
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

PATH = "/data/t-0"


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


def open_log(files: MemoryFileSystem, *, clean: bool = False, recovery_point: int = 0) -> Log:
    return Log.open(
        files=files,
        directory=PATH,
        config=LogConfig(),
        clean_shutdown=clean,
        recovery_point=recovery_point,
    )


def batch(offset: int, epoch: int = 0) -> bytes:
    return bytes(encode_batch([(1_000, None, b"v", ())] * 2, base_offset=offset, leader_epoch=epoch))


def test_a_log_that_was_cut_in_a_gap_opens_again(files: MemoryFileSystem) -> None:
    """A follower copied a compacted log and was told to cut it at the first batch after a gap. It took the
    gap's end for its own, and said so in its recovery point. After a crash its last batch ended before
    that: the partition stayed offline, as if synced records were missing.
    """
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.append_as_follower(batch(10, epoch=1))
    log.truncate_to(10)
    assert log.log_end_offset == 2
    log.flush()
    recovery_point = log.recovery_point
    files.crash()
    assert open_log(files, recovery_point=recovery_point).log_end_offset == 2


def test_a_cut_inside_of_a_gap_ends_where_the_gap_begins(files: MemoryFileSystem) -> None:
    """The same with an offset that no batch has."""
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.append_as_follower(batch(10))
    log.truncate_to(7)
    assert log.log_end_offset == 2
    log.append_as_follower(batch(2))
    assert log.log_end_offset == 4


def test_what_a_truncation_removed_does_not_come_back_beside_what_is_new(files: MemoryFileSystem) -> None:
    """A process died while it cut a log, between the removal of a segment and the sync of the folder. The
    next one appended to the segment before, past where the removed one had begun. Then power was lost: the
    removed file was back, overlapped the other, and the partition was offline as if records were missing.
    """
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.roll()
    log.append_as_follower(batch(2))
    log.flush()
    recovery_point = log.recovery_point
    is_removed = False

    def die_after_removal(operation: Operation, path: str) -> None:
        nonlocal is_removed
        if is_removed:
            raise OSError(errno.EIO, "killed")
        is_removed = operation == "remove" and path.endswith("2.log")

    files.on_operation = die_after_removal
    with pytest.raises(StorageError):
        log.truncate_to(2)
    files.on_operation = None
    files.process_kill()
    log = open_log(files, recovery_point=recovery_point)
    assert log.log_end_offset == 2
    log.append_as_follower(batch(2) + batch(4))
    files.open(f"{PATH}/{0:020d}.log").sync()
    files.crash()
    assert open_log(files, recovery_point=recovery_point).log_end_offset == 6


def test_a_log_that_starts_anew_has_no_epochs_of_its_former_life(files: MemoryFileSystem) -> None:
    """A follower that was far behind dropped everything and began at the leader's start. Power went while it
    wrote its epochs for the second time: the first time it had written those of the batches it had dropped,
    and after the restart it answered with them.
    """
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.append_as_follower(batch(2, epoch=2))
    writes = 0

    def fail_second_write(operation: Operation, path: str) -> None:
        nonlocal writes
        if operation == "rename" and "leader-epoch" in path:
            writes += 1
            if writes == 2:
                raise OSError(errno.EIO, "power")

    files.on_operation = fail_second_write
    with suppress(StorageError):
        log.truncate_fully_and_start_at(3)
    files.on_operation = None
    files.crash(keep="all")
    assert list(open_log(files).epochs.entries) == []


def test_a_snapshot_that_can_not_be_read_is_a_storage_error(files: MemoryFileSystem) -> None:
    """The disk refused to read a producer snapshot: a bare OSError came up, which no broker takes for a
    failed disk. The whole broker ended with it.
    """
    log = open_log(files)
    log.append_as_leader(batch(0), leader_epoch=0, now_ms=0)
    log.close()
    files.fail_next("read", "*.snapshot", OSError(errno.EIO, "bad disk"))
    with pytest.raises(StorageError, match="snapshot: can not be read: bad disk"):
        open_log(files, clean=True)


def test_epochs_that_the_disk_will_not_give_are_not_made_up(files: MemoryFileSystem) -> None:
    """The disk refused to read the epochs once. They were taken for damaged and collected from the batches,
    and the file was replaced: in a compacted log those know less.
    """
    log = open_log(files)
    log.append_as_follower(batch(0, epoch=2))
    log.close()
    path = f"{PATH}/leader-epoch-checkpoint"
    before = files.read(path)
    files.fail_next("read", path, OSError(errno.EIO, "bad disk"))
    with pytest.raises(StorageError, match="leader-epoch-checkpoint: can not be read: bad disk"):
        open_log(files, clean=True)
    assert files.read(path) == before
    files.write_atomic(path, b"what is this")
    assert open_log(files, clean=True).epochs.entries == ((2, 0),)


def test_a_wrong_epoch_below_the_recovery_point_is_not_learned(files: MemoryFileSystem) -> None:
    """No checksum guards the epoch in a batch. After a crash one with a flipped bit was learned from a batch
    that had been synced long before: the log claimed an epoch that nobody had led yet.
    """
    log = open_log(files)
    for number in range(4):
        log.append_as_follower(batch(2 * number, epoch=number // 2))
    log.flush()
    recovery_point, epochs = log.recovery_point, log.epochs.entries
    log.append_as_follower(batch(8, epoch=3))
    size_bytes = len(batch(0))
    files.flip_bit(f"{PATH}/{0:020d}.log", size_bytes + 13, bit=5)
    files.process_kill()
    assert open_log(files, recovery_point=recovery_point).epochs.entries == (*epochs, (3, 8))


def test_a_segment_that_can_not_be_opened_for_a_flush_is_a_storage_error(files: MemoryFileSystem) -> None:
    """The same, where a flush in the background opens a file that was closed meanwhile."""
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.abandon()
    log = open_log(files)
    files.fail_next("open", "*.log", OSError(errno.EMFILE, "too many files"))
    with pytest.raises(StorageError, match=r"\.log: can not be opened: too many files"):
        log.begin_flush()


@pytest.mark.parametrize("who", ["truncation", "recovery"])
def test_what_was_removed_above_the_recovery_point_stays_away(files: MemoryFileSystem, who: str) -> None:
    """A process died while it cut what was never synced; a file it had removed came back with the next power
    loss, and began where what had been written since happened to end. So records of an old leader followed
    those of a new one, under the new one's epoch: no comparison of epochs would ever have found them.
    """
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.flush()
    log.append_as_follower(batch(2) + batch(4))
    log.roll()
    log.append_as_follower(batch(6))
    for segment in log.segments:
        segment.sync()
    log.sync_folder()
    is_removed = False

    def die_before_the_sync(operation: Operation, path: str) -> None:
        nonlocal is_removed
        is_removed |= operation == "remove" and path.endswith("6.log")
        if is_removed and operation == "sync_dir":
            raise OSError(errno.EIO, "killed")

    files.on_operation = die_before_the_sync
    if who == "recovery":
        log.abandon()
        files.flip_bit(f"{PATH}/{0:020d}.log", len(batch(0)) + 70)
    with pytest.raises(StorageError):
        log.truncate_to(2) if who == "truncation" else open_log(files, recovery_point=2)
    files.on_operation = None
    files.process_kill()
    log = open_log(files, recovery_point=2)
    log.append_as_follower(batch(2, epoch=3) + batch(4, epoch=3))
    files.open(f"{PATH}/{0:020d}.log").sync()
    files.crash()
    assert open_log(files, recovery_point=2).log_end_offset == 6


def test_a_log_cut_below_its_start_keeps_what_it_gets_then(files: MemoryFileSystem) -> None:
    """Records were deleted up to offset 4, then a leader that had only two was elected uncleanly. A follower
    began there once more, and acknowledged what came next; but the checkpoint said for another minute that
    the log began at 4. After a crash within it all was dropped for a log that ended before its start.
    """
    log = open_log(files)
    log.append_as_follower(batch(0) + batch(2) + batch(4))
    log.flush()
    log.advance_start(4)
    checkpointed = [log.log_start_offset]
    log.lower_log_start = checkpointed.append
    log.truncate_to(2)
    log.append_as_follower(batch(2, epoch=1))
    log.flush()
    files.crash()
    opened = Log.open(
        files=files,
        directory=PATH,
        config=LogConfig(),
        clean_shutdown=False,
        recovery_point=6,
        log_start_offset=checkpointed[-1],
    )
    assert (opened.log_start_offset, opened.log_end_offset) == (2, 4)


def test_a_folder_that_can_not_be_listed_after_a_swap_is_a_storage_error(files: MemoryFileSystem) -> None:
    """The bare OSError of a disk that failed right after an interrupted compaction was completed came up: it
    ended the start of the whole broker, though its other disks were well.
    """
    log = open_log(files)
    log.append_as_follower(batch(0))
    log.close()
    files.rename(f"{PATH}/{0:020d}.log", f"{PATH}/{0:020d}.log.swap")
    lists = 0

    def fail_second_list(operation: Operation, path: str) -> None:
        nonlocal lists
        lists += operation == "list"
        if lists == 2:
            raise OSError(errno.EIO, "bad disk")

    files.on_operation = fail_second_list
    with pytest.raises(StorageError, match="can not be listed"):
        open_log(files)
    assert lists == 2


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("bit", [1, 20, 40], ids=["near", "far", "too far for a segment"])
@pytest.mark.parametrize("number", [1, 2], ids=["between others", "the last"])
def test_a_synced_batch_with_a_wrong_offset_is_not_believed(
    files: MemoryFileSystem, clean: bool, bit: int, number: int
) -> None:
    """No checksum guards a batch's offset. Where one bit of it had become 1 the log was cut behind the batch,
    as if what followed had never been synced, and went on from the wrong offset; with a bit far up the
    indexes had no room for it, and the start of the whole broker ended.
    """
    log = open_log(files)
    data = b"".join(batch(offset) for offset in (0, 2, 4))
    log.append_as_follower(data)
    log.close()
    byte = number * len(batch(0)) + 7 - bit // 8
    files.flip_bit(f"{PATH}/{0:020d}.log", byte, bit=bit % 8)
    if clean:
        # Then nothing has to be read, and damage is left for readers to meet.
        log = open_log(files, clean=True, recovery_point=6)
        assert log.log_end_offset == 6
        with pytest.raises(DamagedLog):
            log.read(2 * number, max_bytes=1000)
        return
    with pytest.raises(LostRecords):
        open_log(files, clean=clean, recovery_point=6)
    log = Log.open(
        files=files,
        directory=PATH,
        config=LogConfig(),
        clean_shutdown=clean,
        recovery_point=6,
        may_cut_synced=True,
    )
    assert log.log_end_offset == 2 * number
    assert log.read(0, max_bytes=1000) == data[: number * len(batch(0))]
    log.append_as_follower(data[number * len(batch(0)) :])
    assert log.read(0, max_bytes=1000) == data
