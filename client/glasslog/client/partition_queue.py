"""One partition's batches on their way: those that wait, those under way, and the sequence numbers.

Sans-I/O.  Refuses to know time, other partitions, and what an error means for a batch.
"""

from collections import deque
from enum import Enum
from itertools import takewhile

from glasslog.client.pending_batch import ORDINAL_STEP, UNSENT, PendingBatch, ProducerIdentity
from glasslog.common.errors import require
from glasslog.common.ids import TopicPartition
from glasslog.log.batch import NO_SEQUENCE, add_sequence


class Trust(Enum):
    """Whether the leader is known to hold everything below the lowest unacknowledged batch."""

    PROBING = "one batch at a time"
    PIPELINING = "several at a time"


class PartitionQueue:
    """One partition's batches: those to be sent again, by ordinal, then new ones; the last may be open."""

    __slots__ = (
        "attempts",
        "gap_at",
        "identity",
        "in_flight",
        "next_ordinal",
        "next_sequence",
        "partition",
        "retry_at_ms",
        "since_ms",
        "trust",
        "waiting",
    )

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.waiting: deque[PendingBatch] = deque()
        self.in_flight: dict[int, PendingBatch] = {}
        self.next_ordinal = 0
        self.next_sequence = 0
        self.identity: ProducerIdentity | None = None
        self.trust = Trust.PROBING
        self.retry_at_ms = 0
        self.attempts = 0
        self.since_ms = 0
        """Since when there has been something to send without an acknowledgement."""

        self.gap_at: int | None = None
        """Ordinal of the lowest unacknowledged batch, once a leader has proven the gap before it."""

    def lowest_unacknowledged(self) -> int:
        """The ordinal, or the next one when nothing is outstanding."""
        lowest = min(self.in_flight, default=self.next_ordinal)
        if self.waiting and self.waiting[0].ordinal != UNSENT:
            lowest = min(lowest, self.waiting[0].ordinal)
        return lowest

    def put_back(self, batch: PendingBatch) -> None:
        earlier = takewhile(lambda other: UNSENT < other.ordinal < batch.ordinal, self.waiting)
        self.waiting.insert(sum(1 for _ in earlier), batch)

    def may_overtake(self, *, max_in_flight: int) -> bool:
        """Whether the first waiting batch may leave although others are under way."""
        if not self.in_flight:
            return True
        if self.identity is None or self.trust is Trust.PROBING:
            return False
        head = self.waiting[0]
        ordinal = self.next_ordinal if head.ordinal == UNSENT else head.ordinal
        if ordinal < max(self.in_flight):
            return False
        if ordinal % ORDINAL_STEP or any(number % ORDINAL_STEP for number in self.in_flight):
            # Parts of a split batch go one by one: the leader remembers the last few batches only.
            return False
        return ordinal - self.lowest_unacknowledged() < max_in_flight * ORDINAL_STEP

    def send_first(self, newest: ProducerIdentity | None) -> PendingBatch:
        """The first waiting batch, under way from now on. ``newest`` is for a queue without identity."""
        batch = self.waiting.popleft()
        if batch.ordinal == UNSENT:
            self._seal(batch, newest)
        batch.attempts += 1
        self.in_flight[batch.ordinal] = batch
        return batch

    def _seal(self, batch: PendingBatch, newest: ProducerIdentity | None) -> None:
        if self.identity is None:
            self.identity, self.next_sequence = newest, 0
        base_sequence = NO_SEQUENCE
        if self.identity is not None:
            base_sequence = self.next_sequence
            self.next_sequence = add_sequence(base_sequence, batch.record_count)
        batch.seal(ordinal=self.next_ordinal, identity=self.identity, base_sequence=base_sequence)
        self.next_ordinal += ORDINAL_STEP

    def take_back(self, batch: PendingBatch) -> None:
        """It is no longer under way."""
        found = self.in_flight.pop(batch.ordinal, None)
        require(found is batch, f"batch of {batch.partition} came back twice")

    def begin_anew(self, identity: ProducerIdentity | None) -> None:
        """Give what waits new places, under another identity. Only while nothing is under way."""
        self.gap_at = None
        self.retry_at_ms = 0
        self.trust = Trust.PROBING
        self.identity, self.next_sequence = identity, 0
        for batch in self.waiting:
            batch.ordinal = UNSENT
