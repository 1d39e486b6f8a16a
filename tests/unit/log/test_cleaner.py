"""What compaction keeps and what it drops, one rule at a time."""

import errno
from collections.abc import Sequence
from itertools import pairwise

import pytest
from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import Compression, CorruptBatch, parse_header
from glasslog.log.cleaner import Rewritten, Worked
from glasslog.log.cleaner_plan import SourceSegment, group_segments
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.markers import EndTransactionMarker, encode_marker
from glasslog.log.offset_map import ENTRY_BYTES
from glasslog.log.records import NewRecord, encode_batch

from tests.unit.log.compacting import cleaning_of, compact, plan, put_in_place, read_batches, read_records

PATH = "/data/t-0"
DAY_MS = 86_400_000
CONFIG = LogConfig(segment_bytes=400, index_interval_bytes=60, is_compacted=True, delete_retention_ms=DAY_MS)


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


def open_log(files: MemoryFileSystem, config: LogConfig = CONFIG, *, clean: bool = False) -> Log:
    return Log.open(files=files, directory=PATH, config=config, clean_shutdown=clean)


def put(
    log: Log,
    *rows: tuple[str | None, str | None],
    timestamp: int = 1_000,
    producer: int = -1,
    sequence: int = -1,
    compression: Compression = Compression.NONE,
    transactional: bool = False,
) -> int:
    """Append one batch of those keys and values; returns its base offset."""
    records: list[NewRecord] = [
        (timestamp, None if key is None else key.encode(), None if value is None else value.encode(), ())
        for key, value in rows
    ]
    data = encode_batch(
        records,
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=sequence,
        compression=compression,
        transactional=transactional,
    )
    return log.append_as_leader(data, leader_epoch=0, now_ms=timestamp).first_offset


def end_transaction(log: Log, producer: int, *, commit: bool) -> None:
    marker = EndTransactionMarker(is_commit=commit, coordinator_epoch=0)
    data = encode_marker(marker, producer_id=producer, producer_epoch=0, timestamp_ms=1_000)
    log.append_as_leader(data, leader_epoch=0, now_ms=1_000, origin_is_client=False)


def rows(log: Log) -> list[tuple[int, str, str | None]]:
    return [
        (offset, (key or b"").decode(), None if value is None else value.decode())
        for offset, _, key, value, _ in read_records(log)
    ]


def joins_without_gaps(log: Log) -> bool:
    segments = log.segments
    return all(before.next_offset == after.base_offset for before, after in pairwise(segments))


def test_the_newest_of_each_key_stays_at_its_offset(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for number in range(20):
        put(log, ("a", f"a{number}"), ("b", f"b{number}"), (f"only{number}", "x"))
    log.roll()
    compact(files, log)
    expected = [(number * 3 + 2, f"only{number}", "x") for number in range(20)]
    expected = sorted([*expected, (57, "a", "a19"), (58, "b", "b19")])
    assert rows(log) == expected
    assert log.log_end_offset == 60
    assert log.cleaner_offset == 60
    assert joins_without_gaps(log)
    log.close()
    assert rows(open_log(files, clean=True)) == expected
    assert rows(open_log(files)) == expected


def test_the_active_segment_and_what_is_above_the_high_watermark_stay(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for number in range(12):
        put(log, ("a", f"{number}" * 60))
    bases = [segment.base_offset for segment in log.segments]
    compact(files, log, high_watermark=bases[2] + 1)
    assert [offset for offset, *_ in rows(log)] == [bases[2] - 1, *range(bases[2], 12)]
    assert log.cleaner_offset == bases[2]
    compact(files, log)
    assert [offset for offset, *_ in rows(log)] == [bases[-1] - 1, *range(bases[-1], 12)]


def test_keys_longer_than_a_digest_and_empty_ones_are_told_apart(files: MemoryFileSystem) -> None:
    log = open_log(files)
    long = "k" * 100
    for number in range(6):
        put(log, ("", f"{number}"), (long + "1", f"{number}"), (long + "2", f"{number}"))
    log.roll()
    compact(files, log)
    assert [key for _, key, _ in rows(log)] == ["", long + "1", long + "2"]


def test_records_without_a_key_go(files: MemoryFileSystem) -> None:
    """A topic that was made compacted later has them, and nothing will ever supersede one."""
    log = open_log(files)
    put(log, (None, "lost"), ("a", "kept"), (None, "lost"))
    log.roll()
    compact(files, log)
    assert rows(log) == [(1, "a", "kept")]


@pytest.mark.parametrize("compression", list(Compression))
def test_a_batch_keeps_its_compression(files: MemoryFileSystem, compression: Compression) -> None:
    log = open_log(files)
    put(log, ("a", "old" * 30), ("b", "kept" * 30), compression=compression)
    put(log, ("a", "new" * 30), compression=compression)
    log.roll()
    compact(files, log)
    assert rows(log) == [(1, "b", "kept" * 30), (2, "a", "new" * 30)]
    assert {parse_header(batch).compression for batch in read_batches(log)} == {compression}


# --- tombstones -------------------------------------------------------------------------------------------


def test_a_tombstone_stays_for_a_day_after_it_was_first_passed(files: MemoryFileSystem) -> None:
    """Whoever reads slowly must meet it, or goes on believing the value that it deleted."""
    log = open_log(files)
    put(log, ("a", "value"), ("b", "value"))
    put(log, ("a", None), timestamp=5)
    log.roll()
    compact(files, log, now_ms=10 * DAY_MS)
    assert rows(log) == [(1, "b", "value"), (2, "a", None)]
    header = parse_header(read_batches(log)[-1])
    assert header.delete_horizon_ms == 11 * DAY_MS
    assert [record[1] for record in read_records(log)] == [1_000, 5]
    for now_ms, is_there in ((11 * DAY_MS - 1, True), (11 * DAY_MS, False)):
        put(log, ("c", "makes it dirty"))
        log.roll()
        compact(files, log, now_ms=now_ms)
        assert ((2, "a", None) in rows(log)) is is_there
    assert (1, "b", "value") in rows(log)


def test_a_new_value_after_a_tombstone_stays(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "old"), ("a", None), ("a", "new"))
    log.roll()
    compact(files, log)
    assert rows(log) == [(2, "a", "new")]
    assert parse_header(read_batches(log)[0]).delete_horizon_ms is None


# --- producers --------------------------------------------------------------------------------------------


def test_the_last_batch_of_a_producer_stays_as_a_shell(files: MemoryFileSystem) -> None:
    """Its records were superseded and the batch went; a restart forgot where the producer was, so that a
    retry would have been appended again.
    """
    log = open_log(files)
    put(log, ("a", "1"), producer=7, sequence=0)
    put(log, ("a", "2"), ("a", "3"), producer=7, sequence=1)
    put(log, ("a", "4"), producer=8, sequence=0)
    put(log, ("a", "5"))
    log.roll()
    compact(files, log)
    assert rows(log) == [(4, "a", "5")]
    shells = [parse_header(batch) for batch in read_batches(log)][:-1]
    assert [(shell.producer_id, shell.base_offset, shell.record_count) for shell in shells] == [
        (7, 1, 0),
        (8, 3, 0),
    ]
    log.abandon()
    for name in files.list(PATH):
        if name.endswith(".snapshot"):
            files.remove(f"{PATH}/{name}")
    log = open_log(files)
    entry = log.producers.get(7)
    assert entry is not None
    assert (entry.batches[-1].last_sequence, entry.batches[-1].last_offset) == (2, 2)
    put(log, ("a", "6"), producer=7, sequence=3)


@pytest.mark.parametrize("is_in_clean_part", [False, True])
def test_a_producers_last_batch_stays_while_later_ones_may_be_truncated(
    files: MemoryFileSystem, is_in_clean_part: bool
) -> None:
    """What a producer wrote last was not replicated yet, so the batch before it went as none of importance.
    A new leader then had the follower cut off the last one: a restart forgot the producer, and the next batch
    was refused as out of order.
    """
    log = open_log(files)
    put(log, ("a", "1"), producer=7, sequence=0)
    put(log, ("b", "2"), producer=7, sequence=1)
    if is_in_clean_part:
        log.roll()
        compact(files, log)
    put(log, ("b", "3"))
    log.roll()
    put(log, ("c", "4"), producer=7, sequence=2)
    compact(files, log, high_watermark=3)
    assert rows(log) == [(0, "a", "1"), (2, "b", "3"), (3, "c", "4")]
    log.truncate_to(3)
    log.abandon()
    for name in files.list(PATH):
        if name.endswith(".snapshot"):
            files.remove(f"{PATH}/{name}")
    log = open_log(files)
    entry = log.producers.get(7)
    assert entry is not None
    assert entry.batches[-1].last_sequence == 1
    put(log, ("c", "4"), producer=7, sequence=2)


def test_a_producer_that_was_forgotten_keeps_no_shell(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "1"), producer=7, sequence=0)
    put(log, ("a", "2"))
    log.roll()
    log.producers.expire(now_ms=10 * DAY_MS, expiration_ms=1)
    compact(files, log)
    assert len(read_batches(log)) == 1


# --- transactions -----------------------------------------------------------------------------------------


def test_an_aborted_transaction_goes_and_supersedes_nothing(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "committed"))
    put(log, ("a", "aborted"), ("b", "aborted"), producer=7, sequence=0, transactional=True)
    end_transaction(log, 7, commit=False)
    log.roll()
    compact(files, log)
    assert rows(log) == [(0, "a", "committed")]
    assert [transaction.first_offset for transaction in log.aborted_transactions(0, upper_offset=9)] == [1]


def test_what_was_aborted_before_the_dirty_part_is_over(files: MemoryFileSystem) -> None:
    """The marker that ended a transaction lay below the dirty part, which began in the midst of nothing. All
    that the same producer committed there was taken for aborted: no key of it superseded anything.
    """
    log = open_log(files)
    put(log, ("a", "aborted"), producer=7, sequence=0, transactional=True)
    end_transaction(log, 7, commit=False)
    put(log, ("a", "1"))
    log.roll()
    compact(files, log)
    put(log, ("a", "2"), producer=7, sequence=1, transactional=True)
    end_transaction(log, 7, commit=True)
    log.roll()
    compact(files, log)
    assert rows(log) == [(3, "a", "2")]


def test_what_is_not_decided_is_not_touched(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "before"))
    put(log, ("a", "before too"))
    log.roll()
    put(log, ("a", "pending"), producer=7, sequence=0, transactional=True)
    put(log, ("a", "after"))
    log.roll()
    put(log, ("z", "active"))
    compact(files, log)
    assert [value for _, _, value in rows(log)] == ["before too", "pending", "after", "active"]
    assert log.cleaner_offset == 2


def test_a_marker_outlives_its_data_by_a_day(files: MemoryFileSystem) -> None:
    """A reader that has met the data must meet the marker, or it waits for it for ever."""
    log = open_log(files)
    put(log, ("a", "1"), producer=7, sequence=0, transactional=True)
    end_transaction(log, 7, commit=True)
    put(log, ("a", "2"))
    log.roll()

    def markers(now_ms: int) -> int:
        put(log, ("x", "makes it dirty"))
        log.roll()
        compact(files, log, now_ms=now_ms)
        return sum(parse_header(batch).is_control for batch in read_batches(log))

    # The data of the first transaction is a shell as long as it is the producer's last.
    assert markers(0) == 1
    put(log, ("b", "1"), producer=7, sequence=1, transactional=True)
    end_transaction(log, 7, commit=True)
    log.roll()
    assert markers(0) == 2
    assert markers(1) == 2
    assert markers(DAY_MS) == 2
    assert markers(DAY_MS + 1) == 1


def test_aborted_batches_are_indexed_as_long_as_one_is_there(files: MemoryFileSystem) -> None:
    """Its shell stays for the producer's sake; a read-committed consumer asks the index about it."""
    log = open_log(files)
    put(log, ("a", "aborted"), producer=7, sequence=0, transactional=True)
    end_transaction(log, 7, commit=False)
    put(log, ("b", "x"))
    log.roll()
    for _ in range(3):
        put(log, ("b", "makes it dirty"))
        log.roll()
        compact(files, log)
        assert len(log.aborted_transactions(0, upper_offset=100)) == 1
    log.close()
    assert len(open_log(files, clean=True).aborted_transactions(0, upper_offset=100)) == 1


# --- what may be cleaned ----------------------------------------------------------------------------------


def test_young_records_wait(files: MemoryFileSystem) -> None:
    config = LogConfig(segment_bytes=400, is_compacted=True, min_compaction_lag_ms=1_000)
    log = open_log(files, config)
    for timestamp in (1_000, 5_000, 2_000):
        put(log, ("a", "x"), timestamp=timestamp)
        log.roll()
    assert [len(plan(log, now_ms=now_ms).segments) for now_ms in (1_500, 2_000, 5_999, 6_000)] == [0, 1, 1, 3]


def test_a_little_dirt_waits_unless_it_is_old(files: MemoryFileSystem) -> None:
    config = LogConfig(segment_bytes=400, is_compacted=True, max_compaction_lag_ms=1_000)
    log = open_log(files, config)
    for _ in range(8):
        put(log, ("a", "x" * 100))
    log.roll()
    log.cleaner_offset = 6
    cleanable = plan(log, now_ms=2_000)
    assert 0.2 < cleanable.dirty_ratio < 0.5
    assert not cleanable.is_due(config)
    assert plan(log, now_ms=2_001).is_due(config)
    log.cleaner_offset = 8
    assert not plan(log, now_ms=9_000).is_due(config)


def test_a_cleaner_offset_that_can_not_be_is_not_believed(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "x"))
    put(log, ("a", "y"))
    log.roll()
    log.cleaner_offset = 3
    assert plan(log).first_dirty_offset == 0
    log.cleaner_offset = 1
    assert plan(log).first_dirty_offset == 1
    log.advance_start(2)
    assert plan(log).first_dirty_offset == 2


def test_a_truncation_takes_the_cleaner_back(files: MemoryFileSystem) -> None:
    """What is written in place of the rest is as dirty as it gets: a tombstone there would go by its date
    while older values of its key are still in the log.
    """
    log = open_log(files)
    lowered: list[int] = []
    log.lower_cleaner_offset = lowered.append
    for number in range(6):
        put(log, (f"k{number}", "x" * 100))
    log.roll()
    compact(files, log)
    assert log.cleaner_offset == 6
    log.truncate_to(4)
    assert (log.cleaner_offset, lowered) == (4, [4])


def segments_of(*sizes: int, offsets: int = 10) -> list[SourceSegment]:
    return [SourceSegment(n * offsets, (n + 1) * offsets, size, "") for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("segments", "config", "groups"),
    [
        (segments_of(100, 100, 100), LogConfig(segment_bytes=300), [3]),
        (segments_of(100, 100, 101), LogConfig(segment_bytes=300), [2, 1]),
        (segments_of(400, 100, 100, 50), LogConfig(segment_bytes=256), [1, 3]),
        (segments_of(10, 10, 10, offsets=1 << 30), LogConfig(), [2, 1]),
        (segments_of(610, 610), LogConfig(segment_index_bytes=264, index_interval_bytes=0), [2]),
        (segments_of(610, 610), LogConfig(segment_index_bytes=263, index_interval_bytes=0), [1, 1]),
    ],
)
def test_segments_become_one_as_far_as_they_fit(
    segments: Sequence[SourceSegment], config: LogConfig, groups: list[int]
) -> None:
    assert [len(group) for group in group_segments(segments, config=config)] == groups


def test_small_segments_become_one(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for number in range(20):
        put(log, ("a", "x" * 100), (f"k{number}", "y"))
    log.roll()
    before = len(log.segments)
    compact(files, log)
    put(log, ("a", "makes it dirty"))
    log.roll()
    compact(files, log)
    assert len(log.segments) < before * 0.7
    assert all(segment.size_bytes <= CONFIG.segment_bytes for segment in log.segments)
    assert len([name for name in files.list(PATH) if name.endswith(".log")]) == len(log.segments)


# --- bounds -----------------------------------------------------------------------------------------------


def test_a_full_map_cleans_as_far_as_it_came(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for number in range(12):
        put(log, (f"k{number % 6}", f"{number}"))
    log.roll()
    compact(files, log, map_bytes=ENTRY_BYTES * 4)
    assert log.cleaner_offset == 4
    assert [offset for offset, *_ in rows(log)] == list(range(12))
    for expected in (8, 12):
        compact(files, log, map_bytes=ENTRY_BYTES * 4)
        assert log.cleaner_offset == expected
    assert [offset for offset, *_ in rows(log)] == [6, 7, 8, 9, 10, 11]


def test_a_map_too_small_for_a_batch_is_said(files: MemoryFileSystem) -> None:
    log = open_log(files)
    put(log, ("a", "x"), ("b", "x"), ("c", "x"))
    log.roll()
    with pytest.raises(GlasslogError, match=r"log\.cleaner\.dedupe\.buffer\.size=352 has no room for the 3"):
        compact(files, log, map_bytes=ENTRY_BYTES * 2)


def test_a_batch_larger_than_the_buffer_is_read_whole(files: MemoryFileSystem) -> None:
    log = open_log(files, LogConfig(segment_bytes=4_000, is_compacted=True))
    put(log, ("a", "1" * 2_000))
    put(log, ("a", "2" * 1_500))
    log.roll()
    compact(files, log)
    assert rows(log) == [(1, "a", "2" * 1_500)]


# --- trouble ----------------------------------------------------------------------------------------------


def dirty_log(files: MemoryFileSystem) -> Log:
    log = open_log(files)
    for number in range(10):
        put(log, ("a", f"{number}" * 60))
    log.roll()
    return log


def test_giving_up_half_way_leaves_nothing_behind(files: MemoryFileSystem) -> None:
    log = dirty_log(files)
    before = (files.list(PATH), rows(log))
    steps = cleaning_of(files, log, plan(log)).run()
    for step in steps:
        if isinstance(step, Worked) and any(name.endswith(".cleaned") for name in files.list(PATH)):
            break
    steps.close()
    assert (files.list(PATH), rows(log)) == before


def test_damage_stops_it(files: MemoryFileSystem) -> None:
    log = dirty_log(files)
    files.flip_bit(f"{PATH}/{0:020d}.log", 80)
    before = files.list(PATH)
    with pytest.raises(CorruptBatch):
        compact(files, log)
    assert files.list(PATH) == before


@pytest.mark.parametrize("glob", ["*.log", "*.index", "*.cleaned", "*.swap"])
def test_a_rename_that_fails_leaves_the_log_as_it_was(files: MemoryFileSystem, glob: str) -> None:
    log = dirty_log(files)
    before = rows(log)
    log.segments[0].save_index()
    step = next(step for step in cleaning_of(files, log, plan(log)).run() if isinstance(step, Rewritten))
    files.fail_next("rename", f"*{glob}", OSError(errno.EIO, "bad disk"))
    with pytest.raises(StorageError, match="can not be renamed"):
        put_in_place(log, step)
    assert rows(log) == before
    put(log, ("a", "goes on"))
    log.abandon()
    assert rows(open_log(files))[-1][2] == "goes on"


def test_a_snapshot_that_can_not_be_removed_takes_no_segment_along(files: MemoryFileSystem) -> None:
    """The disk refused to remove the producer snapshot of a segment that compaction had merged into another.
    That counted as a swap that had failed, so what was new was removed, and what was old had gone already:
    after the next start the log began behind all of it.
    """
    log = open_log(files)
    for number in range(20):
        put(log, ("a", "x" * 100), (f"k{number}", "y"))
    log.roll()
    compact(files, log)
    put(log, ("a", "makes it dirty"))
    log.roll()
    log.flush()
    before, end = len(log.segments), log.log_end_offset
    keys = {key for _, key, _ in rows(log)}
    files.fail_next("remove", "*.snapshot", OSError(errno.EIO, "bad disk"))
    compact(files, log)
    assert len(log.segments) < before, "nothing was merged"
    log.abandon()
    log = open_log(files)
    assert (log.log_start_offset, log.log_end_offset) == (0, end)
    assert {key for _, key, _ in rows(log)} == keys


def test_epochs_that_compaction_left_no_batch_of_outlive_a_crash(files: MemoryFileSystem) -> None:
    """Recovery learned where epochs begin from the batches of the segment that holds the recovery point, even
    below that. Where compaction had taken the first batches of an epoch, it began too late then: a follower
    that asked where the one before had ended kept records that nobody else had.

    Recovery points as low as these Kafka leaves, whose cleaner waits for none: for a while a gap that covers
    one was taken for damage.
    """
    log = open_log(files)
    for epoch in (1, 2, 3):
        log.append_as_leader(encode_batch([(0, b"k", b"value", ())] * 2), leader_epoch=epoch, now_ms=0)
    log.roll()
    log.flush()
    epochs = log.epochs.entries
    assert epochs == ((1, 0), (2, 2), (3, 4))
    compact(files, log)
    assert [offset for offset, _, _ in rows(log)] == [5]
    for recovery_point in (3, 5, 6):
        log.abandon()
        log = Log.open(
            files=files,
            directory=PATH,
            config=CONFIG,
            clean_shutdown=False,
            recovery_point=recovery_point,
            cleaner_offset=6,
        )
        assert log.epochs.entries[: len(epochs)] == epochs


def test_a_truncation_between_begin_and_finish_settles_it(files: MemoryFileSystem) -> None:
    """The announced segment would have taken the place of what was cut, at the next start."""
    log = dirty_log(files)
    log.flush()
    step = next(step for step in cleaning_of(files, log, plan(log)).run() if isinstance(step, Rewritten))
    replacement = log.begin_replacement(step.segment, replaced=[each.base_offset for each in step.sources])
    log.truncate_to(1)
    log.cancel_replacement(replacement)
    assert not [name for name in files.list(PATH) if name.endswith(".swap")]
    files.crash(keep="none")
    assert [offset for offset, *_ in rows(open_log(files))] == [0]
