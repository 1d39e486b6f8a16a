"""What producers and restarts have done to a ``Log``: each test tells the mishap it is there for."""

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import write_crc
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_000 * DAY_MS
CONFIG = LogConfig(segment_bytes=1 << 20, producer_id_expiration_ms=DAY_MS)


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


def open_log(files: MemoryFileSystem, path: str = "/data/t-0", *, now_ms: int = NOW_MS) -> Log:
    return Log.open(files=files, directory=path, config=CONFIG, clean_shutdown=False, now_ms=now_ms)


def old_batch(sequence: int = 0, producer: int = 7) -> bytes:
    """Of an idempotent producer that copies records of long ago, with their timestamps."""
    return bytes(
        encode_batch(
            [(1_000, b"k", b"v", ())], producer_id=producer, producer_epoch=0, base_sequence=sequence
        )
    )


def test_a_new_leader_knows_a_producer_of_old_records(files: MemoryFileSystem) -> None:
    """A producer wrote records with timestamps of years ago, and its leader died with an answer owed. The
    follower that took over judged the producer by its records' age, forgot it, and appended the retry again.
    """
    leader, follower = open_log(files), open_log(files, "/data/other-0")
    leader.append_as_leader(old_batch(), leader_epoch=0, now_ms=NOW_MS)
    follower.append_as_follower(leader.read(0, max_bytes=10_000), now_ms=NOW_MS)
    retried = follower.append_as_leader(old_batch(), leader_epoch=1, now_ms=NOW_MS + DAY_MS // 2)
    assert retried.duplicate
    assert follower.log_end_offset == 1


def test_a_restart_keeps_a_producer_of_old_records(files: MemoryFileSystem) -> None:
    """The same producer, but its leader was killed and came back: its own log looked years old to it."""
    log = open_log(files)
    log.append_as_leader(old_batch(), leader_epoch=0, now_ms=NOW_MS)
    log.abandon()
    log = open_log(files, now_ms=NOW_MS + 1_000)
    assert log.append_as_leader(old_batch(), leader_epoch=0, now_ms=NOW_MS + 2_000).duplicate
    log.append_as_leader(old_batch(1), leader_epoch=0, now_ms=NOW_MS + 2_000)
    log.truncate_to(1)
    assert log.append_as_leader(old_batch(), leader_epoch=0, now_ms=NOW_MS + 3 * 60_000).duplicate


def test_a_follower_forgets_silent_producers(files: MemoryFileSystem) -> None:
    """Only leaders looked for expired producers: a follower remembered everyone who ever wrote, until it
    was restarted.
    """
    leader, follower = open_log(files), open_log(files, "/data/other-0")
    for day in range(10):
        now_ms = NOW_MS + 2 * day * DAY_MS
        info = leader.append_as_leader(old_batch(producer=day), leader_epoch=0, now_ms=now_ms)
        follower.append_as_follower(leader.read(info.first_offset, max_bytes=10_000), now_ms=now_ms)
    assert len(follower.producers) == 1


def lying_batch(record_count: int, *, body_bytes: int, compression: int) -> bytes:
    """A sound checksum over a header that claims ``record_count`` records."""
    batch = bytearray(encode_batch([(1_000, None, b"v" * body_bytes, ())]))
    batch[21:23] = compression.to_bytes(2)
    batch[23:27] = (record_count - 1).to_bytes(4)
    batch[57:61] = record_count.to_bytes(4)
    write_crc(batch, 0, len(batch))
    return bytes(batch)


def test_records_that_can_not_be_there_are_not_counted(files: MemoryFileSystem) -> None:
    """A broken producer claimed two thousand million records in a batch of a hundred bytes: the log's end
    leapt there, and no consumer could read on.
    """
    log = open_log(files)
    with pytest.raises(GlasslogError, match="2147483647 records do not fit in") as caught:
        log.append_as_leader(
            lying_batch((1 << 31) - 1, body_bytes=100, compression=0), leader_epoch=0, now_ms=NOW_MS
        )
    assert caught.value.code is ErrorCode.INVALID_RECORD
    assert log.log_end_offset == 0


def test_a_request_may_not_span_more_than_a_segment_can(files: MemoryFileSystem) -> None:
    """Three batches of one request claimed two thousand million records each. Their offsets did not fit in a
    segment's index; that came out when they were written already, as an error nobody expected.
    """
    log = open_log(files)
    log.append_as_leader(old_batch(), leader_epoch=0, now_ms=NOW_MS)
    lies = lying_batch((1 << 31) - 1, body_bytes=5_000, compression=4)
    with pytest.raises(GlasslogError, match="offsets in one request") as caught:
        log.append_as_leader(lies * 3, leader_epoch=0, now_ms=NOW_MS)
    assert caught.value.code is ErrorCode.INVALID_RECORD
    assert log.log_end_offset == 1
    log.append_as_leader(old_batch(1), leader_epoch=0, now_ms=NOW_MS)
    assert log.log_end_offset == 2
