"""The entries of the three indexes of a segment, as Kafka lays them out.

This module knows entries and what the file alone tells of their soundness; it refuses to look at the segment.
Kafka preallocates the indexes of an active segment: a tail of zeros is no entry.
Source: Kafka's ``OffsetIndex``, ``TimeIndex``, ``TransactionIndex``.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from glasslog.log.inspection.items import Finding, Severity
from glasslog.log.inspection.source import Source

_OFFSET = Struct(">ii")
_TIME = Struct(">qi")
_TRANSACTION = Struct(">hqqqq")
_ENTRIES_PER_READ = 4096


class OffsetEntry(NamedTuple):
    """The batch that ends with ``offset`` begins at ``target``. ``position`` is in the index."""

    position: int
    offset: int
    target: int


class TimeEntry(NamedTuple):
    """No record up to ``offset`` is younger than ``timestamp``."""

    position: int
    timestamp: int
    offset: int


class AbortedEntry(NamedTuple):
    """An aborted transaction. ``last_offset`` is that of its marker."""

    position: int
    version: int
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int

    @property
    def offset(self) -> int:
        """The one that orders entries."""
        return self.last_offset


def walk_offset_index(source: Source, *, base_offset: int) -> Iterator[OffsetEntry | Finding]:
    """Entries and findings; offsets and targets must increase."""
    offset, target = base_offset - 1, -1
    for position, data in _entries(source, _OFFSET):
        relative, found = _OFFSET.unpack(data)
        if not any(data) and _is_preallocated(source, position, len(data)):
            return
        entry = OffsetEntry(position, base_offset + relative, found)
        if relative < 0 or entry.offset <= offset or found <= target:
            yield _finding(
                source, entry.position, f"offset {entry.offset} at {found} after {offset} at {target}"
            )
        offset, target = entry.offset, found
        yield entry
    yield from _rest(source, _OFFSET)


def walk_time_index(source: Source, *, base_offset: int) -> Iterator[TimeEntry | Finding]:
    """Entries and findings; timestamps must increase, offsets must not decrease."""
    timestamp, offset = -1, base_offset
    for position, data in _entries(source, _TIME):
        time, relative = _TIME.unpack(data)
        if not any(data) and _is_preallocated(source, position, len(data)):
            return
        entry = TimeEntry(position, time, base_offset + relative)
        is_first_of_no_time = not position and time == -1
        if relative < 0 or entry.offset < offset or (time <= timestamp and not is_first_of_no_time):
            text = f"timestamp {time} at offset {entry.offset} after {timestamp} at {offset}"
            yield _finding(source, position, text)
        timestamp, offset = time, entry.offset
        yield entry
    yield from _rest(source, _TIME)


def walk_transaction_index(source: Source, *, base_offset: int) -> Iterator[AbortedEntry | Finding]:
    """Entries and findings; last offsets must increase, and a transaction begins before it ends."""
    last = base_offset - 1
    for position, data in _entries(source, _TRANSACTION):
        entry = AbortedEntry(position, *_TRANSACTION.unpack(data))
        if entry.version != 0:
            yield _finding(source, position, f"version {entry.version} is not known")
        elif entry.last_offset <= last or not 0 <= entry.first_offset <= entry.last_offset:
            text = f"a transaction from {entry.first_offset} to {entry.last_offset} after one to {last}"
            yield _finding(source, position, text)
        last = entry.last_offset
        yield entry
    yield from _rest(source, _TRANSACTION)


def _entries(source: Source, layout: Struct) -> Iterator[tuple[int, bytes]]:
    """Whole entries with their positions, however large the file is."""
    size = layout.size
    whole_bytes = source.size_bytes // size * size
    for start in range(0, whole_bytes, size * _ENTRIES_PER_READ):
        data = source.read(start, min(size * _ENTRIES_PER_READ, whole_bytes - start))
        for at in range(0, len(data) // size * size, size):
            yield start + at, data[at : at + size]


def _is_preallocated(source: Source, position: int, size_bytes: int) -> bool:
    """Whether an entry of zeros at ``position`` is none: a first one may be real, at time or offset zero."""
    if position:
        return True
    following = source.read(size_bytes, size_bytes)
    return bool(following) and not any(following)


def _rest(source: Source, layout: Struct) -> Iterator[Finding]:
    left = source.size_bytes % layout.size
    if left:
        yield _finding(source, source.size_bytes - left, f"{left} bytes are no whole entry", Severity.TORN)


def _finding(source: Source, position: int, text: str, severity: Severity = Severity.DAMAGE) -> Finding:
    return Finding(path=source.path, text=text, position=position, severity=severity)
