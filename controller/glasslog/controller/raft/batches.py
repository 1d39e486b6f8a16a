"""The quorum's entries as record batches v2, and back.

Data batches hold one record per value, without keys.  The first batch of each epoch is a control batch whose
record names the leader, byte for byte Kafka's ``LeaderChangeMessage`` (version 0), so that Kafka's tools can
read the log.  This module refuses to know what values mean and where batches are kept.
"""

from collections.abc import Iterator

from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import Offset
from glasslog.common.runtime.protocols import Buffer
from glasslog.controller.raft.messages import (
    BatchSpan,
    DataAppend,
    FetchedBatches,
    LeaderChangeAppend,
    VotersAppend,
)
from glasslog.controller.raft.types import CommittedBatch
from glasslog.log.batch import CorruptBatch, iterate_batches, validate_batch
from glasslog.log.records import decode_fast, encode_batch
from glasslog.metadata.control_records import (
    KRAFT_VERSION,
    KRAFT_VOTERS,
    LEADER_CHANGE,
    control_key,
    encode_kraft_version,
    encode_leader_change,
    encode_voters,
)
from glasslog.metadata.voter_batches import voters_in


def encode_data(append: DataAppend, *, timestamp_ms: int) -> bytearray:
    """One batch with one record per value."""
    records = [(timestamp_ms, None, value, ()) for value in append.values]
    return encode_batch(records, base_offset=append.base_offset, leader_epoch=append.epoch)


def encode_leader_change_batch(append: LeaderChangeAppend, *, timestamp_ms: int) -> bytearray:
    """The control batch that begins an epoch."""
    value = encode_leader_change(append.leader_id, append.voters, append.granting_voters)
    return encode_batch(
        [(timestamp_ms, control_key(LEADER_CHANGE), value, ())],
        base_offset=append.base_offset,
        leader_epoch=append.epoch,
        control=True,
    )


def encode_voters_batch(append: VotersAppend, *, timestamp_ms: int) -> bytearray:
    """The control batch that names the voters."""
    records = [(KRAFT_VOTERS, encode_voters(append.voters))]
    if append.with_version:
        records.insert(0, (KRAFT_VERSION, encode_kraft_version(1)))
    return encode_batch(
        [(timestamp_ms, control_key(kind), value, ()) for kind, value in records],
        base_offset=append.base_offset,
        leader_epoch=append.epoch,
        control=True,
    )


def parse_fetched(data: bytes) -> FetchedBatches:
    """What a peer sent, every checksum compared; raises ``CorruptBatch``."""
    spans = []
    for header, position in iterate_batches(data):
        validate_batch(data, position)
        if header.record_count < 1:
            raise CorruptBatch(f"batch at position {position}: no records")
        spans.append(
            BatchSpan(
                header.base_offset,
                header.next_offset,
                header.partition_leader_epoch,
                voters_in(data, header, position),
            )
        )
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
