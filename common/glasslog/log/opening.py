"""Opening a log: a new one in an empty folder, or what an orderly stop or a crash has left.

This module knows in which order a folder's parts are brought in line with each other; it refuses to know how
an open log works.  Source: Kafka's ``LogLoader``.
"""

from dataclasses import dataclass

from glasslog.log.checkpoint import LEADER_EPOCH_FILE
from glasslog.log.epoch_cache import LeaderEpochCache
from glasslog.log.loading import (
    Folder,
    Recoverer,
    RecoveryReport,
    load_epochs,
    open_clean,
    rebuild_epochs,
)
from glasslog.log.producer_state import ProducerStates
from glasslog.log.recovery_limit import RecoveryLimit
from glasslog.log.replaying import replay_producers
from glasslog.log.segment import Segment
from glasslog.log.transaction_index import TransactionIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLog:
    """The parts of a log. ``is_folder_durable``: every file's name was synced by whoever made it."""

    segments: list[Segment]
    epochs: LeaderEpochCache
    producers: ProducerStates
    recovery: RecoveryReport
    recovery_point: int
    is_folder_durable: bool


def create_log(folder: Folder, limit: RecoveryLimit, log_start_offset: int) -> OpenedLog:
    """An empty log that begins at ``log_start_offset``, durably."""
    folder.remove_snapshots(above=-1)
    epochs = LeaderEpochCache(folder.files, folder.path_of(LEADER_EPOCH_FILE))
    if folder.files.exists(folder.path_of(LEADER_EPOCH_FILE)):
        folder.remove(LEADER_EPOCH_FILE)
    limit.lower(log_start_offset)
    segment = folder.segment(log_start_offset)
    segment.create()
    folder.sync()
    return OpenedLog(
        segments=[segment],
        epochs=epochs,
        producers=ProducerStates(),
        recovery=RecoveryReport(),
        recovery_point=log_start_offset,
        is_folder_durable=True,
    )


def load_log(folder: Folder, limit: RecoveryLimit, *, clean_shutdown: bool, now_ms: int) -> OpenedLog:
    """What is in the folder, cut at the first bad batch after an unclean stop."""
    segments = open_clean(folder, recovery_point=limit.recovery_point) if clean_shutdown else None
    epochs = load_epochs(folder)
    report, recovery_point = RecoveryReport(), limit.recovery_point
    index_from: int | None = None
    is_clean, to_replay = segments is not None, segments
    if segments is None:
        known = epochs or LeaderEpochCache(folder.files, folder.path_of(LEADER_EPOCH_FILE))
        before = known.entries
        recoverer = Recoverer(folder, known, recovery_point=recovery_point)
        segments, report = recoverer.run()
        index_from = _forget_transactions(recoverer, segments)
        to_replay = segments
        if not recoverer.has_producers:
            to_replay = [each for each in segments if each.base_offset < recoverer.first_checked_offset]
        if limit.is_set:
            # A truncation may have been under way: what it removed must not come back beside what is new.
            folder.sync()
        if epochs is not None and epochs.entries != before:
            epochs.write()
    else:
        recovery_point = segments[-1].next_offset
    epochs = epochs or rebuild_epochs(folder, segments)
    log_end_offset = segments[-1].next_offset
    epochs.truncate_from_end(log_end_offset)
    folder.remove_snapshots(above=log_end_offset)
    producers = replay_producers(folder, to_replay or (), now_ms=now_ms, index_from=index_from)
    if index_from is not None:
        _keep_transactions(folder, [each for each in segments if each.base_offset >= index_from])
    limit.reached(recovery_point)
    return OpenedLog(
        segments=segments,
        epochs=epochs,
        producers=producers,
        recovery=report,
        recovery_point=recovery_point,
        # A killed process may have left segments whose names nobody has synced yet.
        is_folder_durable=is_clean,
    )


def _keep_transactions(folder: Folder, segments: list[Segment]) -> None:
    """Make the transaction indexes that were filled again durable: the recovery point may lie above them."""
    if sum(segment.save_transactions() for segment in segments):
        for segment in segments:
            segment.sync_index()
        folder.sync()


def _forget_transactions(recoverer: Recoverer, segments: list[Segment]) -> int | None:
    """Empty the transaction indexes of what was checked; from where to fill them again, if at all."""
    for segment in segments:
        if segment.base_offset >= recoverer.first_checked_offset:
            segment.transactions = TransactionIndex()
    return None if recoverer.first_marker_offset is None else recoverer.first_checked_offset
