"""Folders as Kafka's own compaction leaves them: offsets may be missing between two segments."""

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import iterate_batches
from glasslog.log.cleaner import Cleaning, CleaningTask, Rewritten
from glasslog.log.cleaner_plan import find_cleanable
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import decode_records, encode_batch

_FOLDER = "data/kept-0"
_CONFIG = LogConfig(is_compacted=True, index_interval_bytes=100)
_STARTS = (0, 3, 20, 23, 40)


def _open(
    files: MemoryFileSystem, *, cleaner_offset: int, clean: bool = True, recovery_point: int = 43
) -> Log:
    return Log.open(
        files=files,
        directory=_FOLDER,
        config=_CONFIG,
        clean_shutdown=clean,
        recovery_point=recovery_point,
        cleaner_offset=cleaner_offset,
    )


def _folder() -> MemoryFileSystem:
    """Segments 0 to 6, 20 to 26 and 40 to 43: Kafka names a segment by its first batch when it copies one."""
    files = MemoryFileSystem()
    log = _open(files, cleaner_offset=0, recovery_point=0)
    for start in _STARTS:
        if start in (20, 40):
            log.roll()
        records = [(0, b"key %d" % (start + number), b"v", ()) for number in range(3)]
        log.append_as_follower(encode_batch(records, base_offset=start, leader_epoch=0))
    log.close()
    for ours, kafkas in ((6, 20), (26, 40)):
        for suffix in (".index", ".timeindex", ".snapshot"):
            if files.exists(f"{_FOLDER}/{ours:020d}{suffix}"):
                files.remove(f"{_FOLDER}/{ours:020d}{suffix}")
        files.rename(f"{_FOLDER}/{ours:020d}.log", f"{_FOLDER}/{kafkas:020d}.log")
    return files


def _offsets(log: Log) -> list[int]:
    offset, found = log.log_start_offset, list[int]()
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes=1)
        found += [record.offset for record in decode_records(data)]
        offset = next(iterate_batches(data))[0].next_offset
    return found


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_compacted_may_lack_offsets_between_segments(clean: bool) -> None:
    log = _open(_folder(), cleaner_offset=40, clean=clean)
    assert log.log_end_offset == 43
    assert _offsets(log) == [start + number for start in _STARTS for number in range(3)]
    assert next(iterate_batches(log.read(10, max_bytes=1)))[0].base_offset == 20


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_never_compacted_may_not(clean: bool) -> None:
    with pytest.raises(StorageError, match="missing"):
        _open(_folder(), cleaner_offset=0, clean=clean)


def test_it_can_be_compacted_here() -> None:
    log = _open(_folder(), cleaner_offset=20)
    log.append_as_leader(encode_batch([(0, b"key 5", b"new", ())]), leader_epoch=0, now_ms=0)
    log.roll()
    log.cleaner_offset = 0
    task = CleaningTask(
        files=log._folder.files,
        directory=_FOLDER,
        config=_CONFIG,
        cleanable=find_cleanable(log, high_watermark=log.log_end_offset, now_ms=0),
        aborted=(),
        producers={},
        now_ms=0,
    )
    for step in Cleaning(task, map_bytes=100_000, buffer_bytes=10_000).run():
        if isinstance(step, Rewritten):
            replacement = log.begin_replacement(
                step.segment, replaced=[source.base_offset for source in step.sources]
            )
            log.finish_replacement(replacement)
            log.complete_replacement(replacement)
    offsets = _offsets(log)
    assert 5 not in offsets
    assert offsets[-1] == 43
    assert len(offsets) == 15
