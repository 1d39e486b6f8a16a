"""Where each leader epoch begins in a log, kept in memory and in ``leader-epoch-checkpoint``.

A new epoch is in memory at once and in the file before the log's recovery point passes its start: until then
its batches tell of it, and an epoch without batches ends where it begins and answers nothing that the one
before it would not.  So a failover of thousands of partitions syncs nothing.  This module knows how to answer
"where did this epoch end"; it refuses to know what is in the log.
Source: KIP-101, KIP-279, Kafka's ``LeaderEpochFileCache``.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from glasslog.common.errors import require
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.checkpoint import MalformedFile, read_epochs, write_epochs

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class EpochEndOffset(NamedTuple):
    """The largest epoch not above the asked one, and the first offset that is not of it any more.

    Both are -1 when the asked epoch is unknown here because it is newer than every known one.
    """

    epoch: int
    end_offset: int


class LeaderEpochCache:
    """Leader epochs and their start offsets, both strictly increasing."""

    def __init__(self, files: FileSystem, path: str, entries: Sequence[tuple[int, int]] = ()) -> None:
        self._files = files
        self._path = path
        self._entries = list(entries)
        self._written = tuple(entries)
        self._is_written = True

    @classmethod
    def load(cls, files: FileSystem, path: str) -> "LeaderEpochCache":
        """Read the checkpoint; raises ``MalformedFile`` when it is damaged or its entries do not increase."""
        entries = read_epochs(files, path)
        for (epoch, start), (next_epoch, next_start) in pairwise(entries):
            if next_epoch <= epoch or next_start < start:
                raise MalformedFile(f"{path}: epoch {next_epoch} at {next_start} follows {epoch} at {start}")
        return cls(files, path, entries)

    @property
    def entries(self) -> tuple[tuple[int, int], ...]:
        """Pairs of epoch and start offset, oldest first."""
        return tuple(self._entries)

    def is_written_below(self, end_offset: int) -> bool:
        """Whether a log that ends there would be opened with what is known now: its epochs have batches."""
        if self._is_written:
            return True
        return _below(self._written, end_offset) == _below(self._entries, end_offset)

    @property
    def latest_epoch(self) -> int:
        """The newest epoch, or -1 when none is known."""
        return self._entries[-1][0] if self._entries else UNDEFINED_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """Note that ``epoch`` begins at ``start_offset``; entries that contradict it are dropped.

        Nothing happens when it is the newest epoch already, unless it now begins earlier.  Written later.
        """
        require(epoch >= 0 and start_offset >= 0, f"{self._path}: epoch {epoch} at {start_offset}")
        if self._entries:
            latest_epoch, latest_start = self._entries[-1]
            if epoch == latest_epoch and start_offset >= latest_start:
                return
        while self._entries and (self._entries[-1][0] >= epoch or self._entries[-1][1] >= start_offset):
            self._entries.pop()
        self._entries.append((epoch, start_offset))
        self._is_written = False

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEndOffset:
        """Where ``epoch`` ends here, in a log that ends at ``log_end_offset``.

        An epoch between two known ones is answered with the earlier of them, as KIP-279 asks.
        """
        if epoch == UNDEFINED_EPOCH or not self._entries or epoch > self._entries[-1][0]:
            return EpochEndOffset(UNDEFINED_EPOCH, UNDEFINED_OFFSET)
        if epoch == self._entries[-1][0]:
            return EpochEndOffset(epoch, log_end_offset)
        above = bisect_right(self._entries, epoch, key=_epoch_of)
        end_offset = self._entries[above][1]
        return EpochEndOffset(self._entries[above - 1][0] if above else epoch, end_offset)

    def epoch_at(self, offset: int) -> int:
        """The epoch under which ``offset`` was (or would be) written; -1 when it is older than all known."""
        above = bisect_right(self._entries, offset, key=_start_of)
        return self._entries[above - 1][0] if above else UNDEFINED_EPOCH

    def truncate_from_end(self, end_offset: int, *, write: bool = True) -> None:
        """Forget epochs that begin at or after ``end_offset``."""
        before = len(self._entries)
        while self._entries and self._entries[-1][1] >= end_offset:
            self._entries.pop()
        if len(self._entries) != before:
            self._is_written = False
            if write:
                self.write()

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget epochs that end at or before ``start_offset``; the one holding it now begins there."""
        above = bisect_right(self._entries, start_offset, key=_start_of)
        if above == 0 or (above == 1 and self._entries[0][1] == start_offset):
            return
        self._entries[:above] = [(self._entries[above - 1][0], start_offset)]
        self._is_written = False
        self.write()

    def replace(self, entries: Sequence[tuple[int, int]]) -> None:
        """Know what the cache of an equal log does. Written later."""
        if self._entries != list(entries):
            self._entries = list(entries)
            self.is_written = False

    def clear(self, *, write: bool = True) -> None:
        """Forget everything."""
        self._entries.clear()
        self._is_written = False
        if write:
            self.write()

    def write(self) -> None:
        """Make the checkpoint file say what the memory does, durably."""
        write_epochs(self._files, self._path, self._entries)
        self._written = tuple(self._entries)
        self._is_written = True


def _epoch_of(entry: tuple[int, int]) -> int:
    return entry[0]


def _start_of(entry: tuple[int, int]) -> int:
    return entry[1]


def _below(entries: Sequence[tuple[int, int]], end_offset: int) -> Sequence[tuple[int, int]]:
    return [entry for entry in entries if entry[1] < end_offset]
