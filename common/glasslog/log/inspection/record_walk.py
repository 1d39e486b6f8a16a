"""The records of one batch, one at a time, so that a hostile batch costs no more memory than its bytes.

This module knows the layout of a record, written to be read: the codec beside it is written to be fast, and
each is the other's witness.  It refuses to know where batches come from.
Source: Kafka's ``DefaultRecord``.
"""

from collections.abc import Iterator

from glasslog.log.batch import HEADER_BYTES, BatchHeader, CorruptBatch, TimestampType, add_sequence
from glasslog.log.compression import decompress
from glasslog.log.inspection.items import SeenRecord
from glasslog.log.records import Headers

MAX_SHOWN_HEADERS = 1_000
"""Of one record; more are counted and passed over."""

_MAX_VARINT_BYTES = 10


class _Cursor:
    """Reads a record's parts in order; ``CorruptBatch`` where the bytes end or make no sense."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)

    def varint(self) -> int:
        """A zig-zag number."""
        position = self.position
        if position < self.end and (byte := self.data[position]) < 0x80:
            # Most are of one byte.
            self.position = position + 1
            return (byte >> 1) ^ -(byte & 1)
        number = shift = 0
        for _ in range(_MAX_VARINT_BYTES):
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
        raise CorruptBatch("a number of more than ten bytes")

    def byte(self) -> int:
        if self.position >= self.end:
            raise CorruptBatch("the record ends too early")
        byte = self.data[self.position]
        self.position += 1
        return byte

    def bytes(self) -> bytes | None:
        """Bytes behind their length; None for length -1."""
        length = self.varint()
        if length == -1:
            return None
        if not 0 <= length <= self.end - self.position:
            raise CorruptBatch(f"{length} bytes announced, {self.end - self.position} left")
        self.position += length
        return self.data[self.position - length : self.position]


def expand(header: BatchHeader, batch: bytes, *, max_bytes: int) -> bytes:
    """The records of a whole batch, unpacked; ``CorruptBatch`` when that fails or exceeds ``max_bytes``."""
    return decompress(header.compression, memoryview(batch)[HEADER_BYTES:], max_bytes=max_bytes)


def walk_records(header: BatchHeader, data: bytes) -> Iterator[SeenRecord]:
    """Each record in ``data``, which is what ``expand`` returns.

    Raises ``CorruptBatch`` at the first one that makes no sense, after the sound ones before it.
    """
    cursor, before = _Cursor(data), -1
    for number in range(header.record_count):
        if cursor.position >= len(data):
            raise CorruptBatch(f"record {number} of {header.record_count} is missing")
        try:
            record = _record(cursor, header)
        except CorruptBatch as error:
            raise CorruptBatch(f"record {number} of {header.record_count}: {error}") from None
        delta = record.offset - header.base_offset
        if not before < delta <= header.last_offset_delta:
            raise CorruptBatch(
                f"record {number} of {header.record_count}: offset delta {delta} after {before}"
            )
        before = delta
        yield record
    if cursor.position != len(data):
        raise CorruptBatch(f"{len(data) - cursor.position} bytes after the last record")


def _record(cursor: _Cursor, header: BatchHeader) -> SeenRecord:
    start = cursor.position
    cursor.end = len(cursor.data)
    length = cursor.varint()
    if not 0 <= length <= cursor.end - cursor.position:
        raise CorruptBatch(f"{length} bytes long, {cursor.end - cursor.position} are left")
    cursor.end = cursor.position + length
    cursor.byte()
    timestamp = header.base_timestamp + cursor.varint()
    delta = cursor.varint()
    key, value = cursor.bytes(), cursor.bytes()
    headers, header_count = _headers(cursor)
    if cursor.position != cursor.end:
        raise CorruptBatch(f"{cursor.end - cursor.position} bytes too many")
    if header.timestamp_type is TimestampType.LOG_APPEND_TIME:
        timestamp = header.max_timestamp
    return SeenRecord(
        offset=header.base_offset + delta,
        timestamp=timestamp,
        key=key,
        value=value,
        headers=headers,
        header_count=header_count,
        sequence=-1 if header.base_sequence < 0 else add_sequence(header.base_sequence, delta),
        size_bytes=cursor.position - start,
    )


def _headers(cursor: _Cursor) -> tuple[Headers, int]:
    count = cursor.varint()
    if not count:
        return (), 0
    if not 0 <= count <= cursor.end - cursor.position:
        raise CorruptBatch(f"{count} headers in {cursor.end - cursor.position} bytes")
    shown: list[tuple[str, bytes | None]] = []
    for number in range(count):
        name, value = cursor.bytes(), cursor.bytes()
        if name is None:
            raise CorruptBatch("a header without a name")
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise CorruptBatch(f"header {number} has a name that is not UTF-8") from None
        if number < MAX_SHOWN_HEADERS:
            shown.append((text, value))
    return tuple(shown), count
