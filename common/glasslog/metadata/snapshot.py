"""A snapshot's bytes: control batch, batches of records, control batch, as in Kafka's ``.checkpoint`` files.

A snapshot stands for the whole log below its end offset.  Its own batches are numbered from 0 in the epoch of
the snapshot; the last one is a footer, so that half a snapshot is never taken for a whole one.  This module
knows the layout; it refuses to know files, and what records mean.  Source: KIP-630, Kafka's
``RecordsSnapshotWriter``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import Offset
from glasslog.log.batch import BatchHeader, CorruptBatch, iterate_batches, validate_batch
from glasslog.log.records import decode_fast, encode_batch
from glasslog.metadata.control_records import (
    KRAFT_VERSION,
    KRAFT_VOTERS,
    SNAPSHOT_FOOTER,
    SNAPSHOT_HEADER,
    CorruptControlRecord,
    VotersRecord,
    control_key,
    decode_snapshot_header,
    decode_voters,
    encode_kraft_version,
    encode_snapshot_footer,
    encode_snapshot_header,
    encode_voters,
    kind_of,
)


class CorruptSnapshot(GlasslogError):  # noqa: N818 - says what the bytes are
    """Bytes that are no whole, sound snapshot."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class SnapshotId:
    """What a snapshot stands for: every entry below ``end_offset``, the last of them of ``epoch``."""

    end_offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        """As Kafka names it."""
        return f"{self.end_offset:020d}-{self.epoch:010d}.checkpoint"

    def __str__(self) -> str:
        return f"{self.end_offset}-{self.epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A whole, sound snapshot: the values of its records; ``timestamp_ms`` is of its last entry."""

    id: SnapshotId
    timestamp_ms: int
    voters: VotersRecord | None
    batches: tuple[tuple[bytes, ...], ...]

    @property
    def last_offset(self) -> Offset:
        """The last entry that it covers."""
        return Offset(self.id.end_offset - 1)


def encode_snapshot(
    snapshot_id: SnapshotId,
    batches: Iterable[Sequence[bytes]],
    *,
    timestamp_ms: int,
    voters: VotersRecord | None = None,
) -> Iterator[bytes]:
    """The file's parts, one batch each; ``batches`` are taken one by one, so they may be made meanwhile."""
    head = [(SNAPSHOT_HEADER, encode_snapshot_header(timestamp_ms))]
    if voters is not None:
        head += [(KRAFT_VERSION, encode_kraft_version(1)), (KRAFT_VOTERS, encode_voters(voters))]
    yield _control_batch(head, base_offset=0, epoch=snapshot_id.epoch, timestamp_ms=timestamp_ms)
    offset = len(head)
    for values in batches:
        if values:
            records = [(timestamp_ms, None, value, ()) for value in values]
            yield bytes(encode_batch(records, base_offset=offset, leader_epoch=snapshot_id.epoch))
            offset += len(values)
    foot = [(SNAPSHOT_FOOTER, encode_snapshot_footer())]
    yield _control_batch(foot, base_offset=offset, epoch=snapshot_id.epoch, timestamp_ms=timestamp_ms)


def _control_batch(
    records: Sequence[tuple[int, bytes]], *, base_offset: int, epoch: int, timestamp_ms: int
) -> bytes:
    return bytes(
        encode_batch(
            [(timestamp_ms, control_key(kind), value, ()) for kind, value in records],
            base_offset=base_offset,
            leader_epoch=epoch,
            control=True,
        )
    )


def decode_snapshot(snapshot_id: SnapshotId, data: bytes) -> Snapshot:
    """The snapshot in ``data``, every checksum compared; raises ``CorruptSnapshot``."""
    reader = _SnapshotReader(snapshot_id)
    end = 0
    try:
        for header, position in iterate_batches(data):
            reader.take(validate_batch(data, position), data, position)
            end = position + header.size_bytes
    except (CorruptBatch, CorruptControlRecord) as error:
        raise CorruptSnapshot(f"snapshot {snapshot_id}: {error}") from error
    if end != len(data):
        raise CorruptSnapshot(f"snapshot {snapshot_id}: {len(data) - end} bytes at its end are no batch")
    return reader.finish()


class _SnapshotReader:
    """Takes batches in order: header, records, footer."""

    def __init__(self, snapshot_id: SnapshotId) -> None:
        self._id = snapshot_id
        self._next_offset = 0
        self._timestamp_ms = -1
        self._has_header = self._has_footer = False
        self._voters: VotersRecord | None = None
        self._batches: list[tuple[bytes, ...]] = []

    def take(self, header: BatchHeader, data: bytes, position: int) -> None:
        if header.base_offset != self._next_offset or header.partition_leader_epoch != self._id.epoch:
            raise CorruptBatch(f"batch at position {position}: not the next of this snapshot")
        if self._has_footer or (not self._has_header and not header.is_control):
            raise CorruptBatch(f"batch at position {position}: outside of header and footer")
        self._next_offset = header.next_offset
        records = decode_fast(data, position)
        if header.is_control:
            for _, _, key, value, _ in records:
                self._take_control(kind_of(key), value)
        else:
            self._batches.append(tuple(value or b"" for _, _, _, value, _ in records))

    def _take_control(self, kind: int, value: bytes | None) -> None:
        if kind == SNAPSHOT_HEADER:
            self._timestamp_ms, self._has_header = decode_snapshot_header(value), True
        elif kind == SNAPSHOT_FOOTER:
            self._has_footer = True
        elif kind == KRAFT_VOTERS:
            self._voters = decode_voters(value)

    def finish(self) -> Snapshot:
        if not self._has_footer:
            raise CorruptSnapshot(f"snapshot {self._id}: it has no footer: only a part of it is there")
        return Snapshot(
            id=self._id, timestamp_ms=self._timestamp_ms, voters=self._voters, batches=tuple(self._batches)
        )
