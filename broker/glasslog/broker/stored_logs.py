"""What a broker has on its disks for a partition: an open log, or one that can not be used and why.

Refuses to know how they came to be.
"""

from dataclasses import dataclass
from functools import partial

from glasslog.common.ids import Offset, TopicId, TopicPartition
from glasslog.log.directories import MissingDirectory
from glasslog.log.directory import LogDirectory
from glasslog.log.log import Log
from glasslog.metadata.records import UNASSIGNED_DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLog:
    """An open log and where it lies. ``high_watermark`` is what the last checkpoint said."""

    log: Log
    directory: LogDirectory
    topic_id: TopicId | None
    high_watermark: Offset

    @property
    def recovery_point(self) -> int:
        return self.log.recovery_point

    @property
    def log_start_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def cleaner_offset(self) -> int:
        return self.log.cleaner_offset

    @property
    def directory_id(self) -> bytes:
        return self.directory.directory_id


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenLog:
    """A log that could not be opened: its folder stays as it is, and so does what the checkpoints say of it.

    Without its recovery point the next recovery would take damage for the torn end of a write.
    """

    directory: LogDirectory | MissingDirectory
    topic_id: TopicId | None
    reason: str
    high_watermark: int = 0
    recovery_point: int = 0
    log_start_offset: int = 0
    cleaner_offset: int = 0
    lacks_records: bool = False
    """Synced records are damaged or gone; where nobody counts on them it can be opened without."""

    @property
    def directory_id(self) -> bytes:
        if isinstance(self.directory, MissingDirectory):
            return UNASSIGNED_DIRECTORY
        return self.directory.directory_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A partition's folder at the start, with what the checkpoints of its directory say of it."""

    name: TopicPartition
    directory: LogDirectory
    recovery_point: int
    log_start_offset: int
    cleaner_offset: int
    high_watermark: Offset


def attach_cleaner_offset(log: Log, directory: LogDirectory, name: TopicPartition, offset: int) -> None:
    """Tell ``log`` how far the cleaner has been. One that lost its end may be dirty from its start on.

    Raises ``StorageError``.
    """
    log.lower_cleaner_offset = partial(directory.lower_cleaner_offset, name)
    if offset > log.log_end_offset:
        log.lower_cleaner_offset(0)
        offset = 0
    log.cleaner_offset = offset
