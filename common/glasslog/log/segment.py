"""One segment: a ``.log`` file of batches and its sparse index.

This module knows positions, whole batches and how to find them; it refuses to know about epochs, producers
and other segments.  Handles are opened on first use and given back by ``release``, so that an idle partition
holds none.  An operation that the OS refuses is a ``StorageError`` that names the file.
Source: Kafka's ``LogSegment``.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Buffer, File, FileSystem
from glasslog.log.batch import (
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    BatchHeader,
    CorruptBatch,
    check_header,
    parse_header,
    validate_batch,
)
from glasslog.log.index import OffsetIndex

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
DELETED_SUFFIX = ".deleted"
MAX_RELATIVE_OFFSET = (1 << 31) - 1

_WALK = Struct(">qi11xi")
"""Base offset, batch length and last offset delta: all that cutting at a batch boundary needs."""

_SCAN_BYTES = 32 * 1024
_VALIDATE_BYTES = 1024 * 1024
_MAX_CURSORS = 16


class Appended(NamedTuple):
    """What ``Segment.append`` needs to know of one batch: its last offset and its size in bytes."""

    last_offset: int
    size_bytes: int


class Recovery(NamedTuple):
    """The sound part of a segment: its size, the offset after it, and why it ends (None: the file does)."""

    size_bytes: int
    next_offset: int
    problem: str | None


def file_name(offset: int, suffix: str) -> str:
    """A segment file's name: twenty digits and a suffix."""
    return f"{offset:020d}{suffix}"


class Segment:
    """Batches from ``base_offset`` up to ``next_offset``, of which only the last segment's grows."""

    __slots__ = (
        "_cursors",
        "_directory",
        "_file",
        "_files",
        "_index",
        "_index_interval_bytes",
        "_index_unsynced",
        "_pins",
        "_release_when_unpinned",
        "_suffix",
        "base_offset",
        "largest_timestamp",
        "next_offset",
        "rolling_timestamp",
        "size_bytes",
    )

    def __init__(
        self, files: FileSystem, directory: str, *, base_offset: int, index_interval_bytes: int
    ) -> None:
        self._files = files
        self._directory = directory
        self._index_interval_bytes = index_interval_bytes
        self._file: File | None = None
        self._index: OffsetIndex | None = None
        self._index_unsynced = False
        self._cursors: dict[int, int] = {}
        self._pins = 0
        self._release_when_unpinned = False
        self.base_offset = base_offset
        self.next_offset = base_offset
        self._suffix = ""
        self.size_bytes = 0
        self.rolling_timestamp: int | None = None
        """The first batch's largest timestamp, against which ``segment.ms`` is measured; None: not known."""
        self.largest_timestamp: int | None = None
        """Of all batches, once somebody looked; None: not known."""

    # --- files ------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return f"{self._directory}/{file_name(self.base_offset, LOG_SUFFIX)}{self._suffix}"

    @property
    def index_path(self) -> str:
        return f"{self._directory}/{file_name(self.base_offset, INDEX_SUFFIX)}{self._suffix}"

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def create(self) -> None:
        """Make the file, empty, without an index. The caller syncs the folder."""
        try:
            if self._files.exists(self.index_path):
                self._files.remove(self.index_path)
            self._file = self._files.open(self.path, create=True)
            self._file.truncate(0)
        except OSError as error:
            raise self._refused("created", error) from error
        self._index = OffsetIndex(self.base_offset)

    def measure(self) -> None:
        """Learn the file's size from the OS."""
        try:
            self.size_bytes = self._handle().size()
        except OSError as error:
            raise self._refused("read", error) from error

    def sync(self) -> None:
        """Make all appended bytes durable; may block, may run in another thread while pinned."""
        try:
            (self._file or self._handle()).sync()
        except OSError as error:
            raise self._refused("synced", error) from error

    def pin(self) -> None:
        """Keep the handle open until ``unpin``, whatever happens to the segment.

        A handle that only this opened goes again then, unless somebody used it meanwhile.
        """
        was_closed = self._file is None
        try:
            self._handle()
        except OSError as error:
            raise self._refused("opened", error) from error
        self._release_when_unpinned = was_closed
        self._pins += 1

    def unpin(self) -> None:
        self._pins -= 1
        if self._release_when_unpinned and not self._pins:
            self._close_file()

    def release(self) -> None:
        """Save the index and give the memory and the handle back; the next use takes them again."""
        self.save_index()
        self.abandon()

    def abandon(self) -> None:
        """Give the memory and the handle back without writing anything."""
        self._index = None
        self._cursors.clear()
        if self._pins:
            self._release_when_unpinned = True
            return
        self._close_file()

    def retire_files(self) -> None:
        """Rename the files so that an opening log takes them for leftovers; whoever reads here may go on.

        ``remove_files`` then removes them.  The caller syncs the folder.
        """
        paths = [path for path in (self.path, self.index_path) if self._files.exists(path)]
        try:
            for path in paths:
                self._files.rename(path, path + DELETED_SUFFIX)
        except OSError as error:
            raise self._refused("renamed", error) from error
        self._suffix = DELETED_SUFFIX

    def remove_files(self) -> None:
        """Delete the segment's files; the caller syncs the folder."""
        self.abandon()
        try:
            for path in (self.path, self.index_path):
                if self._files.exists(path):
                    self._files.remove(path)
        except OSError as error:
            raise self._refused("removed", error) from error

    def save_index(self) -> None:
        """Write what is new in the index; ``sync_index`` makes it durable."""
        if self._index is None:
            return
        try:
            if self._index.save(self._files, self.index_path):
                self._index_unsynced = True
        except OSError as error:
            raise StorageError(f"{self.index_path}: can not be written: {_reason(error)}") from error

    def sync_index(self) -> None:
        """Make the saved index durable if it is not; may run in another thread, beside a removal."""
        if not self._index_unsynced:
            return
        self._index_unsynced = False
        try:
            file = self._files.open(self.index_path)
            try:
                file.sync()
            finally:
                file.close()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{self.index_path}: can not be synced: {_reason(error)}") from error

    def _handle(self) -> File:
        if self._file is None:
            self._file = self._files.open(self.path)
        self._release_when_unpinned = False
        return self._file

    def _close_file(self) -> None:
        self._release_when_unpinned = False
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _refused(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self.path}: can not be {what}: {_reason(error)}")

    def _pread(self, length: int, position: int) -> bytes:
        try:
            return self._handle().pread(length, position)
        except OSError as error:
            raise self._refused("read", error) from error

    # --- writing ----------------------------------------------------------------------------------------

    def append(self, data: Buffer, batches: list[Appended]) -> None:
        """Write ``data``, which is made of ``batches``, at the end; nothing counts unless all is written."""
        try:
            self._handle().pwrite(data, self.size_bytes)
        except OSError as error:
            self._drop_partial_write()
            raise self._refused("written", error) from error
        index = self._loaded_index()
        position = self.size_bytes
        interval_bytes = self._index_interval_bytes
        for last_offset, size_bytes in batches:
            if position - index.last_position > interval_bytes:
                index.append(last_offset, position)
            position += size_bytes
        self.size_bytes = position
        self.largest_timestamp = None
        self.next_offset = batches[-1].last_offset + 1

    def _drop_partial_write(self) -> None:
        """After a failed write; if even this fails, recovery or the next write overwrites the rest."""
        try:
            self._handle().truncate(self.size_bytes)
        except OSError:
            return

    def boundary_at(self, offset: int) -> int:
        """Where the last batch that lies wholly below ``offset`` ends: a cut there drops nothing else.

        Not ``offset`` itself: where a gap precedes it, the next opening would find the log to end before.
        """
        position, header = self._find(offset)
        if header is None:
            return min(offset, self.next_offset)
        end = self.base_offset
        for before, at in self.headers(self._loaded_index().position_before(header.base_offset - 1)):
            if at >= position:
                break
            end = before.next_offset
        return end

    def truncate(self, offset: int) -> None:
        """Drop the batch that holds ``offset`` and all after it, durably."""
        position, header = self._find(offset)
        if header is None:
            return
        self.cut(position, min(offset, header.base_offset))

    def cut(self, size_bytes: int, next_offset: int) -> None:
        """Keep the first ``size_bytes``, which end before ``next_offset``, durably."""
        self._cursors.clear()
        self.largest_timestamp = None
        if size_bytes == 0:
            self.rolling_timestamp = None
        self._loaded_index().truncate(size_bytes)
        self.save_index()
        self.sync_index()
        try:
            file = self._handle()
            file.truncate(size_bytes)
            file.sync()
        except OSError as error:
            raise self._refused("truncated", error) from error
        self.size_bytes = size_bytes
        self.next_offset = next_offset

    # --- scanning ---------------------------------------------------------------------------------------

    def headers(self, position: int = 0) -> Iterator[tuple[BatchHeader, int]]:
        """Every batch's header and position from a boundary on; checksums are not read.

        Raises ``CorruptBatch``, naming file and position, at bytes that are no header.
        """
        chunk, chunk_start = b"", 0
        while position < self.size_bytes:
            if position + HEADER_BYTES > chunk_start + len(chunk):
                chunk, chunk_start = self._pread(_SCAN_BYTES, position), position
            header = self._sensible_header(chunk, position - chunk_start, position)
            yield header, position
            position += header.size_bytes

    def _sensible_header(self, chunk: bytes, chunk_position: int, position: int) -> BatchHeader:
        try:
            header = parse_header(chunk, chunk_position)
            check_header(header, position=position, available_bytes=self.size_bytes - position)
        except CorruptBatch as error:
            raise CorruptBatch(f"{self.path}: {error}") from None
        return header

    def position_before(self, offset: int) -> int:
        """A batch boundary at or before the batch that holds ``offset``, as near as the index knows."""
        return self._loaded_index().position_before(offset)

    def find_end(self) -> None:
        """Learn ``next_offset`` from the last batch; ``CorruptBatch`` when the tail makes no sense."""
        self.next_offset = self.base_offset
        for header, _ in self.headers(self._loaded_index().last_position):
            self.next_offset = header.next_offset

    def recover(self, *, trusted_below: int, on_batch: Callable[[BatchHeader], None]) -> Recovery:
        """Check every batch in the file and index it again; nothing is cut.

        Batches below offset ``trusted_below`` were synced: their headers are walked, their checksums are not
        read.  ``on_batch`` is told of every sound batch, in order.
        """
        self.measure()
        index = OffsetIndex(self.base_offset)
        position, next_offset, problem = 0, self.base_offset, None
        chunk, chunk_start = b"", 0
        while position < self.size_bytes and problem is None:
            try:
                if position + HEADER_BYTES > chunk_start + len(chunk):
                    chunk, chunk_start = self._pread(_VALIDATE_BYTES, position), position
                header = self._sensible_header(chunk, position - chunk_start, position)
                _check_order(header, next_offset=next_offset, path=self.path, position=position)
                if header.next_offset > trusted_below:
                    if position + header.size_bytes > chunk_start + len(chunk):
                        chunk_start = position
                        chunk = self._pread(max(_VALIDATE_BYTES, header.size_bytes), position)
                    validate_batch(chunk, position - chunk_start)
            except CorruptBatch as error:
                problem = str(error)
                break
            if position - index.last_position > self._index_interval_bytes:
                index.append(header.last_offset, position)
            on_batch(header)
            next_offset = header.next_offset
            position += header.size_bytes
        self._index = index
        return Recovery(position, next_offset, problem)

    def _loaded_index(self) -> OffsetIndex:
        if self._index is None:
            try:
                self._index = OffsetIndex.load(
                    self._files, self.index_path, base_offset=self.base_offset, segment_bytes=self.size_bytes
                )
            except OSError as error:
                raise StorageError(f"{self.index_path}: can not be read: {_reason(error)}") from error
        if self._index is None:
            self._index = self._build_index()
        return self._index

    def _build_index(self) -> OffsetIndex:
        index = OffsetIndex(self.base_offset)
        for header, position in self.headers():
            if position - index.last_position > self._index_interval_bytes:
                index.append(header.last_offset, position)
        return index

    # --- reading ----------------------------------------------------------------------------------------

    def _find(self, offset: int) -> tuple[int, BatchHeader | None]:
        """The first batch that ends at or after ``offset``: its position and header (None: there is none)."""
        start = self._loaded_index().position_before(offset)
        try:
            return self._find_from(start, offset)
        except CorruptBatch:
            if start == 0:
                raise
        # The index may be what is damaged: only a walk from the beginning tells.
        self._index = self._build_index()
        return self._find_from(0, offset)

    def _find_from(self, start: int, offset: int) -> tuple[int, BatchHeader | None]:
        for header, position in self.headers(start):
            if position == start > 0 and header.base_offset > offset:
                raise CorruptBatch(f"{self.index_path}: position {start} lies after offset {offset}")
            if header.last_offset >= offset:
                return position, header
        return self.size_bytes, None

    def read(self, offset: int, *, max_bytes: int, upper_offset: int, minimum_one: bool) -> memoryview | None:
        """Whole batches from the one holding ``offset``, all below ``upper_offset``; None when past the end.

        With ``minimum_one`` a first batch larger than ``max_bytes`` is returned all the same.
        """
        position = self._cursors.get(offset, -1)
        if position < 0:
            position, header = self._find(offset)
            if header is None:
                return None
        if position >= self.size_bytes:
            return None
        length = min(max(max_bytes, HEADER_BYTES), self.size_bytes - position)
        data = self._pread(length, position)
        end, next_offset = self._cut(data, position, upper_offset=upper_offset)
        if not end and minimum_one:
            data = self._pread(self._sensible_header(data, 0, position).size_bytes, position)
            end, next_offset = self._cut(data, position, upper_offset=upper_offset)
        if end > max_bytes and not minimum_one:
            return memoryview(b"")
        if end:
            self._remember(next_offset, position + end)
        return memoryview(data)[:end]

    def batch_at(self, position: int, size_bytes: int) -> bytes:
        """The bytes of the batch at a known boundary."""
        return self._pread(size_bytes, position)

    def _cut(self, data: bytes, position: int, *, upper_offset: int) -> tuple[int, int]:
        """Where the last whole batch below ``upper_offset`` ends in ``data``, and the offset after it."""
        available = len(data)
        if position + available == self.size_bytes and upper_offset >= self.next_offset:
            return available, self.next_offset
        known = self._loaded_index().boundary_below(position=position + available, offset=upper_offset)
        end, next_offset = max(0, known - position), self.base_offset
        while end + HEADER_BYTES <= available:
            base_offset, batch_length, last_offset_delta = _WALK.unpack_from(data, end)
            if batch_length < HEADER_BYTES - LENGTH_PREFIX_BYTES or last_offset_delta < 0:
                raise CorruptBatch(f"{self.path}: batch at position {position + end} makes no sense")
            next_end = end + batch_length + LENGTH_PREFIX_BYTES
            if next_end > available or base_offset + last_offset_delta >= upper_offset:
                return end, base_offset
            end, next_offset = next_end, base_offset + last_offset_delta + 1
        return end, next_offset

    def _remember(self, next_offset: int, position: int) -> None:
        """Readers go on where they stopped: keep that place, so that they need not search."""
        cursors = self._cursors
        if next_offset > self.base_offset:
            cursors.pop(next_offset, None)
            cursors[next_offset] = position
            if len(cursors) > _MAX_CURSORS:
                del cursors[next(iter(cursors))]


def _check_order(header: BatchHeader, *, next_offset: int, path: str, position: int) -> None:
    if header.base_offset < next_offset:
        raise CorruptBatch(
            f"{path}: batch at position {position} begins at offset {header.base_offset}, "
            f"the one before ends at {next_offset - 1}"
        )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
