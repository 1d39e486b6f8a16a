"""Lets a copy of a log in another data directory take the log's place, so that a crash loses nothing.

This module knows the order, of which every step is durable before the next: the copy is closed, what the
checkpoints say of the log is written where the copy lies, the copy gets the partition's name, the original
loses it.  A crash before the last step leaves two equal folders, of which the one counts that the metadata
names (``log_recovery``), and the other is removed.  It refuses to know how the copy was made.
Source: Kafka's ``LogManager.replaceCurrentWithFutureLog`` (KIP-113).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from glasslog.broker.stored_logs import BrokenLog, StoredLog, attach_cleaner_offset
from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.ids import Offset, TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.directory import FutureFolder, LogDirectory
from glasslog.log.log import Log


class ExchangeFailed(StorageError):  # noqa: N818 - what happened
    """``directory`` refused and is not to be used any more; one of the two has all of the log."""

    def __init__(self, directory: LogDirectory, reason: str) -> None:
        super().__init__(reason)
        self.directory = directory


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteCopy:
    """``log`` in ``folder`` of ``directory`` holds all that the original does, and nothing else."""

    log: Log
    folder: FutureFolder
    directory: LogDirectory
    high_watermark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """``stored`` is the log from now on; the files in ``retired`` are what is left of the original."""

    stored: StoredLog | BrokenLog
    retired: str


def exchange(runtime: Runtime, stored: StoredLog, copy: CompleteCopy) -> Exchanged:
    """Blocks; nothing may be appended meanwhile. Raises ``ExchangeFailed``."""
    name, source, target, original = copy.folder.partition, stored.directory, copy.directory, stored.log
    try:
        copy.log.take_over(original)
        copy.log.close()
        _write_checkpoints(target, name, original, high_watermark=copy.high_watermark)
        _promote(target, copy.folder)
    except StorageError as error:
        raise ExchangeFailed(target, str(error)) from error
    try:
        retired = source.move_out(name, unique=runtime.random.uuid())
    except StorageError as error:
        # Which name the folder has is not known.  The partition is offline from now on, so that nothing is
        # appended to either of the two.
        raise ExchangeFailed(source, str(error)) from error
    moved = _open(runtime, stored, copy)
    original.abandon()
    return Exchanged(stored=moved, retired=retired)


def _promote(target: LogDirectory, folder: FutureFolder) -> None:
    try:
        target.promote(folder)
    except StorageError:
        # The original goes on: what stays behind must not look as if it were the partition.
        with suppress(StorageError):
            target.demote(folder)
        raise


def _write_checkpoints(
    target: LogDirectory, name: TopicPartition, original: Log, *, high_watermark: int
) -> None:
    _put(target.read_recovery_points, target.write_recovery_points, name, original.log_end_offset)
    _put(target.read_log_start_offsets, target.write_log_start_offsets, name, original.log_start_offset)
    _put(target.read_high_watermarks, target.write_high_watermarks, name, high_watermark)
    if original.cleaner_offset:
        _put(target.read_cleaner_offsets, target.write_cleaner_offsets, name, original.cleaner_offset)


def _put(
    read: Callable[[], Mapping[TopicPartition, int]],
    write: Callable[[Mapping[TopicPartition, int]], None],
    name: TopicPartition,
    offset: int,
) -> None:
    write({**read(), name: offset})


def _open(runtime: Runtime, stored: StoredLog, copy: CompleteCopy) -> StoredLog | BrokenLog:
    """The log where it lies now."""
    target, name, original = copy.directory, copy.folder.partition, stored.log
    try:
        log = Log.open(
            files=runtime.files,
            directory=target.partition_path(name),
            config=original.config,
            clean_shutdown=True,
            recovery_point=original.log_end_offset,
            log_start_offset=original.log_start_offset,
            cleaner_offset=original.cleaner_offset,
            now_ms=runtime.clock.wall_ms(),
        )
        attach_cleaner_offset(log, target, name, original.cleaner_offset)
        log.take_over(original)
    except GlasslogError as error:
        return BrokenLog(
            directory=target,
            topic_id=stored.topic_id,
            reason=str(error),
            high_watermark=copy.high_watermark,
            recovery_point=original.log_end_offset,
            log_start_offset=original.log_start_offset,
            cleaner_offset=original.cleaner_offset,
        )
    return StoredLog(
        log=log, directory=target, topic_id=stored.topic_id, high_watermark=Offset(copy.high_watermark)
    )
