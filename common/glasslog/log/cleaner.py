"""Compacting one log: maps the newest offset of each key in the dirty part, then writes segments anew.

This module knows how to go through a log's closed segments in small steps, so that whoever drives it can
pause, throttle and give up between two; it refuses to know when to clean and to touch the log itself: a
rewritten segment is handed out with its files beside the old ones, to be put in their place.  Only reads
files of its own opening, so that it may run in any thread, beside readers and appends.
Source: Kafka's ``Cleaner``.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.runtime.protocols import Buffer, File, FileSystem
from glasslog.log.batch import BatchHeader, CorruptBatch, check_header, parse_header
from glasslog.log.batch_filter import BatchFilter
from glasslog.log.cleaned_transactions import CleanedTransactions
from glasslog.log.cleaner_plan import Cleanable, SourceSegment, group_segments
from glasslog.log.codec import CODEC
from glasslog.log.config import LogConfig
from glasslog.log.damage import DamagedLog
from glasslog.log.markers import decode_marker, is_marker_batch
from glasslog.log.offset_map import OffsetMap
from glasslog.log.opened_batch import OpenedBatch
from glasslog.log.producer_state import ProducerEntry
from glasslog.log.segment import MAX_SEGMENT_BYTES, Segment
from glasslog.log.segment_file import CLEANED_SUFFIX
from glasslog.log.transaction_index import AbortedTransaction
from glasslog.log.walk_types import Stop

_HEADER_BYTES = 61
_STEP_BYTES = 64 * 1024
"""Of a step: the event loop, which shares the interpreter with it, waits a millisecond at the most."""

_Batch = tuple[BatchHeader, memoryview]


class Worked(NamedTuple):
    """A step was done; so many bytes were read and written."""

    size_bytes: int


class Rewritten(NamedTuple):
    """``segment`` holds what is left of ``sources``, durably; its files end with ``.cleaned``.

    It is the receiver's, to be put in their place or removed.
    """

    sources: tuple[SourceSegment, ...]
    segment: Segment


@dataclass(slots=True)
class CleaningTotals:
    """What a cleaning has done so far. ``bytes_read`` is of segments written anew, which count once."""

    map_bytes_read: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    map_utilization: float = 0.0


class _SegmentOverflow(Exception):  # noqa: N818 - never leaves this module
    """What is left of a group does not fit into one segment after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningTask:
    """One log as it is when its cleaning begins. ``now_ms`` is wall-clock time."""

    files: FileSystem
    directory: str
    config: LogConfig
    cleanable: Cleanable
    aborted: Sequence[AbortedTransaction]
    producers: Mapping[int, ProducerEntry]
    now_ms: int


class Cleaning:
    """Goes through one log once. Iterate over ``run``; close the iterator to give up."""

    def __init__(self, task: CleaningTask, *, map_bytes: int, buffer_bytes: int) -> None:
        self._task = task
        self._map_bytes = map_bytes
        self._buffer_bytes = buffer_bytes
        self._offsets = OffsetMap(max_bytes=map_bytes)
        self._filter = BatchFilter(
            offsets=self._offsets,
            transactions=CleanedTransactions(task.aborted),
            producers=task.producers,
            end_offset=task.cleanable.end_offset,
            now_ms=task.now_ms,
            delete_retention_ms=task.config.delete_retention_ms,
        )
        self.totals = CleaningTotals()

    @property
    def cleaned_to(self) -> int:
        """Once ``run`` is over and everything was put in place: below it each key is there at most once."""
        return self._offsets.latest_offset + 1

    def run(self) -> Generator[Worked | Rewritten, None, None]:
        """``buffer_bytes`` are read at once, or one larger batch; a step works on a part of them.

        Raises ``CorruptBatch``, ``StorageError``, or ``GlasslogError`` when the map has no room for a batch.
        """
        yield from self._map_dirty_part()
        self.totals.map_utilization = self._offsets.utilization
        groups = group_segments(
            [each for each in self._task.cleanable.segments if each.base_offset < self.cleaned_to],
            config=self._task.config,
        )
        while groups:
            group = groups.pop(0)
            before = self._filter.transactions.copy()
            try:
                segment = yield from self._rewrite(group)
            except _SegmentOverflow as overflow:
                if len(group) == 1:
                    raise StorageError(str(overflow)) from None
                half = len(group) // 2
                groups[:0] = [group[:half], group[half:]]
                self._filter.transactions = before
                continue
            yield Rewritten(tuple(group), segment)

    # --- the map ----------------------------------------------------------------------------------------

    def _map_dirty_part(self) -> Iterator[Worked]:
        first_dirty = self._task.cleanable.first_dirty_offset
        # The markers before are not read: what they ended is over.
        pending = [each for each in self._task.aborted if each.last_offset >= first_dirty]
        transactions = CleanedTransactions(pending)
        for source in self._task.cleanable.segments:
            if source.end_offset <= first_dirty:
                continue
            for batches, size_bytes in self._read(source):
                for header, batch in batches:
                    if header.next_offset <= first_dirty:
                        continue
                    if not self._map(header, batch, transactions):
                        self._check_progress(header)
                        return
                    self._offsets.latest_offset = header.last_offset
                    if header.has_producer and not header.is_control:
                        self._filter.last_mapped[header.producer_id] = header.last_offset
                self.totals.map_bytes_read += size_bytes
                yield Worked(size_bytes)

    def _map(self, header: BatchHeader, batch: memoryview, transactions: CleanedTransactions) -> bool:
        """Take the keys of a batch in; False when there is no room for them."""
        if header.is_control:
            marker = decode_marker(batch) if is_marker_batch(header) and header.record_count else None
            if marker is not None:
                transactions.on_marker(header, marker)
            return True
        if transactions.on_batch(header) or not header.record_count:
            return True
        return self._offsets.add(
            OpenedBatch(batch).keys(), from_offset=self._task.cleanable.first_dirty_offset
        )

    def _check_progress(self, header: BatchHeader) -> None:
        """The part before the batch that did not fit is cleaned now; without one nothing ever would be."""
        if self._offsets.latest_offset < self._task.cleanable.first_dirty_offset:
            raise GlasslogError(
                ErrorCode.POLICY_VIOLATION,
                f"{self._task.directory}: log.cleaner.dedupe.buffer.size={self._map_bytes} has no room for "
                f"the {header.record_count} records of the batch at offset {header.base_offset}",
            )

    # --- writing anew -----------------------------------------------------------------------------------

    def _rewrite(self, group: Sequence[SourceSegment]) -> Generator[Worked, None, Segment]:
        task = self._task
        target = Segment(
            task.files,
            task.directory,
            base_offset=group[0].base_offset,
            index_interval_bytes=task.config.index_interval_bytes,
            suffix=CLEANED_SUFFIX,
        )
        try:
            target.create()
            yield from self._copy(group, target)
            if target.next_offset != group[-1].end_offset:
                raise StorageError(
                    f"{group[-1].path}: ends at offset {target.next_offset}, the segment after it begins at "
                    f"{group[-1].end_offset}"
                )
            target.seal()
            target.save_index()
            target.sync()
            target.sync_index()
        except BaseException:
            target.remove_files()
            raise
        return target

    def _copy(self, group: Sequence[SourceSegment], target: Segment) -> Iterator[Worked]:
        # What one segment held may be recompressed to a little more; that is no reason never to clean it.
        limit_bytes = self._task.config.segment_bytes if len(group) > 1 else MAX_SEGMENT_BYTES
        for source in group:
            for batches, size_bytes in self._read(source):
                kept, headers = self._keep(batches, target, end_offset=group[-1].end_offset)
                data = b"".join(kept)
                if target.size_bytes + len(data) > limit_bytes:
                    raise _SegmentOverflow(f"{source.path}: more than {limit_bytes} bytes")
                if headers:
                    target.append((data,), len(data), headers)
                self.totals.bytes_read += size_bytes
                self.totals.bytes_written += len(data)
                yield Worked(size_bytes + len(data))

    def _keep(
        self, batches: Sequence[_Batch], target: Segment, *, end_offset: int
    ) -> tuple[list[Buffer], list[BatchHeader]]:
        kept: list[Buffer] = []
        headers: list[BatchHeader] = []
        for header, batch in batches:
            left, aborted = self._filter.apply(batch, header, is_last=header.next_offset == end_offset)
            if aborted is not None:
                target.add_aborted(aborted)
            if left is not None:
                kept.append(left)
                headers.append(header if left is batch else parse_header(left))
        return kept, headers

    # --- reading ----------------------------------------------------------------------------------------

    def _read(self, source: SourceSegment) -> Iterator[tuple[Sequence[_Batch], int]]:
        """The sound batches of a segment, some at a time, and their size in bytes. Raises ``DamagedLog``."""
        try:
            file = self._task.files.open(source.path, read_only=True)
            try:
                yield from self._read_file(file, source)
            finally:
                file.close()
        except OSError as error:
            raise StorageError(f"{source.path}: can not be read: {error.strerror or error}") from error

    def _read_file(self, file: File, source: SourceSegment) -> Iterator[tuple[Sequence[_Batch], int]]:
        position, wanted = 0, self._buffer_bytes
        while position < source.size_bytes:
            data = memoryview(file.pread(min(wanted, source.size_bytes - position), position))
            sound = CODEC.walk_sound(
                data, len(data), source.base_offset, source.end_offset, source.end_offset
            )
            if sound.stop:
                raise _damaged(source, position + sound.size_bytes, Stop(sound.stop).name.lower())
            batches, read_bytes, wanted = _split(data, source, position)
            wanted = max(wanted, self._buffer_bytes)
            yield from _in_steps(batches)
            position += read_bytes


def _in_steps(batches: Sequence[_Batch]) -> Iterator[tuple[Sequence[_Batch], int]]:
    step: list[_Batch] = []
    size_bytes = 0
    for batch in batches:
        step.append(batch)
        size_bytes += len(batch[1])
        if size_bytes >= _STEP_BYTES:
            yield step, size_bytes
            step, size_bytes = [], 0
    if step:
        yield step, size_bytes


def _split(data: memoryview, source: SourceSegment, position: int) -> tuple[list[_Batch], int, int]:
    """The whole batches in ``data``, their size in bytes, and that of the one after them if it is known."""
    batches: list[_Batch] = []
    start, end = 0, len(data)
    while start + _HEADER_BYTES <= end:
        header = parse_header(data, start)
        try:
            check_header(
                header, position=position + start, available_bytes=source.size_bytes - position - start
            )
        except CorruptBatch as error:
            raise _damaged(source, position + start, str(error)) from None
        if start + header.size_bytes > end:
            return batches, start, header.size_bytes
        batches.append((header, data[start : start + header.size_bytes]))
        start += header.size_bytes
    if not batches:
        raise _damaged(source, position, f"{end} bytes left, a header needs 61")
    return batches, start, _HEADER_BYTES


def _damaged(source: SourceSegment, position: int, reason: str) -> DamagedLog:
    return DamagedLog(
        f"position {position}: {reason}",
        path=source.path,
        base_offset=source.base_offset,
        position=position,
        offset=source.base_offset,
    )
