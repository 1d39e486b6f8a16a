"""The segments of one log in order: which one holds an offset, which one grows, which keep their handles.

This module knows that segments join without a gap and that files come and go with them; it refuses to know
epochs, producers and what is durable.  Source: Kafka's ``LogSegments`` and ``LocalLog``.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress

from glasslog.common.errors import StorageError, require
from glasslog.log.loading import Folder
from glasslog.log.segment import Segment
from glasslog.log.segment_file import DELETED_SUFFIX

_WARM_SEGMENTS = 4
"""Closed segments that keep their handle and index in memory for readers."""


class Segments:
    """At least one segment, except within a change; the last is the active one.

    ``changes`` counts files that came or went: the folder has to be synced for them.
    """

    __slots__ = ("_base_offsets", "_folder", "_segments", "_warm", "active", "changes")

    def __init__(self, folder: Folder, segments: Sequence[Segment]) -> None:
        self._folder = folder
        self._segments = list(segments)
        self._base_offsets = [segment.base_offset for segment in segments]
        self._warm: list[Segment] = []
        self.active = segments[-1]
        self.changes = 0

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    @property
    def base_offsets(self) -> Sequence[int]:
        return self._base_offsets

    @property
    def size_bytes(self) -> int:
        """Of all segments, without indexes."""
        return sum(segment.size_bytes for segment in self._segments)

    def closed(self) -> Sequence[Segment]:
        """All but the active one."""
        return self._segments[:-1]

    def holding(self, offset: int) -> Segment:
        """The segment that ``offset`` belongs to; the first one for what lies before it."""
        return self._segments[max(0, bisect_right(self._base_offsets, offset) - 1)]

    def since(self, offset: int) -> Sequence[Segment]:
        """The segment that holds ``offset`` and all after it."""
        return self._segments[max(0, bisect_right(self._base_offsets, offset) - 1) :]

    def all(self) -> Sequence[Segment]:
        return self._segments

    # --- coming and going -------------------------------------------------------------------------------

    def add(self, base_offset: int) -> None:
        """Begin a new active segment, whose files are made."""
        segment = self._folder.segment(base_offset)
        try:
            segment.create()
        except StorageError:
            # The one before may grow on: an empty file in the midst of it would look like lost data.
            with suppress(StorageError):
                segment.remove_files()
            raise
        self._segments.append(segment)
        self._base_offsets.append(base_offset)
        self.active = segment
        self.changes += 1

    def drop_last(self) -> None:
        """Remove the last segment and its files; the one before is active again."""
        segment = self._segments.pop()
        self._base_offsets.pop()
        self._forget_warm(segment)
        segment.remove_files()
        self.changes += 1
        if self._segments:
            self.active = self._segments[-1]
            self._forget_warm(self.active)

    def retire_first(self) -> Segment:
        """Take the oldest segment out; its files are renamed and stay until its ``remove_files``."""
        segment = self._segments[0]
        segment.change_suffix(DELETED_SUFFIX)
        del self._segments[0], self._base_offsets[0]
        self._forget_warm(segment)
        self.changes += 1
        return segment

    def run_of(self, base_offsets: Sequence[int]) -> list[Segment]:
        """The neighbouring closed segments that begin at ``base_offsets``, which must be there."""
        number = bisect_left(self._base_offsets, base_offsets[0])
        run = self._segments[number : number + len(base_offsets)]
        is_there = [segment.base_offset for segment in run] == list(base_offsets)
        require(is_there and run[-1] is not self.active, f"no closed segments begin at {list(base_offsets)}")
        return run

    def replace(self, old: Sequence[Segment], new: Segment) -> None:
        """Let ``new`` stand for the neighbours ``old``; files are the caller's matter."""
        number = self._segments.index(old[0])
        self._segments[number : number + len(old)] = [new]
        self._base_offsets[number : number + len(old)] = [new.base_offset]
        for segment in old:
            self._forget_warm(segment)
        self.changes += 1

    def drop_all(self) -> None:
        """Remove every segment, from the end: what is left after a crash half-way is a sound log."""
        while self._segments:
            self.drop_last()

    # --- reading ----------------------------------------------------------------------------------------

    def read(
        self, offset: int, *, max_bytes: int, upper_offset: int, minimum_one: bool, cached_only: bool
    ) -> bytes | memoryview:
        """Whole batches from the one that holds ``offset``, of one segment; empty when there are none."""
        number = bisect_right(self._base_offsets, offset) - 1
        while offset < upper_offset and number < len(self._segments):
            segment = self._segments[number]
            data = segment.read(
                offset,
                max_bytes=max_bytes,
                upper_offset=upper_offset,
                minimum_one=minimum_one,
                cached_only=cached_only,
            )
            if segment is not self.active:
                self._keep_warm(segment)
            if data is not None:
                return data
            number += 1
        return b""

    def _keep_warm(self, segment: Segment) -> None:
        """Bound the handles and indexes that readers of old segments hold."""
        if self._warm and self._warm[-1] is segment:
            return
        self._forget_warm(segment)
        self._warm.append(segment)
        if len(self._warm) > _WARM_SEGMENTS:
            self._warm.pop(0).release()

    def _forget_warm(self, segment: Segment) -> None:
        if segment in self._warm:
            self._warm.remove(segment)

    def release_cold(self) -> None:
        """Give back what a walk through the closed segments took."""
        for segment in self._segments[:-1]:
            if segment not in self._warm:
                segment.release()

    def abandon(self) -> None:
        """Give every handle back without writing anything."""
        for segment in self._segments:
            segment.abandon()
        self._warm.clear()
