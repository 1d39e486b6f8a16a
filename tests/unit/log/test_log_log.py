"""One partition's log: appending, reading, producers, truncating."""

import pytest
from glasslog.common.errors import ErrorCode, InvariantViolation, StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import CorruptBatch, iterate_batches, set_base_offset_and_epoch
from glasslog.log.config import LogConfig
from glasslog.log.log import Log, OffsetOutOfRange
from glasslog.log.records import decode_fast, encode_batch

from tests.unit.log.logs import PATH, append, batch, fill, offsets, open_log, read_all, refusal


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


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
