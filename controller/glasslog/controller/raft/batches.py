"""The quorum's entries as record batches v2, and back.

Data batches hold one record per value, without keys.  The first batch of each epoch is a control batch whose
record names the leader, byte for byte Kafka's ``LeaderChangeMessage`` (version 0), so that Kafka's tools can
read the log.  This module refuses to know what values mean and where batches are kept.
"""

from collections.abc import Iterator
from struct import Struct

from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import NodeId, Offset
from glasslog.common.runtime.protocols import Buffer
from glasslog.controller.raft.messages import BatchSpan, DataAppend, FetchedBatches, LeaderChangeAppend
from glasslog.controller.raft.types import CommittedBatch
from glasslog.log.batch import CorruptBatch, iterate_batches, validate_batch
from glasslog.log.records import decode_fast, encode_batch

LEADER_CHANGE = 2
"""Kafka's ``ControlRecordType.LEADER_CHANGE``."""

_CONTROL_KEY = Struct(">hh")
_LEADER_CHANGE_HEAD = Struct(">hi")
_NODE_ID = Struct(">i")
_KEY_VERSION = 0
_VALUE_VERSION = 0
_NO_TAGGED_FIELDS = b"\0"


def encode_data(append: DataAppend, *, timestamp_ms: int) -> bytearray:
    """One batch with one record per value."""
    records = [(timestamp_ms, None, value, ()) for value in append.values]
    return encode_batch(records, base_offset=append.base_offset, leader_epoch=append.epoch)


def encode_leader_change(append: LeaderChangeAppend, *, timestamp_ms: int) -> bytearray:
    """The control batch that begins an epoch."""
    key = _CONTROL_KEY.pack(_KEY_VERSION, LEADER_CHANGE)
    value = b"".join(
        (
            _LEADER_CHANGE_HEAD.pack(_VALUE_VERSION, append.leader_id),
            _encode_voters(append.voters),
            _encode_voters(append.granting_voters),
            _NO_TAGGED_FIELDS,
        )
    )
    return encode_batch(
        [(timestamp_ms, key, value, ())],
        base_offset=append.base_offset,
        leader_epoch=append.epoch,
        control=True,
    )


def _encode_voters(voters: tuple[NodeId, ...]) -> bytes:
    """Kafka's compact array of voters; its length plus one is an unsigned varint."""
    return _encode_unsigned(len(voters) + 1) + b"".join(
        _NODE_ID.pack(voter) + _NO_TAGGED_FIELDS for voter in voters
    )


def _encode_unsigned(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def parse_fetched(data: bytes) -> FetchedBatches:
    """What a peer sent, every checksum compared; raises ``CorruptBatch``."""
    spans = []
    for header, position in iterate_batches(data):
        validate_batch(data, position)
        if header.record_count < 1:
            raise CorruptBatch(f"batch at position {position}: no records")
        spans.append(BatchSpan(header.base_offset, header.next_offset, header.partition_leader_epoch))
    return FetchedBatches(data=data, spans=tuple(spans))


def committed_batches(data: Buffer) -> Iterator[tuple[int, CommittedBatch | None]]:
    """Each batch's end offset and its records, None for a control batch.

    Raises ``CorruptBatch``, and ``InvariantViolation`` for a batch that no leader writes.
    """
    for header, position in iterate_batches(data):
        if header.is_control:
            yield header.next_offset, None
            continue
        records = decode_fast(data, position)
        values = tuple(value for _, _, _, value, _ in records if value is not None)
        if len(values) != header.last_offset_delta + 1:
            raise InvariantViolation(f"metadata batch at offset {header.base_offset} has gaps or nulls")
        batch = CommittedBatch(
            base_offset=Offset(header.base_offset), epoch=header.partition_leader_epoch, records=values
        )
        yield header.next_offset, batch
