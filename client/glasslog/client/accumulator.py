"""The producer's core: records wait in batches per partition until they are sent, acknowledged, or given up.

Sans-I/O.  It decides what may be sent when, in which order, with which sequence numbers, and what an error
means for a batch; it refuses to know connections, futures and where leaders come from.  Sources: Kafka's
``RecordAccumulator`` and ``TransactionManager``, KIP-98, KIP-360.

Order and exactly-once per partition rest on three rules:

- A batch keeps its sequence number through every retry, so that a leader recognises what it already has.
- Several batches of a partition are under way at once only while all goes well (``Trust``).  After any
  error, and before the first acknowledgement of an identity, the lowest unacknowledged batch travels alone.
- Sequence numbers are given anew, with the next producer epoch, only when a leader has proven that it lacks
  a batch which will never come (a gap before the lowest unacknowledged one) and nothing of the partition is
  under way.

A batch that is refused as too large is split, and its parts take its place: its sequence numbers, its turn
(KIP-126).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glasslog.client.backoff import Backoff
from glasslog.client.partition_queue import PartitionQueue, Trust
from glasslog.client.pending_batch import (
    UNSENT,
    Delivered,
    Divided,
    Failed,
    PendingBatch,
    ProducerIdentity,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Random
from glasslog.log.batch import Compression
from glasslog.log.records import BatchBuilder, NewRecord

_MAX_PRODUCER_EPOCH = 32_767

_GAPS = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID})
_FENCED = frozenset({ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulatorOptions:
    """See ``ProducerOptions`` for the meanings."""

    batch_size: int
    linger_ms: int
    buffer_memory: int
    max_request_size: int
    max_in_flight: int
    retries: int
    delivery_timeout_ms: int
    idempotent: bool
    compression: Compression
    backoff: Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What to send, in this order, and the partitions that wait for a leader to be known."""

    requests: tuple[tuple[NodeId, tuple[PendingBatch, ...]], ...]
    leaderless: tuple[TopicPartition, ...]


class Accumulator:
    """All partitions' batches, bounded by ``buffer_memory``. See the module."""

    def __init__(self, options: AccumulatorOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._active: dict[TopicPartition, PartitionQueue] = {}
        self._identity: ProducerIdentity | None = None
        self._finished: list[PendingBatch] = []
        self._used_bytes = 0
        self._unfinished = 0
        self._turn = 0
        self._record_bytes = min(options.batch_size, options.max_request_size)
        self.flushing = 0
        """How many are flushing: while there is one, nothing lingers."""

        self.attention = False
        """Set when a batch was begun or filled: there is a new deadline, or something to send."""

        self.longest_stall_ms = 0
        """The longest that a partition with something to send went without an acknowledgement."""

        self.retries = 0

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    @property
    def has_room(self) -> bool:
        """Whether records may be added. One call of ``append`` may go beyond the bound by what it adds."""
        return self._used_bytes < self._options.buffer_memory

    @property
    def unfinished_batches(self) -> int:
        return self._unfinished

    @property
    def needs_identity(self) -> bool:
        """Whether some partition can not send before a (new) producer id was got from a broker."""
        return self._options.idempotent and self._identity is None and bool(self._active)

    def retrying(self) -> list[TopicPartition]:
        """The partitions that failed and wait to be tried again."""
        return [partition for partition, queue in self._active.items() if queue.attempts]

    def set_identity(self, identity: ProducerIdentity) -> None:
        """Take a producer id; partitions that have one keep it."""
        self._identity = identity

    # --- filling ----------------------------------------------------------------------------------------

    def append(self, partition: TopicPartition, record: NewRecord, *, now_ms: int) -> PendingBatch:
        """Add one record; it is the last of the batch that is returned."""
        batch, _ = self.extend(partition, (record,), timestamp=record[0], now_ms=now_ms)
        return batch

    def append_to_open(self, partition: TopicPartition, record: NewRecord) -> PendingBatch | None:
        """As ``append``, where that begins no batch; ``None`` otherwise. Most records go this way."""
        batch = self._open_batch(partition)
        if batch is None:
            return None
        builder = batch.builder
        assert builder is not None
        if not builder.append(*record):
            return None
        self._note_growth(batch, builder)
        return batch

    def extend(
        self, partition: TopicPartition, records: Sequence[NewRecord], *, timestamp: int, now_ms: int
    ) -> tuple[PendingBatch, int]:
        """Add records to the open batch, or to a new one, until it is full; the batch and how many went in.

        At least one goes in, unless ``records`` is empty.
        """
        batch = self._open_batch(partition)
        if batch is not None:
            added = self._fill(batch, records)
            if added:
                return batch, added
        batch = self._begin(partition, timestamp=timestamp, now_ms=now_ms)
        # A record that can not be encoded raises here: the batch is not among the others yet.
        added = self._fill(batch, records)
        self._enqueue(batch)
        return batch, added

    def _open_batch(self, partition: TopicPartition) -> PendingBatch | None:
        queue = self._active.get(partition)
        last = queue.waiting[-1] if queue is not None else None
        return last if last is not None and last.builder is not None and not last.is_whole else None

    def append_whole(
        self, partition: TopicPartition, records: Sequence[NewRecord], *, timestamp: int, now_ms: int
    ) -> PendingBatch:
        """Add records as one batch of their own. Raises MESSAGE_TOO_LARGE when they do not fit into one."""
        limit = self._options.max_request_size
        builder = BatchBuilder(limit, compression=self._options.compression)
        batch = PendingBatch(partition, builder, created_ms=now_ms, timestamp=timestamp)
        batch.is_whole = True
        if builder.extend_many(records) < len(records) or builder.size_bytes > limit:
            raise GlasslogError(
                ErrorCode.MESSAGE_TOO_LARGE, f"{len(records)} records exceed max_request_size={limit}"
            )
        batch.size_bytes, batch.record_count = builder.size_bytes, builder.record_count
        self._used_bytes += batch.size_bytes
        self._enqueue(batch)
        return batch

    def _begin(self, partition: TopicPartition, *, timestamp: int, now_ms: int) -> PendingBatch:
        builder = BatchBuilder(self._record_bytes, compression=self._options.compression)
        return PendingBatch(partition, builder, created_ms=now_ms, timestamp=timestamp)

    def _enqueue(self, batch: PendingBatch) -> None:
        queue = self._queues.get(batch.partition)
        if queue is None:
            queue = self._queues[batch.partition] = PartitionQueue(batch.partition)
        if not queue.waiting and not queue.in_flight:
            queue.since_ms = batch.created_ms
        queue.waiting.append(batch)
        self._active[batch.partition] = queue
        self._unfinished += 1
        self.attention = True

    def _fill(self, batch: PendingBatch, records: Sequence[NewRecord]) -> int:
        builder = batch.builder
        assert builder is not None
        added = builder.extend_many(records)
        self._note_growth(batch, builder)
        return added

    def _note_growth(self, batch: PendingBatch, builder: BatchBuilder) -> None:
        size_bytes = builder.size_bytes
        self._used_bytes += size_bytes - batch.size_bytes
        batch.size_bytes, batch.record_count = size_bytes, builder.record_count
        if size_bytes >= self._record_bytes:
            self.attention = True

    # --- sending ----------------------------------------------------------------------------------------

    def drain(
        self,
        now_ms: int,
        *,
        leader_of: Callable[[TopicPartition], NodeId | None],
        room: Callable[[NodeId], int],
    ) -> Drained:
        """Take what may be sent now. ``room`` says how many more requests a broker may have under way.

        Every batch in it must come back through ``on_delivered`` or ``on_error``.
        """
        requests: list[tuple[NodeId, tuple[PendingBatch, ...]]] = []
        leaderless: dict[TopicPartition, None] = {}
        left: dict[NodeId, int] = {}
        while True:
            ready: dict[NodeId, list[PartitionQueue]] = {}
            for queue in self._in_turn():
                if not self._may_send(queue, now_ms):
                    continue
                leader = leader_of(queue.partition)
                if leader is None:
                    leaderless[queue.partition] = None
                elif left.setdefault(leader, room(leader)) > 0:
                    ready.setdefault(leader, []).append(queue)
            if not ready:
                return Drained(requests=tuple(requests), leaderless=tuple(leaderless))
            for leader, queues in ready.items():
                for batches in self._pack(queues)[: left[leader]]:
                    requests.append((leader, tuple(map(self._send, batches))))
                    left[leader] -= 1

    def next_deadline_ms(self, now_ms: int) -> int | None:
        """When to drain or expire next, if nothing else happens before."""
        deadlines = []
        for queue in self._active.values():
            head = queue.waiting[0]
            deadlines.append(head.created_ms + self._options.delivery_timeout_ms)
            ready_ms = max(queue.retry_at_ms, head.created_ms + self._options.linger_ms)
            if ready_ms > now_ms:
                deadlines.append(ready_ms)
        return min(deadlines, default=None)

    def _in_turn(self) -> Sequence[PartitionQueue]:
        """The partitions, beginning with another one each time so that none starves."""
        queues = list(self._active.values())
        if not queues:
            return queues
        self._turn = (self._turn + 1) % len(queues)
        return queues[self._turn :] + queues[: self._turn]

    def _may_send(self, queue: PartitionQueue, now_ms: int) -> bool:
        if (
            not queue.waiting
            or now_ms < queue.retry_at_ms
            or not queue.may_overtake(max_in_flight=self._options.max_in_flight)
        ):
            return False
        if self._options.idempotent and queue.identity is None and self._identity is None:
            return False
        head = queue.waiting[0]
        return (
            head.ordinal != UNSENT
            or head.is_whole
            or self.flushing > 0
            or len(queue.waiting) > 1
            or head.size_bytes >= self._record_bytes
            or now_ms >= head.created_ms + self._options.linger_ms
            or not self.has_room
        )

    def _pack(self, queues: Sequence[PartitionQueue]) -> list[list[PartitionQueue]]:
        """One batch of each partition, in as few requests as the bound on their size allows."""
        packed: list[list[PartitionQueue]] = []
        room = 0
        for queue in queues:
            size_bytes = queue.waiting[0].size_bytes
            if not packed or size_bytes > room:
                packed.append([])
                room = self._options.max_request_size
            packed[-1].append(queue)
            room -= size_bytes
        return packed

    def _send(self, queue: PartitionQueue) -> PendingBatch:
        if queue.waiting[0].ordinal != UNSENT:
            self.retries += 1
        batch = queue.send_first(self._identity)
        if not queue.waiting:
            del self._active[queue.partition]
        return batch

    # --- outcomes ---------------------------------------------------------------------------------------

    def on_delivered(
        self, batch: PendingBatch, *, base_offset: int, now_ms: int, log_append_time_ms: int = -1
    ) -> None:
        """The leader has acknowledged the batch."""
        queue = self._returned(batch)
        queue.trust = Trust.PIPELINING
        queue.attempts = 0
        if queue.gap_at is not None and batch.ordinal > queue.gap_at:
            # A later one was in place, so there is no gap: another leader knows more than that one.
            queue.gap_at = None
        self._note_stall(queue, now_ms)
        queue.since_ms = now_ms
        self._finish(batch, Delivered(base_offset=base_offset, log_append_time_ms=log_append_time_ms))
        self._close_gap(queue)

    def on_error(self, batch: PendingBatch, error: GlasslogError, *, now_ms: int) -> None:
        """The leader refused the batch, or its fate is unknown (a broken connection)."""
        if error.code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self.on_delivered(batch, base_offset=-1, now_ms=now_ms)
            return
        queue = self._returned(batch)
        queue.trust = Trust.PROBING
        batch.last_error = error
        if self._may_split(batch, error, now_ms):
            self._split(queue, batch)
        elif self._may_retry(batch, error, now_ms):
            if error.code in _GAPS | _FENCED and batch.ordinal < queue.lowest_unacknowledged():
                queue.gap_at = batch.ordinal
                if error.code in _FENCED:
                    self._identity = None
            queue.put_back(batch)
            self._active[queue.partition] = queue
            self._back_off(queue, now_ms)
        else:
            self._note_stall(queue, now_ms)
            self._finish(
                batch, Failed(error=self._expiry(batch) if self._is_expired(batch, now_ms) else error)
            )
        self._close_gap(queue)

    def _may_split(self, batch: PendingBatch, error: GlasslogError, now_ms: int) -> bool:
        too_large = error.code is ErrorCode.MESSAGE_TOO_LARGE and not self._is_expired(batch, now_ms)
        return too_large and batch.record_count > 1 and not batch.is_whole

    def _split(self, queue: PartitionQueue, batch: PendingBatch) -> None:
        parts = batch.divide(self._options.compression)
        self._used_bytes += sum(part.size_bytes for part in parts) - batch.size_bytes
        self._unfinished += len(parts) - 1
        for part in parts:
            queue.put_back(part)
        self._active[queue.partition] = queue

    def on_leader_change(self, partition: TopicPartition, now_ms: int) -> None:
        """Another leader is known now: what waits for a retry need not wait longer."""
        queue = self._active.get(partition)
        if queue is not None and queue.retry_at_ms > now_ms:
            queue.retry_at_ms = now_ms
            queue.attempts = 1

    def expire(self, now_ms: int) -> None:
        """Give up what waits and is older than ``delivery_timeout_ms``."""
        for queue in list(self._active.values()):
            while queue.waiting and self._is_expired(queue.waiting[0], now_ms):
                batch = queue.waiting.popleft()
                self._note_stall(queue, now_ms)
                self._finish(batch, Failed(error=self._expiry(batch)))
            if not queue.waiting:
                del self._active[queue.partition]
            self._close_gap(queue)

    def fail_waiting(self, error: GlasslogError) -> None:
        """Give up what is not under way."""
        for queue in self._active.values():
            for batch in queue.waiting:
                self._finish(batch, Failed(error=error))
            queue.waiting.clear()
        self._active.clear()

    def fail_all(self, error: GlasslogError) -> None:
        """Give up everything, whatever is under way included."""
        self.fail_waiting(error)
        for queue in self._queues.values():
            for batch in queue.in_flight.values():
                self._finish(batch, Failed(error=error))
            queue.in_flight.clear()

    def take_finished(self) -> list[PendingBatch]:
        """The batches whose outcome was set since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def unfinished(self) -> list[PendingBatch]:
        """Every batch without outcome, by partition."""
        return [
            batch for queue in self._queues.values() for batch in [*queue.in_flight.values(), *queue.waiting]
        ]

    def _returned(self, batch: PendingBatch) -> PartitionQueue:
        queue = self._queues[batch.partition]
        queue.take_back(batch)
        return queue

    def _note_stall(self, queue: PartitionQueue, now_ms: int) -> None:
        self.longest_stall_ms = max(self.longest_stall_ms, now_ms - queue.since_ms)

    def _may_retry(self, batch: PendingBatch, error: GlasslogError, now_ms: int) -> bool:
        if batch.attempts > self._options.retries or self._is_expired(batch, now_ms):
            return False
        if self._options.idempotent and error.code in _GAPS | _FENCED:
            return True
        return error.retriable

    def _back_off(self, queue: PartitionQueue, now_ms: int) -> None:
        """Batches that come back together from one broken connection count as one failure."""
        if now_ms >= queue.retry_at_ms:
            queue.attempts += 1
            queue.retry_at_ms = now_ms + self._options.backoff.delay_ms(queue.attempts, self._random)

    def _is_expired(self, batch: PendingBatch, now_ms: int) -> bool:
        return now_ms >= batch.created_ms + self._options.delivery_timeout_ms

    def _expiry(self, batch: PendingBatch) -> GlasslogError:
        fate = (
            f"may have been written in one of {batch.attempts} attempts"
            if batch.attempts
            else "was never sent"
        )
        cause = f"; last error: {batch.last_error}" if batch.last_error is not None else ""
        return GlasslogError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"{batch.record_count} records for {batch.partition} were not acknowledged within "
            f"{self._options.delivery_timeout_ms} ms: the batch {fate}{cause}",
        )

    def _close_gap(self, queue: PartitionQueue) -> None:
        """Begin anew under another identity, once nothing under the old one is under way."""
        if queue.gap_at is None or queue.in_flight:
            return
        queue.begin_anew(self._next_identity(queue.identity))

    def _next_identity(self, old: ProducerIdentity | None) -> ProducerIdentity | None:
        """The next epoch; after the last one, or when fenced, a producer id that is still to be got."""
        if old is None or self._identity is None or old.producer_id != self._identity.producer_id:
            return None
        if old.producer_epoch == _MAX_PRODUCER_EPOCH:
            self._identity = None
            return None
        return ProducerIdentity(producer_id=old.producer_id, producer_epoch=old.producer_epoch + 1)

    def _finish(self, batch: PendingBatch, outcome: Delivered | Failed) -> None:
        batch.outcome = outcome
        batch.payload = bytearray()
        batch.builder = None
        self._used_bytes -= batch.size_bytes
        self._unfinished -= 1
        self._finished.append(batch)
        whole = batch.whole
        while whole is not None and all(part.outcome is not None for part in whole.parts):
            whole.outcome = Divided(parts=whole.parts)
            self._finished.append(whole)
            whole = whole.whole
