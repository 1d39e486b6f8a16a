"""What compaction leaves of one batch: all of it, some records, an empty shell, or nothing.

This module knows the rules for keys, tombstones, markers and producers; it refuses to know files.  A
tombstone, and a marker whose data is gone, first gets a date in its batch's header (the delete horizon,
KIP-534), so that whoever reads slowly still meets it; only after that date it goes.  The last batch of each
producer stays, if need be without records, since it carries the producer's sequence number.
Source: Kafka's ``Cleaner.cleanInto`` and ``MemoryRecords.filterTo``.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import BatchHeader
from glasslog.log.cleaned_transactions import CleanedTransactions
from glasslog.log.markers import decode_marker, is_marker_batch
from glasslog.log.offset_map import OffsetMap
from glasslog.log.opened_batch import OpenedBatch, emptied
from glasslog.log.producer_state import ProducerEntry
from glasslog.log.record_types import RecordKey
from glasslog.log.transaction_index import AbortedTransaction

_HAS_VALUE = itemgetter(2)


class Outcome(NamedTuple):
    """What is left of a batch (None: nothing), and an aborted transaction that it ended, to be indexed."""

    batch: Buffer | None
    aborted: AbortedTransaction | None = None


class BatchFilter:
    """Asked for every batch of a log once, in order. ``now_ms`` is wall-clock time.

    ``producers`` are those that the log remembers; ``end_offset`` is where the part that is cleaned ends.
    """

    def __init__(
        self,
        *,
        offsets: OffsetMap,
        transactions: CleanedTransactions,
        producers: Mapping[int, ProducerEntry],
        end_offset: int,
        now_ms: int,
        delete_retention_ms: int,
    ) -> None:
        self._offsets = offsets
        self._producers = producers
        self._end_offset = end_offset
        self._now_ms = now_ms
        self._horizon_ms = now_ms + delete_retention_ms
        self.transactions = transactions
        self.last_mapped: dict[int, int] = {}
        """Of each producer in the dirty part the last offset that it wrote there."""

    def apply(self, batch: memoryview, header: BatchHeader, *, is_last: bool) -> Outcome:
        """What is left of ``batch``; of the last one of a segment at least its offsets.

        Raises ``CorruptBatch``.
        """
        must_stay = is_last or self._is_last_of_producer(header)
        if header.is_control:
            return self._apply_to_control(batch, header, must_stay=must_stay)
        if self.transactions.on_batch(header) or not header.record_count:
            return Outcome(emptied(header) if must_stay else None)
        if header.base_offset > self._offsets.latest_offset:
            return Outcome(batch)
        return Outcome(self._select(batch, header, must_stay=must_stay))

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        """Whether it is where the producer's sequence number is, or its epoch, if that came with a marker.

        What the producer wrote above the cleaned part may yet be truncated: then its last batch below counts.
        """
        known = self._producers.get(header.producer_id) if header.has_producer else None
        if known is None:
            return False
        if not known.batches:
            return header.is_control and header.producer_epoch == known.producer_epoch
        last_offset = known.batches[-1].last_offset
        if last_offset >= self._end_offset and not header.is_control:
            last_offset = self.last_mapped.get(header.producer_id, header.last_offset)
            return header.last_offset >= last_offset
        return header.last_offset == last_offset

    def _apply_to_control(self, batch: memoryview, header: BatchHeader, *, must_stay: bool) -> Outcome:
        marker = decode_marker(batch) if is_marker_batch(header) and header.record_count else None
        if marker is None:
            # Not of a transaction, or a shell that was left of a marker.
            return Outcome(batch if must_stay or header.record_count else None)
        has_no_data, aborted = self.transactions.on_marker(header, marker)
        horizon_ms = header.delete_horizon_ms
        if not has_no_data:
            return Outcome(batch, aborted)
        if horizon_ms is None:
            opened = OpenedBatch(batch)
            return Outcome(opened.filtered(b"\x01" * header.record_count, delete_horizon_ms=self._horizon_ms))
        if horizon_ms > self._now_ms:
            return Outcome(batch)
        return Outcome(emptied(header) if must_stay else None)

    def _select(self, batch: memoryview, header: BatchHeader, *, must_stay: bool) -> Buffer | None:
        opened = OpenedBatch(batch)
        records = opened.keys()
        horizon_ms = header.delete_horizon_ms
        keeps_tombstones = horizon_ms is None or self._now_ms < horizon_ms
        keep = self._offsets.choose(records, keep_tombstones=keeps_tombstones)
        if 1 not in keep:
            return emptied(header) if must_stay else None
        needs_horizon = horizon_ms is None and _has_tombstone(records, keep)
        if not needs_horizon and 0 not in keep:
            return batch
        return opened.filtered(keep, delete_horizon_ms=self._horizon_ms if needs_horizon else None)


def _has_tombstone(records: list[RecordKey], keep: bytes) -> bool:
    if all(map(_HAS_VALUE, records)):
        return False
    return any(kept and not record[2] for record, kept in zip(records, keep, strict=True))
