"""The header of record batch v2: parse it, check it, write the fields that a leader assigns.

This module knows the first 61 bytes of a batch and its checksum; it refuses to look at the records inside,
which may be compressed.  Source: Kafka's ``DefaultRecordBatch`` (magic 2, KIP-98).
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.checksum import crc32c

MAGIC = 2
HEADER_BYTES = 61
LENGTH_PREFIX_BYTES = 12
"""Base offset and batch length: what ``batch_length`` does not count."""

MIN_RECORD_BYTES = 7
"""No record is smaller: its length, attributes, two deltas, and the lengths of key, value and headers."""

ATTRIBUTES_POSITION = 21
CRC_POSITION = 17
NO_TIMESTAMP = -1
NO_SEQUENCE = -1
MAX_SEQUENCE = 0x7FFF_FFFF

HEADER = Struct(">qiibIhiqqqhii")
_PREFIX = Struct(">qi")
_OFFSET = Struct(">q")
_EPOCH = Struct(">i")
_CRC = Struct(">I")
_PRODUCER = Struct(">qhi")
_ATTRIBUTES = Struct(">h")
_EPOCH_POSITION = 12
_MAX_TIMESTAMP_POSITION = 35
_PRODUCER_POSITION = 43

COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40


class Compression(IntEnum):
    """The codec numbers in a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class TimestampType(IntEnum):
    """Who chose the timestamps: the producer, or the leader when it appended."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


# An enum's members and its call cost several times a tuple's item, and this is asked for every batch.
_COMPRESSIONS = tuple(Compression)
_TIMESTAMP_TYPES = tuple(TimestampType)
HIGHEST_COMPRESSION = int(Compression.ZSTD)


class CorruptBatch(GlasslogError):  # noqa: N818 - what it says of the bytes, as Kafka's CORRUPT_MESSAGE does
    """Bytes that are not a sound batch; the text says what is wrong and at which position."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)


class BatchHeader(NamedTuple):
    """The header's fields as they lie on disk (a tuple: one is made for every batch on the hot path)."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def size_bytes(self) -> int:
        """The whole batch with its header."""
        return self.batch_length + LENGTH_PREFIX_BYTES

    @property
    def compression(self) -> Compression:
        """Raises ``CorruptBatch`` for a codec number that does not exist."""
        return compression_of(self.attributes)

    @property
    def timestamp_type(self) -> TimestampType:
        return _TIMESTAMP_TYPES[(self.attributes & TIMESTAMP_TYPE_BIT) >> 3]

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When the cleaner may drop this batch's tombstones and markers; None where it set none (KIP-534)."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_BIT else None

    @property
    def has_producer(self) -> bool:
        return self.producer_id >= 0

    @property
    def last_sequence(self) -> int:
        """The last record's sequence number; after 2^31-1 comes 0."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return add_sequence(self.base_sequence, self.last_offset_delta)


def add_sequence(sequence: int, increment: int) -> int:
    """Sequence arithmetic: 0 follows 2^31-1."""
    return (sequence + increment) & MAX_SEQUENCE


def compression_of(attributes: int) -> Compression:
    """The codec that ``attributes`` name; raises ``CorruptBatch`` for a number that does not exist."""
    number = attributes & COMPRESSION_MASK
    if number > HIGHEST_COMPRESSION:
        raise CorruptBatch(f"unknown compression codec {number}")
    return _COMPRESSIONS[number]


def make_attributes(*, compression: Compression, transactional: bool, control: bool) -> int:
    """The attributes of a batch whose timestamps were chosen by its creator."""
    return compression | (TRANSACTIONAL_BIT if transactional else 0) | (CONTROL_BIT if control else 0)


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at ``position``, unchecked; raises ``CorruptBatch`` when the buffer ends before it does."""
    try:
        return tuple.__new__(BatchHeader, HEADER.unpack_from(buffer, position))
    except struct_error:
        left = len(buffer) - position
        raise CorruptBatch(f"batch at position {position}: {left} bytes left, a header needs 61") from None


def check_header(header: BatchHeader, *, position: int, available_bytes: int) -> None:
    """Raise ``CorruptBatch`` unless the header makes sense and the batch fits in ``available_bytes``."""
    if header.magic != MAGIC:
        raise CorruptBatch(f"batch at position {position}: magic is {header.magic}, only 2 is supported")
    size_bytes = header.batch_length + LENGTH_PREFIX_BYTES
    if size_bytes < HEADER_BYTES:
        raise CorruptBatch(f"batch at position {position}: length {header.batch_length} is below the minimum")
    if size_bytes > available_bytes:
        raise CorruptBatch(
            f"batch at position {position}: {size_bytes} bytes long, {available_bytes} are there"
        )
    if header.base_offset < 0:
        raise CorruptBatch(f"batch at position {position}: negative base offset {header.base_offset}")
    if not 0 <= header.record_count <= header.last_offset_delta + 1:
        raise CorruptBatch(
            f"batch at position {position}: {header.record_count} records can not have "
            f"last offset delta {header.last_offset_delta}"
        )


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at ``position``; ``CorruptBatch`` unless it makes sense and the batch is whole."""
    header = parse_header(buffer, position)
    check_header(header, position=position, available_bytes=len(buffer) - position)
    return header


def iterate_batches(buffer: Buffer) -> Iterator[tuple[BatchHeader, int]]:
    """Each batch's header and position; raises ``CorruptBatch`` at the first torn or senseless one."""
    position, end = 0, len(buffer)
    while position < end:
        header = read_header(buffer, position)
        yield header, position
        position += header.batch_length + LENGTH_PREFIX_BYTES


def compute_crc(buffer: Buffer, position: int, size_bytes: int) -> int:
    """CRC-32C over everything from the attributes to the end of the batch."""
    return crc32c(memoryview(buffer)[position + ATTRIBUTES_POSITION : position + size_bytes])


def validate_batch(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header of a batch that is whole and whose checksum holds; raises ``CorruptBatch`` otherwise."""
    header = read_header(buffer, position)
    end = position + header.batch_length + LENGTH_PREFIX_BYTES
    computed = crc32c(memoryview(buffer)[position + ATTRIBUTES_POSITION : end])
    if computed != header.crc:
        raise CorruptBatch(
            f"batch at position {position} (base offset {header.base_offset}): "
            f"checksum is {computed:#010x}, the header says {header.crc:#010x}"
        )
    return header


def set_base_offset_and_epoch(
    buffer: bytearray | memoryview, position: int, *, base_offset: int, leader_epoch: int
) -> None:
    """Write what a leader assigns, in place; both fields lie outside the checksum."""
    _OFFSET.pack_into(buffer, position, base_offset)
    _EPOCH.pack_into(buffer, position + _EPOCH_POSITION, leader_epoch)


def set_producer_state(
    buffer: bytearray, *, producer_id: int, producer_epoch: int, base_sequence: int, position: int = 0
) -> None:
    """Write a producer's identity and sequence into a finished batch and renew its checksum.

    Safe to repeat before a retry with another identity.  Raises ``CorruptBatch`` if no whole batch is there.
    """
    header = read_header(buffer, position)
    _PRODUCER.pack_into(buffer, position + _PRODUCER_POSITION, producer_id, producer_epoch, base_sequence)
    write_crc(buffer, position, header.size_bytes)


def set_append_time(buffer: bytearray, position: int, *, timestamp_ms: int) -> int:
    """Say that the leader stamped the batch at ``position``, renew its checksum; returns its size in bytes.

    Raises ``CorruptBatch`` if no whole batch is there.
    """
    header = read_header(buffer, position)
    _ATTRIBUTES.pack_into(buffer, position + ATTRIBUTES_POSITION, header.attributes | TIMESTAMP_TYPE_BIT)
    _OFFSET.pack_into(buffer, position + _MAX_TIMESTAMP_POSITION, timestamp_ms)
    write_crc(buffer, position, header.size_bytes)
    return header.size_bytes


def write_crc(buffer: bytearray, position: int, size_bytes: int) -> None:
    """Compute and store the checksum of the batch at ``position``."""
    _CRC.pack_into(buffer, position + CRC_POSITION, compute_crc(buffer, position, size_bytes))
