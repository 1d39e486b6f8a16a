"""One partition's log: flushing, and opening what a crash or a bad disk left."""

import errno
import tracemalloc
from pathlib import Path

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.config import LogConfig
from glasslog.log.damage import LostRecords
from glasslog.log.log import Log, OffsetOutOfRange

from tests.unit.log.logs import PATH, append, batch, fill, offsets, open_log, read_all


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


# --- durability -------------------------------------------------------------------------------------------


def test_flush_advances_the_recovery_point(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 50)
    assert log.recovery_point == 0
    log.flush(up_to=0)
    assert log.recovery_point == 0
    pending = log.begin_flush()
    assert pending is not None
    pending.sync()
    fill(log, 1)
    assert log.complete_flush(pending) == 150
    assert not any(segment.is_open for segment in log._segments.closed())
    files.crash()
    log = open_log(files, recovery_point=150)
    assert log.log_end_offset == 150


def test_a_flush_beside_a_truncation_promises_nothing(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 100)
    pending = log.begin_flush()
    assert pending is not None
    log.truncate_to(30)
    fill(log, 30)
    pending.sync()
    assert log.complete_flush(pending) == 0
    assert not any(segment.is_open for segment in log._segments.closed())


def test_after_a_failed_sync_the_log_stops(files: MemoryFileSystem) -> None:
    """A second fsync may succeed although the first one lost pages: no retry is allowed."""
    log = open_log(files)
    fill(log, 1)
    files.fail_next("sync", "*.log", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match=r"\.log: can not be synced: Input/output error"):
        log.flush()
    with pytest.raises(StorageError, match="can not be synced"):
        log.flush()
    with pytest.raises(StorageError, match="can not be synced"):
        fill(log, 1)
    assert log.recovery_point == 0


# --- opening ----------------------------------------------------------------------------------------------


def test_clean_open_reads_no_batches_but_the_tail(files: MemoryFileSystem) -> None:
    log = open_log(files, config=LogConfig(index_interval_bytes=200))
    fill(log, 500, epoch=3)
    size_bytes = log.size_bytes
    log.close()
    operations: list[str] = []
    files.on_operation = lambda operation, path: operations.append(operation)
    log = open_log(files, config=LogConfig(index_interval_bytes=200), clean=True)
    assert operations.count("pread") <= 2
    assert (log.log_end_offset, log.size_bytes, log.recovery_point) == (1500, size_bytes, 1500)
    assert log.latest_epoch == 3
    assert not any(segment.is_open for segment in log._segments)


@pytest.mark.parametrize("damage", ["torn", "noise", "zeros", "flip"])
def test_a_bad_tail_is_cut(files: MemoryFileSystem, damage: str) -> None:
    log = open_log(files)
    fill(log, 10)
    log.flush()
    good = read_all(log)
    append(log, batch(2, value_bytes=100))
    files.process_kill()
    name = f"{PATH}/{0:020d}.log"
    file = files.open(name)
    match damage:
        case "torn":
            file.truncate(file.size() - 1)
        case "noise":
            file.pwrite(b"\xff" * 50, len(good))
        case "zeros":
            file.pwrite(bytes(400), len(good))
        case _:
            files.flip_bit(name, len(good) + 100)
    log = open_log(files, recovery_point=30)
    assert read_all(log) == good
    assert log.log_end_offset == 30
    assert log.recovery.problem is not None
    assert log.recovery.cut_bytes > 0
    append(log, batch())
    assert offsets(read_all(log))[-1] == 30


def test_a_read_copies_once(tmp_path: Path) -> None:
    """From the page cache into memory, and nowhere else: what is handed out is a view of that."""
    config = LogConfig(segment_bytes=1 << 30)
    directory = str(tmp_path / "t-0")
    log = Log.open(files=OsFileSystem(), directory=directory, config=config, clean_shutdown=False)
    append(log, batch(value_bytes=16_000) * 64)
    size_bytes = log.size_bytes
    tracemalloc.start()
    try:
        data = log.read(0, max_bytes=size_bytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    log.abandon()
    assert len(data) == size_bytes
    assert isinstance(data, memoryview)
    assert peak_bytes < size_bytes * 1.1


def test_synced_data_that_went_bad_is_not_cut_but_reported(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 10)
    log.flush()
    files.process_kill()
    name = f"{PATH}/{0:020d}.log"
    files.flip_bit(name, len(batch(3)) * 4 + 16)
    with pytest.raises(StorageError, match=r"00\.log: batch at position \d+: magic.*recovery point 30"):
        open_log(files, recovery_point=30)


def test_synced_data_that_is_missing_is_reported(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 10)
    log.flush()
    files.process_kill()
    files.open(f"{PATH}/{0:020d}.log").truncate(len(batch(3)) * 8)
    with pytest.raises(StorageError, match="ends at offset 24, below the recovery point 30"):
        open_log(files, recovery_point=30)


def test_a_replica_that_counts_for_nothing_is_cut_below_its_recovery_point(files: MemoryFileSystem) -> None:
    """After a crash one bit of a synced header was found wrong. The log was never opened again: the replica
    stayed offline although two others had every record, and the broker asked nobody.
    """
    log = open_log(files)
    fill(log, 10)
    log.flush()
    good = read_all(log)
    files.process_kill()
    name = f"{PATH}/{0:020d}.log"
    files.flip_bit(name, len(batch(3)) * 4 + 16)
    with pytest.raises(LostRecords):
        open_log(files, recovery_point=30)
    log = open_log(files, recovery_point=30, may_cut_synced=True)
    assert (log.log_end_offset, log.recovery_point) == (12, 12)
    assert read_all(log) == good[: len(batch(3)) * 4]
    log.append_as_follower(good[len(batch(3)) * 4 :])
    # What came since is not synced: the recovery point of the checkpoint is not believed any more.
    files.crash(keep="none")
    log = open_log(files, recovery_point=30)
    assert log.log_end_offset == 12
    log.append_as_follower(good[len(batch(3)) * 4 :])
    log.flush()
    files.crash(keep="none")
    assert read_all(open_log(files, recovery_point=30)) == good


@pytest.mark.parametrize("lost", ["end", "segment"])
def test_what_is_gone_below_the_recovery_point_can_be_cut_off(files: MemoryFileSystem, lost: str) -> None:
    log = open_log(files)
    fill(log, 100)
    log.flush()
    good, bases, end = read_all(log), log.segment_base_offsets, log.log_end_offset
    files.process_kill()
    if lost == "end":
        files.open(f"{PATH}/{bases[-1]:020d}.log").truncate(0)
    else:
        files.remove(f"{PATH}/{bases[-1]:020d}.log")
    with pytest.raises(LostRecords):
        open_log(files, recovery_point=end)
    log = open_log(files, recovery_point=end, may_cut_synced=True)
    assert log.log_end_offset == bases[-1]
    assert good.startswith(read_all(log))
    log.close()
    assert open_log(files, recovery_point=bases[-1], clean=True).log_end_offset == bases[-1]


@pytest.mark.parametrize("clean", [True, False])
def test_a_log_without_its_beginning_is_not_opened(files: MemoryFileSystem, clean: bool) -> None:
    """The first segment's file was gone, and nobody noticed: the log began later. As a leader it told its
    followers, which deleted what they had of it. Where others have it, all is copied again.
    """
    log = open_log(files)
    fill(log, 60)
    end, good = log.log_end_offset, read_all(log)
    log.close()
    files.remove(f"{PATH}/{0:020d}.log")
    with pytest.raises(LostRecords, match=r"first segment begins at offset \d+, the log at 0 by"):
        open_log(files, clean=clean, recovery_point=end)
    log = open_log(files, clean=clean, recovery_point=end, may_cut_synced=True)
    assert (log.log_start_offset, log.log_end_offset) == (0, 0)
    log.append_as_follower(good)
    log.close()
    assert read_all(open_log(files, clean=clean, recovery_point=log.recovery_point)) == good


def test_what_retention_took_is_not_missed(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 60)
    log.flush()
    start = log.segment_base_offsets[2]
    log.advance_start(start)
    for segment in log.retire_segments_below(start):
        segment.remove_files()
    log.sync_folder()
    files.crash(keep="none")
    assert open_log(files, recovery_point=log.recovery_point).log_start_offset == start


@pytest.mark.parametrize("lost", ["segment", "content", "end", "all"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_log_that_ends_too_early_is_not_opened(files: MemoryFileSystem, lost: str, clean: bool) -> None:
    """After an orderly stop nobody compared a log's end with its recovery point: a replica in sync whose last
    segment was gone, or all of them, came up shorter or empty, could be elected, and lost the rest for all.
    """
    log = open_log(files)
    fill(log, 60)
    bases, end, good = log.segment_base_offsets, log.log_end_offset, read_all(log)
    log.close()
    last = f"{PATH}/{bases[-1]:020d}.log"
    if lost == "segment":
        files.remove(last)
    elif lost == "all":
        for base in bases:
            files.remove(f"{PATH}/{base:020d}.log")
    else:
        files.open(last).truncate(0 if lost == "content" else len(batch(3)))
    with pytest.raises(LostRecords, match="synced offsets are missing"):
        open_log(files, clean=clean, recovery_point=end)
    log = open_log(files, clean=clean, recovery_point=end, may_cut_synced=True)
    left = read_all(log)
    assert len(left) < len(good)
    assert good.startswith(left)
    log.append_as_follower(good[len(left) :])
    assert read_all(log) == good


def test_a_bad_segment_takes_the_later_ones_with_it(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 60, epoch=1)
    fill(log, 60, epoch=2)
    bases = log.segment_base_offsets
    assert len(bases) > 4
    files.process_kill()
    files.flip_bit(f"{PATH}/{bases[1]:020d}.log", len(batch(3)) * 2 + 70)
    log = open_log(files)
    assert log.log_end_offset == bases[1] + 6
    assert log.segment_base_offsets == bases[:2]
    assert log.epochs.entries == ((1, 0),)
    assert max(int(n[:20]) for n in files.list(PATH) if n.endswith(".snapshot")) <= log.log_end_offset


def test_a_missing_segment_is_reported_where_it_was_synced(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 100)
    log.flush()
    bases = log.segment_base_offsets
    files.process_kill()
    files.remove(f"{PATH}/{bases[2]:020d}.log")
    for recovery_point in (bases[3], bases[4], log.log_end_offset):
        with pytest.raises(StorageError, match="synced offsets are missing"):
            open_log(files, recovery_point=recovery_point)
    with pytest.raises(StorageError, match="synced offsets are missing"):
        open_log(files, clean=True)
    assert open_log(files, recovery_point=bases[2]).log_end_offset == bases[2]


def test_leftovers_go_and_strangers_are_named(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 3)
    log.close()
    for name in (f"{5:020d}.log.deleted", f"{0:020d}.log.cleaned", f"{0:020d}.log.swap", "x.tmp"):
        files.write_atomic(f"{PATH}/{name}", b"x")
    files.write_atomic(f"{PATH}/{77:020d}.index", b"x")
    assert open_log(files, clean=True).log_end_offset == 9
    assert [n for n in files.list(PATH) if n.endswith((".deleted", ".cleaned", ".swap", ".tmp"))] == []
    assert f"{77:020d}.index" not in files.list(PATH)
    files.write_atomic(f"{PATH}/notes.log", b"x")
    with pytest.raises(StorageError, match=r"notes\.log: not a name"):
        open_log(files, clean=True)


@pytest.mark.parametrize("damage", [None, b"0\n1\nx\n", b""])
def test_lost_epochs_are_read_from_the_batches(files: MemoryFileSystem, damage: bytes | None) -> None:
    log = open_log(files)
    for epoch in (1, 4, 9):
        fill(log, 20, epoch=epoch)
    entries = log.epochs.entries
    log.close()
    path = f"{PATH}/leader-epoch-checkpoint"
    if damage is None:
        files.remove(path)
    else:
        files.write_atomic(path, damage)
    assert open_log(files, clean=True).epochs.entries == entries
    files.remove(path)
    files.process_kill()
    assert open_log(files, recovery_point=120).epochs.entries == entries


def test_epochs_of_what_a_crash_took_are_dropped(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 5, epoch=1)
    log.flush()
    fill(log, 5, epoch=2)
    log.start_leader_epoch(3)
    files.crash()
    log = open_log(files, recovery_point=15)
    assert (log.log_end_offset, log.epochs.entries) == (15, ((1, 0),))


def test_a_start_offset_is_adopted(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 10, epoch=1)
    fill(log, 10, epoch=2)
    log.close()
    log = open_log(files, clean=True, log_start_offset=40)
    assert (log.log_start_offset, log.epochs.entries) == (40, ((2, 40),))
    with pytest.raises(OffsetOutOfRange):
        log.read(39, max_bytes=1)
    log.close()
    log = open_log(files, clean=True, log_start_offset=400)
    assert (log.log_start_offset, log.log_end_offset) == (400, 400)


def test_closed_and_deleted_logs_refuse(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 1)
    log.close()
    with pytest.raises(StorageError, match="is closed"):
        fill(log, 1)
    log = open_log(files, clean=True)
    log.delete()
    assert not files.exists(PATH)
    log.delete()
    with pytest.raises(StorageError, match="was deleted"):
        log.flush()


def test_a_new_log_begins_where_asked(files: MemoryFileSystem) -> None:
    log = open_log(files, log_start_offset=70)
    assert append(log, batch(2)) == (70, 71)
    files.process_kill()
    assert open_log(files).log_start_offset == 70


def test_a_recovery_point_that_is_too_low_hides_nothing(files: MemoryFileSystem) -> None:
    """It is the log's end when a node stops in order; who brings a directory may have written it before."""
    log = open_log(files)
    fill(log, 60)
    good = read_all(log)
    log.close()
    for recovery_point in (0, log.segment_base_offsets[-1], log.log_end_offset - 4, log.log_end_offset - 3):
        assert read_all(open_log(files, clean=True, recovery_point=recovery_point)) == good
