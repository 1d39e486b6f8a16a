"""What a log checks before it appends: nothing is written until the whole request is known to be good.

This module knows how to turn a leader's or a follower's bytes into a plan; it refuses to write.
Source: Kafka's ``UnifiedLog.analyzeAndValidateRecords`` and ``LogValidator``.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    COMPRESSION_MASK,
    HEADER_BYTES,
    HIGHEST_COMPRESSION,
    LENGTH_PREFIX_BYTES,
    MIN_RECORD_BYTES,
    NO_TIMESTAMP,
    TIMESTAMP_TYPE_BIT,
    BatchHeader,
    CorruptBatch,
    validate_batch,
)
from glasslog.log.markers import EndTransactionMarker, decode_marker, is_marker_batch
from glasslog.log.producer_state import (
    ProducedBatch,
    ProducerEntry,
    ProducerStates,
    TransactionEvent,
    check_marker,
    check_sequence,
    completed_by,
    started_by,
    with_batch,
    with_marker,
)

NO_LIMIT = (1 << 63) - 1
_NUMBERED = Struct(">qii")
"""The first fields of a batch: base offset, length and leader epoch."""

_COPIED_BATCH_BYTES = 32 * 1024
"""Smaller batches are cheaper to copy than to write in two parts."""

_MAX_SPLIT_BATCHES = 64
"""A fraction of the parts that the OS takes in one call."""

NOTHING: Mapping[int, ProducerEntry] = MappingProxyType({})
NO_MARKERS: Mapping[int, EndTransactionMarker] = MappingProxyType({})


class AppendInfo(NamedTuple):
    """What became of a request. ``last_offset`` is inclusive.

    ``duplicate``: the batch had been appended before; the offsets are those it has.  ``log_append_time`` is
    -1 unless the log chose the timestamps.
    """

    first_offset: int
    last_offset: int
    max_timestamp: int
    log_append_time: int = NO_TIMESTAMP
    duplicate: bool = False
    size_bytes: int = 0
    batch_count: int = 0

    @property
    def next_offset(self) -> int:
        return self.last_offset + 1


class Plan(NamedTuple):
    """Batches ready to be written, with the offsets they will have, and the producers' state after them."""

    batches: list[BatchHeader]
    max_timestamp: int
    producers: Mapping[int, ProducerEntry] = NOTHING
    duplicate: ProducedBatch | None = None
    transactions: Sequence[TransactionEvent] = ()
    markers: Mapping[int, EndTransactionMarker] = NO_MARKERS
    """By the offset of their control batch: of a follower's append."""


class LeaderChecks(NamedTuple):
    """What a leader demands of a request, as far as headers tell."""

    max_message_bytes: int
    origin_is_client: bool
    now_ms: int
    latest_timestamp: int = NO_LIMIT
    forbidden_attributes: int = TIMESTAMP_TYPE_BIT
    """Only the leader itself says that it chose the timestamps."""


def plan_leader_append(
    data: Buffer, states: ProducerStates, *, first_offset: int, checks: LeaderChecks
) -> Plan:
    """Check every batch and give it its offset, without changing ``data``.

    Raises ``GlasslogError``: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_RECORD, and the producer's errors of
    ``check_sequence`` and ``check_marker``.
    """
    batches: list[BatchHeader] = []
    producers: dict[int, ProducerEntry] = {}
    transactions: list[TransactionEvent] = []
    position, offset, max_timestamp, end = 0, first_offset, NO_TIMESTAMP, len(data)
    duplicate: ProducedBatch | None = None
    while position < end:
        header = validate_batch(data, position)
        check_leader_batch(header, checks)
        is_marker = header.producer_id >= 0 and is_marker_batch(header)
        marker = decode_marker(data, position) if is_marker else None
        position += header.batch_length + LENGTH_PREFIX_BYTES
        header = tuple.__new__(BatchHeader, (offset, *header[1:]))
        offset += header.last_offset_delta + 1
        if header.max_timestamp > max_timestamp:
            max_timestamp = header.max_timestamp
        batches.append(header)
        producer_id = header.producer_id
        if producer_id < 0:
            continue
        current = producers.get(producer_id) or states.get(producer_id)
        event: TransactionEvent | None
        if marker is not None:
            check_marker(current, header, marker)
            producers[producer_id] = with_marker(current, header, marker, now_ms=checks.now_ms)
            event = completed_by(current, header, marker)
        else:
            duplicate = None if header.is_control else check_sequence(current, header)
            if duplicate is not None:
                break
            producers[producer_id] = with_batch(current, header, now_ms=checks.now_ms)
            event = started_by(current, header)
        if event is not None:
            transactions.append(event)
    if not batches:
        raise CorruptBatch("a request without a batch")
    if duplicate is not None and (len(batches) > 1 or position < end):
        raise GlasslogError(
            ErrorCode.INVALID_RECORD, "a request of several batches repeats one that was appended before"
        )
    return Plan(batches, max_timestamp, producers, duplicate, transactions)


def check_leader_batch(header: BatchHeader, checks: LeaderChecks) -> None:
    """What a header alone says against a client's batch.

    Raises ``GlasslogError`` with MESSAGE_TOO_LARGE, CORRUPT_MESSAGE, INVALID_RECORD or INVALID_TIMESTAMP.
    """
    if not checks.origin_is_client:
        return
    size_bytes = header.batch_length + LENGTH_PREFIX_BYTES
    if size_bytes > checks.max_message_bytes:
        raise GlasslogError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"a batch of {size_bytes} bytes exceeds max.message.bytes={checks.max_message_bytes}",
        )
    codec, record_count = header.attributes & COMPRESSION_MASK, header.record_count
    if codec > HIGHEST_COMPRESSION:
        raise CorruptBatch(f"unknown compression codec {codec}")
    if header.max_timestamp > checks.latest_timestamp:
        raise GlasslogError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.max_timestamp} is above {checks.latest_timestamp}, the leader's clock plus "
            "message.timestamp.after.max.ms",
        )
    if header.attributes & checks.forbidden_attributes:
        raise GlasslogError(
            ErrorCode.INVALID_TIMESTAMP, "a client may not say LogAppendTime of its timestamps"
        )
    if header.is_control:
        raise GlasslogError(ErrorCode.INVALID_RECORD, "a client may not append control batches")
    if record_count != header.last_offset_delta + 1 or not record_count:
        raise GlasslogError(
            ErrorCode.INVALID_RECORD,
            f"{record_count} records do not fill offsets 0 to {header.last_offset_delta}",
        )
    if not codec and record_count * MIN_RECORD_BYTES > size_bytes - HEADER_BYTES:
        raise GlasslogError(
            ErrorCode.INVALID_RECORD,
            f"{record_count} records do not fit in {size_bytes - HEADER_BYTES} bytes",
        )


def plan_follower_append(data: Buffer, *, log_end_offset: int) -> Plan:
    """Check batches that a leader numbered: sound, and increasing from ``log_end_offset``.

    Raises ``CorruptBatch`` (nothing of the data may be used then).
    """
    batches: list[BatchHeader] = []
    markers: dict[int, EndTransactionMarker] = {}
    position, expected, max_timestamp, end = 0, log_end_offset, NO_TIMESTAMP, len(data)
    while position < end:
        header = validate_batch(data, position)
        if header.base_offset < expected:
            raise CorruptBatch(
                f"batch at position {position}: base offset {header.base_offset} is below {expected}"
            )
        if header.producer_id >= 0 and is_marker_batch(header):
            marker = decode_marker(data, position)
            if marker is not None:
                markers[header.base_offset] = marker
        position += header.size_bytes
        expected = header.next_offset
        max_timestamp = max(max_timestamp, header.max_timestamp)
        batches.append(header)
    if not batches:
        raise CorruptBatch("a fetch without a batch")
    return Plan(batches, max_timestamp, markers=markers)


def numbered(data: Buffer, batches: Sequence[BatchHeader], *, leader_epoch: int) -> Sequence[Buffer]:
    """``data`` with the offsets of ``batches`` and ``leader_epoch``, in parts.

    A ``bytearray`` is written in place.  Of anything else only the fields that change are made anew where
    batches are large, so that they are not copied.
    """
    if not isinstance(data, bytearray):
        if len(data) >= len(batches) * _COPIED_BATCH_BYTES and len(batches) <= _MAX_SPLIT_BATCHES:
            return _split(data, batches, leader_epoch)
        data = bytearray(data)
    position = 0
    for header in batches:
        _NUMBERED.pack_into(data, position, header.base_offset, header.batch_length, leader_epoch)
        position += header.batch_length + LENGTH_PREFIX_BYTES
    return (data,)


def _split(data: Buffer, batches: Sequence[BatchHeader], leader_epoch: int) -> Sequence[Buffer]:
    parts: list[Buffer] = []
    view = memoryview(data)
    position = 0
    for header in batches:
        end = position + header.batch_length + LENGTH_PREFIX_BYTES
        front = _NUMBERED.pack(header.base_offset, header.batch_length, leader_epoch)
        parts += (front, view[position + _NUMBERED.size : end])
        position = end
    return parts
