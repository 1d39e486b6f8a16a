"""The logs on this broker's disks: recovered at the start, made and removed as topics come and go.

This module knows data directories, placement, checkpoints and deletion; it refuses to know roles and
replication.  A directory that fails takes only its own logs along.  Source: Kafka's ``LogManager``.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.ids import METADATA_TOPIC, NO_BROKER_EPOCH, Offset, TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig, TopicConfig, topic_config
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.config import LogConfig
from glasslog.log.directory import LogDirectory
from glasslog.log.flushing import PendingFlush
from glasslog.log.log import Log
from glasslog.metadata.image import MetadataImage

_LOGGER = logging.getLogger(__name__)

_Write = Callable[[Mapping[TopicPartition, int]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLog:
    """An open log and where it lies. ``high_watermark`` is what the last checkpoint said."""

    log: Log
    directory: LogDirectory
    topic_id: TopicId | None
    high_watermark: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenLog:
    """A log that could not be opened: its folder stays as it is, and so does what the checkpoints say of it.

    Without its recovery point the next recovery would take damage for the torn end of a write.
    """

    directory: LogDirectory
    topic_id: TopicId | None
    reason: str
    high_watermark: int = 0
    recovery_point: int = 0
    log_start_offset: int = 0


class _Reached(NamedTuple):
    """How far a log has come, to be written to a checkpoint while it is still the log of that name."""

    name: TopicPartition
    stored: StoredLog | BrokenLog
    offset: int


def log_config(node: NodeConfig, topic: TopicConfig) -> LogConfig:
    """A topic's settings as its logs need them."""
    return LogConfig(
        segment_bytes=topic.segment_bytes,
        segment_ms=topic.segment_ms,
        index_interval_bytes=topic.index_interval_bytes,
        max_message_bytes=topic.max_message_bytes,
        retention_bytes=topic.retention_bytes,
        retention_ms=topic.retention_ms,
        file_delete_delay_ms=topic.file_delete_delay_ms,
        is_deleted="delete" in topic.cleanup_policy,
        is_compacted="compact" in topic.cleanup_policy,
        producer_id_expiration_ms=node.producer_id_expiration_ms,
    )


class PartitionLogs:
    """Every log in ``directories``, which are open already and are closed with it."""

    def __init__(self, *, runtime: Runtime, config: NodeConfig, directories: Sequence[LogDirectory]) -> None:
        self._runtime = runtime
        self._config = config
        self._directories = list(directories)
        self._failed: list[LogDirectory] = []
        self._stored: dict[TopicPartition, StoredLog | BrokenLog] = {}
        self._unflushable: set[TopicPartition] = set()
        self._retired: asyncio.Queue[tuple[LogDirectory, str]] = asyncio.Queue()
        self._written: dict[str, dict[TopicPartition, int]] = {}

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def has_directory(self) -> bool:
        """Whether any data directory is still in use."""
        return bool(self._directories)

    # --- the start ---

    async def recover(self) -> None:
        """Open every log, off the event loop; a log that can not be opened is noted and left alone."""
        for directory in self._directories:
            recovery_points = directory.read_recovery_points()
            log_starts = directory.read_log_start_offsets()
            high_watermarks = directory.read_high_watermarks()
            for name in directory.partitions():
                if name.topic == METADATA_TOPIC:
                    continue
                await self._recover(
                    directory,
                    name,
                    recovery_point=recovery_points.get(name, 0),
                    log_start_offset=log_starts.get(name, 0),
                    high_watermark=Offset(high_watermarks.get(name, 0)),
                )

    async def _recover(
        self,
        directory: LogDirectory,
        name: TopicPartition,
        *,
        recovery_point: int,
        log_start_offset: int,
        high_watermark: Offset,
    ) -> None:
        def open_log() -> Log:
            return Log.open(
                files=self._runtime.files,
                directory=directory.partition_path(name),
                config=log_config(self._config, topic_config(self._config, {})),
                clean_shutdown=directory.clean_shutdown,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
                now_ms=self._runtime.clock.wall_ms(),
            )

        try:
            log = await self._runtime.blocking(open_log)
        except GlasslogError as error:
            _LOGGER.error("%s can not be opened, the partition stays offline: %s", name, error)
            self._stored[name] = BrokenLog(
                directory=directory,
                topic_id=_topic_id(directory, name),
                reason=str(error),
                high_watermark=high_watermark,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
            )
        else:
            self._keep(directory, name, log, high_watermark)

    def _keep(self, directory: LogDirectory, name: TopicPartition, log: Log, high_watermark: Offset) -> None:
        if name in self._stored:
            other = self._stored[name].directory.path
            log.abandon()
            raise StorageError(f"{name} lies in {directory.path} and in {other}: remove one of them")
        self._stored[name] = StoredLog(
            log=log,
            directory=directory,
            topic_id=_topic_id(directory, name),
            high_watermark=high_watermark,
        )

    # --- coming and going ---

    def adopt(self, name: TopicPartition, topic_id: TopicId, topic: TopicConfig) -> StoredLog | BrokenLog:
        """The log of ``name``: the one on disk, or a new one on the directory that holds the fewest.

        A folder left by a deleted topic of the same name is removed first.
        """
        stored = self._stored.get(name)
        if stored is not None and stored.topic_id is not None and stored.topic_id != topic_id:
            _LOGGER.info("%s: the folder of a deleted topic of this name is removed", name)
            self.retire(name)
            stored = None
        if stored is None:
            return self._create(name, topic_id, topic)
        if isinstance(stored, StoredLog):
            stored.log.config = log_config(self._config, topic)
        return stored

    def _create(self, name: TopicPartition, topic_id: TopicId, topic: TopicConfig) -> StoredLog | BrokenLog:
        if not self._directories:
            return BrokenLog(
                directory=self._failed[-1], topic_id=topic_id, reason="every data directory has failed"
            )
        directory = min(self._directories, key=self._load_of)
        try:
            self._check_vacant(directory, name)
            log = Log.open(
                files=self._runtime.files,
                directory=directory.create_partition(name, topic_id),
                config=log_config(self._config, topic),
                clean_shutdown=False,
                now_ms=self._runtime.clock.wall_ms(),
            )
        except GlasslogError as error:
            _LOGGER.error("%s can not be created in %s: %s", name, directory.path, error)
            stored: StoredLog | BrokenLog = BrokenLog(
                directory=directory, topic_id=topic_id, reason=str(error)
            )
        else:
            stored = StoredLog(log=log, directory=directory, topic_id=topic_id, high_watermark=Offset(0))
        self._stored[name] = stored
        return stored

    def _check_vacant(self, directory: LogDirectory, name: TopicPartition) -> None:
        """``StorageError`` for a folder that could not be removed: its records are of another topic."""
        path = directory.partition_path(name)
        if self._runtime.files.exists(path):
            raise StorageError(f"{path}: a deleted topic of this name is still there")

    def _load_of(self, directory: LogDirectory) -> int:
        return sum(stored.directory is directory for stored in self._stored.values())

    def set_config(self, name: TopicPartition, topic: TopicConfig) -> None:
        """A topic's settings changed."""
        stored = self._stored.get(name)
        if isinstance(stored, StoredLog):
            stored.log.config = log_config(self._config, topic)

    def retire(self, name: TopicPartition) -> None:
        """Forget the log of ``name``: its folder is renamed now and removed by ``remove_retired``."""
        stored = self._stored.pop(name, None)
        self._unflushable.discard(name)
        # The checkpoints do not say any more what was written last.
        self._written.clear()
        if stored is None:
            return
        if isinstance(stored, StoredLog):
            stored.log.abandon()
        try:
            path = stored.directory.retire_partition(name, unique=self._runtime.random.uuid())
        except StorageError as error:
            _LOGGER.error("%s can not be removed: %s", name, error)
            return
        if path is not None:
            self._retired.put_nowait((stored.directory, path))

    def retire_strays(self, image: MetadataImage, node_id: int) -> None:
        """Remove what the metadata, once it is known as of now, does not place on this broker."""
        for name, stored in list(self._stored.items()):
            placed = image.partition(name.topic, name.partition)
            is_here = placed is not None and node_id in placed.replicas
            same_id = placed is not None and stored.topic_id in (None, placed.topic_id)
            if not is_here or not same_id:
                _LOGGER.info("%s: its folder belongs to no partition of this broker and is removed", name)
                self.retire(name)

    async def remove_retired(self) -> None:
        """Remove files of deleted partitions off the event loop, until cancelled."""
        while True:
            directory, path = await self._retired.get()
            try:
                await self._runtime.blocking(partial(directory.remove_retired, path))
            except StorageError as error:
                _LOGGER.error("the files of a deleted partition stay behind: %s", error)

    def fail_directory_of(self, name: TopicPartition, reason: str) -> list[TopicPartition]:
        """A disk refused: its directory is used no more. Returns the partitions that it takes along."""
        stored = self._stored.get(name)
        if stored is None:
            return []
        directory = stored.directory
        if directory in self._directories:
            _LOGGER.error("data directory %s failed and is not used any more: %s", directory.path, reason)
            self._directories.remove(directory)
            self._failed.append(directory)
        lost = [each for each, known in self._stored.items() if known.directory is directory]
        for each in lost:
            known = self._stored[each]
            if isinstance(known, StoredLog):
                known.log.abandon()
                self._stored[each] = BrokenLog(
                    directory=directory,
                    topic_id=known.topic_id,
                    reason=reason,
                    high_watermark=known.high_watermark,
                    recovery_point=known.log.recovery_point,
                    log_start_offset=known.log.log_start_offset,
                )
        return lost

    # --- checkpoints ---

    async def checkpoint_high_watermarks(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Write the high watermarks of every directory that changed.

        A log that ``offsets`` does not name, since nobody uses it yet or can, keeps the one it has.
        """
        known = [
            _Reached(name, stored, int(offsets.get(name, stored.high_watermark)))
            for name, stored in self._stored.items()
        ]
        for directory in list(self._directories):
            values = [each for each in known if each.stored.directory is directory]
            await self._checkpoint(directory, "high watermarks", values, directory.write_high_watermarks)

    async def checkpoint_log_starts(self, only: TopicPartition | None = None) -> bool:
        """Write where the logs of every directory begin, or of the one that holds ``only``.

        False when that failed: then no segment below may go.
        """
        known = [_Reached(name, stored, _log_start(stored)) for name, stored in self._stored.items()]
        wanted = None if only is None else self._stored.get(only)
        is_written = True
        for directory in list(self._directories):
            if wanted is None or wanted.directory is directory:
                values = [each for each in known if each.stored.directory is directory]
                write = directory.write_log_start_offsets
                is_written &= await self._checkpoint(directory, "log start offsets", values, write)
        return is_written

    async def _checkpoint(
        self, directory: LogDirectory, what: str, values: list[_Reached], write: _Write
    ) -> bool:
        """Write ``values`` unless the file says so already, without logs that are retired meanwhile.

        False, and a line in the log, when the disk refuses.  A namesake of such a log must not inherit what
        was true of it, not even after a crash.
        """

        def current() -> dict[TopicPartition, int]:
            return {each.name: each.offset for each in values if self._is_kept(each)}

        key = f"{directory.path} {what}"
        written = self._written.get(key)
        try:
            while written != (written := current()):
                await self._runtime.blocking(lambda: write(current()))
        except StorageError as error:
            self._written.pop(key, None)
            _LOGGER.error("%s are not written: %s", what, error)
            return False
        self._written[key] = written
        return True

    def _is_kept(self, reached: _Reached) -> bool:
        stored = self._stored.get(reached.name)
        return stored is not None and stored.topic_id == reached.stored.topic_id

    async def flush_closed_segments(self) -> None:
        """Sync the logs that have begun a new segment since, and write how far each is durable."""
        for name, stored in list(self._stored.items()):
            if isinstance(stored, StoredLog) and name not in self._unflushable:
                log = stored.log
                if log.segment_base_offsets[-1] > log.recovery_point:
                    await self._flush(name, log)
        for directory in list(self._directories):
            await self._checkpoint_recovery_points(directory)

    async def _flush(self, name: TopicPartition, log: Log) -> None:
        pending: PendingFlush | None = None
        try:
            pending = log.begin_flush()
            if pending is not None:
                await self._runtime.blocking(pending.sync)
                log.complete_flush(pending)
        except StorageError as error:
            _LOGGER.error("%s can not be synced: %s", name, error)
            self._unflushable.add(name)
            if pending is not None:
                log.fail_flush(pending, error)

    async def _checkpoint_recovery_points(self, directory: LogDirectory) -> None:
        values = [
            _Reached(name, stored, _recovery_point(stored))
            for name, stored in self._stored.items()
            if stored.directory is directory
        ]
        await self._checkpoint(directory, "recovery points", values, directory.write_recovery_points)

    # --- the end ---

    async def close(
        self, *, high_watermarks: Mapping[TopicPartition, int], broker_epoch: int = NO_BROKER_EPOCH
    ) -> None:
        """Sync and close every log; a directory where that succeeds need not be recovered next time.

        One that holds a log which could not be opened does: nobody has recovered that.
        """
        await self.checkpoint_high_watermarks(high_watermarks)
        await self.checkpoint_log_starts()
        for directory in self._directories:
            if await self._close_logs(directory):
                try:
                    await self._runtime.blocking(partial(directory.close, broker_epoch=broker_epoch))
                except StorageError as error:
                    _LOGGER.error("%s will be recovered at the next start: %s", directory.path, error)
            else:
                directory.abandon()
        for directory in self._failed:
            directory.abandon()

    async def _close_logs(self, directory: LogDirectory) -> bool:
        is_clean = True
        recovery_points: dict[TopicPartition, int] = {}
        for name, stored in self._stored.items():
            if stored.directory is not directory:
                continue
            try:
                if isinstance(stored, StoredLog):
                    await self._runtime.blocking(stored.log.close)
                else:
                    is_clean = False
            except StorageError as error:
                _LOGGER.error("%s did not close: %s", name, error)
                is_clean = False
            recovery_points[name] = _recovery_point(stored)
        try:
            await self._runtime.blocking(lambda: directory.write_recovery_points(recovery_points))
        except StorageError as error:
            _LOGGER.error("recovery points are not written: %s", error)
            return False
        return is_clean

    def abandon(self) -> None:
        """Give everything back as a crash would."""
        for stored in self._stored.values():
            if isinstance(stored, StoredLog):
                stored.log.abandon()
        for directory in [*self._directories, *self._failed]:
            directory.abandon()


def _recovery_point(stored: StoredLog | BrokenLog) -> int:
    return stored.recovery_point if isinstance(stored, BrokenLog) else stored.log.recovery_point


def _log_start(stored: StoredLog | BrokenLog) -> int:
    return stored.log_start_offset if isinstance(stored, BrokenLog) else stored.log.log_start_offset


def _topic_id(directory: LogDirectory, name: TopicPartition) -> TopicId | None:
    try:
        return directory.topic_id_of(name)
    except StorageError as error:
        _LOGGER.error("%s: its topic id can not be read: %s", name, error)
        return None
