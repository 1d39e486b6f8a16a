"""A log's outline: where it starts and ends, what is synced, where each epoch begins.

The core decides on this outline alone; this module refuses to know records and files.
"""

from bisect import bisect_right
from collections.abc import Sequence

from glasslog.common.errors import require
from glasslog.controller.raft.messages import DivergingEpoch

NO_EPOCH = -1


class LogOutline:
    """Mirrors the log that the shell keeps; both change in step through ``Ready``."""

    __slots__ = ("_epochs", "_starts", "end_offset", "start_offset", "synced_offset")

    def __init__(
        self, *, start_offset: int = 0, end_offset: int = 0, epoch_starts: Sequence[tuple[int, int]] = ()
    ) -> None:
        """``epoch_starts`` are pairs of epoch and first offset; the whole log is taken to be synced."""
        self.start_offset = start_offset
        self.end_offset = end_offset
        self.synced_offset = end_offset
        self._epochs = [epoch for epoch, _ in epoch_starts]
        self._starts = [start for _, start in epoch_starts]
        require(
            self._epochs == sorted(set(self._epochs)) and self._starts == sorted(set(self._starts)),
            f"epochs and their starts must increase: {list(epoch_starts)}",
        )
        require(not self._starts or self._starts[-1] < end_offset, "an epoch starts beyond the log's end")

    @property
    def last_epoch(self) -> int:
        """Of the last entry; -1 for an empty log."""
        return self._epochs[-1] if self._epochs else NO_EPOCH

    @property
    def epoch_starts(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self._epochs, self._starts, strict=True))

    def append(self, *, epoch: int, end_offset: int) -> None:
        """The log now reaches to ``end_offset`` with entries of ``epoch``."""
        require(end_offset > self.end_offset, f"append up to {end_offset} in a log of {self.end_offset}")
        require(epoch >= self.last_epoch, f"append of epoch {epoch} after {self.last_epoch}")
        if epoch > self.last_epoch:
            self._epochs.append(epoch)
            self._starts.append(self.end_offset)
        self.end_offset = end_offset

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
            return DivergingEpoch(epoch=NO_EPOCH, end_offset=self.start_offset)
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
