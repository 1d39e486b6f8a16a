"""The sparse time index of one segment, in memory and on disk laid out as Kafka's ``.timeindex``.

This module knows how far a segment has come in time at which offset; it refuses to know what is in the
segment.  A time index is always derivable from its segment, so a damaged one is not an error: ``load`` says
None and it is built anew.  Source: Kafka's ``TimeIndex``; an entry is a big-endian 64-bit timestamp, the
largest so far, and a 32-bit offset relative to the segment's base: the last one of the batch that has it.
"""

from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import NO_TIMESTAMP

_ENTRY = Struct(">qi")
ENTRY_BYTES = _ENTRY.size


class TimestampOffset(NamedTuple):
    """A timestamp in milliseconds and the last offset of the batch that has it; -1 where there is none."""

    timestamp: int
    offset: int


class TimeIndex:
    """Pairs of a strictly increasing timestamp and a not decreasing offset."""

    __slots__ = ("_base_offset", "_data", "_file_is_longer", "_saved_bytes", "last")

    def __init__(self, base_offset: int, data: bytes = b"") -> None:
        self._base_offset = base_offset
        self._data = bytearray(data)
        self._saved_bytes = len(data)
        self._file_is_longer = not data
        """There may be a file, and it may hold entries that are not (any more) in memory."""
        self.last = self._entry(len(self) - 1) if data else TimestampOffset(NO_TIMESTAMP, base_offset)

    def __len__(self) -> int:
        return len(self._data) // ENTRY_BYTES

    @property
    def size_bytes(self) -> int:
        """Of all entries, saved or not."""
        return len(self._data)

    @classmethod
    def load(cls, files: FileSystem, path: str, *, base_offset: int, next_offset: int) -> "TimeIndex | None":
        """The index on disk; None when it is missing or can not belong to these offsets."""
        try:
            data = files.read(path)
        except FileNotFoundError:
            return None
        if len(data) % ENTRY_BYTES or not _is_sound(data, next_offset - base_offset):
            return None
        return cls(base_offset, data)

    @classmethod
    def load_last(
        cls, files: FileSystem, path: str, *, base_offset: int, next_offset: int
    ) -> TimestampOffset | None:
        """Only the last entry; None when there is none or it can not belong to these offsets."""
        try:
            file = files.open(path, read_only=True)
        except FileNotFoundError:
            return None
        try:
            size_bytes = file.size()
            if not size_bytes or size_bytes % ENTRY_BYTES:
                return None
            timestamp, relative = _ENTRY.unpack(file.pread(ENTRY_BYTES, size_bytes - ENTRY_BYTES))
        finally:
            file.close()
        if timestamp < 0 or not 0 <= relative < next_offset - base_offset:
            return None
        return TimestampOffset(timestamp, base_offset + relative)

    def maybe_append(self, largest: TimestampOffset) -> None:
        """Note the largest timestamp so far, unless it is the last one noted."""
        if largest.timestamp > self.last.timestamp:
            self._data += _ENTRY.pack(largest.timestamp, largest.offset - self._base_offset)
            self.last = largest

    def offset_before(self, timestamp: int) -> int:
        """An offset that no batch with a larger maximum than ``timestamp`` lies below: where to look from."""
        above = bisect_right(range(len(self)), timestamp, key=self._timestamp)
        return self._entry(above - 1).offset if above else self._base_offset

    def truncate(self, offset: int) -> None:
        """Forget batches at or after ``offset``."""
        count = bisect_left(range(len(self)), offset, key=self._offset)
        del self._data[count * ENTRY_BYTES :]
        self._saved_bytes = min(self._saved_bytes, len(self._data))
        self._file_is_longer = True
        self.last = self._entry(count - 1) if count else TimestampOffset(NO_TIMESTAMP, self._base_offset)

    def save(self, files: FileSystem, path: str) -> bool:
        """Make the file say what the memory does, writing only what is new; False when it does already.

        May raise ``OSError``.
        """
        if self._saved_bytes == len(self._data) and not self._file_is_longer:
            return False
        file = files.open(path, create=True)
        try:
            file.truncate(self._saved_bytes)
            if self._saved_bytes < len(self._data):
                file.pwrite(bytes(self._data[self._saved_bytes :]), self._saved_bytes)
        finally:
            file.close()
        self._saved_bytes = len(self._data)
        self._file_is_longer = False
        return True

    def _entry(self, number: int) -> TimestampOffset:
        timestamp, relative = _ENTRY.unpack_from(self._data, number * ENTRY_BYTES)
        return TimestampOffset(timestamp, self._base_offset + relative)

    def _timestamp(self, number: int) -> int:
        return self._entry(number).timestamp

    def _offset(self, number: int) -> int:
        return self._entry(number).offset


def _is_sound(data: bytes, offsets: int) -> bool:
    """Whether timestamps increase, offsets do not decrease, and all lie within ``offsets`` of the base."""
    timestamps, relatives = array("q"), array("i")
    for timestamp, relative in _ENTRY.iter_unpack(data):
        timestamps.append(timestamp)
        relatives.append(relative)
    if not timestamps:
        return True
    return (
        timestamps[0] >= 0
        and relatives[0] >= 0
        and relatives[-1] < offsets
        and all(before < after for before, after in pairwise(timestamps))
        and all(before <= after for before, after in pairwise(relatives))
    )
