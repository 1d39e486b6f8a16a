"""Records in a batch: encode them, build a batch one by one, decode them.

This module knows the varint encoding of records and how a batch is put together; it refuses to know where
batches are kept.  Tuned pure Python: the loops are written out, since a call costs as much as a field.
Source of the format: Kafka's ``DefaultRecord`` and ``DefaultRecordBatch``.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    HEADER,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    MIN_RECORD_BYTES,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    BatchHeader,
    Compression,
    CorruptBatch,
    TimestampType,
    make_attributes,
    validate_batch,
    write_crc,
)
from glasslog.log.compression import DEFAULT_MAX_BYTES, compress, decompress

Headers = tuple[tuple[str, bytes | None], ...]
NewRecord = tuple[int, bytes | None, bytes | None, Headers]
"""What goes in: timestamp in milliseconds, key, value, headers."""

RecordTuple = tuple[int, int, bytes | None, bytes | None, Headers]
"""What comes out: offset, timestamp in milliseconds, key, value, headers."""

_NO_LIMIT = 1 << 62
_MAX_VARINT_SHIFT = 63
_CACHED_VARINTS = 8192
"""Every length and delta of one or two encoded bytes is cached."""


class Record(NamedTuple):
    """One record of a decoded batch (a tuple: consumers make millions of them)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class _Varints(dict[int, bytes]):
    """Signed integers to their zig-zag varint bytes, filled as they are asked for."""

    def __missing__(self, number: int) -> bytes:
        encoded = encode_varint(number)
        if -_CACHED_VARINTS <= number < _CACHED_VARINTS:
            self[number] = encoded
        return encoded


def encode_varint(number: int) -> bytes:
    """A signed 64-bit integer as a zig-zag varint."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The zig-zag varint at ``position`` and the position after it.

    Raises ``IndexError`` past the end and ``ValueError`` for more than ten bytes.
    """
    rest = shift = 0
    while True:
        byte = data[position]
        position += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (rest >> 1) ^ -(rest & 1), position
        shift += 7
        if shift > _MAX_VARINT_SHIFT:
            raise ValueError("a varint of more than ten bytes")


_VARINTS = _Varints()


class BatchBuilder:
    """Collects records into one batch of at most ``max_bytes`` (a single larger record is taken alone).

    The bound is on the uncompressed size. Keys, values and headers must not change after they were given.
    """

    __slots__ = (
        "_base_timestamp",
        "_compression",
        "_key",
        "_key_part",
        "_max_bytes",
        "_max_timestamp",
        "_parts",
        "_timestamp",
        "_timestamp_part",
        "_transactional",
        "record_count",
        "size_bytes",
    )

    def __init__(
        self,
        max_bytes: int = _NO_LIMIT,
        *,
        compression: Compression = Compression.NONE,
        transactional: bool = False,
    ) -> None:
        self._max_bytes = max_bytes
        self._compression = compression
        self._transactional = transactional
        self._parts: list[bytes] = []
        self._base_timestamp = NO_TIMESTAMP
        self._max_timestamp = NO_TIMESTAMP
        self._timestamp = NO_TIMESTAMP
        self._timestamp_part = b""
        self._key: bytes | None = None
        self._key_part = b"\x01"
        self.record_count = 0
        self.size_bytes = HEADER_BYTES

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> bool:
        """Add one record; False, and nothing is added, when it does not fit any more."""
        return self.extend_many(((timestamp, key, value, headers),)) == 1

    def extend_many(self, records: Iterable[NewRecord]) -> int:
        """Add records until one does not fit; returns how many were added.

        Raises ``TypeError`` for what is not bytes; nothing is added then.
        """
        varints, join, add = _VARINTS, b"".join, self._parts.append
        count = first = self.record_count
        size_bytes, max_bytes = self.size_bytes, self._max_bytes
        last_timestamp, timestamp_part = self._timestamp, self._timestamp_part
        last_key, key_part = self._key, self._key_part
        parts_before, max_timestamp_before = len(self._parts), self._max_timestamp
        try:
            for timestamp, key, value, headers in records:
                if timestamp != last_timestamp or not count:
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
                    break
                add(prefix)
                add(body)
                count += 1
        except BaseException:
            # Something in it is no bytes: what was added before must not stay there uncounted.
            del self._parts[parts_before:]
            self._max_timestamp = max_timestamp_before
            raise
        self._timestamp, self._timestamp_part = last_timestamp, timestamp_part
        self._key, self._key_part = last_key, key_part
        self.record_count, self.size_bytes = count, size_bytes
        return count - first

    def close(
        self,
        *,
        base_offset: int = 0,
        leader_epoch: int = -1,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = NO_SEQUENCE,
        control: bool = False,
    ) -> bytearray:
        """The finished batch; ``set_producer_state`` may rewrite the producer's fields later.

        Raises ``ValueError`` when no record was added.
        """
        if not self.record_count:
            raise ValueError("a batch needs at least one record")
        body = b"".join(self._parts)
        if self._compression is not Compression.NONE:
            body = compress(self._compression, body)
        header = HEADER.pack(
            base_offset,
            HEADER_BYTES - LENGTH_PREFIX_BYTES + len(body),
            leader_epoch,
            MAGIC,
            0,
            make_attributes(
                compression=self._compression, transactional=self._transactional, control=control
            ),
            self.record_count - 1,
            self._base_timestamp,
            self._max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            self.record_count,
        )
        batch = bytearray(header)
        batch += body
        write_crc(batch, 0, len(batch))
        return batch

    def _note_timestamp(self, timestamp: int, *, is_first: bool) -> bytes:
        """The encoded attributes and timestamp delta of records at ``timestamp``."""
        if is_first:
            self._base_timestamp = self._max_timestamp = timestamp
        elif timestamp > self._max_timestamp:
            self._max_timestamp = timestamp
        return b"\0" + _VARINTS[timestamp - self._base_timestamp]


def _encode_tail(value: bytes | None, headers: Headers) -> bytes:
    """A record from its value on: the shape that the loop in ``extend_many`` does not write out."""
    parts = [b"\x01"] if value is None else [_VARINTS[len(value)], value]
    parts.append(_VARINTS[len(headers)])
    for name, content in headers:
        encoded_name = name.encode()
        parts += (_VARINTS[len(encoded_name)], encoded_name)
        parts += (b"\x01",) if content is None else (_VARINTS[len(content)], content)
    return b"".join(parts)


def encode_batch(
    records: Sequence[NewRecord],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = NO_SEQUENCE,
    compression: Compression = Compression.NONE,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """One batch of ``records``, which must not be empty (``ValueError``)."""
    builder = BatchBuilder(compression=compression, transactional=transactional)
    builder.extend_many(records)
    return builder.close(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        control=control,
    )


_new_record = partial(tuple.__new__, Record)


def decode_records(buffer: Buffer, position: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES) -> list[Record]:
    """The records of the batch at ``position``; see ``decode_fast``, which is a third cheaper."""
    return list(map(_new_record, decode_fast(buffer, position, max_bytes=max_bytes)))


def decode_fast(
    buffer: Buffer, position: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> list[RecordTuple]:
    """The records of the batch at ``position`` as plain tuples.

    Raises ``CorruptBatch`` when the checksum, a length or a count is wrong, or when the records would expand
    beyond ``max_bytes``.
    """
    header = validate_batch(buffer, position)
    body = memoryview(buffer)[position + HEADER_BYTES : position + header.size_bytes]
    data = decompress(header.compression, body, max_bytes=max_bytes)
    where = f"batch at position {position} (base offset {header.base_offset})"
    if header.record_count * MIN_RECORD_BYTES > len(data):
        raise CorruptBatch(f"{where}: {header.record_count} records do not fit in {len(data)} bytes")
    try:
        records = _decode_body(data, header)
    except (IndexError, ValueError) as error:
        raise CorruptBatch(f"{where}: malformed record: {error}") from None
    if header.timestamp_type is TimestampType.LOG_APPEND_TIME:
        appended_ms = header.max_timestamp
        return [(offset, appended_ms, key, value, headers) for offset, _, key, value, headers in records]
    return records


def _decode_body(data: bytes, header: BatchHeader) -> list[RecordTuple]:
    """Every record in ``data``; ``IndexError`` or ``ValueError`` when a length or a delta is wrong.

    Zig-zag numbers: an odd first byte is a negative one.  One and two bytes are written out as most are.
    """
    base_timestamp, count = header.base_timestamp, header.record_count
    records: list[RecordTuple] = []
    key: bytes | None
    value: bytes | None
    add, position = records.append, 0
    headers: Headers = ()
    expected_offsets = range(header.base_offset, header.base_offset + count)
    for expected, offset in zip(range(0, 2 * count, 2), expected_offsets, strict=True):
        byte = data[position]
        if byte < 0x80:
            position += 1
            end = position + (byte >> 1)
        elif (high := data[position + 1]) < 0x80:
            position += 2
            end = position + (byte + (high << 7) - 128 >> 1)
        else:
            length, position = decode_varint(data, position)
            end = position + length
        delta = data[position + 1]
        position += 2
        if delta >= 0x80:
            delta, position = decode_varint(data, position - 1)
        elif delta & 1:
            delta = -(delta >> 1) - 1
        else:
            delta >>= 1
        byte = data[position]
        if byte < 0x80:
            position += 1
        elif (high := data[position + 1]) < 0x80:
            position += 2
            byte += (high << 7) - 128
        else:
            byte, position = decode_varint(data, position)
            byte <<= 1
        if byte != expected:
            offset = _sparse_offset(byte, header)
        byte = data[position]
        if byte & 0x81:
            key, position = _decode_bytes(data, position)
        else:
            start = position + 1
            position = start + (byte >> 1)
            key = data[start:position]
        byte = data[position]
        if not byte & 0x81:
            start = position + 1
            position = start + (byte >> 1)
            value = data[start:position]
        elif not byte & 1 and (high := data[position + 1]) < 0x80:
            start = position + 2
            position = start + (byte + (high << 7) - 128 >> 1)
            value = data[start:position]
        else:
            value, position = _decode_bytes(data, position)
        if data[position]:
            headers, position = _decode_headers(data, position)
        else:
            headers = ()
            position += 1
        if position != end:
            raise ValueError(f"a record ends at {position} instead of {end}")
        add((offset, base_timestamp + delta, key, value, headers))
    _check_whole(data, position, records, header)
    return records


def _sparse_offset(zigzag_delta: int, header: BatchHeader) -> int:
    """The offset of a record that does not simply follow the one before: only compaction leaves gaps."""
    delta = zigzag_delta >> 1
    is_sparse = header.record_count <= header.last_offset_delta
    if zigzag_delta & 1 or not is_sparse or not 0 <= delta <= header.last_offset_delta:
        raise ValueError(f"offset delta {delta} in a batch of {header.record_count} records")
    return header.base_offset + delta


def _check_whole(data: bytes, position: int, records: list[RecordTuple], header: BatchHeader) -> None:
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes after the last record")
    if header.record_count <= header.last_offset_delta and any(
        before[0] >= after[0] for before, after in pairwise(records)
    ):
        raise ValueError("offsets that do not increase")


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
