"""Opens a log's segments after an unclean stop: reads what was not synced and cuts at the first bad batch.

This module knows how far the data is sound and what its batches tell of epochs, producers and transactions;
it refuses to know what else lies in the folder.  Source: Kafka's ``LogLoader.recoverLog``.

A bad batch below the recovery point is another matter.  Kafka cuts there, too; but what was synced may be
committed, and a replica in sync that comes up without it can be elected and lose it for all.  To go on behind
the bad batch would be no better: what it told of producers is unknown, and their retries would be doubled.
So the log is not opened, unless ``may_cut_synced`` says that the replica counts for nothing: then it is cut,
and gets from its leader what is missing, like any follower that lags.
"""

from dataclasses import dataclass
from functools import partial

from glasslog.log.batch import BatchHeader
from glasslog.log.damage import LostRecords
from glasslog.log.epoch_cache import UNDEFINED_EPOCH, LeaderEpochCache
from glasslog.log.loading import Folder, measure_closed
from glasslog.log.producer_state import ProducerStates
from glasslog.log.recovery_limit import RecoveryLimit
from glasslog.log.replaying import replay_batch, replay_producers
from glasslog.log.segment import Segment
from glasslog.log.segment_recovery import Recovery, recover_segment
from glasslog.log.transaction_index import TransactionIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What opening a log found after an unclean stop; ``problem`` is None when nothing had to be cut."""

    scanned_bytes: int = 0
    cut_bytes: int = 0
    problem: str | None = None


class Recoverer:
    """Opens the segments after an unclean stop: checks what was not synced, cuts at the first bad batch."""

    def __init__(
        self,
        folder: Folder,
        epochs: LeaderEpochCache,
        limit: RecoveryLimit,
        *,
        knows_epochs: bool,
        may_cut_synced: bool,
        now_ms: int,
    ) -> None:
        self._folder = folder
        self._epochs = epochs
        self._limit = limit
        self._recovery_point = limit.recovery_point
        self._learns_epochs_from = limit.recovery_point if knows_epochs else 0
        self._may_cut_synced = may_cut_synced
        self._now_ms = now_ms
        self._scanned_bytes = 0
        self._cut_bytes = 0
        self._problem: str | None = None
        self._latest_epoch = UNDEFINED_EPOCH
        self._has_learned_too_much = False
        self.producers = ProducerStates()
        """What the batches have told of producers."""
        self.has_markers = False
        """Whether a transaction marker was checked: its segment's transactions were indexed again."""
        self.first_checked_offset = 0
        """The base offset of the first segment that was checked."""

    def run(self) -> tuple[list[Segment], RecoveryReport]:
        """The sound segments, with the epoch cache in memory brought in line with them.

        Raises ``LostRecords`` when these end below the recovery point, and ``StorageError``.
        """
        offsets = self._folder.segment_offsets
        first = max(0, sum(offset <= self._recovery_point for offset in offsets) - 1)
        segments = [self._folder.segment(offset) for offset in offsets]
        measure_closed(self._folder, segments[: first + 1])
        kept = segments[:first]
        self.first_checked_offset = segments[first].base_offset
        self.producers = replay_producers(
            self._folder, kept, now_ms=self._now_ms, at_most=self.first_checked_offset
        )
        # Those below were written before the recovery point passed them. Compaction may have taken their
        # batches since, and nothing guards the epoch in a batch.
        self._epochs.truncate_from_end(max(self.first_checked_offset, self._recovery_point), write=False)
        self._latest_epoch = self._epochs.latest_epoch
        for number in range(first, len(segments)):
            segment = segments[number]
            if kept and not self._follows(kept[-1], segment):
                break
            kept.append(segment)
            if not self._recover(segment):
                break
        self._remove(segments[len(kept) :], end=kept[-1].next_offset)
        end = kept[-1].next_offset
        if self._has_learned_too_much:
            self.producers = replay_producers(self._folder, kept, now_ms=self._now_ms, at_most=end)
        if end < self._recovery_point:
            self._lose_from(
                end,
                f"{self._folder.path}: ends at offset {end}, below the recovery point "
                f"{self._recovery_point}: synced offsets are missing",
            )
        return kept, RecoveryReport(
            scanned_bytes=self._scanned_bytes, cut_bytes=self._cut_bytes, problem=self._problem
        )

    def _follows(self, before: Segment, segment: Segment) -> bool:
        """Whether ``segment`` begins where ``before`` ends: rolling names it so, a lost tail breaks it."""
        if before.next_offset == segment.base_offset:
            return True
        if self._folder.cleaner_offset and before.next_offset < segment.base_offset <= self._recovery_point:
            return True
        text = f"{segment.path}: begins at {segment.base_offset}, the one before ends at {before.next_offset}"
        if segment.base_offset <= self._recovery_point:
            self._lose_from(before.next_offset, f"{text}: synced offsets are missing")
        self._problem = self._problem or text
        return False

    def _recover(self, segment: Segment) -> bool:
        """Check one segment; False when it was cut, so that nothing after it can be kept."""
        segment.transactions = TransactionIndex()
        found = recover_segment(
            segment, trusted_below=self._recovery_point, on_batch=partial(self._learn, segment)
        )
        self._scanned_bytes += found.size_bytes
        found = self._up_to_gap(segment, found)
        segment.next_offset = found.next_offset
        if found.problem is None:
            return True
        if found.next_offset < self._recovery_point and found.size_bytes < segment.size_bytes:
            self._lose_from(
                found.next_offset, f"{found.problem} (below the recovery point {self._recovery_point})"
            )
        self._problem = self._problem or found.problem
        self._cut_bytes += segment.size_bytes - found.size_bytes
        segment.cut(found.size_bytes, found.next_offset)
        return False

    def _up_to_gap(self, segment: Segment, found: Recovery) -> Recovery:
        """Some batch ended at the recovery point, which a gap can not cover: no checksum guards offsets.

        Unless a cleaner took that batch since: ours waits until the point is beyond, Kafka's does not.
        """
        end, position, point = segment.base_offset, 0, self._recovery_point
        if not end < point < found.next_offset or point <= self._folder.cleaner_offset:
            return found
        for header, at in segment.headers(segment.position_before(point - 1)):
            if header.next_offset > point:
                if end in (point, header.base_offset):
                    return found
                break
            end, position = header.next_offset, at + header.size_bytes
        problem = (
            f"{segment.path}: what begins at position {position} has no offset {end}, "
            f"below the recovery point {point}: it is damaged"
        )
        self._lose_from(end, problem)
        self._has_learned_too_much = True
        return Recovery(position, end, problem)

    def _lose_from(self, offset: int, problem: str) -> None:
        """Records from ``offset`` on were synced and are not there."""
        if not self._may_cut_synced:
            raise LostRecords(problem)
        self._problem = self._problem or problem
        # Before anything is cut: what comes to lie there is not synced.
        self._limit.lower(offset)
        self._recovery_point = offset

    def _learn(self, segment: Segment, header: BatchHeader, position: int) -> None:
        epoch = header.partition_leader_epoch
        if epoch > self._latest_epoch and header.next_offset > self._learns_epochs_from:
            self._epochs.assign(epoch, header.base_offset)
            self._latest_epoch = epoch
        if header.producer_id >= 0:
            self.has_markers |= header.is_control
            aborted = replay_batch(self.producers, segment, header, position, now_ms=self._now_ms)
            if aborted is not None:
                segment.add_aborted(aborted)

    def _remove(self, segments: list[Segment], *, end: int) -> None:
        if segments:
            self._limit.note_removal(end)
        for segment in segments:
            segment.measure()
            self._cut_bytes += segment.size_bytes
            segment.remove_files()
        if segments:
            self._folder.sync()
