"""What a log remembers of producers: a retry never doubles a record, an open transaction holds readers back.

This module knows sequence numbers, epochs, the last five batches of each producer and which transactions are
undecided; it refuses to know how a log stores batches.  Leaders check before they append, followers learn
from what they replicate, so that a new leader recognises a retry of what its predecessor accepted.
Source: KIP-98, Kafka's ``ProducerStateManager`` and ``ProducerAppendInfo``.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_OFFSET
from glasslog.log.batch import MAX_SEQUENCE, BatchHeader, add_sequence
from glasslog.log.markers import EndTransactionMarker
from glasslog.log.transaction_index import AbortedTransaction
from glasslog.log.walk_types import REMEMBERED_BATCHES

NO_COORDINATOR_EPOCH = -1


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
    """One producer's epoch and its last batches of that epoch, oldest first.

    ``transaction_start`` is where its undecided transaction begins, -1 when there is none;
    ``coordinator_epoch`` is that of the last marker.
    """

    producer_epoch: int
    batches: tuple[ProducedBatch, ...]
    timestamp: int
    coordinator_epoch: int = NO_COORDINATOR_EPOCH
    transaction_start: int = NO_OFFSET

    def find_duplicate(self, header: BatchHeader) -> ProducedBatch | None:
        """The remembered batch with the same epoch and sequences, if ``header`` is a retry of it."""
        if header.producer_epoch == self.producer_epoch:
            last_sequence, offset_delta = header.last_sequence, header.last_offset_delta
            for batch in self.batches:
                if batch.last_sequence == last_sequence and batch.offset_delta == offset_delta:
                    return batch
        return None


class StartedTransaction(NamedTuple):
    """A producer's first record since its last marker."""

    producer_id: int
    first_offset: int


class CompletedTransaction(NamedTuple):
    """A transaction with records that a marker at ``last_offset`` decided."""

    producer_id: int
    first_offset: int
    last_offset: int
    is_aborted: bool


TransactionEvent = StartedTransaction | CompletedTransaction


class ProducerStates:
    """Producers by id. Entries are immutable: a request is checked on a copy and committed when written."""

    __slots__ = ("_entries", "_ongoing", "_unreplicated")

    def __init__(self, entries: Mapping[int, ProducerEntry] | None = None) -> None:
        self._entries: dict[int, ProducerEntry] = dict(entries or {})
        started = [
            (entry.transaction_start, producer_id)
            for producer_id, entry in self._entries.items()
            if entry.transaction_start >= 0
        ]
        self._ongoing: dict[int, int] = dict(sorted(started))
        """First offset to producer of the undecided transactions; a log grows, so they are in order."""
        self._unreplicated: dict[int, int] = {}
        """Marker's offset to first offset of decided transactions whose marker may not be replicated yet."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Mapping[int, ProducerEntry]:
        return self._entries

    @property
    def ongoing(self) -> Mapping[int, int]:
        """Undecided transactions, oldest first: first offset to producer id."""
        return self._ongoing

    def get(self, producer_id: int) -> ProducerEntry | None:
        return self._entries.get(producer_id)

    # --- learning ---------------------------------------------------------------------------------------

    def replay(
        self, header: BatchHeader, *, now_ms: int = 0, marker: EndTransactionMarker | None = None
    ) -> AbortedTransaction | None:
        """Learn from a batch that is in the log, without checking it; no-op for one without a producer.

        ``marker`` is what a control batch says.  Returns the transaction that it aborted, for the index.
        ``now_ms``: see ``with_batch``.
        """
        producer_id = header.producer_id
        if producer_id < 0:
            return None
        current = self._entries.get(producer_id)
        event: TransactionEvent | None
        if marker is None:
            entry, event = with_batch(current, header, now_ms=now_ms), started_by(current, header)
        else:
            entry = with_marker(current, header, marker, now_ms=now_ms)
            event = completed_by(current, header, marker)
        self._entries[producer_id] = entry
        return None if event is None else self._take(event)

    def commit(
        self, entries: Mapping[int, ProducerEntry], events: Iterable[TransactionEvent] = ()
    ) -> list[AbortedTransaction]:
        """Take over what was checked and is written; returns the aborted transactions, for the index."""
        self._entries.update(entries)
        return [aborted for event in events if (aborted := self._take(event)) is not None]

    def _take(self, event: TransactionEvent) -> AbortedTransaction | None:
        if isinstance(event, StartedTransaction):
            self._ongoing[event.first_offset] = event.producer_id
            return None
        self._ongoing.pop(event.first_offset, None)
        self._unreplicated[event.last_offset] = event.first_offset
        if not event.is_aborted:
            return None
        last_stable_offset = next(iter(self._ongoing), event.last_offset + 1)
        return AbortedTransaction(
            event.producer_id, event.first_offset, event.last_offset, last_stable_offset
        )

    # --- what is undecided ------------------------------------------------------------------------------

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins that is undecided, or whose decision may not be replicated."""
        first = next(iter(self._ongoing), None)
        if not self._unreplicated:
            return first
        decided = min(self._unreplicated.values())
        return decided if first is None else min(first, decided)

    def on_high_watermark(self, high_watermark: int) -> None:
        """Markers below ``high_watermark`` are replicated: their transactions hold nobody back any more."""
        unreplicated = self._unreplicated
        while unreplicated and (marker_offset := next(iter(unreplicated))) < high_watermark:
            del unreplicated[marker_offset]

    # --- forgetting -------------------------------------------------------------------------------------

    def expire(self, *, now_ms: int, expiration_ms: int) -> int:
        """Forget producers silent for ``expiration_ms`` without an open transaction; returns how many."""
        expired = [
            producer_id
            for producer_id, entry in self._entries.items()
            if now_ms - entry.timestamp >= expiration_ms and entry.transaction_start < 0
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
    if current is None:
        current = ProducerEntry(header.producer_epoch, (), timestamp)
    batches = current.batches if current.producer_epoch == header.producer_epoch else ()
    if header.base_sequence >= 0 and not header.is_control:
        added = ProducedBatch(header.last_sequence, header.last_offset, header.last_offset_delta, timestamp)
        batches = (*batches[1 - REMEMBERED_BATCHES :], added)
    start = current.transaction_start
    if start < 0 and header.is_transactional and not header.is_control:
        start = header.base_offset
    return ProducerEntry(header.producer_epoch, batches, timestamp, current.coordinator_epoch, start)


def started_by(current: ProducerEntry | None, header: BatchHeader) -> StartedTransaction | None:
    """The transaction that begins with ``header``'s batch, if one does."""
    is_open = current is not None and current.transaction_start >= 0
    if is_open or header.is_control or not header.is_transactional:
        return None
    return StartedTransaction(header.producer_id, header.base_offset)


def with_marker(
    current: ProducerEntry | None, header: BatchHeader, marker: EndTransactionMarker, *, now_ms: int
) -> ProducerEntry:
    """The entry after a marker: nothing is open any more; a newer epoch starts with an empty memory."""
    is_same_epoch = current is not None and current.producer_epoch == header.producer_epoch
    batches = current.batches if current is not None and is_same_epoch else ()
    timestamp = now_ms or header.max_timestamp
    return ProducerEntry(header.producer_epoch, batches, timestamp, marker.coordinator_epoch)


def completed_by(
    current: ProducerEntry | None, header: BatchHeader, marker: EndTransactionMarker
) -> CompletedTransaction | None:
    """The transaction that a marker decides; None for one without records."""
    if current is None or current.transaction_start < 0:
        return None
    return CompletedTransaction(
        header.producer_id, current.transaction_start, header.last_offset, not marker.is_commit
    )


def check_marker(current: ProducerEntry | None, header: BatchHeader, marker: EndTransactionMarker) -> None:
    """Whether a coordinator's marker may be appended now.

    Raises ``GlasslogError``: INVALID_PRODUCER_EPOCH for an older incarnation of the producer,
    TRANSACTION_COORDINATOR_FENCED from an older one of its coordinator.
    """
    if current is None:
        return
    if header.producer_epoch < current.producer_epoch:
        raise _older_epoch(current, header)
    if marker.coordinator_epoch < current.coordinator_epoch:
        raise GlasslogError(
            ErrorCode.TRANSACTION_COORDINATOR_FENCED,
            f"producer {header.producer_id}: a marker of coordinator epoch {marker.coordinator_epoch} after "
            f"one of {current.coordinator_epoch}",
        )


def _older_epoch(current: ProducerEntry, header: BatchHeader) -> GlasslogError:
    return GlasslogError(
        ErrorCode.INVALID_PRODUCER_EPOCH,
        f"producer {header.producer_id}: epoch {header.producer_epoch} is older than "
        f"{current.producer_epoch}",
    )


def check_sequence(current: ProducerEntry | None, header: BatchHeader) -> ProducedBatch | None:
    """Whether a producer's batch may be appended now.

    Returns the batch that ``header`` repeats, or None when it is the next one.  Raises ``GlasslogError``:
    INVALID_PRODUCER_EPOCH from an older incarnation, OUT_OF_ORDER_SEQUENCE_NUMBER when batches in between are
    missing, INVALID_RECORD without a sequence, INVALID_TXN_STATE for a batch outside of the producer's open
    transaction.  A producer that is not known (any more) may begin anywhere.
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
        raise _older_epoch(current, header)
    duplicate = current.find_duplicate(header)
    if duplicate is None:
        _check_in_order(current, header)
        if current.transaction_start >= 0 and not header.is_transactional:
            raise GlasslogError(
                ErrorCode.INVALID_TXN_STATE,
                f"producer {header.producer_id}: a batch outside of the transaction that began at "
                f"{current.transaction_start}",
            )
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
