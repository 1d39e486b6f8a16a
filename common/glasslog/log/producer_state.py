"""What a log remembers of idempotent producers, so that a retry never doubles a record.

This module knows sequence numbers, epochs and the last five batches of each producer; it refuses to know how
a log stores batches.  Leaders check before they append, followers learn from what they replicate, so that a
new leader recognises a retry of what its predecessor accepted.
Source: KIP-98, Kafka's ``ProducerStateManager`` and ``ProducerAppendInfo``.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.log.batch import MAX_SEQUENCE, BatchHeader, add_sequence

REMEMBERED_BATCHES = 5
"""As many as a producer may have in flight."""


class ProducedBatch(NamedTuple):
    """One remembered batch. ``timestamp`` is when it was appended, or its records' largest timestamp."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def first_offset(self) -> int:
        return self.last_offset - self.offset_delta

    @property
    def first_sequence(self) -> int:
        return (self.last_sequence - self.offset_delta) & MAX_SEQUENCE


class ProducerEntry(NamedTuple):
    """One producer's epoch and its last batches of that epoch, oldest first."""

    producer_epoch: int
    batches: tuple[ProducedBatch, ...]
    timestamp: int

    def find_duplicate(self, header: BatchHeader) -> ProducedBatch | None:
        """The remembered batch with the same epoch and sequences, if ``header`` is a retry of it."""
        if header.producer_epoch == self.producer_epoch:
            last_sequence, offset_delta = header.last_sequence, header.last_offset_delta
            for batch in self.batches:
                if batch.last_sequence == last_sequence and batch.offset_delta == offset_delta:
                    return batch
        return None


class ProducerStates:
    """Producers by id. Entries are immutable: a request is checked on a copy and committed when written."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[int, ProducerEntry] | None = None) -> None:
        self._entries: dict[int, ProducerEntry] = dict(entries or {})

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Mapping[int, ProducerEntry]:
        return self._entries

    def get(self, producer_id: int) -> ProducerEntry | None:
        return self._entries.get(producer_id)

    def replay(self, header: BatchHeader, *, now_ms: int = 0) -> None:
        """Learn from a batch that is in the log, without checking it; no-op for one without a producer.

        ``now_ms``: see ``with_batch``.
        """
        if header.producer_id >= 0:
            current = self._entries.get(header.producer_id)
            self._entries[header.producer_id] = with_batch(current, header, now_ms=now_ms)

    def commit(self, entries: Mapping[int, ProducerEntry]) -> None:
        """Take over entries that were checked and whose batches are written."""
        self._entries.update(entries)

    def expire(self, *, now_ms: int, expiration_ms: int) -> int:
        """Forget producers silent for ``expiration_ms``; returns how many."""
        expired = [
            producer_id
            for producer_id, entry in self._entries.items()
            if now_ms - entry.timestamp >= expiration_ms
        ]
        for producer_id in expired:
            del self._entries[producer_id]
        return len(expired)


def with_batch(current: ProducerEntry | None, header: BatchHeader, *, now_ms: int) -> ProducerEntry:
    """The entry after ``header``'s batch; another epoch starts with an empty memory.

    ``now_ms`` is when it was appended, 0 if nobody knows: then its records must tell, which producers date as
    they please.
    """
    timestamp = now_ms or header.max_timestamp
    same_epoch = current is not None and current.producer_epoch == header.producer_epoch
    batches = current.batches if current is not None and same_epoch else ()
    if header.base_sequence >= 0 and not header.is_control:
        added = ProducedBatch(header.last_sequence, header.last_offset, header.last_offset_delta, timestamp)
        batches = (*batches[1 - REMEMBERED_BATCHES :], added)
    return ProducerEntry(header.producer_epoch, batches, timestamp)


def check_sequence(current: ProducerEntry | None, header: BatchHeader) -> ProducedBatch | None:
    """Whether a producer's batch may be appended now.

    Returns the batch that ``header`` repeats, or None when it is the next one.  Raises ``GlasslogError``:
    INVALID_PRODUCER_EPOCH from an older incarnation, OUT_OF_ORDER_SEQUENCE_NUMBER when batches in between are
    missing, INVALID_RECORD without a sequence.  A producer that is not known (any more) may begin anywhere.
    """
    if header.base_sequence < 0 or header.producer_epoch < 0:
        raise GlasslogError(
            ErrorCode.INVALID_RECORD,
            f"producer {header.producer_id}: epoch {header.producer_epoch} and "
            f"sequence {header.base_sequence} must not be negative",
        )
    if current is None:
        return None
    if header.producer_epoch < current.producer_epoch:
        raise GlasslogError(
            ErrorCode.INVALID_PRODUCER_EPOCH,
            f"producer {header.producer_id}: epoch {header.producer_epoch} is older than "
            f"{current.producer_epoch}",
        )
    duplicate = current.find_duplicate(header)
    if duplicate is None:
        _check_in_order(current, header)
    return duplicate


def _check_in_order(current: ProducerEntry, header: BatchHeader) -> None:
    if header.producer_epoch > current.producer_epoch:
        expected = 0
    elif current.batches:
        expected = add_sequence(current.batches[-1].last_sequence, 1)
    else:
        return
    if header.base_sequence != expected:
        raise GlasslogError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"producer {header.producer_id} epoch {header.producer_epoch}: "
            f"sequence {header.base_sequence} arrived, {expected} was expected",
        )


def replay_all(states: ProducerStates, headers: Iterable[BatchHeader]) -> None:
    """Learn from many batches in log order."""
    for header in headers:
        states.replay(header)
