"""A log's outline: where it starts and ends, what is synced, where each epoch begins.

The core decides on this outline alone; this module refuses to know records and files.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from glasslog.common.errors import require
from glasslog.controller.raft.messages import DivergingEpoch
from glasslog.metadata.snapshot import SnapshotId

NO_EPOCH = -1
NO_SNAPSHOT = SnapshotId(end_offset=0, epoch=NO_EPOCH)
"""The empty state machine: what a log that begins at 0 goes on from."""


class LogOutline:
    """Mirrors the log that the shell keeps; both change in step through ``Ready`` and the core's inputs.

    ``base`` says what the log goes on from: it begins at the base's end.  ``snapshot`` is the newest one.
    """

    __slots__ = ("_epochs", "_starts", "base", "end_offset", "snapshot", "synced_offset")

    def __init__(
        self,
        *,
        base: SnapshotId = NO_SNAPSHOT,
        snapshot: SnapshotId | None = None,
        end_offset: int = 0,
        epoch_starts: Sequence[tuple[int, int]] = (),
    ) -> None:
        """``epoch_starts`` are pairs of epoch and first offset; the whole log is taken to be synced."""
        self.base = base
        self.snapshot = base if snapshot is None else snapshot
        self.end_offset = end_offset
        self.synced_offset = end_offset
        self._epochs = [epoch for epoch, _ in epoch_starts]
        self._starts = [start for _, start in epoch_starts]
        require(
            self._epochs == sorted(set(self._epochs)) and self._starts == sorted(set(self._starts)),
            f"epochs and their starts must increase: {list(epoch_starts)}",
        )
        require(not self._starts or self._starts[-1] < end_offset, "an epoch starts beyond the log's end")
        require(
            self.base.end_offset <= self.snapshot.end_offset <= end_offset,
            f"snapshots {self.base} and {self.snapshot} in a log that ends at {end_offset}",
        )

    @property
    def start_offset(self) -> int:
        return self.base.end_offset

    @property
    def last_epoch(self) -> int:
        """Of the last entry, or of the base when there is none; -1 for nothing at all."""
        return self._epochs[-1] if self._epochs else self.base.epoch

    @property
    def epoch_starts(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self._epochs, self._starts, strict=True))

    def append(self, *, epoch: int, end_offset: int) -> None:
        """The log now reaches to ``end_offset`` with entries of ``epoch``."""
        require(end_offset > self.end_offset, f"append up to {end_offset} in a log of {self.end_offset}")
        require(epoch >= self.last_epoch, f"append of epoch {epoch} after {self.last_epoch}")
        if not self._epochs or epoch > self._epochs[-1]:
            self._epochs.append(epoch)
            self._starts.append(self.end_offset)
        self.end_offset = end_offset

    def replace_by(self, snapshot: SnapshotId) -> None:
        """Nothing is left but the snapshot, which is durable."""
        self.base = self.snapshot = snapshot
        self._epochs, self._starts = [], []
        self.end_offset = self.synced_offset = snapshot.end_offset

    def trim_to(self, base: SnapshotId) -> None:
        """Entries below the base's end are gone; it was made of them."""
        require(self.start_offset <= base.end_offset <= self.end_offset, f"trim to {base}")
        self.base = base
        self.snapshot = max(self.snapshot, base)
        above = bisect_right(self._starts, base.end_offset)
        if above and base.end_offset < self.end_offset:
            self._epochs[:above] = [self._epochs[above - 1]]
            self._starts[:above] = [base.end_offset]
        else:
            del self._epochs[:above], self._starts[:above]

    def epoch_before(self, offset: int) -> int:
        """Of the entry that ends at ``offset``."""
        if offset <= self.start_offset:
            return self.base.epoch
        above = bisect_left(self._starts, offset)
        return self._epochs[above - 1] if above else self.base.epoch

    def is_below_base(self, *, fetch_offset: int, last_fetched_epoch: int) -> bool:
        """Whether a fetcher that ends so must begin anew from a snapshot (as Kafka decides it)."""
        base = self.base
        if base.end_offset == 0:
            return False
        return (
            fetch_offset < base.end_offset
            or last_fetched_epoch < base.epoch
            or (fetch_offset == base.end_offset and last_fetched_epoch != base.epoch)
        )

    def truncate(self, end_offset: int) -> None:
        require(self.start_offset <= end_offset <= self.end_offset, f"truncate to {end_offset}")
        while self._starts and self._starts[-1] >= end_offset:
            self._starts.pop()
            self._epochs.pop()
        self.end_offset = end_offset
        self.synced_offset = min(self.synced_offset, end_offset)

    def end_of(self, epoch: int) -> DivergingEpoch:
        """The largest known epoch not above ``epoch`` and where it ends; epoch -1 when all are above."""
        above = bisect_right(self._epochs, epoch)
        if above == 0:
            # The base's epoch ends where the next one begins: at the log's first entry.
            known = self.base.epoch if self.base.epoch <= epoch else NO_EPOCH
            return DivergingEpoch(epoch=known, end_offset=self.start_offset)
        end = self.end_offset if above == len(self._epochs) else self._starts[above]
        return DivergingEpoch(epoch=self._epochs[above - 1], end_offset=end)

    def divergence(self, *, fetch_offset: int, last_fetched_epoch: int) -> DivergingEpoch | None:
        """Where a fetcher's log parts from this one; None when it is a prefix of this one."""
        if fetch_offset == self.start_offset == 0:
            return None
        end = self.end_of(last_fetched_epoch)
        if end.epoch == last_fetched_epoch and fetch_offset <= end.end_offset:
            return None
        return end

    def truncation_for(self, leader_end: DivergingEpoch) -> int:
        """Where to cut this log, given where the leader's copy of its epoch ends."""
        own = self.end_of(leader_end.epoch)
        if own.epoch == leader_end.epoch:
            return min(own.end_offset, leader_end.end_offset)
        return own.end_offset

    def is_at_least(self, *, last_epoch: int, end_offset: int) -> bool:
        """Whether a log that ends so is as complete as this one (Raft's rule for giving a vote)."""
        return (last_epoch, end_offset) >= (self.last_epoch, self.end_offset)
