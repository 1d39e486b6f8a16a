"""New logs: one where it is needed at once, many in several threads.

A log's folder is made durable before the log is used, which waits for the disk several times; a topic of a
thousand partitions must not hold up everybody else meanwhile.  This module refuses to know in which directory
a log belongs and who wants it.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from glasslog.broker.stored_logs import BrokenLog, StoredLog, attach_cleaner_offset
from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.ids import Offset, TopicId, TopicPartition
from glasslog.common.runtime.protocols import FileSystem, Runtime
from glasslog.common.topic_config import TopicConfig
from glasslog.log.config import LogConfig
from glasslog.log.directory import LogDirectory
from glasslog.log.log import Log

_LOGGER = logging.getLogger(__name__)

_THREADS = 8
"""Disks serve several that wait better than one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLog:
    """What the metadata says of a replica: ``directory_id`` where it lies, or is to be placed."""

    name: TopicPartition
    topic_id: TopicId
    topic: TopicConfig
    directory_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLog:
    """A log to be made in ``directory``."""

    name: TopicPartition
    topic_id: TopicId
    config: LogConfig
    directory: LogDirectory


def create(files: FileSystem, new: NewLog, *, now_ms: int) -> StoredLog | BrokenLog:
    """Make it, durably. Blocks, in any thread."""
    try:
        _check_vacant(files, new)
        log = Log.open(
            files=files,
            directory=new.directory.create_partition(new.name, new.topic_id),
            config=new.config,
            clean_shutdown=False,
            now_ms=now_ms,
        )
        attach_cleaner_offset(log, new.directory, new.name, 0)
    except GlasslogError as error:
        _LOGGER.error("%s can not be created in %s: %s", new.name, new.directory.path, error)
        return BrokenLog(directory=new.directory, topic_id=new.topic_id, reason=str(error))
    return StoredLog(log=log, directory=new.directory, topic_id=new.topic_id, high_watermark=Offset(0))


async def create_all(
    runtime: Runtime, wanted: Sequence[NewLog]
) -> Mapping[TopicPartition, StoredLog | BrokenLog]:
    """Make them in a few threads."""
    now_ms = runtime.clock.wall_ms()
    made: dict[TopicPartition, StoredLog | BrokenLog] = {}

    def make(share: Sequence[NewLog]) -> list[tuple[TopicPartition, StoredLog | BrokenLog]]:
        return [(each.name, create(runtime.files, each, now_ms=now_ms)) for each in share]

    shares = [wanted[start::_THREADS] for start in range(min(_THREADS, len(wanted)))]
    for done in await asyncio.gather(*(runtime.blocking(partial(make, share)) for share in shares)):
        made.update(done)
    return made


def _check_vacant(files: FileSystem, new: NewLog) -> None:
    """``StorageError`` for a folder that could not be removed: its records are of another topic."""
    path = new.directory.partition_path(new.name)
    if files.exists(path):
        raise StorageError(f"{path}: a deleted topic of this name is still there")
