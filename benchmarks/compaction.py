"""Compacting a log: bytes of input for a second of processor time, and what a key costs in memory.

In the page cache; the wait for the sync of each new segment is not counted. Knows the log alone, no broker.
"""

import statistics
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.batch import Compression
from glasslog.log.cleaner import Cleaning, CleaningTask, Rewritten
from glasslog.log.cleaner_plan import find_cleanable
from glasslog.log.codec import DESCRIPTION
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.offset_map import OffsetMap
from glasslog.log.records import NewRecord, encode_batch

from benchmarks.measuring import scratch_folder
from benchmarks.report import Figure, Line

_BATCH_BYTES = 16_000
_LOG_BYTES, _QUICK_BYTES = 64_000_000, 16_000_000
_ROUNDS = 3
_MAP_BYTES = 128 << 20
_STEP_BYTES = 512 << 10
_KEYS = 100_000


def run(*, quick: bool) -> Sequence[Line]:
    """A log where half of the records were superseded, of small and of large records, plain and packed."""
    log_bytes = _QUICK_BYTES if quick else _LOG_BYTES
    lines: list[Line] = [
        Figure(
            what=f"compaction, {name}",
            value=_rate(value_bytes, log_bytes, compression),
            unit="MB/s",
            note=f"of input, on one core; codec {DESCRIPTION}",
        )
        for name, value_bytes, compression in (
            ("records of 100 bytes", 100, Compression.NONE),
            ("records of 1 KB", 1_000, Compression.NONE),
            ("records of 1 KB, zstd", 1_000, Compression.ZSTD),
        )
    ]
    return [*lines, Figure(what="compaction, memory of a key", value=_bytes_per_key(), unit="bytes")]


def _rate(value_bytes: int, log_bytes: int, compression: Compression) -> float:
    """Of the records' bytes before they are packed."""
    rates = []
    for _ in range(_ROUNDS):
        with scratch_folder() as folder:
            log, record_bytes = _dirty_log(folder, value_bytes, log_bytes, compression)
            started = time.process_time()
            _compact(log)
            rates.append(record_bytes / (time.process_time() - started) / 1e6)
            log.abandon()
    return statistics.median(rates)


def _dirty_log(folder: Path, value_bytes: int, log_bytes: int, compression: Compression) -> tuple[Log, int]:
    config = LogConfig(segment_bytes=16 << 20, is_compacted=True)
    log = Log.open(files=OsFileSystem(), directory=str(folder / "c-0"), config=config, clean_shutdown=True)
    value = bytes(range(256)) * (value_bytes // 256 + 1)
    count = log_bytes // (value_bytes + 20)
    per_batch = max(_BATCH_BYTES // (value_bytes + 20), 1)
    for first in range(0, count, per_batch):
        records: list[NewRecord] = [
            (1_700_000_000_000, b"key-%09d" % (number * 7919 % (count // 2)), value[:value_bytes], ())
            for number in range(first, min(first + per_batch, count))
        ]
        log.append_as_leader(
            encode_batch(records, compression=compression), leader_epoch=0, now_ms=1_700_000_000_000
        )
    log.roll()
    log.flush()
    return log, count * (value_bytes + 20)


def _compact(log: Log) -> None:
    task = CleaningTask(
        files=OsFileSystem(),
        directory=log.directory,
        config=log.config,
        cleanable=find_cleanable(log, high_watermark=log.log_end_offset, now_ms=0),
        aborted=(),
        producers={},
        now_ms=0,
    )
    for step in Cleaning(task, map_bytes=_MAP_BYTES, buffer_bytes=_STEP_BYTES).run():
        if isinstance(step, Rewritten):
            replaced = [source.base_offset for source in step.sources]
            replacement = log.begin_replacement(step.segment, replaced=replaced)
            log.sync_folder()
            log.finish_replacement(replacement)
            log.complete_replacement(replacement)


def _bytes_per_key() -> float:
    """The most that the map takes for a key while it grows."""
    tracemalloc.start()
    try:
        offsets = OffsetMap(max_bytes=1 << 40)
        for number in range(_KEYS):
            offsets.add(
                [(1_000_000 + number, b"a key that is longer than a digest %d" % number, True)], from_offset=0
            )
        return tracemalloc.get_traced_memory()[1] / _KEYS
    finally:
        tracemalloc.stop()
