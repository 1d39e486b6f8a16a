"""Small logs in memory, what goes into them and what is found there, for tests of one partition's log."""

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import iterate_batches
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

PATH = "/data/t-0"
SMALL = LogConfig(segment_bytes=2000, index_interval_bytes=200)


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
