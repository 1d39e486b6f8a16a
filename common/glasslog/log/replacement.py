"""Puts a rewritten segment in the place of those it was made of, so that a crash at any point loses nothing.

This module knows the order: the new files, durable before, become ``.swap``; once that is durable the old
ones become ``.deleted`` and the new ones get their names.  Of one segment the indexes are renamed first and
the log last, so that what is found after a crash tells how far it came.  It refuses to know what was
rewritten, and why.  Source: Kafka's ``LocalLog.replaceSegments`` and ``LogLoader``.
"""

from collections.abc import Sequence
from contextlib import suppress

from glasslog.common.errors import StorageError
from glasslog.log.loading import Folder
from glasslog.log.segment import Segment
from glasslog.log.segment_file import DELETED_SUFFIX, SWAP_SUFFIX
from glasslog.log.segments import Segments


class Replacement:
    """One rewritten segment on its way; see ``Log.begin_replacement``."""

    def __init__(
        self, folder: Folder, segments: Segments, segment: Segment, *, replaced: Sequence[int]
    ) -> None:
        self._folder = folder
        self._segments = segments
        self._segment = segment
        self._replaced = list(replaced)
        self._is_finished = False
        self.is_undone = True
        """After ``finish`` has failed: whether all is as it was before."""

    def begin(self) -> None:
        """Announce the new files. Raises ``StorageError``."""
        self._segment.change_suffix(SWAP_SUFFIX)

    def finish(self) -> list[Segment]:
        """Swap, in the folder and in memory, once the announcement is durable; returns the old segments.

        Raises ``StorageError``; see ``is_undone``.
        """
        old = self._segments.run_of(self._replaced)
        renamed: list[Segment] = []
        try:
            for segment in old:
                segment.change_suffix(DELETED_SUFFIX)
                renamed.append(segment)
            self._segment.change_suffix("")
        except StorageError:
            self._undo(renamed)
            raise
        self._segments.replace(old, self._segment)
        self._is_finished = True
        for segment in old[1:]:
            # One that stays is true all the same, and must not make the swap look as if it had failed.
            with suppress(StorageError):
                self._folder.drop_snapshot(segment.base_offset)
        return old

    def _undo(self, renamed: Sequence[Segment]) -> None:
        try:
            for segment in reversed(renamed):
                segment.change_suffix("")
        except StorageError:
            self.is_undone = False

    def settle(self) -> None:
        """Before a truncation: no trace may be left that the next opening would complete. Blocks."""
        if not self._is_finished:
            self._segment.remove_files()
        self._folder.sync()
