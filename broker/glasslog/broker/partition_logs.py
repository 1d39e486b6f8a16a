"""The logs on this broker's disks: recovered at the start, made and removed as topics come and go.

This module knows data directories, placement, checkpoints and deletion; it refuses to know roles and
replication.  A directory that fails takes only its own logs along.  Source: Kafka's ``LogManager``.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from glasslog.broker.directory_sizes import DirectorySizes, ReplicaSize
from glasslog.broker.log_creation import NewLog, WantedLog, create, create_all
from glasslog.broker.log_exchange import CompleteCopy, ExchangeFailed, exchange
from glasslog.broker.log_recovery import LogRecovery, RecoveryProgress, open_found
from glasslog.broker.stored_logs import BrokenLog, Found, StoredLog
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import NO_BROKER_EPOCH, Offset, TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import Runtime
from glasslog.common.topic_config import TopicConfig, topic_config
from glasslog.log.batch import Compression, TimestampType
from glasslog.log.config import LogConfig, RecordPolicy
from glasslog.log.directories import MissingDirectory
from glasslog.log.directory import FutureFolder, LogDirectory
from glasslog.log.flushing import PendingFlush
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import UNASSIGNED_DIRECTORY

_LOGGER = logging.getLogger(__name__)

OnFailedDirectory = Callable[[str, Sequence[TopicPartition]], None]
"""Told of the reason and of the partitions that are lost with a directory."""

_Write = Callable[[Mapping[TopicPartition, int]], None]
_RECOVERY_POINTS = "recovery points"
_LOG_STARTS = "log start offsets"

MAX_WISHES = 100_000
"""Replicas not here yet for which a directory is remembered; of more the oldest are forgotten."""


class _Reached(NamedTuple):
    """How far a log has come, to be written to a checkpoint while it is still the log of that name."""

    name: TopicPartition
    stored: StoredLog | BrokenLog
    offset: int


_COMPRESSIONS: Mapping[str, Compression | None] = {
    "producer": None,
    "uncompressed": Compression.NONE,
    **{codec.name.lower(): codec for codec in Compression if codec is not Compression.NONE},
}
"""What ``compression.type`` calls them; None: as the producer compressed."""


def log_config(node: NodeConfig, topic: TopicConfig) -> LogConfig:
    """A topic's settings as its logs need them."""
    is_compacted = "compact" in topic.cleanup_policy
    return LogConfig(
        segment_bytes=topic.segment_bytes,
        # A record in the active segment is never compacted, so that must not be for longer than asked for.
        segment_ms=min(topic.segment_ms, topic.max_compaction_lag_ms) if is_compacted else topic.segment_ms,
        segment_jitter_ms=topic.segment_jitter_ms,
        segment_index_bytes=topic.segment_index_bytes,
        flush_messages=topic.flush_messages,
        flush_ms=topic.flush_ms,
        index_interval_bytes=topic.index_interval_bytes,
        max_message_bytes=topic.max_message_bytes,
        retention_bytes=topic.retention_bytes,
        retention_ms=topic.retention_ms,
        file_delete_delay_ms=topic.file_delete_delay_ms,
        is_deleted="delete" in topic.cleanup_policy,
        is_compacted=is_compacted,
        delete_retention_ms=topic.delete_retention_ms,
        min_compaction_lag_ms=topic.min_compaction_lag_ms,
        max_compaction_lag_ms=topic.max_compaction_lag_ms,
        min_cleanable_dirty_ratio=topic.min_cleanable_dirty_ratio,
        records=_record_policy(topic),
        producer_id_expiration_ms=node.producer_id_expiration_ms,
    )


def _record_policy(topic: TopicConfig) -> RecordPolicy:
    appends_time = topic.message_timestamp_type == "LogAppendTime"
    return RecordPolicy(
        timestamp_type=TimestampType.LOG_APPEND_TIME if appends_time else TimestampType.CREATE_TIME,
        before_max_ms=topic.message_timestamp_before_max_ms,
        after_max_ms=topic.message_timestamp_after_max_ms,
        compression=_COMPRESSIONS[topic.compression_type],
        needs_keys="compact" in topic.cleanup_policy,
    )


class PartitionLogs:
    """Every log in ``directories``, which are open already and are closed with it.

    ``missing`` are those of ``log.dirs`` that could not be opened.  ``on_failed_directory`` is told of every
    directory that fails, why, and which partitions it takes along.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        config: NodeConfig,
        directories: Sequence[LogDirectory],
        missing: Sequence[MissingDirectory] = (),
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._directories = list(directories)
        self._missing = tuple(missing)
        self._failed: list[LogDirectory] = []
        self._stored: dict[TopicPartition, StoredLog | BrokenLog] = {}
        self._recovery_points = asyncio.Lock()
        """Held by who writes them: what is older must not be written last."""
        self._shadowed: dict[TopicPartition, list[Found]] = {}
        self._flushed_ms: dict[TopicPartition, int] = {}
        self._started_ms = runtime.clock.now_ms()
        self._retired: asyncio.Queue[tuple[LogDirectory, str]] = asyncio.Queue()
        self._written: dict[str, dict[TopicPartition, int]] = {}
        self._writes_on_their_way = 0
        self._wishes: dict[TopicPartition, str] = {}
        """Directories that were named for replicas which are not here yet."""
        self._counts = dict.fromkeys((directory.path for directory in directories), 0)
        self._recovery = LogRecovery(
            runtime=runtime,
            config=log_config(config, topic_config(config, {})),
            threads_per_directory=config.num_recovery_threads_per_data_dir,
        )
        self.on_failed_directory: OnFailedDirectory = _ignore_failure
        for each in missing:
            _LOGGER.error("data directory %s is not used: %s", each.path, each.reason)

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def has_directory(self) -> bool:
        """Whether any data directory is still in use."""
        return bool(self._directories)

    @property
    def offline_directory_ids(self) -> tuple[bytes, ...]:
        """Of directories that have failed since the start."""
        return tuple(directory.directory_id for directory in self._failed)

    @property
    def recovery_progress(self) -> RecoveryProgress:
        """How far ``recover`` is."""
        return self._recovery.progress

    # --- the start ---

    async def recover(self) -> None:
        """Open every log, off the event loop; a log that can not be opened is noted and left alone."""
        recovered = await self._recovery.run(self._directories)
        self._shadowed = recovered.shadowed
        for name, stored in recovered.stored.items():
            self._store(name, stored)
        for directory, reason in recovered.failed:
            self.fail_directory(directory, reason)

    def _store(self, name: TopicPartition, stored: StoredLog | BrokenLog) -> None:
        self._forget(name)
        self._stored[name] = stored
        if isinstance(stored, StoredLog):
            stored.log.lower_log_start = partial(self._lower_log_start, name, stored.directory)
        if stored.directory.path in self._counts:
            self._counts[stored.directory.path] += 1

    def _forget(self, name: TopicPartition) -> StoredLog | BrokenLog | None:
        stored = self._stored.pop(name, None)
        if stored is not None and stored.directory.path in self._counts:
            self._counts[stored.directory.path] -= 1
        return stored

    # --- coming and going ---

    def adopt(
        self,
        name: TopicPartition,
        topic_id: TopicId,
        topic: TopicConfig,
        *,
        directory_id: bytes = UNASSIGNED_DIRECTORY,
    ) -> StoredLog | BrokenLog:
        """The log of ``name``: the one on disk, or a new one in the directory that holds the fewest.

        ``directory_id`` is where the metadata says that it lies.  A folder left by a deleted topic of the
        same name is removed first.
        """
        self._settle_shadowed(name, topic_id, directory_id)
        stored = self._stored.get(name)
        if isinstance(stored, StoredLog) and self._may_be_stale(stored, directory_id):
            stored = self._lay_aside(name, stored)
        if stored is not None and stored.topic_id is not None and stored.topic_id != topic_id:
            _LOGGER.info("%s: the folder of a deleted topic of this name is removed", name)
            self.retire(name)
            stored = None
        if stored is None:
            wanted = WantedLog(name=name, topic_id=topic_id, topic=topic, directory_id=directory_id)
            stored = self._unusable(topic_id, directory_id) or create(
                self._runtime.files,
                self._new_log(wanted, self._counts),
                now_ms=self._runtime.clock.wall_ms(),
            )
            self._store(name, stored)
        elif isinstance(stored, StoredLog):
            stored.log.config = log_config(self._config, topic)
            if stored.topic_id is None:
                stored = self._claim(name, stored, topic_id)
        return stored

    def _may_be_stale(self, stored: StoredLog, directory_id: bytes) -> bool:
        """Whether the metadata names another directory, which may be one of those that are missing."""
        here = [each.directory_id for each in self._directories]
        return bool(self._missing) and directory_id not in (UNASSIGNED_DIRECTORY, *here)

    def _lay_aside(self, name: TopicPartition, stored: StoredLog) -> BrokenLog:
        stored.log.abandon()
        paths = ", ".join(each.path for each in self._missing)
        broken = BrokenLog(
            directory=stored.directory,
            topic_id=stored.topic_id,
            reason=f"it lay in a directory that is missing, of {paths}: what is here may be older",
            high_watermark=stored.high_watermark,
            recovery_point=stored.recovery_point,
            log_start_offset=stored.log_start_offset,
            cleaner_offset=stored.cleaner_offset,
        )
        self._store(name, broken)
        return broken

    def _claim(self, name: TopicPartition, stored: StoredLog, topic_id: TopicId) -> StoredLog | BrokenLog:
        """A folder that does not say whose it is says so from now on, or a later namesake would take it."""
        try:
            stored.directory.create_partition(name, topic_id)
        except StorageError as error:
            self.fail_directory(stored.directory, str(error))
            return self._stored[name]
        claimed = replace(stored, topic_id=topic_id)
        self._store(name, claimed)
        return claimed

    def _settle_shadowed(self, name: TopicPartition, topic_id: TopicId, directory_id: bytes) -> None:
        """Of several folders of a partition the one that the metadata names counts; the others go.

        First of all it must be the same topic's: one may be what is left of a deleted namesake.
        """
        others = self._shadowed.pop(name, [])
        if not others:
            return
        stored = self._stored[name]

        def fits(found_id: TopicId | None, found_in: bytes) -> tuple[bool, bool]:
            return found_id == topic_id, found_in == directory_id

        best = max(others, key=lambda each: fits(_topic_id(each), each.directory.directory_id))
        if fits(_topic_id(best), best.directory.directory_id) > fits(stored.topic_id, stored.directory_id):
            config = log_config(self._config, topic_config(self._config, {}))
            opened = open_found(self._runtime, config, best)
            _LOGGER.info("%s: by the metadata it lies in %s", name, best.directory.path)
            if isinstance(opened, BrokenLog):
                # Whoever mends it may want to look at the others.
                if isinstance(stored, StoredLog):
                    stored.log.abandon()
                self._store(name, opened)
                return
            self.retire(name)
            self._store(name, opened)
            others.remove(best)
        for each in others:
            self._put_aside(each.directory, name)

    def lacking_records(self) -> list[tuple[TopicPartition, TopicId | None]]:
        """Logs that are not open since synced records are damaged or gone."""
        return [
            (name, stored.topic_id)
            for name, stored in self._stored.items()
            if isinstance(stored, BrokenLog) and stored.lacks_records
        ]

    async def open_without_lost(self, name: TopicPartition) -> bool:
        """Cut a log that lacks records in front of them and open it; False when that can not be."""
        stored = self._stored[name]
        if not isinstance(stored, BrokenLog) or not isinstance(stored.directory, LogDirectory):
            return False
        found = Found(
            name=name,
            directory=stored.directory,
            recovery_point=stored.recovery_point,
            log_start_offset=stored.log_start_offset,
            cleaner_offset=stored.cleaner_offset,
            high_watermark=Offset(stored.high_watermark),
        )
        config = log_config(self._config, topic_config(self._config, {}))
        opened = await self._runtime.blocking(
            partial(open_found, self._runtime, config, found, may_cut_synced=True)
        )
        if self._stored.get(name) is not stored or stored.directory not in self._directories:
            if isinstance(opened, StoredLog):
                opened.log.abandon()
            return False
        self._store(name, opened)
        return isinstance(opened, StoredLog)

    def _unusable(self, topic_id: TopicId, directory_id: bytes) -> BrokenLog | None:
        """Why a log that is not here must not be made anew: where it lies can not be read."""
        if not self._directories:
            return BrokenLog(
                directory=self._failed[-1], topic_id=topic_id, reason="every data directory has failed"
            )
        failed = [each for each in self._failed if each.directory_id == directory_id]
        if failed:
            return BrokenLog(directory=failed[0], topic_id=topic_id, reason=f"{failed[0].path} has failed")
        here = [each.directory_id for each in self._directories]
        if directory_id in (UNASSIGNED_DIRECTORY, *here) or not self._missing:
            return None
        paths = ", ".join(each.path for each in self._missing)
        return BrokenLog(
            directory=self._missing[0], topic_id=topic_id, reason=f"it may lie in {paths}: not usable"
        )

    async def create_ahead(self, wanted: Sequence[WantedLog]) -> None:
        """Make those of the ``wanted`` logs that ``adopt`` would have to make, off the event loop."""
        new: dict[TopicPartition, NewLog] = {}
        counts = dict(self._counts)
        for each in wanted:
            if each.name in self._stored or self._unusable(each.topic_id, each.directory_id):
                continue
            new[each.name] = made = self._new_log(each, counts)
            counts[made.directory.path] += 1
        for name, stored in (await create_all(self._runtime, list(new.values()))).items():
            if name not in self._stored and new[name].directory in self._directories:
                self._store(name, stored)
            elif isinstance(stored, StoredLog):
                # Its disk failed meanwhile, which says the same of it.
                stored.log.abandon()

    def _new_log(self, wanted: WantedLog, counts: Mapping[str, int]) -> NewLog:
        """Where somebody wished it, or the metadata names, or else in the directory that holds the fewest."""
        wish = self._wishes.pop(wanted.name, None)
        named = [each for each in self._directories if each.path == wish]
        named += [each for each in self._directories if each.directory_id == wanted.directory_id]
        return NewLog(
            name=wanted.name,
            topic_id=wanted.topic_id,
            config=log_config(self._config, wanted.topic),
            directory=named[0] if named else min(self._directories, key=lambda each: counts[each.path]),
        )

    def sizes(self) -> list[DirectorySizes]:
        """What lies in which directory, in the order of partitions."""
        found: dict[str, list[ReplicaSize]] = {each.path: [] for each in self._directories}
        for name, stored in sorted(self._stored.items()):
            if isinstance(stored, StoredLog) and stored.directory.path in found:
                size = ReplicaSize(name=name, size_bytes=stored.log.size_bytes)
                found[stored.directory.path].append(size)
        online = [
            DirectorySizes(path=path, is_online=True, replicas=tuple(sizes)) for path, sizes in found.items()
        ]
        lost = [each.path for each in self._failed] + [each.path for each in self._missing]
        return online + [DirectorySizes(path=path, is_online=False) for path in lost]

    # --- from one directory to another ---

    @property
    def directories(self) -> Sequence[LogDirectory]:
        """Those in use."""
        return tuple(self._directories)

    @property
    def has_lost_directories(self) -> bool:
        """Whether any of ``log.dirs`` is not in use."""
        return bool(self._failed or self._missing)

    def directory_at(self, path: str) -> LogDirectory:
        """The directory of that name. Raises LOG_DIR_NOT_FOUND, or KAFKA_STORAGE_ERROR when it has failed."""
        for directory in self._directories:
            if directory.path == path:
                return directory
        if path in [each.path for each in self._failed] + [each.path for each in self._missing]:
            raise StorageError(f"data directory {path} has failed")
        raise GlasslogError(ErrorCode.LOG_DIR_NOT_FOUND, f"{path} is none of log.dirs")

    def wish(self, name: TopicPartition, path: str) -> None:
        """Let the log of ``name`` be made in ``path`` when it comes to this broker; until the next start."""
        self._wishes.pop(name, None)
        self._wishes[name] = path
        if len(self._wishes) > MAX_WISHES:
            del self._wishes[next(iter(self._wishes))]

    def find(self, name: TopicPartition) -> StoredLog | BrokenLog | None:
        """What there is of a partition."""
        return self._stored.get(name)

    @property
    def is_checkpointing(self) -> bool:
        """Whether a checkpoint is being written, which might undo what ``exchange`` writes to it."""
        return self._writes_on_their_way > 0

    def exchange(self, copy: CompleteCopy) -> StoredLog | BrokenLog:
        """Let ``copy`` be the log from now on; blocks a little. Raises ``StorageError``: nothing has changed.

        A disk that refuses has failed, and takes along what lies in it.
        """
        name = copy.folder.partition
        stored = self._stored[name]
        assert isinstance(stored, StoredLog)
        try:
            exchanged = exchange(self._runtime, stored, copy)
        except ExchangeFailed as error:
            self.fail_directory(error.directory, str(error))
            raise
        self._written.clear()
        self._store(name, exchanged.stored)
        self._retired.put_nowait((stored.directory, exchanged.retired))
        if isinstance(exchanged.stored, BrokenLog):
            self.fail_directory(copy.directory, exchanged.stored.reason)
        try:
            stored.directory.forget(name)
        except StorageError as error:
            self.fail_directory(stored.directory, str(error))
        return exchanged.stored

    def discard_future(self, directory: LogDirectory, folder: FutureFolder) -> None:
        """Give up a replica on its way to ``directory``; its files are removed in the background."""
        if directory not in self._directories:
            return
        try:
            path = directory.discard_future(folder, unique=self._runtime.random.uuid())
        except StorageError as error:
            _LOGGER.error("what was copied of %s stays behind: %s", folder.partition, error)
        else:
            self._retired.put_nowait((directory, path))

    def set_config(self, name: TopicPartition, topic: TopicConfig) -> None:
        """A topic's settings changed."""
        stored = self._stored.get(name)
        if isinstance(stored, StoredLog):
            stored.log.config = log_config(self._config, topic)

    def retire(self, name: TopicPartition) -> None:
        """Forget the log of ``name``: its folder is renamed now and removed by ``remove_retired``."""
        stored = self._forget(name)
        self._flushed_ms.pop(name, None)
        # The checkpoints do not say any more what was written last.
        self._written.clear()
        if stored is None or isinstance(stored.directory, MissingDirectory):
            return
        if isinstance(stored, StoredLog):
            stored.log.abandon()
        self._put_aside(stored.directory, name)

    def _put_aside(self, directory: LogDirectory, name: TopicPartition) -> None:
        if directory in self._failed:
            # It is not touched any more; the metadata says at a later start whose the folder is.
            return
        try:
            path = directory.retire_partition(name, unique=self._runtime.random.uuid())
        except StorageError as error:
            _LOGGER.error("%s can not be removed: %s", name, error)
            return
        if path is not None:
            self._retired.put_nowait((directory, path))

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

    # --- failures ---

    def fail_directory_of(self, name: TopicPartition, reason: str) -> None:
        """A log's disk refused: see ``fail_directory``."""
        stored = self._stored.get(name)
        if stored is not None and isinstance(stored.directory, LogDirectory):
            self.fail_directory(stored.directory, reason)

    def fail_directory(self, directory: LogDirectory, reason: str) -> None:
        """A disk refused: its directory is used no more, and all that lies in it is offline (KIP-112)."""
        if directory not in self._directories:
            return
        _LOGGER.error("data directory %s failed and is not used any more: %s", directory.path, reason)
        self._directories.remove(directory)
        self._failed.append(directory)
        lost = [name for name, known in self._stored.items() if known.directory is directory]
        for name in lost:
            known = self._stored[name]
            if isinstance(known, StoredLog):
                known.log.abandon()
                self._stored[name] = BrokenLog(
                    directory=directory,
                    topic_id=known.topic_id,
                    reason=reason,
                    high_watermark=known.high_watermark,
                    recovery_point=known.recovery_point,
                    log_start_offset=known.log_start_offset,
                    cleaner_offset=known.cleaner_offset,
                )
        self.on_failed_directory(reason, lost)

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
        wanted = None if only is None else self._stored.get(only)
        is_written = True
        for directory in list(self._directories):
            if wanted is None or wanted.directory is directory:
                is_written &= await self._checkpoint_log_starts(directory)
        return is_written

    async def _checkpoint_log_starts(self, directory: LogDirectory) -> bool:
        """A truncation may take a start back while it is written; then it is written again."""
        while True:
            values = [
                _Reached(name, stored, stored.log_start_offset)
                for name, stored in self._stored.items()
                if stored.directory is directory
            ]
            write = directory.write_log_start_offsets
            if not await self._checkpoint(directory, _LOG_STARTS, values, write):
                return False
            if all(each.stored.log_start_offset >= each.offset for each in values):
                return True

    def _lower_log_start(self, name: TopicPartition, directory: LogDirectory, offset: int) -> None:
        """Of a log that is about to be cut below its start."""
        self._written.pop(f"{directory.path} {_LOG_STARTS}", None)
        directory.lower_log_start_offset(name, offset)

    async def checkpoint_cleaner_offsets(self, of: TopicPartition) -> None:
        """Write how far the cleaner has been in the logs of the directory that holds ``of``.

        A truncation may lower one while that is written; then it is written again.
        """
        stored = self._stored.get(of)
        if not isinstance(stored, StoredLog):
            return
        directory, written = stored.directory, dict[TopicPartition, int]()
        try:
            while written != (written := self._cleaner_offsets(directory)):
                await self._write(partial(directory.write_cleaner_offsets, written))
        except StorageError as error:
            self.fail_directory(directory, f"cleaner offsets are not written: {error}")

    def _cleaner_offsets(self, directory: LogDirectory) -> dict[TopicPartition, int]:
        return {
            name: stored.cleaner_offset
            for name, stored in self._stored.items()
            if stored.directory is directory and stored.cleaner_offset
        }

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
                await self._write(lambda: write(current()))
        except StorageError as error:
            self._written.pop(key, None)
            self.fail_directory(directory, f"{what} are not written: {error}")
            return False
        self._written[key] = written
        return True

    async def _write(self, checkpoint: Callable[[], None]) -> None:
        self._writes_on_their_way += 1
        try:
            await self._runtime.blocking(checkpoint)
        finally:
            self._writes_on_their_way -= 1

    def _is_kept(self, reached: _Reached) -> bool:
        stored, was = self._stored.get(reached.name), reached.stored
        return stored is not None and (stored.topic_id, stored.directory) == (was.topic_id, was.directory)

    async def flush_closed_segments(self) -> None:
        """Sync the logs that have begun a new segment since, and write how far each is durable."""
        for name, stored in list(self._stored.items()):
            if (
                isinstance(stored, StoredLog)
                and self._stored.get(name) is stored
                and stored.log.segment_base_offsets[-1] > stored.recovery_point
            ):
                await self._flush(name, stored)
        for directory in list(self._directories):
            await self._checkpoint_recovery_points(directory)

    async def flush_overdue(self) -> None:
        """Sync the logs with records that are not synced and whose ``flush.ms`` are over."""
        for name, stored in list(self._stored.items()):
            if not isinstance(stored, StoredLog) or self._stored.get(name) is not stored:
                continue
            log, now_ms = stored.log, self._runtime.clock.now_ms()
            last_ms = self._flushed_ms.setdefault(name, self._started_ms)
            if log.log_end_offset > log.recovery_point and now_ms - last_ms >= log.config.flush_ms:
                self._flushed_ms[name] = now_ms
                await self._flush(name, stored)

    async def flush(self, name: TopicPartition) -> None:
        """Make all of a log durable, off the event loop."""
        stored = self._stored.get(name)
        if isinstance(stored, StoredLog):
            await self._flush(name, stored)

    async def _flush(self, name: TopicPartition, stored: StoredLog) -> None:
        log = stored.log
        pending: PendingFlush | None = None
        try:
            pending = log.begin_flush()
            if pending is not None:
                await self._runtime.blocking(pending.sync)
                log.complete_flush(pending)
        except StorageError as error:
            # What of its data is on the disk is not known any more, whichever file it was.
            if pending is not None:
                log.fail_flush(pending, error)
            if self._stored.get(name) is stored:
                self.fail_directory(stored.directory, str(error))

    async def settle(self, name: TopicPartition, *, up_to: int) -> None:
        """Make a log durable below ``up_to``, and that it is: no recovery learns from that part again.

        Most often both have been done long before.  A disk that refuses fails as in any flush: the caller
        finds the partition offline.
        """
        stored = self._stored.get(name)
        if isinstance(stored, StoredLog) and stored.log.recovery_point < up_to:
            await self._flush(name, stored)
        if stored is not None and isinstance(stored.directory, LogDirectory):
            written = self._written.get(f"{stored.directory.path} {_RECOVERY_POINTS}", {})
            if written.get(name, 0) < up_to:
                await self._checkpoint_recovery_points(stored.directory)

    async def _checkpoint_recovery_points(self, directory: LogDirectory) -> None:
        async with self._recovery_points:
            values = [
                _Reached(name, stored, stored.recovery_point)
                for name, stored in self._stored.items()
                if stored.directory is directory
            ]
            await self._checkpoint(directory, _RECOVERY_POINTS, values, directory.write_recovery_points)

    # --- the end ---

    async def close(
        self, *, high_watermarks: Mapping[TopicPartition, int], broker_epoch: int = NO_BROKER_EPOCH
    ) -> None:
        """Sync and close every log; a directory where that succeeds need not be recovered next time.

        One that holds a log which could not be opened does: nobody has recovered that.
        """
        await self.checkpoint_high_watermarks(high_watermarks)
        await self.checkpoint_log_starts()
        for directory in list(self._directories):
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
        """Whether all of them were closed in order; a few at a time, each waits for the disk."""
        here = [(name, stored) for name, stored in self._stored.items() if stored.directory is directory]
        threads = min(self._config.num_recovery_threads_per_data_dir, len(here))
        shares = (partial(_close_all, here[start::threads]) for start in range(threads))
        is_clean = all(await asyncio.gather(*map(self._runtime.blocking, shares)))
        recovery_points = {name: stored.recovery_point for name, stored in here}
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


def _close_all(logs: Sequence[tuple[TopicPartition, StoredLog | BrokenLog]]) -> bool:
    """Blocks, in any thread; True when each of them needs no recovery."""
    is_clean = True
    for name, stored in logs:
        try:
            if isinstance(stored, StoredLog):
                stored.log.close()
            else:
                is_clean = False
        except StorageError as error:
            _LOGGER.error("%s did not close: %s", name, error)
            is_clean = False
    return is_clean


def _topic_id(found: Found) -> TopicId | None:
    try:
        return found.directory.topic_id_of(found.name)
    except StorageError:
        return None


def _ignore_failure(reason: str, lost: Sequence[TopicPartition]) -> None:
    return
