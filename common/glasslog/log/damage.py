"""Bytes on a disk that are not what was written there any more.

This module knows how to say where; it refuses to know who looked and what mends them.
"""

from glasslog.common.errors import StorageError
from glasslog.log.batch import CorruptBatch


class LostRecords(StorageError):  # noqa: N818 - the state of things
    """After an unclean stop batches below the recovery point can not be read any more, or are not there.

    They were synced, so whoever was told that they are here may count on it: a log is not cut in front of
    them unless its owner knows that nobody does.
    """


class DamagedLog(CorruptBatch):
    """Something in a log's own file is no sound batch: in which segment, where, and at which offset.

    ``base_offset`` is the segment's; the damage begins at ``position`` or before it, and is of a batch that
    should begin at ``offset`` or before it.
    """

    def __init__(self, reason: str, *, path: str, base_offset: int, position: int, offset: int) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.base_offset = base_offset
        self.position = position
        self.offset = offset
