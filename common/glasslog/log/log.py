"""The log of one partition replica: append, read, truncate, flush, recover.

This module knows segments, epochs, producers and the recovery point of one folder; it refuses to know about
replication, high watermarks and who may append.  Not safe for use by several threads, apart from
``PendingFlush.sync``.  Source: Kafka's ``UnifiedLog`` and ``LocalLog``.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation, StorageError, require
from glasslog.common.runtime.protocols import Buffer, FileSystem
from glasslog.log.admission import admit
from glasslog.log.append import (
    AppendInfo,
    LeaderChecks,
    Plan,
    numbered,
    plan_follower_append,
    plan_leader_append,
)
from glasslog.log.batch import NO_TIMESTAMP
from glasslog.log.checkpoint import LEADER_EPOCH_FILE
from glasslog.log.config import LogConfig
from glasslog.log.epoch_cache import EpochEndOffset, LeaderEpochCache
from glasslog.log.flushing import PendingFlush
from glasslog.log.loading import Folder, scan_folder
from glasslog.log.opening import OpenedLog, create_log, load_log
from glasslog.log.producer_state import ProducerStates
from glasslog.log.recovery_limit import RecoveryLimit
from glasslog.log.replacement import Replacement
from glasslog.log.replaying import replay_producers, transactions_of
from glasslog.log.rolling import must_roll
from glasslog.log.segment import MAX_RELATIVE_OFFSET, Segment
from glasslog.log.segments import Segments
from glasslog.log.timestamps import find_largest_timestamp, find_timestamp
from glasslog.log.transaction_index import AbortedTransaction, TransactionIndex

_EXPIRY_INTERVAL_MS = 60_000
_BEYOND_ALL_OFFSETS = 1 << 63


def _nowhere(offset: int) -> None:
    """Of a log without that checkpoint."""


class OffsetOutOfRange(GlasslogError):  # noqa: N818 - Kafka's name
    """An offset below the log's start or above its end; the text has all three."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.OFFSET_OUT_OF_RANGE, message)


class Log:
    """Batches from ``log_start_offset`` up to ``log_end_offset`` in one folder; ``Log.open`` makes one."""

    def __init__(self, *, folder: Folder, opened: OpenedLog, limit: RecoveryLimit, now_ms: int) -> None:
        self._folder = folder
        self._segments = Segments(folder, opened.segments)
        self._epochs = opened.epochs
        self._producers = opened.producers
        self._limit = limit
        self._truncations = 0
        self._changes_synced = self._segments.changes if opened.is_folder_durable else -1
        self._failure: str | None = None
        self._last_expiry_ms = now_ms
        self.config = folder.config
        self._replacement: Replacement | None = None
        self.rewrites = 0
        """How often closed segments were replaced by others since the log was opened."""
        self.log_start_offset = opened.segments[0].base_offset
        self.cleaner_offset = 0
        """Below it the cleaner has been: each key is there at most once. The log's owner checkpoints it."""
        self.lower_cleaner_offset: Callable[[int], None] = _nowhere
        """Makes durable that the cleaner has been no further than an offset, before the log is cut there."""
        self.lower_log_start: Callable[[int], None] = _nowhere
        """Makes durable that the log may begin at an offset, before it is cut below its start."""
        self.recovery_point = opened.recovery_point
        self.recovery = opened.recovery

    @classmethod
    def open(
        cls,
        *,
        files: FileSystem,
        directory: str,
        config: LogConfig,
        clean_shutdown: bool,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        cleaner_offset: int = 0,
        may_cut_synced: bool = False,
        syncs_folder: bool = True,
        now_ms: int = 0,
    ) -> "Log":
        """Open or create the log in ``directory``.

        After an unclean stop every batch from ``recovery_point`` on is checked, and the log is cut at the
        first bad one.  With a ``cleaner_offset`` offsets may be missing between segments: Kafka's compaction
        leaves it so.  ``now_ms`` is wall-clock time, used to forget expired producers.  Raises
        ``LostRecords`` when that batch was synced, the first segments are gone or the log ends below
        ``recovery_point``, unless ``may_cut_synced`` (see ``recovery``), and ``StorageError`` when the folder
        holds what it must not, when segments in between are missing, or when the OS refuses.  Without
        ``syncs_folder`` whoever has many new logs made calls ``sync_folder`` of each before it is used.
        """
        folder = scan_folder(files, directory, config)
        folder.cleaner_offset = cleaner_offset
        limit = RecoveryLimit.load(files, directory, checkpointed=recovery_point)
        if folder.segment_offsets:
            opened = load_log(
                folder,
                limit,
                log_start_offset=log_start_offset,
                clean_shutdown=clean_shutdown,
                may_cut_synced=may_cut_synced,
                now_ms=now_ms,
            )
        else:
            opened = create_log(
                folder, limit, log_start_offset, may_cut_synced=may_cut_synced, syncs_folder=syncs_folder
            )
        log = cls(folder=folder, opened=opened, limit=limit, now_ms=now_ms)
        if opened.lost_from is not None:
            log.truncate_fully_and_start_at(opened.lost_from)
        log._start_at(log_start_offset)
        log._producers.expire(now_ms=now_ms, expiration_ms=config.producer_id_expiration_ms)
        for segment in log._segments:
            segment.release()
        return log

    def _start_at(self, log_start_offset: int) -> None:
        """Adopt a checkpointed start; the log may turn out to end before it."""
        if log_start_offset > self.log_end_offset:
            self.truncate_fully_and_start_at(log_start_offset)
        self.log_start_offset = max(self.log_start_offset, log_start_offset)
        self._epochs.truncate_from_start(self.log_start_offset)

    # --- facts ------------------------------------------------------------------------------------------

    @property
    def directory(self) -> str:
        return self._folder.path

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record will get."""
        return self._segments.active.next_offset

    @property
    def size_bytes(self) -> int:
        """Of all segments, without indexes."""
        return self._segments.size_bytes

    @property
    def latest_epoch(self) -> int:
        """The newest leader epoch in the log, -1 when there is none."""
        return self._epochs.latest_epoch

    @property
    def epochs(self) -> LeaderEpochCache:
        return self._epochs

    @property
    def producers(self) -> ProducerStates:
        return self._producers

    @property
    def segment_base_offsets(self) -> tuple[int, ...]:
        return tuple(self._segments.base_offsets)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Oldest first, the active one last."""
        return tuple(self._segments.all())

    @property
    def truncations(self) -> int:
        """How often the log was truncated: who works on its segments beside the loop must begin anew."""
        return self._truncations

    def end_offset_for_epoch(self, epoch: int) -> EpochEndOffset:
        """Where ``epoch`` ends in this log, for a follower that has to truncate (KIP-101, KIP-279)."""
        return self._epochs.end_offset_for(epoch, self.log_end_offset)

    # --- appending --------------------------------------------------------------------------------------

    def start_leader_epoch(self, epoch: int) -> None:
        """Note that this replica leads from the log's end on under ``epoch``."""
        self._check_usable()
        self._epochs.assign(epoch, self.log_end_offset)

    def append_as_leader(
        self, batches: Buffer, *, leader_epoch: int, now_ms: int, origin_is_client: bool = True
    ) -> AppendInfo:
        """Give ``batches`` their offsets and append them.

        A ``bytearray`` is numbered in place; of anything else only small batches are copied.  ``now_ms`` is
        wall-clock time.  A refused request leaves no trace; it raises ``GlasslogError`` with CORRUPT_MESSAGE,
        MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD, INVALID_TIMESTAMP, INVALID_TXN_STATE,
        OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED or
        KAFKA_STORAGE_ERROR.  A repeated batch is answered with its first offsets.
        """
        self._check_usable()
        latest_epoch = self._epochs.latest_epoch
        if leader_epoch < latest_epoch:
            raise InvariantViolation(f"{self.directory}: epoch {leader_epoch} < {latest_epoch}")
        config, policy = self.config, self.config.records
        latest_timestamp = now_ms + policy.header_after_max_ms
        checks = LeaderChecks(config.max_message_bytes, origin_is_client, now_ms, latest_timestamp)
        if policy.looks_at_batches:
            owned = batches if isinstance(batches, bytearray) else bytearray(batches)
            batches, checks = admit(owned, policy, checks)
        size_bytes = len(batches)
        if size_bytes > config.segment_bytes:
            raise GlasslogError(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"{size_bytes} bytes exceed segment.bytes={config.segment_bytes}",
            )
        if now_ms - self._last_expiry_ms >= _EXPIRY_INTERVAL_MS:
            self._expire_producers(now_ms)
        first_offset = self._segments.active.next_offset
        plan = plan_leader_append(batches, self._producers, first_offset=first_offset, checks=checks)
        if plan.batches and plan.batches[-1].last_offset - first_offset > MAX_RELATIVE_OFFSET:
            raise GlasslogError(
                ErrorCode.INVALID_RECORD, f"more than {MAX_RELATIVE_OFFSET} offsets in one request"
            )
        if plan.duplicate is not None:
            known = plan.duplicate
            return AppendInfo(
                known.first_offset,
                known.last_offset,
                known.timestamp,
                log_append_time=known.timestamp if policy.appends_time else NO_TIMESTAMP,
                duplicate=True,
            )
        parts = numbered(batches, plan.batches, leader_epoch=leader_epoch)
        if leader_epoch != latest_epoch:
            self._epochs.assign(leader_epoch, first_offset)
        info = self._write(parts, size_bytes, plan, now_ms=now_ms)
        return info._replace(log_append_time=now_ms) if policy.appends_time else info

    def append_as_follower(self, data: Buffer, *, now_ms: int = 0) -> AppendInfo:
        """Append what a leader numbered; offsets must go on from ``log_end_offset`` (gaps are allowed).

        ``now_ms`` is wall-clock time: by it, and not by their records' age, producers expire here as they do
        with the leader; 0 where there are none.  Raises ``CorruptBatch``, and nothing is appended, or
        ``StorageError``.
        """
        self._check_usable()
        if now_ms - self._last_expiry_ms >= _EXPIRY_INTERVAL_MS:
            self._expire_producers(now_ms)
        plan = plan_follower_append(data, log_end_offset=self._segments.active.next_offset)
        for header in plan.batches:
            if header.partition_leader_epoch > self._epochs.latest_epoch:
                self._epochs.assign(header.partition_leader_epoch, header.base_offset)
        info = self._write((data,), len(data), plan, now_ms=now_ms)
        for header in plan.batches:
            aborted = self._producers.replay(
                header, now_ms=now_ms, marker=plan.markers.get(header.base_offset)
            )
            if aborted is not None:
                self._transactions_of(self._segments.active).append(aborted)
        return info

    def _write(self, parts: Sequence[Buffer], size_bytes: int, plan: Plan, *, now_ms: int) -> AppendInfo:
        """Append ``parts``, together the batches of ``plan``, in a new segment if one is due."""
        batches = plan.batches
        first, last = batches[0], batches[-1]
        active = self._segments.active
        if must_roll(
            active,
            self.config,
            added_bytes=size_bytes,
            max_timestamp=plan.max_timestamp,
            last=last,
            now_ms=now_ms,
        ):
            self._roll(first.base_offset)
            active = self._segments.active
        if not active.size_bytes:
            active.rolling_timestamp, active.created_ms = first.max_timestamp, now_ms
        active.append(parts, size_bytes, batches)
        if plan.producers:
            for aborted in self._producers.commit(plan.producers, plan.transactions):
                self._transactions_of(active).append(aborted)
        last_offset = last.base_offset + last.last_offset_delta
        return AppendInfo(
            first.base_offset, last_offset, plan.max_timestamp, NO_TIMESTAMP, False, size_bytes, len(batches)
        )

    def _transactions_of(self, segment: Segment) -> TransactionIndex:
        return transactions_of(self._folder, self._segments.all(), segment)

    def _roll(self, first_offset: int) -> None:
        """Close the active segment and begin one at the log's end: segments join without a gap.

        Only an empty segment that ``first_offset`` is too far from is replaced by one that begins there.
        """
        active = self._segments.active
        if active.size_bytes:
            first_offset = active.next_offset
            self._write_snapshot(first_offset)
            active.seal()
            active.release()
        else:
            self._segments.drop_last()
        self._segments.add(first_offset)

    def _write_snapshot(self, offset: int) -> None:
        self._folder.write_snapshot(offset, self._producers, keep=set(self._segments.base_offsets))

    def _expire_producers(self, now_ms: int) -> None:
        self._last_expiry_ms = now_ms
        self._producers.expire(now_ms=now_ms, expiration_ms=self.config.producer_id_expiration_ms)

    # --- reading ----------------------------------------------------------------------------------------

    def read(
        self,
        offset: int,
        *,
        max_bytes: int,
        upper_offset: int | None = None,
        minimum_one: bool = True,
        cached_only: bool = False,
    ) -> bytes | memoryview:
        """Whole batches from the one that holds ``offset``, ``max_bytes`` at most, below ``upper_offset``.

        Empty at the log's end.  With ``minimum_one`` a first batch larger than ``max_bytes`` comes all the
        same.  Raises ``OffsetOutOfRange``, ``StorageError``, ``CorruptBatch`` where the disk lies, or with
        ``cached_only`` ``ColdRead`` when the disk would have to be waited for.
        """
        end = self._segments.active.next_offset
        if not self.log_start_offset <= offset <= end:
            raise OffsetOutOfRange(
                f"{self.directory}: offset {offset} is not between {self.log_start_offset} and {end}"
            )
        upper = end if upper_offset is None else min(upper_offset, end)
        return self._segments.read(
            offset, max_bytes=max_bytes, upper_offset=upper, minimum_one=minimum_one, cached_only=cached_only
        )

    def offset_for_timestamp(self, timestamp: int) -> tuple[int, int] | None:
        """The first record at or after ``timestamp`` (milliseconds): its offset and timestamp, or None."""
        found = find_timestamp(self._segments.all(), timestamp, lowest_offset=self.log_start_offset)
        self._segments.release_cold()
        return found

    def offset_of_max_timestamp(self) -> tuple[int, int] | None:
        """The first record with the largest timestamp: its offset and timestamp, or None (KIP-734)."""
        found = find_largest_timestamp(self._segments.all(), lowest_offset=self.log_start_offset)
        self._segments.release_cold()
        return found

    # --- transactions -----------------------------------------------------------------------------------

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins that is undecided, or whose marker may not be replicated."""
        first = self._producers.first_unstable_offset
        return None if first is None else max(first, self.log_start_offset)

    def last_stable_offset(self, *, high_watermark: int) -> int:
        """Below it every transaction is decided and replicated; at most ``high_watermark``."""
        self._producers.on_high_watermark(high_watermark)
        first = self.first_unstable_offset
        return high_watermark if first is None else min(first, high_watermark)

    def aborted_transactions(self, offset: int, *, upper_offset: int) -> tuple[AbortedTransaction, ...]:
        """Those with records from ``offset`` up to below ``upper_offset``. Raises ``StorageError``."""
        found: list[AbortedTransaction] = []
        for segment in self._segments.since(offset):
            part, is_complete = self._transactions_of(segment).collect(offset, upper_offset)
            found += part
            if is_complete:
                break
        self._segments.release_cold()
        return tuple(found)

    def aborted_in(self, segment: Segment) -> tuple[AbortedTransaction, ...]:
        """All that the index of one segment knows. Raises ``StorageError``."""
        found, _ = self._transactions_of(segment).collect(0, _BEYOND_ALL_OFFSETS)
        self._segments.release_cold()
        return tuple(found)

    # --- giving up the oldest ---------------------------------------------------------------------------

    def roll(self) -> None:
        """Close the active segment and begin another, unless it is empty. Raises ``StorageError``."""
        self._check_usable()
        if self._segments.active.size_bytes:
            self._roll(self.log_end_offset)

    def advance_start(self, offset: int) -> bool:
        """Let the log begin at ``offset``; False when it begins there or later already.

        Nothing below can be read any more.  The caller checkpoints it, and only then removes segments.
        Raises ``OffsetOutOfRange`` above the log's end, or ``StorageError``.
        """
        self._check_usable()
        if offset > self.log_end_offset:
            raise OffsetOutOfRange(f"{self.directory}: start {offset} is above the end {self.log_end_offset}")
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        self._epochs.truncate_from_start(offset)
        return True

    def retire_segments_below(self, offset: int) -> list[Segment]:
        """Take closed segments that end at or before ``offset`` out of the log; their files are renamed.

        ``offset`` must not lie above the log's start as it was checkpointed.  Readers that hold a segment may
        go on.  The caller syncs the folder and calls ``remove_files`` of each when their time has come.
        Raises ``StorageError``.
        """
        self._check_usable()
        require(offset <= self.log_start_offset, f"{self.directory}: {offset} > {self.log_start_offset}")
        retired: list[Segment] = []
        while len(self._segments) > 1 and self._segments.base_offsets[1] <= offset:
            retired.append(self._segments.retire_first())
            self._folder.drop_snapshot(retired[-1].base_offset)
        return retired

    def sync_folder(self) -> None:
        """Make renames and removals durable; blocks, any thread may call it. Raises ``StorageError``."""
        self._folder.sync()

    # --- taking in rewritten segments -------------------------------------------------------------------

    def begin_replacement(self, segment: Segment, *, replaced: Sequence[int]) -> Replacement:
        """Let ``segment``, durable beside the log, take the place of those that begin at ``replaced``.

        One at a time.  Afterwards ``sync_folder`` in any thread, then ``finish_replacement``.  Raises
        ``StorageError``.
        """
        self._check_usable()
        require(self._replacement is None, f"{self.directory}: another replacement is on its way")
        replacement = Replacement(self._folder, self._segments, segment, replaced=replaced)
        replacement.begin()
        self._replacement = replacement
        return replacement

    def finish_replacement(self, replacement: Replacement) -> list[Segment]:
        """Swap once the announcement is durable; returns the old segments, whose files are the caller's now.

        Afterwards ``sync_folder``, then ``complete_replacement``.  Raises ``StorageError``; the log goes on
        with the old segments then, if it can.  The log must not have been truncated since the begin.
        """
        self._check_usable()
        require(self._replacement is replacement, f"{self.directory}: the replacement is not on its way")
        try:
            old = replacement.finish()
        except StorageError as error:
            if not replacement.is_undone:
                self._failure = str(error)
            raise
        self.rewrites += 1
        return old

    def complete_replacement(self, replacement: Replacement) -> None:
        """It is durable: nothing is left that a truncation would have to settle."""
        if self._replacement is replacement:
            self._replacement = None

    def cancel_replacement(self, replacement: Replacement) -> None:
        """Remove the traces of one that was not finished; blocks. Raises ``StorageError``."""
        if self._replacement is replacement:
            replacement.settle()
            self._replacement = None

    # --- being copied -----------------------------------------------------------------------------------

    def batch_start(self, offset: int) -> int:
        """Where a copy that holds ``offset`` may begin: no batch that lies wholly below is in it.

        Raises ``StorageError`` or ``CorruptBatch`` where the disk lies.
        """
        return self._segments.holding(offset).boundary_at(offset)

    def take_over(self, source: "Log") -> None:
        """Learn of ``source``, whose batches are all here, what these do not tell.

        Its producers may be known from batches that are deleted, its newest epoch may have none yet.
        """
        require(
            (self.log_start_offset, self.log_end_offset) == (source.log_start_offset, source.log_end_offset),
            f"{self.directory} is no copy of {source.directory}",
        )
        self._producers = source._producers
        self._epochs.replace(source._epochs.entries)

    # --- truncating -------------------------------------------------------------------------------------

    def truncate_to(self, offset: int) -> None:
        """Drop the batch that holds ``offset`` and everything after it, durably.

        Afterwards ``log_end_offset`` is at most ``offset``; producers are as the remaining batches say.
        """
        self._check_usable()
        if offset >= self.log_end_offset:
            return
        if offset >= self.log_start_offset:
            offset = self._segments.holding(offset).boundary_at(offset)
        if offset < self.log_start_offset:
            self.truncate_fully_and_start_at(offset)
            return
        self._begin_truncation(offset)
        if self._segments.active.base_offset >= offset and len(self._segments) > 1:
            self._limit.note_removal(offset)
        while self._segments.active.base_offset >= offset and len(self._segments) > 1:
            self._segments.drop_last()
        if self.log_end_offset > offset:
            self._segments.active.truncate(offset)
        self._end_truncation()
        self._limit.reached(self.recovery_point)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Drop everything, durably, and begin again at ``offset``."""
        self._check_usable()
        if offset < self.log_start_offset:
            # With a start above its end the next opening would drop what is appended from now on.
            self.lower_log_start(offset)
        self._begin_truncation(min(offset, self._segments.base_offsets[0]))
        self._folder.remove_snapshots(above=-1)
        # Without the file, opening after a crash half-way asks the batches that are left.
        self._folder.remove(LEADER_EPOCH_FILE)
        self._folder.sync()
        self._segments.drop_all()
        self._segments.add(offset)
        self.log_start_offset = offset
        self.recovery_point = offset
        self._epochs.clear(write=False)
        self._end_truncation()
        self._epochs.write()
        self._limit.reached(offset)

    def _begin_truncation(self, offset: int) -> None:
        # First of all, or a crash half-way would trust what is not so any more.
        if self._replacement is not None:
            self._replacement.settle()
            self._replacement = None
        if offset < self.cleaner_offset:
            self.lower_cleaner_offset(offset)
            self.cleaner_offset = offset
        self._truncations += 1
        if offset < self.recovery_point:
            self._limit.lower(offset)
            self.recovery_point = offset
        self._folder.remove_snapshots(above=offset)

    def _end_truncation(self) -> None:
        self._folder.sync()
        self._changes_synced = self._segments.changes
        self._epochs.truncate_from_end(self.log_end_offset)
        if len(self._producers):
            self._producers = replay_producers(
                self._folder, self._segments.all(), now_ms=self._last_expiry_ms
            )

    # --- durability -------------------------------------------------------------------------------------

    @property
    def is_flush_due(self) -> bool:
        """Whether as many records as ``flush.messages`` allows are not synced."""
        return self._segments.active.next_offset - self.recovery_point >= self.config.flush_messages

    def flush(self, up_to: int | None = None) -> None:
        """Make everything below ``up_to`` (default: all) durable; blocks. Raises ``StorageError``."""
        if up_to is not None and up_to <= self.recovery_point:
            return
        pending = self.begin_flush()
        if pending is None:
            return
        try:
            pending.sync()
        except StorageError as error:
            self.fail_flush(pending, error)
            raise
        self.complete_flush(pending)

    def begin_flush(self) -> PendingFlush | None:
        """What has to be synced for all that is appended now to be durable; None when it is already.

        Run ``sync`` of the answer off the loop, then call ``complete_flush``, or ``fail_flush`` if it raised.
        New epochs are written here, which is rare, and raises ``StorageError``.
        """
        self._check_usable()
        target = self.log_end_offset
        folder_changed = self._segments.changes != self._changes_synced
        if not self._epochs.is_written_below(target):
            self._epochs.write()
        if target <= self.recovery_point and not folder_changed:
            return None
        segments = self._segments.since(self.recovery_point)
        # Below a recovery point nobody looks whether a transaction was aborted that no index knows.
        has_aborted = sum(segment.save_transactions() for segment in segments) > 0
        return PendingFlush(
            folder=self._folder if folder_changed or has_aborted else None,
            folder_changes=self._segments.changes,
            segments=segments,
            target=target,
            truncations=self._truncations,
        )

    def complete_flush(self, pending: PendingFlush) -> int:
        """Advance the recovery point after ``pending.sync()``; returns it.

        Offsets that were truncated meanwhile may have been written anew since, so they do not count.
        """
        pending.release()
        self._changes_synced = max(self._changes_synced, pending.folder_changes)
        if pending.truncations == self._truncations:
            self.recovery_point = max(self.recovery_point, pending.target)
            self._limit.reached(self.recovery_point)
        return self.recovery_point

    def fail_flush(self, pending: PendingFlush, error: StorageError) -> None:
        """A sync failed: what is on disk is unknown, and trying again would hide it. The log stops."""
        pending.release()
        self._failure = str(error)

    def close(self) -> None:
        """Flush, leave a producer snapshot behind, give every handle back. Raises ``StorageError``."""
        self.flush()
        end = self.log_end_offset
        if end > self._segments.base_offsets[0] and end not in self._folder.snapshot_offsets:
            self._write_snapshot(end)
        self._segments.active.seal()
        for segment in self._segments:
            segment.save_index()
            segment.sync_index()
        self._stop("is closed")

    def abandon(self) -> None:
        """Give every handle back without writing anything, as a crash would."""
        self._stop("was abandoned")

    def delete(self) -> None:
        """Remove the folder and all in it. Raises ``StorageError``."""
        self._stop("was deleted")
        try:
            with suppress(FileNotFoundError):
                self._folder.files.remove_tree(self.directory)
        except OSError as error:
            raise StorageError(f"{self.directory}: can not be removed: {error.strerror}") from error

    def _stop(self, why: str) -> None:
        self._segments.abandon()
        self._failure = why

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StorageError(f"{self.directory}: the log {self._failure}")
