"""The sparse offset index of one segment, in memory as two arrays and on disk as Kafka's ``.index``.

This module knows which offset lies at which position; it refuses to know what is in the segment.  An index is
always derivable from its segment, so a damaged one is not an error: ``load`` says None and it is built anew.
Source: Kafka's ``OffsetIndex``; an entry is two big-endian 32-bit integers: the last offset of a batch,
relative to the segment's base, and the position where that batch begins.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import BatchHeader
from glasslog.log.walk_types import Indexed

ENTRY_BYTES = 8
_TYPE_CODE = "i"


NO_OFFSET = -1


class UnsoundEntry(Exception):  # noqa: N818 - never leaves the segment
    """Where an index says that a batch begins, there is none that fits."""


class IndexEntry(NamedTuple):
    """A batch begins at ``position``, after ``after_offset``, and ends with ``last_offset`` if that is known.

    Kafka before 4.0 may say the last offset of several batches, of which the first begins there: its indexes
    are built anew where they do.
    """

    position: int
    after_offset: int
    last_offset: int

    def fits(self, header: BatchHeader) -> bool:
        """Whether ``header`` is that batch's."""
        return self.after_offset < header.base_offset and header.last_offset == self.last_offset


class OffsetIndex:
    """Increasing pairs of a batch's last offset and its position."""

    __slots__ = (
        "_base_offset",
        "_file_is_longer",
        "_offsets",
        "_positions",
        "_saved_entries",
        "last_position",
        "size_bytes",
    )

    def __init__(self, base_offset: int) -> None:
        self._base_offset = base_offset
        self._offsets = array(_TYPE_CODE)
        self._positions = array(_TYPE_CODE)
        self._saved_entries = 0
        self.last_position = 0
        """The last known boundary, 0 when there is none."""
        self.size_bytes = 0
        """Of all entries, saved or not."""
        self._file_is_longer = True
        """There may be a file, and it may hold entries that are not (any more) in memory."""

    def __len__(self) -> int:
        return len(self._offsets)

    @classmethod
    def load(
        cls, files: FileSystem, path: str, *, base_offset: int, segment_bytes: int
    ) -> "OffsetIndex | None":
        """The index on disk, or None when it is missing or can not belong to ``segment_bytes`` of data."""
        try:
            data = files.read(path)
        except FileNotFoundError:
            return None
        if len(data) % ENTRY_BYTES:
            return None
        index = cls(base_offset)
        index._decode(data)
        return index if index._is_sound(segment_bytes) else None

    def append(self, last_offset: int, position: int) -> None:
        """Note the batch that ends with ``last_offset`` and begins at ``position``."""
        self._offsets.append(last_offset - self._base_offset)
        self._positions.append(position)
        self.last_position = position
        self.size_bytes += ENTRY_BYTES

    def extend(self, entries: Sequence[Indexed]) -> None:
        """Note many batches, in order."""
        if entries:
            base = self._base_offset
            self._offsets.extend([entry.last_offset - base for entry in entries])
            self._positions.extend([entry.position for entry in entries])
            self._note_end()

    def position_before(self, offset: int) -> int:
        """A batch boundary at or before the batch that holds ``offset``."""
        above = bisect_right(self._offsets, offset - self._base_offset)
        return self._positions[above - 1] if above else 0

    def entries_before(self, offset: int) -> Sequence[IndexEntry]:
        """From where to look for the batch that holds ``offset``: the nearest entry, and the one before."""
        above = bisect_right(self._offsets, offset - self._base_offset)
        return [self._entry(number) for number in range(above - 1, max(above - 3, -2), -1)]

    def _entry(self, number: int) -> IndexEntry:
        """``number`` -1: the segment's beginning."""
        if number < 0:
            return IndexEntry(0, self._base_offset - 1, NO_OFFSET)
        after = self._offsets[number - 1] if number else -1
        return IndexEntry(
            self._positions[number], self._base_offset + after, self._base_offset + self._offsets[number]
        )

    def truncate(self, position: int) -> None:
        """Forget batches at or after ``position``."""
        count = bisect_left(self._positions, position)
        del self._offsets[count:]
        del self._positions[count:]
        self._note_end()
        self._saved_entries = min(self._saved_entries, count)
        self._file_is_longer = True

    def save(self, files: FileSystem, path: str) -> bool:
        """Make the file say what the memory does, writing only what is new; False when it does already.

        May raise ``OSError``.
        """
        if self._saved_entries == len(self._offsets) and not self._file_is_longer:
            return False
        file = files.open(path, create=True)
        try:
            file.truncate(self._saved_entries * ENTRY_BYTES)
            if self._saved_entries < len(self._offsets):
                file.pwrite(self._encode(self._saved_entries), self._saved_entries * ENTRY_BYTES)
        finally:
            file.close()
        self._saved_entries = len(self._offsets)
        self._file_is_longer = False
        return True

    def _encode(self, first: int) -> bytes:
        both = array(_TYPE_CODE, bytes((len(self._offsets) - first) * ENTRY_BYTES))
        both[::2] = self._offsets[first:]
        both[1::2] = self._positions[first:]
        return _swapped(both).tobytes()

    def _decode(self, data: bytes) -> None:
        both = array(_TYPE_CODE)
        both.frombytes(data)
        both = _swapped(both)
        self._offsets, self._positions = both[::2], both[1::2]
        self._saved_entries = len(self._offsets)
        self._file_is_longer = False
        self._note_end()

    def _note_end(self) -> None:
        self.last_position = self._positions[-1] if self._positions else 0
        self.size_bytes = len(self._positions) * ENTRY_BYTES

    def _is_sound(self, segment_bytes: int) -> bool:
        offsets, positions = self._offsets, self._positions
        if not offsets:
            return True
        increasing = all(map(int.__lt__, offsets, offsets[1:])) and all(
            map(int.__lt__, positions, positions[1:])
        )
        return increasing and offsets[0] >= 0 and positions[0] >= 0 and positions[-1] < segment_bytes


def _swapped(numbers: "array[int]") -> "array[int]":
    """Between the machine's byte order and the file's, in place."""
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
