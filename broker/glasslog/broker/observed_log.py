"""A broker's copy of the metadata log's unapplied tail: the sans-I/O core of ``metadata_observer``.

Knows offsets, epochs, the high watermark and where a diverging tail is cut; refuses to know how batches are
fetched and what the records in them say. Source: KIP-595's observers.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from glasslog.common.errors import InvariantViolation, require
from glasslog.common.ids import Offset
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import BatchHeader, iterate_batches, validate_batch

_NO_EPOCH = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPosition:
    """What the next fetch asks for. ``last_fetched_epoch`` is 0 before anything was fetched."""

    leader_epoch: int
    fetch_offset: Offset
    last_fetched_epoch: int
    known_high_watermark: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBatch:
    """One whole batch; ``data`` starts at its header."""

    header: BatchHeader
    data: bytes


class ObservedLog:
    """Batches fetched and not yet applied, and how far the committed log goes.

    What is below ``applied_end`` has been handed out and can not be taken back: a leader that says otherwise
    breaks an invariant. ``max_pending_bytes`` bounds the tail; see ``is_full``.
    """

    def __init__(self, *, max_pending_bytes: int) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._pending: deque[ObservedBatch] = deque()
        self._pending_bytes = 0
        self._end = 0
        self._applied_end = 0
        self._high_watermark = -1
        self._leader_epoch = 0
        # Of the last entry before what is known of epochs: a snapshot's, 0 for none.
        self._base_epoch = 0
        # Where each epoch starts, oldest first; both lists go up together.
        self._epochs: list[int] = []
        self._starts: list[int] = []

    @property
    def end_offset(self) -> Offset:
        """The next offset to fetch."""
        return Offset(self._end)

    @property
    def applied_end(self) -> Offset:
        """Every offset below has been handed out by ``take_committed``."""
        return Offset(self._applied_end)

    @property
    def high_watermark(self) -> Offset:
        """The highest heard of, -1 before any."""
        return Offset(self._high_watermark)

    @property
    def leader_epoch(self) -> int:
        return self._leader_epoch

    @property
    def is_full(self) -> bool:
        return self._pending_bytes >= self._max_pending_bytes

    def position(self) -> FetchPosition:
        """Where the next fetch starts."""
        return FetchPosition(
            leader_epoch=self._leader_epoch,
            fetch_offset=Offset(self._end),
            last_fetched_epoch=self._epochs[-1] if self._epochs else self._base_epoch,
            known_high_watermark=Offset(self._high_watermark),
        )

    def on_epoch(self, epoch: int) -> bool:
        """Adopt a newer epoch of the quorum; returns False for an old one, whose sender is to be ignored."""
        if epoch < self._leader_epoch:
            return False
        self._leader_epoch = epoch
        return True

    def begin_with(self, *, end_offset: Offset, epoch: int) -> None:
        """A snapshot was applied that stands for everything below ``end_offset``: go on from there.

        Raises ``InvariantViolation`` when it says less than what has been applied.
        """
        require(
            end_offset > self._applied_end,
            f"metadata log: a snapshot of what is below {end_offset}, after {self._applied_end} was applied",
        )
        self._pending.clear()
        self._pending_bytes = 0
        self._epochs, self._starts = [], []
        self._base_epoch = epoch
        self._end = self._applied_end = end_offset
        self._high_watermark = max(self._high_watermark, end_offset)

    def on_batches(self, records: Buffer) -> None:
        """Append fetched batches. Raises ``CorruptBatch`` for bytes that are none, before keeping any."""
        batches = [
            ObservedBatch(
                header=validate_batch(records, position),
                data=bytes(records[position : position + header.size_bytes]),
            )
            for header, position in iterate_batches(records)
        ]
        for batch in batches:
            if batch.header.next_offset <= self._end:
                continue
            self._append(batch)

    def _append(self, batch: ObservedBatch) -> None:
        header = batch.header
        require(
            header.base_offset == self._end,
            f"metadata log: batch at {header.base_offset} fetched where {self._end} was expected",
        )
        epoch = header.partition_leader_epoch
        newest = self._epochs[-1] if self._epochs else _NO_EPOCH
        require(epoch >= newest, f"metadata log: epoch {epoch} at offset {self._end} follows epoch {newest}")
        if epoch > newest:
            self._epochs.append(epoch)
            self._starts.append(header.base_offset)
        self._pending.append(batch)
        self._pending_bytes += len(batch.data)
        self._end = header.next_offset

    def on_high_watermark(self, offset: Offset) -> None:
        """The leader's high watermark; a lower one than before (a new leader's first answer) is ignored."""
        self._high_watermark = max(self._high_watermark, offset)

    def on_diverging(self, *, epoch: int, end_offset: Offset) -> None:
        """The leader's log has ``epoch`` end at ``end_offset``: cut what goes beyond it here.

        Raises ``InvariantViolation`` when that would cut what has been applied: committed entries never go.
        """
        cut = min(end_offset, self._end_of_epoch(epoch), self._end)
        if cut < self._applied_end:
            raise InvariantViolation(
                f"metadata log diverges at offset {cut} (epoch {epoch} ends at {end_offset} on the leader), "
                f"but everything below {self._applied_end} was committed"
            )
        self._truncate(cut)

    def drop_pending(self) -> None:
        """Forget the unapplied tail; it will be fetched again."""
        self._truncate(self._applied_end)

    def _end_of_epoch(self, epoch: int) -> int:
        """Where the last epoch here that is not above ``epoch`` ends."""
        following = bisect_right(self._epochs, epoch)
        return self._starts[following] if following < len(self._starts) else self._end

    def _truncate(self, cut: int) -> None:
        while self._pending and self._pending[-1].header.next_offset > cut:
            batch = self._pending.pop()
            self._pending_bytes -= len(batch.data)
            self._end = batch.header.base_offset
        while self._starts and self._starts[-1] >= self._end:
            self._starts.pop()
            self._epochs.pop()

    def take_committed(self) -> tuple[ObservedBatch, ...]:
        """Batches that have become committed, in order, each exactly once."""
        taken: list[ObservedBatch] = []
        while self._pending and self._pending[0].header.next_offset <= self._high_watermark:
            batch = self._pending.popleft()
            self._pending_bytes -= len(batch.data)
            self._applied_end = batch.header.next_offset
            taken.append(batch)
        return tuple(taken)
