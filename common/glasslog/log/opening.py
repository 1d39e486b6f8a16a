"""Opening a log: a new one in an empty folder, or what an orderly stop or a crash has left.

This module knows in which order a folder's parts are brought in line with each other; it refuses to know how
an open log works.  Source: Kafka's ``LogLoader``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.log.checkpoint import LEADER_EPOCH_FILE
from glasslog.log.damage import LostRecords
from glasslog.log.epoch_cache import LeaderEpochCache
from glasslog.log.loading import Folder, load_epochs, open_clean, rebuild_epochs
from glasslog.log.producer_state import ProducerStates
from glasslog.log.recovery import Recoverer, RecoveryReport
from glasslog.log.recovery_limit import RecoveryLimit
from glasslog.log.replaying import aborted_by_batches, replay_producers
from glasslog.log.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLog:
    """The parts of a log. ``is_folder_durable``: every file's name was synced by whoever made it.

    From ``lost_from`` on, where the log began, the first segments are gone: none of the others is of use.
    """

    segments: list[Segment]
    epochs: LeaderEpochCache
    producers: ProducerStates
    recovery: RecoveryReport
    recovery_point: int
    is_folder_durable: bool
    lost_from: int | None = None


def create_log(
    folder: Folder,
    limit: RecoveryLimit,
    log_start_offset: int,
    *,
    may_cut_synced: bool,
    syncs_folder: bool,
) -> OpenedLog:
    """An empty log that begins at ``log_start_offset``, durably once its folder is synced.

    Raises ``LostRecords`` where there was one, unless ``may_cut_synced``: whoever drops all segments first
    removes what is known of epochs.
    """
    epochs = LeaderEpochCache(folder.files, folder.path_of(LEADER_EPOCH_FILE))
    if folder.files.exists(folder.path_of(LEADER_EPOCH_FILE)):
        if limit.recovery_point > log_start_offset and not may_cut_synced:
            raise LostRecords(
                f"{folder.path}: no segment is there, the recovery point is {limit.recovery_point}: "
                "synced offsets are missing"
            )
        folder.remove(LEADER_EPOCH_FILE)
    folder.remove_snapshots(above=-1)
    limit.lower(log_start_offset)
    segment = folder.segment(log_start_offset)
    segment.create()
    # Its indexes get files once they say something: one that is missing is built from the segment.
    segment.abandon()
    if syncs_folder:
        folder.sync()
    return OpenedLog(
        segments=[segment],
        epochs=epochs,
        producers=ProducerStates(),
        recovery=RecoveryReport(),
        recovery_point=log_start_offset,
        is_folder_durable=True,
    )


def _lost_from(folder: Folder, epochs: LeaderEpochCache | None, log_start_offset: int) -> int | None:
    """Where the log began before its first segments were lost; None when they are there.

    Epochs below a start are forgotten, durably, before any file goes: they know. A leader without its first
    segments would have its followers delete theirs.
    """
    known = epochs.entries[:1] if epochs is not None else ()
    start = max(log_start_offset, *(offset for _, offset in known)) if known else folder.segment_offsets[0]
    return start if start < folder.segment_offsets[0] else None


def load_log(
    folder: Folder,
    limit: RecoveryLimit,
    *,
    log_start_offset: int,
    clean_shutdown: bool,
    may_cut_synced: bool,
    now_ms: int,
) -> OpenedLog:
    """What is in the folder, cut at the first bad batch after an unclean stop."""
    segments = open_clean(folder, recovery_point=limit.recovery_point) if clean_shutdown else None
    epochs = load_epochs(folder)
    lost_from = _lost_from(folder, epochs, log_start_offset)
    if lost_from is not None and not may_cut_synced:
        raise LostRecords(
            f"{folder.path}: the first segment begins at offset {folder.segment_offsets[0]}, the log at "
            f"{lost_from} by {LEADER_EPOCH_FILE}: synced offsets are missing"
        )
    report = RecoveryReport()
    is_clean = segments is not None
    if segments is None:
        known = epochs or LeaderEpochCache(folder.files, folder.path_of(LEADER_EPOCH_FILE))
        before: Sequence[tuple[int, int]] | None = known.entries
        recoverer = Recoverer(
            folder,
            known,
            limit,
            knows_epochs=epochs is not None,
            may_cut_synced=may_cut_synced,
            now_ms=now_ms,
        )
        segments, report = recoverer.run()
        recovery_point = limit.recovery_point
        producers = recoverer.producers
        if recoverer.has_markers:
            checked = [each for each in segments if each.base_offset >= recoverer.first_checked_offset]
            _keep_transactions(folder, checked)
        if limit.is_set:
            # A truncation may have been under way: what it removed must not come back beside what is new.
            folder.sync()
        _restore_transactions(folder, segments, below=recoverer.first_checked_offset)
        if epochs is None and recoverer.first_checked_offset == segments[0].base_offset:
            # Every batch was met on the way: none has to be asked again.
            epochs, before = known, None
        if epochs is not None and epochs.entries != before:
            epochs.write()
        folder.remove_snapshots(above=segments[-1].next_offset)
    else:
        recovery_point = segments[-1].next_offset
        folder.remove_snapshots(above=recovery_point)
        producers = replay_producers(folder, segments, now_ms=now_ms)
        _restore_transactions(folder, segments, below=recovery_point)
    epochs = epochs or rebuild_epochs(folder, segments)
    epochs.truncate_from_end(segments[-1].next_offset)
    limit.reached(recovery_point)
    return OpenedLog(
        segments=segments,
        epochs=epochs,
        producers=producers,
        recovery=report,
        recovery_point=recovery_point,
        # A killed process may have left segments whose names nobody has synced yet.
        is_folder_durable=is_clean,
        lost_from=lost_from,
    )


def _restore_transactions(folder: Folder, segments: list[Segment], *, below: int) -> None:
    """Who removed all indexes of a segment has removed what it knew of aborted transactions.

    Of the segments that begin ``below``; one with any index is believed that nothing was aborted.
    """
    bare = [each for each in segments if each.base_offset in folder.bare_offsets and each.base_offset < below]
    for segment in bare:
        segment.transactions = aborted_by_batches(folder, segments, segment)
        _keep_transactions(folder, [segment])
        # With an index once more it is believed from now on.
        segment.position_before(segment.base_offset)
        segment.release()


def _keep_transactions(folder: Folder, segments: list[Segment]) -> None:
    """Make the transaction indexes that were filled again durable: the recovery point may lie above them."""
    if sum(segment.save_transactions() for segment in segments):
        for segment in segments:
            segment.sync_index()
        folder.sync()
