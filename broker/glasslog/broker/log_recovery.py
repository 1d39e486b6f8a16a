"""Opens every log of a broker when it starts: many at a time, and telling how far it is.

This module knows threads, progress and which of two folders of one partition counts; it refuses to know what
recovery does to a log (``glasslog.log.recovery``).  Each data directory has its own workers, so that one slow
disk does not hold up the others.  Source: Kafka's ``LogManager.loadLogs``.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from glasslog.broker.stored_logs import BrokenLog, Found, StoredLog, attach_cleaner_offset
from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.ids import METADATA_TOPIC, Offset, TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.config import LogConfig
from glasslog.log.damage import LostRecords
from glasslog.log.directory import LogDirectory
from glasslog.log.loading import bytes_to_recover
from glasslog.log.log import Log

_LOGGER = logging.getLogger(__name__)

PROGRESS_INTERVAL_MS = 5_000
_CLEAN_LOGS_AT_A_TIME = 64
"""Opened in one turn of a worker: a clean one takes a tenth of a millisecond, the way to a thread as long."""

_GIGABYTE = 1e9


@dataclass(slots=True, kw_only=True)
class RecoveryProgress:
    """How many logs there are, how many bytes of them have to be checked, and how far that is."""

    logs: int = 0
    logs_done: int = 0
    size_bytes: int = 0
    bytes_done: int = 0

    def __str__(self) -> str:
        done, size = self.bytes_done / _GIGABYTE, self.size_bytes / _GIGABYTE
        return f"{self.logs_done} of {self.logs} logs, {done:.1f} of {size:.1f} GB"


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What was found. ``shadowed`` are further folders of partitions in ``stored``, not opened;

    ``failed`` are directories that could not be read, and why.
    """

    stored: dict[TopicPartition, StoredLog | BrokenLog] = field(default_factory=dict)
    shadowed: dict[TopicPartition, list[Found]] = field(default_factory=dict)
    failed: list[tuple[LogDirectory, str]] = field(default_factory=list)


class LogRecovery:
    """See the module. ``run`` it once; ``progress`` may be read meanwhile."""

    def __init__(self, *, runtime: Runtime, config: LogConfig, threads_per_directory: int) -> None:
        self._runtime = runtime
        self._config = config
        self._threads = threads_per_directory
        self._recovered = Recovered()
        self._origins: dict[TopicPartition, Found] = {}
        self.progress = RecoveryProgress()

    async def run(self, directories: Sequence[LogDirectory]) -> Recovered:
        """Open every log; one that can not be opened is a ``BrokenLog``."""
        started_ms = self._runtime.clock.now_ms()
        reporting = asyncio.ensure_future(self._report())
        try:
            async with asyncio.TaskGroup() as group:
                for directory in directories:
                    group.create_task(self._recover(directory), name=f"recovery of {directory.path}")
        finally:
            reporting.cancel()
        if self.progress.logs:
            took_ms = self._runtime.clock.now_ms() - started_ms
            _LOGGER.info("opened %s in %.1f s", self.progress, took_ms / 1000)
        return self._recovered

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_MS / 1000)
            _LOGGER.info("recovering: %s", self.progress)

    # --- one directory ----------------------------------------------------------------------------------

    async def _recover(self, directory: LogDirectory) -> None:
        try:
            found = await self._runtime.blocking(lambda: list(_find(directory)))
        except StorageError as error:
            _LOGGER.error("data directory %s can not be used: %s", directory.path, error)
            self._recovered.failed.append((directory, str(error)))
            return
        self.progress.logs += len(found)
        chunk = _CLEAN_LOGS_AT_A_TIME if directory.clean_shutdown else 1
        sizes = [0] * len(found)
        if not directory.clean_shutdown:
            sizes = await self._runtime.blocking(lambda: [self._size_of(each) for each in found])
            self.progress.size_bytes += sum(sizes)
        todo = iter(
            [(found[at : at + chunk], sum(sizes[at : at + chunk])) for at in range(0, len(found), chunk)]
        )
        async with asyncio.TaskGroup() as group:
            for number in range(self._threads):
                group.create_task(self._work(todo), name=f"worker {number} in {directory.path}")

    async def _work(self, todo: Iterator[tuple[list[Found], int]]) -> None:
        for chunk, size_bytes in todo:
            opened = await self._runtime.blocking(partial(self._open_all, chunk))
            for found, stored in zip(chunk, opened, strict=True):
                self._keep(found, stored)
            self.progress.logs_done += len(chunk)
            self.progress.bytes_done += size_bytes

    def _size_of(self, found: Found) -> int:
        """Of what recovery has to read; 0 where the disk does not say, since opening will tell why."""
        path = found.directory.partition_path(found.name)
        try:
            return bytes_to_recover(self._runtime.files, path, recovery_point=found.recovery_point)
        except StorageError:
            return 0

    def _open_all(self, chunk: list[Found]) -> list[StoredLog | BrokenLog]:
        return [open_found(self._runtime, self._config, each) for each in chunk]

    def _keep(self, found: Found, stored: StoredLog | BrokenLog) -> None:
        """Of two folders of one partition the one that goes further, until the metadata says which it is."""
        known = self._recovered.stored.setdefault(found.name, stored)
        if known is stored:
            self._origins[found.name] = found
            return
        other = self._origins[found.name]
        if _worth(stored) > _worth(known):
            self._recovered.stored[found.name], self._origins[found.name] = stored, found
            stored, found, other = known, other, found
        if isinstance(stored, StoredLog):
            stored.log.abandon()
        self._recovered.shadowed.setdefault(found.name, []).append(found)
        _LOGGER.warning(
            "%s lies in %s and in %s: the first is used until the metadata says otherwise",
            found.name,
            other.directory.path,
            found.directory.path,
        )


def open_found(
    runtime: Runtime, config: LogConfig, found: Found, *, may_cut_synced: bool = False
) -> StoredLog | BrokenLog:
    """Open a log, whose checkpoints are in ``found``. Blocks."""
    directory = found.directory
    topic_id = None
    try:
        topic_id = directory.topic_id_of(found.name)
        log = Log.open(
            files=runtime.files,
            directory=directory.partition_path(found.name),
            config=config,
            clean_shutdown=directory.clean_shutdown,
            recovery_point=found.recovery_point,
            log_start_offset=found.log_start_offset,
            cleaner_offset=found.cleaner_offset,
            may_cut_synced=may_cut_synced,
            now_ms=runtime.clock.wall_ms(),
        )
        attach_cleaner_offset(log, directory, found.name, found.cleaner_offset)
    except GlasslogError as error:
        _LOGGER.error("%s can not be opened, the partition stays offline: %s", found.name, error)
        return BrokenLog(
            directory=directory,
            topic_id=topic_id,
            reason=str(error),
            high_watermark=found.high_watermark,
            recovery_point=found.recovery_point,
            log_start_offset=found.log_start_offset,
            cleaner_offset=found.cleaner_offset,
            lacks_records=isinstance(error, LostRecords),
        )
    return StoredLog(log=log, directory=directory, topic_id=topic_id, high_watermark=found.high_watermark)


def _worth(stored: StoredLog | BrokenLog) -> tuple[int, int, int]:
    if isinstance(stored, BrokenLog):
        return (0, 0, 0)
    return (1, stored.log.latest_epoch, stored.log.log_end_offset)


def _find(directory: LogDirectory) -> Iterator[Found]:
    directory.forget_absent()
    recovery_points = directory.read_recovery_points()
    log_starts = directory.read_log_start_offsets()
    cleaner_offsets = directory.read_cleaner_offsets()
    high_watermarks = directory.read_high_watermarks()
    for name in directory.partitions():
        if name.topic != METADATA_TOPIC:
            yield Found(
                name=name,
                directory=directory,
                recovery_point=recovery_points.get(name, 0),
                log_start_offset=log_starts.get(name, 0),
                cleaner_offset=cleaner_offsets.get(name, 0),
                high_watermark=Offset(high_watermarks.get(name, 0)),
            )
