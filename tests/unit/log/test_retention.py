"""Which segments may go, and how a log gives them up: readers go on, a crash at any point costs no more."""

import errno
import random

import pytest
from glasslog.common.errors import InvariantViolation, StorageError
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.config import LogConfig
from glasslog.log.log import Log, OffsetOutOfRange
from glasslog.log.records import encode_batch
from glasslog.log.retention import FRESH, SegmentFacts, find_expired, largest_timestamp_of

PATH = "/data/t-0"
CONFIG = LogConfig(segment_bytes=300, index_interval_bytes=50)


def facts(*segments: tuple[int, int, int]) -> list[SegmentFacts]:
    return [SegmentFacts(*segment) for segment in segments]


def expired(
    segments: list[SegmentFacts],
    *,
    retention_bytes: int = -1,
    retention_ms: int = -1,
    high_watermark: int = 1_000,
    log_start_offset: int = 0,
    now_ms: int = 1_000,
    is_deleted: bool = True,
) -> int:
    config = LogConfig(retention_bytes=retention_bytes, retention_ms=retention_ms, is_deleted=is_deleted)
    found = find_expired(
        segments,
        config=config,
        log_start_offset=log_start_offset,
        high_watermark=high_watermark,
        now_ms=now_ms,
    )
    return found.segments


FOUR = facts((10, 100, 100), (20, 100, 300), (30, 100, 200), (40, 50, 900))


@pytest.mark.parametrize(
    ("retention_bytes", "count"), [(-1, 0), (351, 0), (350, 0), (251, 0), (250, 1), (149, 2), (50, 3), (0, 4)]
)
def test_by_size_what_is_left_is_never_below_the_bound(retention_bytes: int, count: int) -> None:
    assert expired(FOUR, retention_bytes=retention_bytes) == count


@pytest.mark.parametrize(
    ("retention_ms", "count"), [(-1, 0), (900, 0), (899, 1), (700, 1), (699, 3), (100, 3), (99, 4)]
)
def test_by_time_the_oldest_go_until_one_is_young_enough(retention_ms: int, count: int) -> None:
    assert expired(FOUR, retention_ms=retention_ms) == count


def test_nothing_above_the_high_watermark_goes() -> None:
    assert expired(FOUR, retention_bytes=0, high_watermark=29) == 2
    assert expired(FOUR, retention_ms=0, high_watermark=30) == 3
    assert expired(FOUR, log_start_offset=30, high_watermark=5) == 0


def test_below_the_start_everything_closed_goes_whatever_the_policy() -> None:
    assert expired(FOUR, log_start_offset=29, is_deleted=False) == 2
    assert expired(FOUR, log_start_offset=40, is_deleted=False) == 3
    assert expired(FOUR, retention_bytes=0, retention_ms=0, is_deleted=False) == 0


def test_an_empty_active_segment_stays() -> None:
    assert expired([*FOUR[:3], SegmentFacts(30, 0, -1)], retention_ms=0, now_ms=10_000) == 3
    assert expired(facts((30, 0, -1)), retention_bytes=0) == 0


def test_records_without_a_time_go_with_those_after_them() -> None:
    """A segment of records without timestamps is as old as nobody knows: it must neither live for ever
    beside records that come later and expire, nor go by itself.
    """
    assert expired(facts((10, 9, -1), (20, 9, -1), (30, 9, 5), (40, 9, -1)), retention_ms=1) == 3
    assert expired(facts((10, 9, -1), (20, 9, FRESH)), retention_ms=1) == 0


# --- a log ------------------------------------------------------------------------------------------------


def open_log(files: MemoryFileSystem, *, log_start_offset: int = 0, clean: bool = False) -> Log:
    return Log.open(
        files=files, directory=PATH, config=CONFIG, clean_shutdown=clean, log_start_offset=log_start_offset
    )


def fill(log: Log, batches: int, *, producer: int = -1) -> None:
    for number in range(batches):
        end = log.log_end_offset
        data = encode_batch(
            [(1_000 + end, None, b"v" * 20, ())] * 2,
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=number * 2 if producer >= 0 else -1,
        )
        log.append_as_leader(data, leader_epoch=end // 12, now_ms=0)


def names(files: MemoryFileSystem) -> list[str]:
    return [name for name in files.list(PATH) if name[0] == "0"]


def test_retired_segments_are_renamed_and_the_rest_reads_on() -> None:
    files = MemoryFileSystem()
    log = open_log(files)
    fill(log, 12)
    before = log.segments
    start = before[2].base_offset
    kept = log.read(start, max_bytes=10_000)
    assert log.advance_start(start)
    retired = log.retire_segments_below(start)
    assert tuple(retired) == before[:2]
    assert log.segments[0].base_offset == log.log_start_offset == start
    assert log.read(start, max_bytes=10_000) == kept
    assert log.epochs.entries[0] == (start // 12, start)
    assert f"{0:020d}.log.deleted" in names(files)
    for segment in retired:
        segment.remove_files()
    assert not [name for name in names(files) if name.endswith(".deleted")]
    with pytest.raises(OffsetOutOfRange):
        log.read(start - 1, max_bytes=10)


def test_who_reads_a_retired_segment_goes_on() -> None:
    files = MemoryFileSystem()
    log = open_log(files)
    fill(log, 12)
    first = log.segments[0]
    before = first.read(0, max_bytes=1_000, upper_offset=100, minimum_one=True)
    first.release()
    log.advance_start(first.next_offset)
    log.retire_segments_below(first.next_offset)
    assert first.read(0, max_bytes=1_000, upper_offset=100, minimum_one=True) == before


def test_only_what_the_start_has_passed_is_retired() -> None:
    log = open_log(MemoryFileSystem())
    fill(log, 12)
    second = log.segments[1].base_offset
    assert log.advance_start(second + 1)
    assert not log.advance_start(second)
    with pytest.raises(InvariantViolation):
        log.retire_segments_below(second + 2)
    assert [segment.base_offset for segment in log.retire_segments_below(second + 1)] == [0]
    with pytest.raises(OffsetOutOfRange):
        log.advance_start(log.log_end_offset + 1)


def test_the_active_segment_never_goes_and_an_empty_one_is_not_rolled() -> None:
    log = open_log(MemoryFileSystem())
    fill(log, 5)
    end = log.log_end_offset
    log.roll()
    log.roll()
    assert log.segments[-1].base_offset == end
    log.advance_start(end)
    log.retire_segments_below(end)
    assert [segment.base_offset for segment in log.segments] == [end]
    fill(log, 1)
    assert log.log_end_offset == end + 2


def test_a_producer_is_known_after_its_batches_are_gone() -> None:
    files = MemoryFileSystem()
    log = open_log(files)
    fill(log, 3, producer=7)
    fill(log, 12)
    log.advance_start(log.segments[2].base_offset)
    log.retire_segments_below(log.log_start_offset)
    entries = log.producers.entries
    assert 7 in entries
    log.close()
    assert open_log(files, log_start_offset=log.log_start_offset, clean=True).producers.entries == entries


def test_a_refusing_disk_is_named() -> None:
    files = MemoryFileSystem()
    log = open_log(files)
    fill(log, 12)
    files.fail_next("rename", "*.log", OSError(errno.EIO, "bad disk"))
    log.advance_start(log.segments[1].base_offset)
    with pytest.raises(StorageError, match=r"\.log: can not be renamed"):
        log.retire_segments_below(log.log_start_offset)


def test_a_segments_age_is_its_newest_record() -> None:
    """A producer that copied old records behind new ones made whole segments look old by their last batch."""
    log = open_log(MemoryFileSystem())
    for timestamp in (5, 9_000, 7):
        log.append_as_leader(encode_batch([(timestamp, None, b"v", ())]), leader_epoch=0, now_ms=0)
    segment = log.segments[0]
    assert largest_timestamp_of(segment) == 9_000


class PowerLoss(BaseException):
    """Raised out of a file operation: nothing of the process goes on."""


@pytest.mark.parametrize("seed", range(150))
def test_a_crash_anywhere_leaves_a_sound_log(seed: int) -> None:
    """The start is checkpointed before, as the broker does; then any operation may be the last."""
    draw = random.Random(seed)
    files = MemoryFileSystem(random=SeededRandom(seed))
    log = open_log(files)
    fill(log, 14)
    log.flush()
    start = log.segments[draw.randrange(1, len(log.segments))].base_offset
    expected = log.read(start, max_bytes=100_000)
    left = draw.randrange(12)

    def on_operation(operation: Operation, path: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerLoss

    files.on_operation = on_operation
    try:
        log.advance_start(start)
        retired = log.retire_segments_below(start)
        log.sync_folder()
        for segment in retired:
            segment.remove_files()
    except PowerLoss:
        pass
    files.on_operation = None
    files.crash(keep=draw.choice(["none", "all", "torn"]))
    log = open_log(files, log_start_offset=start)
    assert not [name for name in names(files) if name.endswith(".deleted")]
    assert log.log_start_offset == start
    assert log.read(start, max_bytes=100_000) == expected
    log.retire_segments_below(start)
    assert log.segments[0].base_offset == start
