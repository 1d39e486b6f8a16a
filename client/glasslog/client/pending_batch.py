"""A batch of the producer's: records of one partition that travel together, and what becomes of them.

Sans-I/O.  Refuses to know what else is queued, and when a batch may be sent, split or given up: the
accumulator decides.
"""

from collections.abc import Callable
from dataclasses import dataclass

from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.log.batch import NO_SEQUENCE, Compression, add_sequence, set_producer_state
from glasslog.log.records import BatchBuilder, decode_fast

UNSENT = -1
"""The ordinal of a batch that has none yet."""

ORDINAL_STEP = 1 << 32
"""Between the ordinals of batches, so that the parts of a split one fit in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerIdentity:
    """What a broker tells producers apart by."""

    producer_id: int
    producer_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Written and acknowledged. ``base_offset`` is -1 when the leader did not say."""

    base_offset: int
    log_append_time_ms: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Given up."""

    error: GlasslogError


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """Split into parts, each with an outcome of its own by now."""

    parts: "tuple[PendingBatch, ...]"


class PendingBatch:
    """Records of one partition that travel together. Others than the accumulator only add callbacks."""

    __slots__ = (
        "attempts",
        "base_sequence",
        "builder",
        "callbacks",
        "created_ms",
        "identity",
        "is_whole",
        "last_error",
        "ordinal",
        "outcome",
        "partition",
        "parts",
        "payload",
        "record_count",
        "size_bytes",
        "timestamp",
        "watchers",
        "whole",
    )

    def __init__(
        self, partition: TopicPartition, builder: BatchBuilder, *, created_ms: int, timestamp: int
    ) -> None:
        self.partition = partition
        self.builder: BatchBuilder | None = builder
        self.payload = bytearray()
        self.created_ms = created_ms
        self.timestamp = timestamp
        self.record_count = 0
        self.size_bytes = 0
        self.attempts = 0
        self.ordinal = UNSENT
        self.base_sequence = NO_SEQUENCE
        self.identity: ProducerIdentity | None = None
        self.last_error: GlasslogError | None = None
        self.outcome: Delivered | Failed | Divided | None = None
        self.is_whole = False
        """Nothing is added to it and nothing taken away: all of it is stored or nothing."""

        self.whole: PendingBatch | None = None
        """What it is a part of."""

        self.parts: tuple[PendingBatch, ...] = ()
        self.callbacks: list[Callable[[], None]] = []
        """Called by whoever drains ``take_finished``, once, when ``outcome`` is set: these look at it."""

        self.watchers: list[Callable[[], None]] = []
        """Called likewise, but these only want to know that it is set."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody looks at the outcome."""
        return bool(self.callbacks) or (self.whole is not None and self.whole.is_awaited)

    def seal(self, *, ordinal: int, identity: ProducerIdentity | None, base_sequence: int) -> None:
        """Give the batch its place, for good unless a leader proves that it will never get there."""
        self.ordinal, self.identity, self.base_sequence = ordinal, identity, base_sequence
        producer_id = -1 if identity is None else identity.producer_id
        producer_epoch = -1 if identity is None else identity.producer_epoch
        if self.builder is None:
            set_producer_state(
                self.payload,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
            )
            return
        self.payload = self.builder.close(
            producer_id=producer_id, producer_epoch=producer_epoch, base_sequence=base_sequence
        )
        self.builder = None

    def divide(self, compression: Compression) -> "tuple[PendingBatch, ...]":
        """Parts of half the size at most in its place, each with its share of the sequence numbers."""
        records = [record[1:] for record in decode_fast(bytes(self.payload), 0)]
        parts: list[PendingBatch] = []
        start = 0
        while start < len(records):
            builder = BatchBuilder(max(1, self.size_bytes // 2), compression=compression)
            added = builder.extend_many(records[start:])
            parts.append(self._part(builder, start))
            start += added
        self.parts, self.payload = tuple(parts), bytearray()
        return self.parts

    def _part(self, builder: BatchBuilder, start: int) -> "PendingBatch":
        part = PendingBatch(self.partition, builder, created_ms=self.created_ms, timestamp=self.timestamp)
        part.whole = self
        part.size_bytes, part.record_count = builder.size_bytes, builder.record_count
        part.seal(
            # The first part of a part may keep its ordinal; that of a batch in one piece says that it is one.
            ordinal=self.ordinal + start + (0 if self.ordinal % ORDINAL_STEP else 1),
            identity=self.identity,
            base_sequence=NO_SEQUENCE if self.identity is None else add_sequence(self.base_sequence, start),
        )
        return part
