"""The codec of a batch's records in tuned pure Python: the reference, and what runs where none is compiled.

This module knows the varint encoding of records; it refuses to know a batch's header beyond its fields, its
checksum, its compression, and where batches are kept.  The loops are written out, since a call costs as much
as a field.  ``compiled_codec`` does the same in typed Cython; tests hold the two equal.  Source of the
format: Kafka's ``DefaultRecord``.
"""

from collections.abc import Iterable, Iterator
from itertools import count as counting
from itertools import pairwise

from glasslog.log.batch import HEADER_BYTES, NO_TIMESTAMP, BatchHeader, TimestampType
from glasslog.log.record_types import Headers, NewRecord, RecordKey, RecordTuple, Selection, Survey

NO_LIMIT = 1 << 62
_INT64_MAX = (1 << 63) - 1
_INT64_MIN = -(1 << 63)
_MAX_UNSIGNED = (1 << 64) - 1
_MAX_VARINT_SHIFT = 63
_SHORT_DELTAS = 64
"""A delta that takes one byte is below this, whatever its sign."""

_HIGH_PARTS = tuple((high << 7) - 128 for high in range(128))
"""What the second and last byte of a varint adds to its first, whose mark of "more follows" it takes away."""

_CACHED_VARINTS = 8192
"""Every length and delta of one or two encoded bytes is cached."""


class _Varints(dict[int, bytes]):
    """Signed integers to their zig-zag varint bytes, filled as they are asked for."""

    def __missing__(self, number: int) -> bytes:
        encoded = encode_varint(number)
        if -_CACHED_VARINTS <= number < _CACHED_VARINTS:
            self[number] = encoded
        return encoded


def encode_varint(number: int) -> bytes:
    """A signed 64-bit integer as a zig-zag varint; raises ``OverflowError`` for a larger one."""
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise OverflowError(f"{number} does not fit in 64 bits")
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The zig-zag varint at ``position`` and the position after it.

    Raises ``IndexError`` past the end and ``ValueError`` for more than ten bytes or 64 bits.
    """
    rest = shift = 0
    while True:
        byte = data[position]
        position += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            if rest > _MAX_UNSIGNED:
                raise ValueError("a varint of more than 64 bits")
            return (rest >> 1) ^ -(rest & 1), position
        shift += 7
        if shift > _MAX_VARINT_SHIFT:
            raise ValueError("a varint of more than ten bytes")


_VARINTS = _Varints()


class RecordEncoder:
    """Collects encoded records, ``max_bytes`` at most (a single larger record is taken alone).

    The bound and ``size_bytes`` count a batch's header too. Keys, values and headers must not change after
    they were given.
    """

    __slots__ = (
        "_key",
        "_key_part",
        "_max_bytes",
        "_parts",
        "_timestamp",
        "_timestamp_part",
        "base_timestamp",
        "max_timestamp",
        "record_count",
        "size_bytes",
    )

    def __init__(self, max_bytes: int = NO_LIMIT) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._timestamp: int | None = None
        self._timestamp_part = b""
        self._key: bytes | None = None
        self._key_part = b"\x01"
        self.base_timestamp = NO_TIMESTAMP
        self.max_timestamp = NO_TIMESTAMP
        self.record_count = 0
        self.size_bytes = HEADER_BYTES

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> bool:
        """Add one record; False, and nothing is added, when it does not fit any more."""
        return self.extend_many(((timestamp, key, value, headers),)) == 1

    def extend_many(self, records: Iterable[NewRecord]) -> int:
        """Add records until one does not fit; returns how many were added.

        Raises ``TypeError`` for what is not bytes, ``OverflowError`` for a timestamp beyond 64 bits; nothing
        is added then.
        """
        varints, join, add = _VARINTS, b"".join, self._parts.append
        count = first = self.record_count
        size_bytes, max_bytes = self.size_bytes, self._max_bytes
        last_timestamp, timestamp_part = self._timestamp, self._timestamp_part
        last_key, key_part = self._key, self._key_part
        parts_before, max_timestamp_before = len(self._parts), self.max_timestamp
        noted_at, max_before_note = -1, NO_TIMESTAMP
        try:
            for timestamp, key, value, headers in records:
                if timestamp != last_timestamp or not count:
                    noted_at, max_before_note = count, self.max_timestamp
                    timestamp_part = self._note_timestamp(timestamp, is_first=not count)
                    last_timestamp = timestamp
                if key is not last_key:
                    key_part = b"\x01" if key is None else varints[len(key)] + key
                    last_key = key
                if headers or value is None:
                    tail = _encode_tail(value, headers)
                    body = join((timestamp_part, varints[count], key_part, tail))
                else:
                    body = join((timestamp_part, varints[count], key_part, varints[len(value)], value, b"\0"))
                length = len(body)
                prefix = varints[length]
                size_bytes += length + len(prefix)
                if size_bytes > max_bytes and count:
                    size_bytes -= length + len(prefix)
                    if noted_at == count:
                        # The record that is left out must not leave its timestamp behind.
                        self.max_timestamp, last_timestamp = max_before_note, None
                    break
                add(prefix)
                add(body)
                count += 1
        except BaseException:
            # Something in it is no bytes: what was added before must not stay there uncounted.
            del self._parts[parts_before:]
            self.max_timestamp = max_timestamp_before
            raise
        self._timestamp, self._timestamp_part = last_timestamp, timestamp_part
        self._key, self._key_part = last_key, key_part
        self.record_count, self.size_bytes = count, size_bytes
        return count - first

    def body(self) -> bytes:
        """All records so far, encoded."""
        return b"".join(self._parts)

    def _note_timestamp(self, timestamp: int, *, is_first: bool) -> bytes:
        """The encoded attributes and timestamp delta of records at ``timestamp``."""
        encode_varint(timestamp)  # for its OverflowError
        if is_first:
            self.base_timestamp = self.max_timestamp = timestamp
        part = b"\0" + _VARINTS[timestamp - self.base_timestamp]
        if timestamp > self.max_timestamp:
            self.max_timestamp = timestamp
        return part


def _encode_tail(value: bytes | None, headers: Headers) -> bytes:
    """A record from its value on: the shape that the loop in ``extend_many`` does not write out."""
    parts = [b"\x01"] if value is None else [_VARINTS[len(value)], value]
    parts.append(_VARINTS[len(headers)])
    for name, content in headers:
        encoded_name = name.encode()
        parts += (_VARINTS[len(encoded_name)], encoded_name)
        parts += (b"\x01",) if content is None else (_VARINTS[len(content)], content)
    return b"".join(parts)


def decode_body(data: bytes, header: BatchHeader) -> list[RecordTuple]:
    """Every record in ``data``; ``IndexError`` or ``ValueError`` when a length or a delta is wrong.

    Zig-zag numbers: an odd first byte is a negative one.  One and two bytes are written out as most are.
    """
    base_timestamp, count = header.base_timestamp, header.record_count
    records: list[RecordTuple] = []
    key: bytes | None
    value: bytes | None
    add, high_parts, position = records.append, _HIGH_PARTS, 0
    for expected, offset in zip(range(0, 2 * count, 2), counting(header.base_offset), strict=False):
        byte = data[position]
        # Twice the end of the record, so that a negative length (an odd byte) never fits.
        if byte < 0x80:
            position += 1
        elif (high := data[position + 1]) < 0x80:
            position += 2
            byte += high_parts[high]
        else:
            byte, position = decode_varint(data, position)
            byte <<= 1
        end = position + position + byte
        delta = data[position + 1]
        position += 2
        if not delta:
            timestamp = base_timestamp
        elif delta < 0x80:
            timestamp = base_timestamp + (delta >> 1 ^ -(delta & 1))
        else:
            timestamp, position = _decode_timestamp(data, position - 1, base_timestamp)
        byte = data[position]
        if byte < 0x80:
            position += 1
        elif (high := data[position + 1]) < 0x80:
            position += 2
            byte += high_parts[high]
        else:
            byte, position = decode_varint(data, position)
            byte <<= 1
        if byte != expected:
            offset = _sparse_offset(byte, header)
        byte = data[position]
        if not byte & 0x81:
            start = position + 1
            position = start + (byte >> 1)
            key = data[start:position]
        elif byte == 1:
            key, position = None, position + 1
        else:
            key, position = _decode_bytes(data, position)
        byte = data[position]
        if not byte & 0x81:
            start = position + 1
            position = start + (byte >> 1)
            value = data[start:position]
        elif not byte & 1 and (high := data[position + 1]) < 0x80:
            start = position + 2
            position = start + (byte + high_parts[high] >> 1)
            value = data[start:position]
        else:
            value, position = _decode_bytes(data, position)
        headers: Headers = ()
        if data[position]:
            headers, position = _decode_headers(data, position)
        else:
            position += 1
        if position + position != end:
            raise ValueError(f"a record ends at {position} instead of {end >> 1}")
        add((offset, timestamp, key, value, headers))
    return _checked(data, position, records, header)


def _decode_timestamp(data: bytes, position: int, base_timestamp: int) -> tuple[int, int]:
    """A timestamp, of which its distance from the first is there, and the position after it."""
    delta, high = data[position], data[position + 1]
    if delta >= 0x80 > high:
        delta += (high << 7) - 128
        delta, position = delta >> 1 ^ -(delta & 1), position + 2
    else:
        delta, position = decode_varint(data, position)
    timestamp = base_timestamp + delta
    if not _INT64_MIN <= timestamp <= _INT64_MAX:
        raise ValueError(f"timestamp delta {delta}")
    return timestamp, position


def _checked(
    data: bytes, position: int, records: list[RecordTuple], header: BatchHeader
) -> list[RecordTuple]:
    """The end, and what few batches need: increasing offsets, timestamps within 64 bits or the leader's."""
    _check_end(data, position)
    if _is_sparse(header) and any(before[0] >= after[0] for before, after in pairwise(records)):
        raise ValueError("offsets that do not increase")
    if not _INT64_MIN + _SHORT_DELTAS <= header.base_timestamp <= _INT64_MAX - _SHORT_DELTAS:
        for record in records:
            if not _INT64_MIN <= record[1] <= _INT64_MAX:
                raise ValueError(f"timestamp {record[1]}")
    if header.timestamp_type is TimestampType.LOG_APPEND_TIME:
        appended_ms = header.max_timestamp
        return [(offset, appended_ms, key, value, headers) for offset, _, key, value, headers in records]
    return records


def _is_sparse(header: BatchHeader) -> bool:
    """Whether offsets may have gaps: only compaction leaves them."""
    return header.record_count <= header.last_offset_delta


def _sparse_offset(zigzag_delta: int, header: BatchHeader) -> int:
    """The offset of a record that does not simply follow the one before."""
    delta = zigzag_delta >> 1
    if zigzag_delta & 1 or not _is_sparse(header) or not 0 <= delta <= header.last_offset_delta:
        raise ValueError(f"offset delta {delta} in a batch of {header.record_count} records")
    return header.base_offset + delta


def _check_end(data: bytes, position: int) -> None:
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes after the last record")


def _decode_bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(data, position)
    if length < 0:
        if length != -1:
            raise ValueError(f"length {length}")
        return None, position
    end = position + length
    if end > len(data):
        raise ValueError(f"{length} bytes announced, {len(data) - position} left")
    return data[position:end], end


def _decode_headers(data: bytes, position: int) -> tuple[Headers, int]:
    count, position = decode_varint(data, position)
    if not 0 <= count <= len(data) - position:
        raise ValueError(f"{count} headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, position = _decode_bytes(data, position)
        if name is None:
            raise ValueError("a header without a name")
        content, position = _decode_bytes(data, position)
        headers.append((name.decode(), content))
    return tuple(headers), position


class _Head:
    """One record without its headers: where it lies, timestamp, offset, key, whether it has a value."""

    __slots__ = ("end", "has_value", "key", "offset", "start", "timestamp", "timestamp_end")

    def __init__(
        self,
        *,
        start: int,
        timestamp: int,
        timestamp_end: int,
        offset: int,
        key: bytes | None,
        has_value: bool,
        end: int,
    ) -> None:
        self.start = start
        self.timestamp = timestamp
        self.timestamp_end = timestamp_end
        self.offset = offset
        self.key = key
        self.has_value = has_value
        self.end = end


def _heads(data: bytes, header: BatchHeader) -> Iterator[_Head]:
    """Every record's head; raises as ``decode_body`` does, but does not look at a record's headers."""
    position, last_delta = 0, -1
    is_sparse, highest_delta = _is_sparse(header), header.last_offset_delta
    for _ in range(header.record_count):
        start = position
        length, position = decode_varint(data, position)
        end = position + length
        if length < 0 or end > len(data):
            raise ValueError(f"a record of {length} bytes, {len(data) - position} left")
        timestamp, timestamp_end = _decode_timestamp(data, position + 1, header.base_timestamp)
        delta, position = decode_varint(data, timestamp_end)
        if not (last_delta < delta <= highest_delta and (is_sparse or delta == last_delta + 1)):
            raise ValueError(f"offset delta {delta} in a batch of {header.record_count} records")
        last_delta = delta
        key, position = _decode_bytes(data, position)
        length, position = decode_varint(data, position)
        if length < -1 or position + max(length, 0) >= end:
            raise ValueError(f"a value of {length} bytes, {end - position} left")
        yield _Head(
            start=start,
            timestamp=timestamp,
            timestamp_end=timestamp_end,
            offset=header.base_offset + delta,
            key=key,
            has_value=length >= 0,
            end=end,
        )
        position = end
    _check_end(data, position)


def read_keys(data: bytes, header: BatchHeader) -> list[RecordKey]:
    """Every record's offset and key, and whether it has a value; raises as ``decode_body`` does.

    Records' headers are not looked at.
    """
    return [(head.offset, head.key, head.has_value) for head in _heads(data, header)]


def survey_records(data: bytes, header: BatchHeader) -> Survey:
    """What a leader checks, of a batch that is not empty; raises as ``read_keys`` does."""
    lowest, highest, keyless = _INT64_MAX, _INT64_MIN, 0
    for head in _heads(data, header):
        lowest, highest = min(lowest, head.timestamp), max(highest, head.timestamp)
        keyless += head.key is None
    return Survey(lowest, highest, keyless)


def select_records(data: bytes, header: BatchHeader, keep: bytes, base_timestamp: int) -> Selection:
    """The records whose byte in ``keep`` is not zero, with timestamps counted from ``base_timestamp``.

    Offset deltas stay. Raises as ``read_keys`` does, and ``ValueError`` when ``keep`` has not one byte for
    each.
    """
    if len(keep) != header.record_count:
        raise ValueError(f"{len(keep)} decisions on {header.record_count} records")
    parts: list[bytes] = []
    count, highest, shift = 0, _INT64_MIN, header.base_timestamp - base_timestamp
    for head, wanted in zip(_heads(data, header), keep, strict=True):
        if not wanted:
            continue
        count += 1
        highest = max(highest, head.timestamp)
        if not shift:
            parts.append(data[head.start : head.end])
            continue
        delta = encode_varint(head.timestamp - base_timestamp)
        _, start = decode_varint(data, head.start)
        length = 1 + len(delta) + head.end - head.timestamp_end
        parts += (encode_varint(length), data[start : start + 1], delta, data[head.timestamp_end : head.end])
    return Selection(b"".join(parts), count, highest if count else NO_TIMESTAMP)
