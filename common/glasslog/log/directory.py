"""A data directory: its lock, its identity, its partition folders and its checkpoints.

This module knows what lies at the top of one of ``log.dirs``; it refuses to know what is inside a log.
Whatever the OS refuses is a ``StorageError`` that says which path and why.
Source: Kafka's ``LogManager``, ``CleanShutdownFileHandler``, KIP-858 for directory ids.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from glasslog.common.errors import StorageError
from glasslog.common.ids import NO_BROKER_EPOCH, TopicId, TopicPartition, format_uuid, parse_uuid
from glasslog.common.runtime.protocols import FileLock, FileSystem
from glasslog.log.checkpoint import (
    CLEANER_OFFSET_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE,
    PARTITION_METADATA_FILE,
    RECOVERY_POINT_FILE,
    MetaProperties,
    begin_topic_id,
    finish_topic_id,
    read_meta_properties,
    read_offsets,
    read_topic_id,
    write_meta_properties,
    write_offsets,
    write_topic_id,
)
from glasslog.log.folders import make_durable_folder

LOCK_FILE = ".lock"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
_DELETE_SUFFIX = "-delete"
_TOPIC_PARTITION = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})")
_DELETED = re.compile(r".*\.[0-9a-f]{32}-delete")
_FUTURE_SUFFIX = "-future"
_FUTURE = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})\.[0-9a-f]{32}-future")
_MAX_NAME_BYTES = 255
_MAX_EPOCH = (1 << 63) - 1
_CHECKPOINT_FILES = (
    RECOVERY_POINT_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_OFFSET_FILE,
    CLEANER_OFFSET_FILE,
)

_Result = TypeVar("_Result")


class MisplacedDirectory(StorageError):  # noqa: N818 - says what the directory is
    """It belongs to another cluster or node, or another process uses it: nothing that a disk does."""


class FutureFolder(NamedTuple):
    """A replica on its way into a directory: whose it is, and where. No partition until it is complete."""

    partition: TopicPartition
    path: str


def has_future_name(partition: TopicPartition) -> bool:
    """Whether the folder's name is short enough for the OS (KAFKA-4893)."""
    return len(f"{partition}.{'0' * 32}{_FUTURE_SUFFIX}") <= _MAX_NAME_BYTES


class LogDirectory:
    """One locked data directory. Make one with ``LogDirectory.open``; end with ``close`` or ``abandon``.

    ``clean_shutdown`` says whether its last user closed every log in order; ``previous_broker_epoch`` is what
    that user wrote then, -1 if unknown.
    """

    def __init__(
        self,
        *,
        files: FileSystem,
        path: str,
        lock: FileLock,
        properties: MetaProperties,
        clean_shutdown: bool,
        previous_broker_epoch: int,
    ) -> None:
        self._files = files
        self._lock = lock
        self.path = path
        self.properties = properties
        self.clean_shutdown = clean_shutdown
        self.previous_broker_epoch = previous_broker_epoch

    @classmethod
    def open(
        cls, *, files: FileSystem, path: str, cluster_id: str, node_id: int, new_directory_id: bytes
    ) -> "LogDirectory":
        """Create the directory if it is missing, lock it, check whose it is.

        ``new_directory_id`` (16 random bytes) is used when the directory is new.  Raises ``StorageError``
        when it can not be written, is in use, or belongs to another cluster or node.
        """
        _attempt(path, "can not be created", lambda: make_durable_folder(files, path))
        lock = _lock(files, path)
        try:
            properties = _identify(files, path, cluster_id, node_id, new_directory_id)
            clean, broker_epoch = _take_clean_shutdown(files, path)
        except BaseException:
            lock.release()
            raise
        directory = cls(
            files=files,
            path=path,
            lock=lock,
            properties=properties,
            clean_shutdown=clean,
            previous_broker_epoch=broker_epoch,
        )
        directory._finish_deletions()
        return directory

    @property
    def directory_id(self) -> bytes:
        """Sixteen bytes by which controllers know it."""
        return parse_uuid(self.properties.directory_id)

    # --- partitions -------------------------------------------------------------------------------------

    def partitions(self) -> list[TopicPartition]:
        """Every partition that has a folder here, sorted."""
        found = []
        for name in self._list():
            match = _TOPIC_PARTITION.fullmatch(name)
            if match and self._files.is_dir(f"{self.path}/{name}"):
                found.append(TopicPartition(match[1], int(match[2])))
        return sorted(found)

    def partition_path(self, partition: TopicPartition) -> str:
        return f"{self.path}/{partition}"

    def create_partition(self, partition: TopicPartition, topic_id: TopicId) -> str:
        """Make the partition's folder with its topic id, durably; returns its path. Idempotent."""
        path = self.partition_path(partition)
        self._attempt(path, "can not be created", lambda: make_durable_folder(self._files, path))
        write_topic_id(self._files, f"{path}/{PARTITION_METADATA_FILE}", topic_id)
        return path

    def make_folder(self, partition: TopicPartition) -> None:
        """Make a partition's folder, durable once ``sync_folders`` was called, for many at one time."""
        path = self.partition_path(partition)
        self._attempt(path, "can not be created", lambda: self._files.make_dirs(path))

    def sync_folders(self) -> None:
        """Make the folders of partitions durable; not what is in them."""
        self._sync()

    def begin_partition(self, partition: TopicPartition, topic_id: TopicId) -> None:
        """Put a new partition's topic id into its folder, without waiting for the disk."""
        path = self.partition_path(partition)
        begin_topic_id(self._files, f"{path}/{PARTITION_METADATA_FILE}", topic_id)

    def finish_partition(self, partition: TopicPartition) -> str:
        """Let the topic id count; returns the folder's path. Durable once the folder is synced."""
        path = self.partition_path(partition)
        finish_topic_id(self._files, f"{path}/{PARTITION_METADATA_FILE}")
        return path

    def topic_id_of(self, partition: TopicPartition) -> TopicId | None:
        """The topic id that a partition's folder was made for; None when it does not say."""
        return read_topic_id(self._files, f"{self.partition_path(partition)}/{PARTITION_METADATA_FILE}")

    def delete_partition(self, partition: TopicPartition, *, unique: bytes) -> None:
        """Remove a partition's folder and its checkpoints; ``unique`` is 16 random bytes.

        The folder is renamed first, so that a crash half-way leaves nothing that looks like a partition, and
        the checkpoints go before, so that a namesake does not inherit them.  The log must be closed.
        """
        retired = self.retire_partition(partition, unique=unique)
        if retired is not None:
            self.remove_retired(retired)

    def retire_partition(self, partition: TopicPartition, *, unique: bytes) -> str | None:
        """The quick half of ``delete_partition``: a namesake may be created at once.

        Returns the folder that is left for ``remove_retired``, which any thread may call.
        """
        path = self.partition_path(partition)
        self.forget(partition)
        if not self._files.exists(path):
            return None
        return self._put_aside(path, partition, unique)

    def _put_aside(self, path: str, partition: TopicPartition, unique: bytes) -> str:
        suffix = f".{unique.hex()}{_DELETE_SUFFIX}"
        target = f"{self.path}/{str(partition)[: _MAX_NAME_BYTES - len(suffix)]}{suffix}"
        self._rename(path, target)
        return target

    def _rename(self, path: str, target: str) -> None:
        """Durably."""
        self._attempt(path, "can not be renamed", lambda: self._files.rename(path, target))
        self._sync()

    def remove_retired(self, path: str) -> None:
        """Remove the files of a retired partition."""
        self._remove_tree(path)

    def _finish_deletions(self) -> None:
        for name in self._list():
            if _DELETED.fullmatch(name):
                self._remove_tree(f"{self.path}/{name}")

    def _remove_tree(self, path: str) -> None:
        self._attempt(path, "can not be removed", lambda: self._files.remove_tree(path))

    def forget_absent(self) -> None:
        """No checkpoint may speak of a partition that has left: a namesake would inherit what it says."""
        present = set(self.partitions())
        for name in _CHECKPOINT_FILES:
            offsets = read_offsets(self._files, f"{self.path}/{name}")
            kept = {partition: offset for partition, offset in offsets.items() if partition in present}
            if len(kept) != len(offsets):
                write_offsets(self._files, f"{self.path}/{name}", kept)

    def _forget(self, name: str, partition: TopicPartition) -> None:
        offsets = read_offsets(self._files, f"{self.path}/{name}")
        if offsets.pop(partition, None) is not None:
            write_offsets(self._files, f"{self.path}/{name}", offsets)

    # --- replicas that move here from another directory (KIP-113) ---------------------------------------

    def futures(self) -> list[FutureFolder]:
        """The folders of replicas on their way here, as an earlier process has left them."""
        found = []
        for name in self._list():
            match = _FUTURE.fullmatch(name)
            if match and self._files.is_dir(f"{self.path}/{name}"):
                found.append(FutureFolder(TopicPartition(match[1], int(match[2])), f"{self.path}/{name}"))
        return found

    def future_folder(self, partition: TopicPartition, *, unique: bytes) -> FutureFolder:
        """Where a replica on its way here would lie; ``unique`` is 16 random bytes."""
        return FutureFolder(partition, f"{self.path}/{partition}.{unique.hex()}{_FUTURE_SUFFIX}")

    def begin_future(self, future: FutureFolder, topic_id: TopicId) -> None:
        """Make its folder, durably."""
        path = future.path
        self._attempt(path, "can not be created", lambda: make_durable_folder(self._files, path))
        write_topic_id(self._files, f"{path}/{PARTITION_METADATA_FILE}", topic_id)

    def topic_id_of_future(self, future: FutureFolder) -> TopicId | None:
        """As ``topic_id_of``."""
        return read_topic_id(self._files, f"{future.path}/{PARTITION_METADATA_FILE}")

    def discard_future(self, future: FutureFolder, *, unique: bytes) -> str:
        """Give it up; returns the folder that is left for ``remove_retired``."""
        return self._put_aside(future.path, future.partition, unique)

    def promote(self, future: FutureFolder) -> None:
        """Let it be the partition's folder, durably. Its log must be closed, and the name free."""
        self._rename(future.path, self.partition_path(future.partition))

    def demote(self, future: FutureFolder) -> None:
        """Take ``promote`` back."""
        self._rename(self.partition_path(future.partition), future.path)

    def move_out(self, partition: TopicPartition, *, unique: bytes) -> str:
        """Of a partition that goes on in another directory: returns what is left for ``remove_retired``.

        As long as the folder has the partition's name it has its checkpoints too: see ``forget``.
        """
        return self._put_aside(self.partition_path(partition), partition, unique)

    def forget(self, partition: TopicPartition) -> None:
        """Take a partition that has left out of the checkpoints."""
        for name in _CHECKPOINT_FILES:
            self._forget(name, partition)

    # --- checkpoints ------------------------------------------------------------------------------------

    def read_recovery_points(self) -> dict[TopicPartition, int]:
        return read_offsets(self._files, f"{self.path}/{RECOVERY_POINT_FILE}")

    def write_recovery_points(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Replace the checkpoint; write only offsets that ``Log.recovery_point`` has reached."""
        write_offsets(self._files, f"{self.path}/{RECOVERY_POINT_FILE}", offsets)

    def read_high_watermarks(self) -> dict[TopicPartition, int]:
        return read_offsets(self._files, f"{self.path}/{HIGH_WATERMARK_FILE}")

    def write_high_watermarks(self, offsets: Mapping[TopicPartition, int]) -> None:
        write_offsets(self._files, f"{self.path}/{HIGH_WATERMARK_FILE}", offsets)

    def read_log_start_offsets(self) -> dict[TopicPartition, int]:
        return read_offsets(self._files, f"{self.path}/{LOG_START_OFFSET_FILE}")

    def write_log_start_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        write_offsets(self._files, f"{self.path}/{LOG_START_OFFSET_FILE}", offsets)

    def lower_log_start_offset(self, partition: TopicPartition, offset: int) -> None:
        """Before a log is cut below its start: it may begin at ``offset``, durably."""
        offsets = self.read_log_start_offsets()
        if offsets.get(partition, 0) > offset:
            self.write_log_start_offsets({**offsets, partition: offset})

    def read_cleaner_offsets(self) -> dict[TopicPartition, int]:
        return read_offsets(self._files, f"{self.path}/{CLEANER_OFFSET_FILE}")

    def write_cleaner_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Replace the checkpoint; write only offsets that ``Log.cleaner_offset`` has reached."""
        write_offsets(self._files, f"{self.path}/{CLEANER_OFFSET_FILE}", offsets)

    def lower_cleaner_offset(self, partition: TopicPartition, offset: int) -> None:
        """Before a log is cut at ``offset``: the cleaner has been no further, durably."""
        offsets = self.read_cleaner_offsets()
        if offsets.get(partition, 0) > offset:
            self.write_cleaner_offsets({**offsets, partition: offset})

    # --- the end ----------------------------------------------------------------------------------------

    def close(self, *, broker_epoch: int = NO_BROKER_EPOCH) -> None:
        """Say that every log was closed in order, and unlock."""
        text = json.dumps({"version": 0, "brokerEpoch": broker_epoch})
        path = f"{self.path}/{CLEAN_SHUTDOWN_FILE}"
        try:
            self._attempt(path, "can not be written", lambda: self._files.write_atomic(path, text.encode()))
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Unlock without saying so: the next user has to recover."""
        self._lock.release()

    def _list(self) -> list[str]:
        return list(self._attempt(self.path, "can not be listed", lambda: self._files.list(self.path)))

    def _sync(self) -> None:
        self._attempt(self.path, "can not be synced", lambda: self._files.sync_dir(self.path))

    def _attempt(self, path: str, failure: str, action: Callable[[], _Result]) -> _Result:
        return _attempt(path, failure, action)


def _attempt(path: str, failure: str, action: Callable[[], _Result]) -> _Result:
    try:
        return action()
    except OSError as error:
        raise StorageError(f"{path}: {failure}: {error.strerror or error}") from error


def _lock(files: FileSystem, path: str) -> FileLock:
    try:
        return files.lock(f"{path}/{LOCK_FILE}")
    except BlockingIOError:
        raise MisplacedDirectory(f"data directory {path} is in use by another process") from None
    except OSError as error:
        raise StorageError(f"data directory {path} can not be written: {error.strerror or error}") from error


def _identify(
    files: FileSystem, path: str, cluster_id: str, node_id: int, new_directory_id: bytes
) -> MetaProperties:
    """The directory's identity, written if it has none; ``StorageError`` if it is somebody else's."""
    meta_path = f"{path}/{META_PROPERTIES_FILE}"
    found = read_meta_properties(files, meta_path)
    if found is None:
        found = MetaProperties(
            cluster_id=cluster_id, node_id=node_id, directory_id=format_uuid(new_directory_id)
        )
        write_meta_properties(files, meta_path, found)
    if found.cluster_id != cluster_id:
        raise MisplacedDirectory(
            f"data directory {path} belongs to cluster {found.cluster_id}, this is cluster {cluster_id}"
        )
    if found.node_id != node_id:
        raise MisplacedDirectory(
            f"data directory {path} belongs to node {found.node_id}, this is node {node_id}"
        )
    return found


def _take_clean_shutdown(files: FileSystem, path: str) -> tuple[bool, int]:
    """Whether the marker is there, and the broker epoch in it; it is removed durably."""
    marker = f"{path}/{CLEAN_SHUTDOWN_FILE}"
    if not files.exists(marker):
        return False, NO_BROKER_EPOCH
    data = _attempt(marker, "can not be read", lambda: files.read(marker))
    _attempt(marker, "can not be removed", lambda: files.remove(marker))
    _attempt(path, "can not be synced", lambda: files.sync_dir(path))
    return True, _parse_broker_epoch(data)


def _parse_broker_epoch(data: bytes) -> int:
    """Kafka before 3.8 left the marker empty; then nobody knows."""
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError):
        return NO_BROKER_EPOCH
    if isinstance(content, dict):
        epoch = content.get("brokerEpoch")
        if isinstance(epoch, int) and 0 <= epoch <= _MAX_EPOCH:
            return epoch
    return NO_BROKER_EPOCH
