"""Bytes on a disk that are not what was written there any more.

This module knows how to say where; it refuses to know who looked and what mends them.
"""

from glasslog.log.batch import CorruptBatch


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
