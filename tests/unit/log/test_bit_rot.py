"""What a log makes of bytes that changed on its disk: it serves nothing of them, and finds the rest."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import iterate_batches
from glasslog.log.config import LogConfig
from glasslog.log.damage import DamagedLog, LostRecords
from glasslog.log.log import Log
from glasslog.log.records import encode_batch
from glasslog.log.segment import ColdRead
from hypothesis import given, settings
from hypothesis import strategies as st

_FOLDER = "data/kept-0"
_EPOCH = slice(12, 16)
"""The one part of a batch that neither its checksum covers nor its neighbours confirm."""


@dataclass
class Written:
    """A closed log of some small segments, as it was written."""

    files: MemoryFileSystem
    batches: list[bytes]
    starts: list[int]
    """The base offset of each batch."""

    @property
    def end(self) -> int:
        return self.starts[-1] + _count(self.batches[-1])

    def open(self) -> Log:
        return _open(self.files, recovery_point=self.end)

    def paths(self, suffix: str) -> list[str]:
        return [f"{_FOLDER}/{name}" for name in self.files.list(_FOLDER) if name.endswith(suffix)]


def _count(batch: bytes) -> int:
    return next(iterate_batches(batch))[0].record_count


def _open(files: MemoryFileSystem, *, recovery_point: int = 0) -> Log:
    return Log.open(
        files=files,
        directory=_FOLDER,
        config=LogConfig(segment_bytes=2_000, index_interval_bytes=200),
        clean_shutdown=True,
        recovery_point=recovery_point,
    )


def _write(counts: list[int]) -> Written:
    files = MemoryFileSystem()
    log, batches, starts = _open(files), list[bytes](), list[int]()
    for number, count in enumerate(counts):
        batch = encode_batch([(number, b"key", b"value %d" % index, ()) for index in range(count)])
        starts.append(log.append_as_leader(batch, leader_epoch=3, now_ms=0).first_offset)
        batches.append(bytes(batch))
    log.close()
    return Written(files, batches, starts)


def _blind(batch: bytes) -> bytes:
    return batch[: _EPOCH.start] + batch[_EPOCH.stop :]


def _read_on(log: Log, written: Written, offset: int, *, max_bytes: int) -> int:
    """Read from ``offset`` to the end or the damage: all that comes was written. Returns where that was."""
    while offset < written.end:
        try:
            data = bytes(log.read(offset, max_bytes=max_bytes))
        except DamagedLog:
            return offset
        assert data, f"nothing at {offset}, the log ends at {written.end}"
        for header, position in iterate_batches(data):
            number = written.starts.index(header.base_offset)
            assert header.base_offset <= offset <= header.last_offset, "a batch was passed over"
            found = data[position : position + header.size_bytes]
            assert _blind(found) == _blind(written.batches[number])
            offset = header.next_offset
    return offset


_logs = st.builds(_write, st.lists(st.integers(1, 6), min_size=1, max_size=60))


@given(_logs, st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_bit_flips_no_other_byte_is_served_than_was_written(
    written: Written, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(written.paths(".log")))
    position = data.draw(st.integers(0, len(written.files.read(path)) - 1), label="position")
    written.files.flip_bit(path, position, bit=data.draw(st.integers(0, 7), label="bit"))
    last_begins = len(written.files.read(path)) - len(written.batches[-1])
    try:
        log = written.open()
    except LostRecords:
        # Nothing follows the last batch: only its offset may look as if more had been there.
        assert path == written.paths(".log")[-1]
        assert last_begins <= position < last_begins + 8
        return
    first = data.draw(st.integers(0, written.end - 1), label="first")
    max_bytes = data.draw(st.sampled_from([1, 100, 700, 100_000]), label="max_bytes")
    _read_on(log, written, first, max_bytes=max_bytes)
    log.abandon()


@given(_logs, st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_happens_to_an_index_every_record_is_found(written: Written, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*written.paths(".index"), *written.paths(".timeindex")]))
    size_bytes = len(written.files.read(path))
    if size_bytes:
        position = data.draw(st.integers(0, size_bytes - 1), label="position")
        written.files.flip_bit(path, position, bit=data.draw(st.integers(0, 7), label="bit"))
    log = written.open()
    for first in data.draw(st.lists(st.integers(0, written.end - 1), min_size=1, max_size=5), label="firsts"):
        assert _read_on(log, written, first, max_bytes=700) == written.end
    log.abandon()


def _damage(written: Written, number: int, *, byte: int) -> None:
    """Flip a bit of a batch, whose segment is found by its bytes."""
    for path in written.paths(".log"):
        content = written.files.read(path)
        at = content.find(_blind(written.batches[number])[_EPOCH.start :])
        if at >= 0:
            written.files.flip_bit(path, at - _EPOCH.stop + byte)
            return
    raise AssertionError("no such batch")


def test_what_lies_before_and_after_a_damaged_batch_is_served() -> None:
    written = _write([3] * 60)
    _damage(written, 31, byte=90)
    log = written.open()
    damaged = written.starts[31]
    assert _read_on(log, written, 0, max_bytes=100_000) == damaged
    assert _read_on(log, written, written.starts[32], max_bytes=100_000) == written.end
    with pytest.raises(DamagedLog) as refusal:
        log.read(damaged, max_bytes=1)
    error = refusal.value
    assert error.offset == damaged
    assert error.base_offset == max(base for base in log.segment_base_offsets if base <= damaged)
    assert str(error).startswith(
        f"{error.path}: batch at position {error.position} (offset {damaged}): checksum"
    )
    log.abandon()


@pytest.mark.parametrize("byte", [7, 11, 16, 20, 26, 60, 70], ids=lambda byte: f"byte {byte}")
def test_each_part_of_a_header_is_guarded(byte: int) -> None:
    """Base offset, length, magic, checksum, last offset delta, count, and the records."""
    written = _write([4] * 20)
    _damage(written, 10, byte=byte)
    log = written.open()
    for first in range(written.starts[10], written.starts[11]):
        with pytest.raises(DamagedLog):
            log.read(first, max_bytes=1)
    log.abandon()


def _cold(read: Callable[[], object]) -> ColdRead:
    with pytest.raises(ColdRead) as caught:
        read()
    return caught.value


def test_a_damaged_index_is_built_anew_by_whoever_brings_cold_ranges_in() -> None:
    """It was built on the event loop, by the reader that met it: a walk through up to a gigabyte."""
    written = _write([3] * 60)
    (path, *_) = written.paths(".index")
    sound = written.files.read(path)
    for entry in range(0, len(sound), 8):
        written.files.flip_bit(path, entry + 7, bit=0)
    log = written.open()
    opened: list[str] = []
    first = written.starts[12]
    written.files.drop_caches()
    for _ in range(8):
        try:
            data = log.read(first, max_bytes=1, cached_only=True)
            break
        except ColdRead as cold:
            cold.segment.pin()
            cold.segment.warm(cold.length, cold.position)
            cold.segment.unpin()
            opened.append(str(cold.length))
    else:
        raise AssertionError(f"still cold after {opened}")
    assert "-1" in opened, "somebody else built the index"
    assert next(iterate_batches(data))[0].base_offset == first
    log.close()
    assert written.files.read(path) == sound
