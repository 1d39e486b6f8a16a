"""One partition's log: appending, reading, truncating, flushing, opening what a crash or a bad disk left."""

import errno
import tracemalloc
from pathlib import Path

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation, StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import CorruptBatch, iterate_batches, set_base_offset_and_epoch
from glasslog.log.config import LogConfig
from glasslog.log.damage import LostRecords
from glasslog.log.log import Log, OffsetOutOfRange
from glasslog.log.records import decode_fast, encode_batch

PATH = "/data/t-0"
SMALL = LogConfig(segment_bytes=2000, index_interval_bytes=200)


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


def open_log(
    files: MemoryFileSystem,
    *,
    config: LogConfig = SMALL,
    clean: bool = False,
    recovery_point: int = 0,
    log_start_offset: int = 0,
    may_cut_synced: bool = False,
) -> Log:
    return Log.open(
        files=files,
        directory=PATH,
        config=config,
        clean_shutdown=clean,
        recovery_point=recovery_point,
        log_start_offset=log_start_offset,
        may_cut_synced=may_cut_synced,
    )


def batch(
    count: int = 1, *, timestamp: int = 1000, value_bytes: int = 10, producer: int = -1, sequence: int = -1
) -> bytes:
    return bytes(
        encode_batch(
            [(timestamp + i, b"key", b"v" * value_bytes, ()) for i in range(count)],
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=sequence,
        )
    )


def append(log: Log, *batches: bytes, epoch: int = 0) -> tuple[int, int]:
    info = log.append_as_leader(b"".join(batches), leader_epoch=epoch, now_ms=0)
    return info.first_offset, info.last_offset


def fill(log: Log, count: int, *, epoch: int = 0, records: int = 3) -> None:
    for _ in range(count):
        append(log, batch(records), epoch=epoch)


def offsets(data: bytes | memoryview) -> list[int]:
    return [header.base_offset for header, _ in iterate_batches(data)]


def read_all(log: Log) -> bytes:
    found, offset = bytearray(), log.log_start_offset
    while data := log.read(offset, max_bytes=500):
        found += data
        offset = list(iterate_batches(data))[-1][0].next_offset
    return bytes(found)


def refusal(log: Log, data: bytes, *, code: ErrorCode, origin_is_client: bool = True) -> None:
    before = (log.log_end_offset, log.size_bytes, log.latest_epoch, dict(log.producers.entries))
    with pytest.raises(GlasslogError) as caught:
        log.append_as_leader(data, leader_epoch=9, now_ms=0, origin_is_client=origin_is_client)
    assert caught.value.code is code
    assert (log.log_end_offset, log.size_bytes, log.latest_epoch, dict(log.producers.entries)) == before


# --- appending --------------------------------------------------------------------------------------------


def test_a_leader_numbers_batches(files: MemoryFileSystem) -> None:
    log = open_log(files)
    assert append(log, batch(3), batch(2), epoch=4) == (0, 4)
    info = log.append_as_leader(bytearray(batch(1, timestamp=77)), leader_epoch=5, now_ms=0)
    assert (info.first_offset, info.next_offset, info.max_timestamp, info.batch_count) == (5, 6, 77, 1)
    headers = [header for header, _ in iterate_batches(log.read(0, max_bytes=10_000))]
    assert [(h.base_offset, h.partition_leader_epoch) for h in headers] == [(0, 4), (3, 4), (5, 5)]
    assert [r[0] for r in decode_fast(log.read(3, max_bytes=1))] == [3, 4]
    assert list(log.epochs.entries) == [(4, 0), (5, 5)]
    assert log.end_offset_for_epoch(4) == (4, 5)


def test_a_refused_request_leaves_no_trace(files: MemoryFileSystem) -> None:
    log = open_log(files, config=LogConfig(segment_bytes=2000, max_message_bytes=500))
    fill(log, 1)
    good, damaged = batch(2, producer=3, sequence=0), bytearray(batch(2))
    damaged[-1] ^= 1
    lying = encode_batch([(0, None, b"v", ())] * 3)
    lying[57:61] = (2).to_bytes(4, "big")
    from glasslog.log.batch import write_crc

    write_crc(lying, 0, len(lying))
    control = bytes(encode_batch([(0, b"\0\0\0\0", b"", ())], control=True))
    refusal(log, good + bytes(damaged), code=ErrorCode.CORRUPT_MESSAGE)
    refusal(log, good + good[:-1], code=ErrorCode.CORRUPT_MESSAGE)
    refusal(log, b"", code=ErrorCode.CORRUPT_MESSAGE)
    refusal(log, good + batch(1, value_bytes=600), code=ErrorCode.MESSAGE_TOO_LARGE)
    refusal(log, bytes(3000), code=ErrorCode.RECORD_LIST_TOO_LARGE)
    refusal(log, good + bytes(lying), code=ErrorCode.INVALID_RECORD)
    refusal(log, good + control, code=ErrorCode.INVALID_RECORD)
    refusal(log, good + batch(1, producer=3, sequence=7), code=ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    refusal(log, good + good, code=ErrorCode.INVALID_RECORD)
    log.append_as_leader(control, leader_epoch=9, now_ms=0, origin_is_client=False)


def test_leading_under_an_older_epoch_is_a_bug(files: MemoryFileSystem) -> None:
    log = open_log(files)
    log.start_leader_epoch(5)
    with pytest.raises(InvariantViolation):
        append(log, batch(), epoch=4)


def test_a_full_disk_refuses_and_harms_nothing(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 2)
    before = read_all(log)
    files.capacity_bytes = files.used_bytes() + 50
    with pytest.raises(StorageError, match=r"00000000000000000000\.log: can not be written: No space"):
        append(log, batch(producer=3, sequence=0))
    assert log.producers.get(3) is None
    files.capacity_bytes = None
    append(log, batch(producer=3, sequence=0))
    assert read_all(log)[: len(before)] == before
    assert log.log_end_offset == 7
    files.process_kill()
    assert open_log(files).log_end_offset == 7


def test_a_follower_copies_byte_for_byte_and_may_meet_gaps(files: MemoryFileSystem) -> None:
    leader = open_log(MemoryFileSystem())
    follower = open_log(files)
    fill(leader, 20, epoch=1)
    fill(leader, 20, epoch=3)
    offset = 0
    while data := leader.read(offset, max_bytes=700):
        offset = follower.append_as_follower(data).next_offset
    assert read_all(follower) == read_all(leader)
    assert follower.epochs.entries == leader.epochs.entries
    gap = bytearray(batch(2))
    set_base_offset_and_epoch(gap, 0, base_offset=500, leader_epoch=3)
    follower.append_as_follower(gap)
    assert follower.log_end_offset == 502
    assert offsets(follower.read(130, max_bytes=1)) == [500]


def test_a_follower_refuses_what_it_has(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 2)
    with pytest.raises(CorruptBatch, match="base offset 3 is below 6"):
        log.append_as_follower(bytes(log.read(3, max_bytes=1)))
    assert log.log_end_offset == 6


def test_segments_roll_by_size_and_time(files: MemoryFileSystem) -> None:
    log = open_log(files, config=LogConfig(segment_bytes=1000, segment_ms=100))
    append(log, batch(2, timestamp=1000))
    append(log, batch(2, timestamp=1050))
    append(log, batch(2, timestamp=1200))
    assert list(log.segment_base_offsets) == [0, 4]
    append(log, batch(1, timestamp=1200, value_bytes=850))
    assert log.segment_base_offsets == (0, 4, 6)
    assert {"00000000000000000004.log", "00000000000000000004.snapshot"} <= set(files.list(PATH))


# --- reading ----------------------------------------------------------------------------------------------


def test_reading_is_bounded_by_bytes_and_offset(files: MemoryFileSystem) -> None:
    log = open_log(files, config=LogConfig(index_interval_bytes=200))
    fill(log, 50)
    size = len(batch(3))
    assert offsets(log.read(0, max_bytes=3 * size)) == [0, 3, 6]
    assert offsets(log.read(0, max_bytes=4 * size - 1)) == [0, 3, 6]
    assert offsets(log.read(4, max_bytes=1)) == [3]
    assert log.read(4, max_bytes=1, minimum_one=False) == b""
    assert log.read(4, max_bytes=size - 1, minimum_one=False) == b""
    assert offsets(log.read(90, max_bytes=10_000, upper_offset=98)) == [90, 93]
    assert log.read(90, max_bytes=10_000, upper_offset=92) == b""
    assert log.read(90, max_bytes=10_000, upper_offset=90) == b""
    assert log.read(90, max_bytes=10_000, upper_offset=12) == b""
    assert log.read(150, max_bytes=10) == b""
    for offset in (-1, 151):
        with pytest.raises(OffsetOutOfRange, match=f"offset {offset} is not between 0 and 150"):
            log.read(offset, max_bytes=10)


def test_reading_goes_on_over_segments(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 100)
    assert len(log.segment_base_offsets) > 4
    data = read_all(log)
    assert offsets(data) == list(range(0, 300, 3))
    log.close()
    assert read_all(open_log(files, clean=True)) == data


def test_old_segments_give_their_handles_back(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 200)
    for offset in range(0, 600, 3):
        log.read(offset, max_bytes=1)
    assert sum(segment.is_open for segment in log._segments) <= 5


@pytest.mark.parametrize("damage", ["missing", "noise", "late"])
def test_a_damaged_index_is_built_anew(files: MemoryFileSystem, damage: str) -> None:
    log = open_log(files, config=LogConfig(index_interval_bytes=200))
    fill(log, 50)
    data = read_all(log)
    second = len(batch(3)) * 9
    log.close()
    name = f"{PATH}/{0:020d}.index"
    match damage:
        case "missing":
            files.remove(name)
        case "noise":
            files.write_atomic(name, bytes.fromhex("00000003 00000007 00000009 00000019"))
        case _:
            # A boundary, but of a later batch than it says: believed, it would hide records.
            files.write_atomic(name, bytes.fromhex("00000003") + second.to_bytes(4, "big"))
    log = open_log(files, clean=True)
    assert read_all(log) == data
    assert offsets(log.read(5, max_bytes=1)) == [3]


def test_offsets_for_timestamps(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for i in range(60):
        append(log, batch(3, timestamp=1000 + 10 * i))
    assert len(log.segment_base_offsets) > 2
    assert log.offset_for_timestamp(0) == (0, 1000)
    assert log.offset_for_timestamp(1001) == (1, 1001)
    assert log.offset_for_timestamp(1003) == (3, 1010)
    assert log.offset_for_timestamp(1502) == (152, 1502)
    assert log.offset_for_timestamp(9999) is None
    append(log, batch(1, timestamp=9999))
    assert log.offset_for_timestamp(9999) == (180, 9999)
    log.truncate_to(180)
    assert log.offset_for_timestamp(9999) is None


# --- producers --------------------------------------------------------------------------------------------


def test_a_retry_is_answered_with_its_first_offsets(files: MemoryFileSystem) -> None:
    log = open_log(files)
    retries = [batch(2, producer=3, sequence=2 * i) for i in range(5)]
    for data in retries:
        append(log, data)
    for i, data in enumerate(retries):
        info = log.append_as_leader(data, leader_epoch=0, now_ms=0)
        assert info.duplicate
        assert (info.first_offset, info.last_offset) == (2 * i, 2 * i + 1)
    assert log.log_end_offset == 10


@pytest.mark.parametrize("ending", ["kill", "clean", "torn snapshot"])
def test_a_restart_remembers_the_whole_window(files: MemoryFileSystem, ending: str) -> None:
    """A producer has five batches in flight, the leader dies after appending them, all are sent again."""
    log = open_log(files)
    retries = [batch(20, producer=3, sequence=20 * i) for i in range(9)]
    for data in retries:
        append(log, data)
    if ending != "kill":
        log.close()
    if ending == "torn snapshot":
        files.write_atomic(f"{PATH}/{180:020d}.snapshot", b"\0\1junk")
    files.process_kill()
    log = open_log(files, clean=ending != "kill")
    for i, data in enumerate(retries[-5:], start=4):
        assert append(log, data) == (20 * i, 20 * i + 19)
    assert log.log_end_offset == 180


def test_a_new_leader_recognises_what_it_replicated(files: MemoryFileSystem) -> None:
    """An idempotent retry after the leader was killed must not double records."""
    leader, follower = open_log(MemoryFileSystem()), open_log(files)
    retry = batch(2, producer=3, sequence=0)
    append(leader, retry)
    follower.append_as_follower(leader.read(0, max_bytes=1000))
    follower.start_leader_epoch(1)
    info = follower.append_as_leader(retry, leader_epoch=1, now_ms=0)
    assert (info.duplicate, info.first_offset) == (True, 0)


def test_what_was_truncated_is_forgotten(files: MemoryFileSystem) -> None:
    log = open_log(files)
    for i in range(60):
        append(log, batch(2, producer=3, sequence=2 * i))
    log.truncate_to(21)
    assert log.log_end_offset == 20
    refusal(log, batch(2, producer=3, sequence=22), code=ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert append(log, batch(2, producer=3, sequence=20)) == (20, 21)
    assert append(log, batch(2, producer=3, sequence=12)) == (12, 13)


def test_silent_producers_expire_at_open_and_while_appending(files: MemoryFileSystem) -> None:
    config = LogConfig(producer_id_expiration_ms=100_000)
    log = open_log(files, config=config)
    append(log, batch(1, producer=3, sequence=0))
    log.append_as_leader(batch(1), leader_epoch=0, now_ms=90_000)
    assert log.producers.get(3) is not None
    log.append_as_leader(batch(1), leader_epoch=0, now_ms=190_000)
    assert log.producers.get(3) is None


# --- truncating -------------------------------------------------------------------------------------------


def test_truncation_drops_whole_batches_and_survives_a_crash(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 30, epoch=1)
    fill(log, 30, epoch=2)
    log.flush()
    log.truncate_to(181)
    assert log.log_end_offset == 180
    log.truncate_to(91)
    assert (log.log_end_offset, log.recovery_point) == (90, 90)
    assert log.epochs.entries == ((1, 0),)
    data = read_all(log)
    files.crash()
    log = open_log(files, recovery_point=180)
    assert read_all(log) == data
    assert offsets(data)[-1] == 87


def test_truncating_to_a_gap_keeps_what_is_before(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 1)
    gap = bytearray(batch(2))
    set_base_offset_and_epoch(gap, 0, base_offset=50, leader_epoch=0)
    log.append_as_follower(gap)
    log.truncate_to(20)
    assert log.log_end_offset == 3


def test_starting_over(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(log, 30, epoch=6)
    log.truncate_fully_and_start_at(1000)
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (1000, 1000, 0)
    assert not log.epochs.entries
    append(log, batch(), epoch=2)
    assert log.epochs.entries == ((2, 1000),)
    assert files.list(PATH) == ["00000000000000001000.log", "leader-epoch-checkpoint"]
    log.truncate_to(10)
    assert (log.log_start_offset, log.log_end_offset) == (10, 10)


def test_a_stale_recovery_point_is_not_trusted(files: MemoryFileSystem) -> None:
    """The checkpoint says 60; the log was cut to 30 and grew to 90 without a sync when the power failed.

    Offsets 30 to 60 were synced once, but not the bytes that are there now.
    """
    log = open_log(files, config=LogConfig())
    fill(log, 20)
    log.flush()
    checkpoint = log.recovery_point
    log.truncate_to(30)
    fill(log, 20)
    files.process_kill()
    files.flip_bit(f"{PATH}/{0:020d}.log", len(batch(3)) * 15 + 80)
    log = open_log(files, config=LogConfig(), recovery_point=checkpoint)
    assert log.log_end_offset == 45
    assert log.recovery.problem is not None
    fill(log, 5)
    log.flush()
    assert "recovery-point-limit" not in files.list(PATH)


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


@pytest.mark.parametrize("sizes", [[40_000], [40_000, 50_000], [10, 90_000], [10, 20, 30], [40_000] * 70])
def test_the_bytes_in_the_log_do_not_depend_on_who_owned_them(
    files: MemoryFileSystem, sizes: list[int]
) -> None:
    """Large batches of others are written in parts, so that they are not copied; nothing of them changes."""
    request = b"".join(batch(2, value_bytes=size // 2) for size in sizes)
    config = LogConfig(max_message_bytes=1 << 20)
    found = []
    owners: list[Buffer] = [bytearray(request), request, memoryview(request)]
    for number, given in enumerate(owners):
        log = Log.open(files=files, directory=f"/data/t-{number}", config=config, clean_shutdown=False)
        append(log, batch(1))
        log.append_as_leader(given, leader_epoch=3, now_ms=0)
        found.append(bytes(log.read(0, max_bytes=1 << 24)))
    headers = [header for header, _ in iterate_batches(found[0])]
    assert [header.base_offset for header in headers] == [0, *range(1, 2 * len(sizes), 2)]
    assert {header.partition_leader_epoch for header in headers[1:]} == {3}
    assert found[0] == found[1] == found[2]
    assert request == b"".join(batch(2, value_bytes=size // 2) for size in sizes)
