"""Writes a closed segment anew where bits rotted in it: its own sound batches, a replica's for the others.

This module knows how to put the two together and what must be true of the result; it refuses to know where
the other replica is: whoever drives it is told from which offset on batches are needed.  The damaged segment
is only read, through files of its own opening, so that it may run in any thread; the new one is handed out
durable, its files beside the old ones, to be put in their place.

Replicas of a log that is not compacted hold the same bytes, so that the result is what once was written.
Each replica compacts for itself, and no batch of one fits between those of another: a tombstone may be gone
here and what it deleted not yet there.  So a compacted log is copied as a whole (``copies_all``).
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Buffer, File, FileSystem
from glasslog.log.batch import (
    HEADER_BYTES,
    MAGIC,
    BatchHeader,
    CorruptBatch,
    iterate_batches,
    parse_header,
    validate_batch,
)
from glasslog.log.cleaner_plan import SourceSegment
from glasslog.log.codec import CODEC
from glasslog.log.config import LogConfig
from glasslog.log.markers import decode_marker, is_marker_batch
from glasslog.log.producer_state import ProducerStates
from glasslog.log.records import seal_batch
from glasslog.log.segment import MAX_SEGMENT_BYTES, Segment
from glasslog.log.segment_file import CLEANED_SUFFIX
from glasslog.log.transaction_index import AbortedTransaction

_CHUNK_BYTES = 1024 * 1024
_MAX_DELTA = (1 << 31) - 1


class ReplicasDiffer(Exception):  # noqa: N818 - the whole log has to be copied then
    """What the other replica holds does not fit between this one's batches."""


class Needed(NamedTuple):
    """Answer with whole batches of another replica from the one that holds ``offset`` on.

    No offsets, so no bytes, where it has none there below the high watermark.
    """

    offset: int


class Copied(NamedTuple):
    """A step was done; so many bytes were read and written."""

    size_bytes: int


MendingSteps = Generator[Needed | Copied, Buffer, Segment]
"""``send`` it the bytes after each ``Needed``; it returns the new segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MendingTask:
    """A damaged segment as it is when its mending begins.

    ``high_watermark`` bounds what is taken from another replica, ``epoch_at`` says which leader epoch wrote
    an offset. ``aborted`` are the transactions that the segment's index knows.
    """

    files: FileSystem
    directory: str
    config: LogConfig
    source: SourceSegment
    log_start_offset: int
    high_watermark: int
    epoch_at: Callable[[int], int]
    aborted: tuple[AbortedTransaction, ...] = ()
    producers: ProducerStates | None = None
    """With ``copies_all``: what the batches before have told of producers; learns from these."""

    @property
    def copies_all(self) -> bool:
        return self.producers is not None


class Mending:
    """Of one segment; iterate over ``run`` once."""

    def __init__(self, task: MendingTask) -> None:
        self._task = task
        self._target = Segment(
            task.files,
            task.directory,
            base_offset=task.source.base_offset,
            index_interval_bytes=task.config.index_interval_bytes,
            suffix=CLEANED_SUFFIX,
        )
        self._position: int | None = None if task.copies_all else 0
        """Where in the damaged file the next batch must lie; None: nobody knows any more."""
        self._fetched: Iterator[tuple[BatchHeader, Buffer]] = iter(())
        self.batches_taken = 0
        """From the other replica."""

    @property
    def _offset(self) -> int:
        return self._target.next_offset

    def run(self) -> MendingSteps:
        """Raises ``ReplicasDiffer``, ``CorruptBatch`` for what another replica sent, ``StorageError``."""
        target, end = self._target, self._task.source.end_offset
        try:
            target.create()
            file = self._task.files.open(self._task.source.path, read_only=True)
            try:
                while self._offset < end:
                    if not (yield from self._copy_own(file)) and self._offset < end:
                        yield from self._take_next(end)
            finally:
                file.close()
            for aborted in self._task.aborted:
                target.add_aborted(aborted)
            target.seal()
            target.save_index()
            target.sync()
            target.sync_index()
        except OSError as error:
            target.remove_files()
            raise StorageError(f"{target.path}: {error.strerror or error}") from error
        except BaseException:
            target.remove_files()
            raise
        return target

    # --- its own batches --------------------------------------------------------------------------------

    def _copy_own(self, file: File) -> Generator[Copied, Buffer, bool]:
        """Sound batches of the damaged file that go on from the last one; False when there is none."""
        position, size_bytes = self._position, self._task.source.size_bytes
        if position is None or not self._may_go_on(file, position):
            return False
        length = _CHUNK_BYTES
        while True:
            chunk = file.pread(min(length, size_bytes - position), position)
            headers = self._sound_headers(chunk)
            needed = parse_header(chunk).size_bytes
            if headers or not len(chunk) < needed <= size_bytes - position:
                break
            length = needed
        if not headers:
            return False
        copied = sum(header.size_bytes for header in headers)
        self._write(memoryview(chunk)[:copied], headers)
        self._position = position + copied
        yield Copied(2 * copied)
        return True

    def _may_go_on(self, file: File, position: int) -> bool:
        """A look at one header: where all is zeros, reading on at each batch would take for ever."""
        head = file.pread(HEADER_BYTES, position)
        if len(head) < HEADER_BYTES:
            return False
        header = parse_header(head)
        return header.magic == MAGIC and header.base_offset == self._offset

    def _sound_headers(self, chunk: Buffer) -> list[BatchHeader]:
        """Of the batches that follow each other without a gap: what rots in an offset leaves one."""
        end, expected = self._task.source.end_offset, self._offset
        sound = CODEC.walk_sound(chunk, len(chunk), expected, end, end)
        headers: list[BatchHeader] = []
        for header, _ in iterate_batches(memoryview(chunk)[: sound.size_bytes]):
            if header.base_offset != expected or self._is_of_another_epoch(header):
                break
            headers.append(header)
            expected = header.next_offset
        return headers

    def _is_of_another_epoch(self, header: BatchHeader) -> bool:
        """The epoch lies outside of the checksum; below the log's start nobody remembers it."""
        task = self._task
        if header.base_offset < task.log_start_offset:
            return False
        return header.partition_leader_epoch != task.epoch_at(header.base_offset)

    # --- another replica's batches ----------------------------------------------------------------------

    def _take_next(self, end: int) -> MendingSteps:
        found = next(self._fetched, None)
        if found is None:
            data = yield Needed(max(self._offset, min(self._task.log_start_offset, end - 1)))
            self._fetched = iter([*_checked(data)])
            found = next(self._fetched, None)
        if found is None or found[0].base_offset >= end:
            self._fetched = iter(())
            self._fill_gap(end)
            return self._target
        self._take(*found)
        yield Copied(2 * found[0].size_bytes)
        return self._target

    def _take(self, header: BatchHeader, batch: Buffer) -> None:
        task = self._task
        if header.next_offset <= self._offset:
            return
        self._check_taken(header)
        if header.base_offset != self._offset:
            # Below the log's start nobody has the batches any more: nothing says where the next own one is.
            self._position = None
        elif self._position is not None:
            self._position += header.size_bytes
        if task.producers is not None:
            marker = decode_marker(batch) if is_marker_batch(header) else None
            aborted = task.producers.replay(header, marker=marker)
            if aborted is not None:
                self._target.add_aborted(aborted)
        self._write(batch, [header])
        self.batches_taken += 1

    def _check_taken(self, header: BatchHeader) -> None:
        task, end = self._task, self._task.source.end_offset
        where = f"{task.source.path}: the replica's batch at {header.base_offset} to {header.last_offset}"
        if header.next_offset > task.high_watermark:
            raise StorageError(f"{where} is not committed here below {task.high_watermark}")
        if header.base_offset < self._offset or header.next_offset > end:
            raise ReplicasDiffer(f"{where} does not lie within {self._offset} to {end}")
        if task.copies_all:
            return
        has_gap = header.base_offset > max(self._offset, task.log_start_offset)
        if has_gap or self._is_of_another_epoch(header):
            raise ReplicasDiffer(f"{where}, epoch {header.partition_leader_epoch}, is another one")

    def _fill_gap(self, end: int) -> None:
        """What compaction took there leaves an empty batch, so that segments join without a gap."""
        if not self._task.copies_all:
            raise ReplicasDiffer(f"{self._task.source.path}: nothing from {self._offset} to {end}")
        header = BatchHeader(
            base_offset=self._offset,
            batch_length=0,
            partition_leader_epoch=self._task.epoch_at(self._offset),
            magic=MAGIC,
            crc=0,
            attributes=0,
            last_offset_delta=min(end - 1 - self._offset, _MAX_DELTA),
            base_timestamp=-1,
            max_timestamp=-1,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            record_count=0,
        )
        batch = seal_batch(header, b"")
        self._write(batch, [parse_header(batch)])

    def _write(self, data: Buffer, headers: list[BatchHeader]) -> None:
        if self._target.size_bytes + len(data) > MAX_SEGMENT_BYTES:
            raise StorageError(f"{self._target.path}: more than {MAX_SEGMENT_BYTES} bytes")
        self._target.append((data,), len(data), headers)


def _checked(data: Buffer) -> Iterator[tuple[BatchHeader, Buffer]]:
    """The batches that another replica sent; raises ``CorruptBatch``."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        header = validate_batch(view, position)
        yield header, view[position : position + header.size_bytes]
        position += header.size_bytes
    if position != len(view):
        raise CorruptBatch(f"{len(view) - position} bytes after the last batch")
