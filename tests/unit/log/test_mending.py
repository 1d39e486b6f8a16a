"""A damaged segment written anew: what comes out, whom it asks for what, and what a crash leaves."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import CorruptBatch, iterate_batches
from glasslog.log.cleaner_plan import SourceSegment
from glasslog.log.config import LogConfig
from glasslog.log.damage import DamagedLog
from glasslog.log.log import Log
from glasslog.log.mending import Mending, MendingTask, Needed, ReplicasDiffer
from glasslog.log.producer_state import ProducerStates
from glasslog.log.records import decode_records, encode_batch
from glasslog.log.segment import Segment
from hypothesis import given, settings
from hypothesis import strategies as st

_CONFIG = LogConfig(segment_bytes=1_500, index_interval_bytes=200)


def _open(files: MemoryFileSystem, folder: str, *, clean: bool = True, recovery_point: int = 0) -> Log:
    return Log.open(
        files=files,
        directory=f"data/{folder}",
        config=_CONFIG,
        clean_shutdown=clean,
        recovery_point=recovery_point,
    )


def _replicas(count: int = 40) -> tuple[MemoryFileSystem, Log, Log]:
    """Two logs of the same bytes, cut into other segments, and the disk that they are on."""
    files = MemoryFileSystem()
    ours, other = _open(files, "ours-0"), _open(files, "other-0")
    other.append_as_leader(encode_batch([(0, b"k", b"first", ())]), leader_epoch=1, now_ms=0)
    other.roll()
    for number in range(count):
        other.append_as_leader(
            encode_batch([(0, b"k", b"value %d" % number, ())] * (1 + number % 3)), leader_epoch=2, now_ms=0
        )
    for offset in _offsets(other):
        ours.append_as_follower(other.read(offset, max_bytes=1))
    ours.roll()
    ours.flush()
    return files, ours, other


def _offsets(log: Log) -> Iterator[int]:
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        yield offset
        offset = next(iterate_batches(log.read(offset, max_bytes=1)))[0].next_offset


def _values(log: Log) -> list[bytes | None]:
    return [each.value for offset in _offsets(log) for each in decode_records(log.read(offset, max_bytes=1))]


def _values_from(log: Log, offset: int) -> list[bytes | None]:
    values = list[bytes | None]()
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes=1)
        values += [each.value for each in decode_records(data)]
        offset = next(iterate_batches(data))[0].next_offset
    return values


class _CrashError(Exception):
    """The process has died."""


def _task(
    files: MemoryFileSystem,
    log: Log,
    segment: Segment,
    *,
    producers: ProducerStates | None = None,
    high_watermark: int = 1 << 40,
) -> MendingTask:
    return MendingTask(
        files=files,
        directory=log.directory,
        config=log.config,
        source=SourceSegment(segment.base_offset, segment.next_offset, segment.size_bytes, segment.path),
        log_start_offset=log.log_start_offset,
        high_watermark=high_watermark,
        epoch_at=log.epochs.epoch_at,
        producers=producers,
    )


def _mend(mending: Mending, ask: Callable[[int], bytes]) -> Segment:
    steps = mending.run()
    try:
        step = next(steps)
        while True:
            step = steps.send(ask(step.offset) if isinstance(step, Needed) else b"")
    except StopIteration as end:
        made: Segment = end.value
        return made


def _put_in_place(log: Log, old: Segment, made: Segment) -> None:
    replacement = log.begin_replacement(made, replaced=[old.base_offset])
    log.sync_folder()
    for each in log.finish_replacement(replacement):
        each.remove_files()
    log.sync_folder()
    log.complete_replacement(replacement)


def _from(other: Log) -> Callable[[int], bytes]:
    return lambda offset: bytes(other.read(offset, max_bytes=300))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_rotted_the_result_is_what_was_written(data: st.DataObject) -> None:
    files, ours, other = _replicas()
    segment = data.draw(st.sampled_from(ours.segments[:-1]))
    before = files.read(segment.path)
    file = files.open(segment.path)
    for _ in range(data.draw(st.integers(1, 4), label="wounds")):
        at = data.draw(st.integers(0, len(before) - 1), label="position")
        file.pwrite(bytes([data.draw(st.integers(0, 255))] * data.draw(st.sampled_from([1, 90, 700]))), at)
    file.truncate(data.draw(st.sampled_from([len(before), len(before), len(before) // 2])))
    made = _mend(Mending(_task(files, ours, segment)), _from(other))
    assert files.read(made.path) == before or _blind(files.read(made.path)) == _blind(before)
    _put_in_place(ours, segment, made)
    assert _values(ours) == _values(other)


def _blind(content: bytes) -> list[bytes]:
    """Without the leader epochs, which no checksum covers."""
    found = []
    for header, position in iterate_batches(content):
        batch = content[position : position + header.size_bytes]
        found.append(batch[:12] + batch[16:])
    return found


def test_only_what_is_damaged_is_asked_for() -> None:
    files, ours, other = _replicas()
    segment = ours.segments[1]
    position = list(segment.headers())[3][1]
    files.flip_bit(segment.path, position + 70)
    asked: list[int] = []

    def ask(offset: int) -> bytes:
        asked.append(offset)
        return bytes(other.read(offset, max_bytes=1))

    mending = Mending(_task(files, ours, segment))
    _mend(mending, ask)
    assert asked == [list(segment.headers())[3][0].base_offset]
    assert mending.batches_taken == 1


def test_nothing_that_is_not_committed_or_sound_is_taken() -> None:
    files, ours, other = _replicas()
    segment = ours.segments[0]
    files.flip_bit(segment.path, 70)
    with pytest.raises(StorageError, match="not committed"):
        _mend(Mending(_task(files, ours, segment, high_watermark=0)), _from(other))
    with pytest.raises(CorruptBatch, match="checksum"):
        _mend(Mending(_task(files, ours, segment)), lambda _: _flipped(bytes(other.read(0, max_bytes=1))))
    with pytest.raises(ReplicasDiffer):
        _mend(Mending(_task(files, ours, segment)), lambda _: b"")
    foreign = bytes(encode_batch([(0, b"k", b"other", ())], base_offset=0, leader_epoch=7))
    with pytest.raises(ReplicasDiffer):
        _mend(Mending(_task(files, ours, segment)), lambda _: foreign)
    assert not [name for name in files.list("data/ours-0") if name.endswith(".cleaned")]


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_what_compaction_took_there_leaves_no_gap() -> None:
    files, ours, other = _replicas()
    segment = ours.segments[1]
    first = next(iter(segment.headers()))[0]
    kept = bytes(other.read(first.base_offset, max_bytes=1))

    def ask(offset: int) -> bytes:
        return kept if offset <= first.base_offset else b""

    task = _task(files, ours, segment, producers=ProducerStates())
    made = _mend(Mending(task), ask)
    assert made.next_offset == segment.next_offset
    _put_in_place(ours, segment, made)
    assert bytes(ours.read(first.base_offset, max_bytes=1)) == kept
    ours.close()
    assert _open(files, "ours-0", recovery_point=ours.log_end_offset).log_end_offset == ours.log_end_offset


def test_a_crash_at_any_step_leaves_the_damaged_segment_or_the_mended_one() -> None:
    for step in range(200):
        files, ours, other = _replicas(12)
        expected, end = _values(other), ours.log_end_offset
        files.flip_bit(ours.segments[0].path, 70)
        left = step

        def count(operation: str, path: str) -> None:
            nonlocal left
            if "ours-0" in path:
                left -= 1
                if left < 0:
                    raise _CrashError

        files.on_operation = count
        try:
            segment = ours.segments[0]
            made = _mend(Mending(_task(files, ours, segment)), _from(other))
            _put_in_place(ours, segment, made)
            is_over = True
        except _CrashError:
            is_over = False
        files.on_operation = None
        files.crash(keep="none")
        reopened = _open(files, "ours-0", clean=False, recovery_point=end)
        assert reopened.log_end_offset == end
        if is_over:
            assert _values(reopened) == expected
            return
        with suppress(DamagedLog):
            assert _values(reopened) == expected
        assert _values_from(reopened, 1) == expected[1:]
    raise AssertionError("it never came to an end")
