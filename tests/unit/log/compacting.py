"""Compacts a log in one go, as the broker does it in many small steps."""

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import iterate_batches
from glasslog.log.cleaner import Cleaning, CleaningTask, Rewritten
from glasslog.log.cleaner_plan import Cleanable, find_cleanable
from glasslog.log.log import Log
from glasslog.log.record_types import RecordTuple
from glasslog.log.records import decode_fast


def plan(log: Log, *, high_watermark: int | None = None, now_ms: int = 0) -> Cleanable:
    end = log.log_end_offset if high_watermark is None else high_watermark
    return find_cleanable(log, high_watermark=end, now_ms=now_ms)


def cleaning_of(
    files: FileSystem, log: Log, cleanable: Cleanable, *, now_ms: int = 0, map_bytes: int = 1 << 20
) -> Cleaning:
    task = CleaningTask(
        files=files,
        directory=log.directory,
        config=log.config,
        cleanable=cleanable,
        aborted=log.aborted_transactions(log.log_start_offset, upper_offset=cleanable.end_offset),
        producers=dict(log.producers.entries),
        now_ms=now_ms,
    )
    return Cleaning(task, map_bytes=map_bytes, buffer_bytes=300)


def put_in_place(log: Log, step: Rewritten) -> None:
    replaced = [source.base_offset for source in step.sources]
    replacement = log.begin_replacement(step.segment, replaced=replaced)
    try:
        log.sync_folder()
        old = log.finish_replacement(replacement)
    except StorageError:
        log.cancel_replacement(replacement)
        raise
    log.sync_folder()
    log.complete_replacement(replacement)
    for segment in old:
        segment.remove_files()


def compact(
    files: FileSystem,
    log: Log,
    *,
    high_watermark: int | None = None,
    now_ms: int = 0,
    map_bytes: int = 1 << 20,
) -> Cleaning:
    """Whatever can be compacted, whether it is due or not; notes how far it came."""
    cleanable = plan(log, high_watermark=high_watermark, now_ms=now_ms)
    cleaning = cleaning_of(files, log, cleanable, now_ms=now_ms, map_bytes=map_bytes)
    if not cleanable.dirty_bytes:
        return cleaning
    for step in cleaning.run():
        if isinstance(step, Rewritten):
            put_in_place(log, step)
    log.cleaner_offset = cleaning.cleaned_to
    return cleaning


def read_batches(log: Log) -> list[bytes]:
    """Every batch, in order."""
    found: list[bytes] = []
    offset = log.log_start_offset
    while data := bytes(log.read(offset, max_bytes=500)):
        for header, position in iterate_batches(data):
            found.append(data[position : position + header.size_bytes])
            offset = header.next_offset
    return found


def read_records(log: Log) -> list[RecordTuple]:
    """Every record, control records aside."""
    found: list[RecordTuple] = []
    for batch in read_batches(log):
        header, _ = next(iterate_batches(batch))
        if not header.is_control:
            found += decode_fast(batch)
    return found
