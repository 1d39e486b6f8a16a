"""A flush in progress: which handles have to be synced for a log to be durable up to an offset.

This module knows the order in which files are synced; it refuses to know what a log makes of the result.
"""

from collections.abc import Sequence

from glasslog.log.loading import Folder
from glasslog.log.segment import Segment


class PendingFlush:
    """A flush that was begun: ``sync`` it in any thread, then hand it to ``Log.complete_flush``."""

    __slots__ = ("_folder", "_segments", "folder_changes", "target", "truncations")

    def __init__(
        self,
        *,
        folder: Folder | None,
        folder_changes: int,
        segments: Sequence[Segment],
        target: int,
        truncations: int,
    ) -> None:
        self._folder = folder
        self._segments = segments
        self.folder_changes = folder_changes
        self.target = target
        self.truncations = truncations
        for segment in segments:
            segment.pin()

    def sync(self) -> None:
        """Make everything that was appended before durable. Blocks. Raises ``StorageError``."""
        for segment in self._segments:
            segment.sync()
        for segment in self._segments:
            segment.sync_index()
        if self._folder is not None:
            self._folder.sync()

    def release(self) -> None:
        """Give the segments' handles free."""
        for segment in self._segments:
            segment.unpin()
        self._segments = ()
