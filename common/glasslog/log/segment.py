"""One segment: a ``.log`` file of batches and the indexes beside it.

This module knows positions, whole batches and how to find them; it refuses to know about epochs, producers
and other segments.  Handles are opened on first use and given back by ``release``, so that an idle partition
holds none.  An operation that the OS refuses is a ``StorageError`` that names the file.
Source: Kafka's ``LogSegment``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import NamedTuple

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Buffer, File, FileSystem
from glasslog.log.batch import (
    ATTRIBUTES_POSITION,
    HEADER,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptBatch,
    check_header,
    parse_header,
    validate_batch,
)
from glasslog.log.checksum import crc32c
from glasslog.log.index import OffsetIndex
from glasslog.log.markers import EndTransactionMarker, decode_marker
from glasslog.log.segment_indexes import INDEX_SUFFIX, INDEX_SUFFIXES, SegmentIndexes
from glasslog.log.time_index import TimeIndex, TimestampOffset
from glasslog.log.transaction_index import AbortedTransaction, TransactionIndex

LOG_SUFFIX = ".log"
CLEANED_SUFFIX = ".cleaned"
"""Of a segment that the cleaner writes; an opening log removes such files."""
SWAP_SUFFIX = ".swap"
"""Of a rewritten segment that takes the place of others; an opening log completes that."""
DELETED_SUFFIX = ".deleted"
"""Of a segment that has left its log; an opening log removes such files."""

MAX_RELATIVE_OFFSET = (1 << 31) - 1
MAX_SEGMENT_BYTES = (1 << 31) - 1

_WALK = Struct(">qi11xi")
"""Base offset, batch length and last offset delta: all that cutting at a batch boundary needs."""

_SCAN_BYTES = 32 * 1024
_VALIDATE_BYTES = 1024 * 1024
_MAX_CURSORS = 16
_WARM_BYTES = 1024 * 1024
_HOT_TAIL_BYTES = 16 * 1024 * 1024
"""Of what this process wrote, the end that is taken to be in the page cache: to ask costs a third more."""

_NEVER = 1 << 62


class Recovery(NamedTuple):
    """The sound part of a segment: its size, the offset after it, and why it ends (None: the file does)."""

    size_bytes: int
    next_offset: int
    problem: str | None


def file_name(offset: int, suffix: str) -> str:
    """A segment file's name: twenty digits and a suffix."""
    return f"{offset:020d}{suffix}"


class ColdRead(Exception):  # noqa: N818 - nothing is wrong: the disk has to be waited for
    """A read of what is not in the page cache: ``Segment.warm`` the range off the event loop, read again."""

    def __init__(self, segment: "Segment", *, length: int, position: int) -> None:
        super().__init__(f"{segment.path}: {length} bytes at {position} are not in memory")
        self.segment = segment
        self.length = length
        self.position = position


class Segment:
    """Batches from ``base_offset`` up to ``next_offset``, of which only the last segment's grows."""

    __slots__ = (
        "_cursors",
        "_file",
        "_files",
        "_index_is_warm",
        "_indexes",
        "_pins",
        "_release_when_unpinned",
        "_written_from",
        "base_offset",
        "created_ms",
        "next_offset",
        "rolling_timestamp",
        "size_bytes",
    )

    def __init__(
        self,
        files: FileSystem,
        directory: str,
        *,
        base_offset: int,
        index_interval_bytes: int,
        suffix: str = "",
    ) -> None:
        self._files = files
        self._indexes = SegmentIndexes(
            files,
            f"{directory}/{file_name(base_offset, '')}",
            base_offset=base_offset,
            interval_bytes=index_interval_bytes,
        )
        self._indexes.name_suffix = suffix
        self._file: File | None = None
        self._cursors: dict[int, int] = {}
        self._pins = 0
        self._release_when_unpinned = False
        self._written_from = _NEVER
        self._index_is_warm = False
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size_bytes = 0
        self.rolling_timestamp: int | None = None
        """The first batch's largest timestamp, against which ``segment.ms`` is measured; None: not known."""
        self.created_ms: int | None = None
        """Wall-clock time of the first append, to measure by where records have no timestamps."""

    # --- files ------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self._indexes.path(LOG_SUFFIX)

    @property
    def index_path(self) -> str:
        return self._indexes.path(INDEX_SUFFIX)

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def create(self) -> None:
        """Make the file, empty, without indexes. The caller syncs the folder."""
        try:
            for suffix in INDEX_SUFFIXES:
                if self._files.exists(self._indexes.path(suffix)):
                    self._files.remove(self._indexes.path(suffix))
            self._file = self._files.open(self.path, create=True)
            self._file.truncate(0)
        except OSError as error:
            raise self._refused("created", error) from error
        self._indexes.begin()

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
        """Save the indexes and give the memory and the handle back; the next use takes them again."""
        if self._indexes.is_loaded:
            self.save_index()
        if self._indexes.is_loaded or self._file is not None:
            self.abandon()

    def abandon(self) -> None:
        """Give the memory and the handle back without writing anything."""
        self._indexes.forget()
        self._cursors.clear()
        self._written_from = _NEVER
        self._index_is_warm = False
        if self._pins:
            self._release_when_unpinned = True
            return
        self._close_file()

    def change_suffix(self, suffix: str) -> None:
        """Let the files' names end with ``suffix``; whoever reads here may go on.

        The log's file is the last of them, so that its name tells of all.  The caller syncs the folder.
        Raises ``StorageError``; then the names are as they were, as far as the OS lets them.
        """
        before = self._indexes.name_suffix
        renamed: list[tuple[str, str]] = []
        try:
            for path in filter(self._files.exists, self._paths()):
                target = path.removesuffix(before) + suffix
                self._files.rename(path, target)
                renamed.append((path, target))
        except OSError as error:
            with suppress(OSError):
                for path, target in reversed(renamed):
                    self._files.rename(target, path)
            raise self._refused("renamed", error) from error
        self._indexes.name_suffix = suffix

    def _paths(self) -> list[str]:
        """The log's own is the last one."""
        return [*map(self._indexes.path, INDEX_SUFFIXES), self.path]

    def remove_files(self) -> None:
        """Delete the segment's files; the caller syncs the folder.

        The log's goes first: beside it a missing index of transactions would say that none was aborted.
        """
        self.abandon()
        try:
            for path in filter(self._files.exists, reversed(self._paths())):
                self._files.remove(path)
        except OSError as error:
            raise self._refused("removed", error) from error

    def seal(self) -> None:
        """No batch will follow, for now: complete the indexes."""
        self._indexes.seal()

    def save_index(self) -> None:
        """Write what is new in the indexes; ``sync_index`` makes it durable."""
        self._indexes.save()

    def save_transactions(self) -> bool:
        """Write what is new of the aborted transactions; False when there is nothing to sync."""
        return self._indexes.save_transactions()

    def sync_index(self) -> None:
        """Make the saved indexes durable; may run in another thread, beside a removal."""
        self._indexes.sync()

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

    def _pread(self, length: int, position: int, *, cached_only: bool = False) -> Buffer:
        try:
            file = self._handle()
            hot_from = max(self._written_from, self.size_bytes - _HOT_TAIL_BYTES)
            if not cached_only or position >= hot_from:
                return file.pread(length, position)
            data = file.pread_cached(length, position)
        except OSError as error:
            raise self._refused("read", error) from error
        if data is None:
            raise ColdRead(self, length=length, position=position)
        return data

    def warm(self, length: int, position: int) -> None:
        """Bring a range, of ``length`` 0 the index, into the page cache; blocks, may run in another thread.

        The segment is pinned meanwhile.

        What the disk refuses is left for the reader to meet.
        """
        with suppress(OSError):
            if not length:
                self._index_is_warm = True
                self._files.read(self.index_path)
            for start in range(position, min(position + length, self.size_bytes), _WARM_BYTES):
                self._handle().pread(_WARM_BYTES, start)

    # --- writing ----------------------------------------------------------------------------------------

    def append(self, parts: Sequence[Buffer], size_bytes: int, headers: Sequence[BatchHeader]) -> None:
        """Write ``parts``, together the batches of ``headers``; nothing counts unless all is written."""
        indexes = self._indexes
        if not indexes.is_ready:
            self._prepare_indexes()
        position = self.size_bytes
        try:
            file = self._file or self._handle()
            if len(parts) == 1:
                file.pwrite(parts[0], position)
            else:
                file.pwritev(parts, position)
        except OSError as error:
            self._drop_partial_write()
            raise self._refused("written", error) from error
        if position < self._written_from:
            self._written_from = position
        self.size_bytes += size_bytes
        for header in headers:
            indexes.note(header, position)
            position += header.batch_length + LENGTH_PREFIX_BYTES
        self.next_offset = header.base_offset + header.last_offset_delta + 1

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
        if size_bytes == 0:
            self.rolling_timestamp = self.created_ms = None
        self._prepare_indexes()
        self._indexes.transactions(self.next_offset)
        self._indexes.truncate(position=size_bytes, offset=next_offset)
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
        self._indexes.largest = self._walk_largest()

    # --- scanning ---------------------------------------------------------------------------------------

    def headers(self, position: int = 0, *, cached_only: bool = False) -> Iterator[tuple[BatchHeader, int]]:
        """Every batch's header and position from a boundary on; checksums are not read.

        Raises ``CorruptBatch``, naming file and position, at bytes that are no header.
        """
        chunk: Buffer = b""
        chunk_start = 0
        while position < self.size_bytes:
            if position + HEADER_BYTES > chunk_start + len(chunk):
                chunk, chunk_start = self._pread(_SCAN_BYTES, position, cached_only=cached_only), position
            header = self._sensible_header(chunk, position - chunk_start, position)
            yield header, position
            position += header.size_bytes

    def _sensible_header(self, chunk: Buffer, chunk_position: int, position: int) -> BatchHeader:
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
        read.  ``on_batch`` is told of the sound batches, in order, that have a producer or another epoch than
        the one before.
        """
        self.measure()
        self._indexes.begin_anew()
        indexes, unpack = self._indexes, HEADER.unpack_from
        quiet_until, largest_timestamp, epoch = -1, NO_TIMESTAMP, None
        position, next_offset, end = 0, self.base_offset, self.size_bytes
        chunk, chunk_start, chunk_end = memoryview(b""), 0, 0
        while position < end:
            if position + HEADER_BYTES > chunk_end:
                chunk, chunk_start, chunk_end = self._chunk(position, _VALIDATE_BYTES)
                if position + HEADER_BYTES > chunk_end:
                    break
            fields = unpack(chunk, position - chunk_start)
            base_offset, batch_length, batch_epoch, magic, crc, _, last_offset_delta = fields[:7]
            _, max_timestamp, producer_id, _, _, record_count = fields[7:]
            batch_end = position + LENGTH_PREFIX_BYTES + batch_length
            batch_next = base_offset + last_offset_delta + 1
            if (
                magic != MAGIC
                or batch_length < HEADER_BYTES - LENGTH_PREFIX_BYTES
                or batch_end > end
                or base_offset < next_offset
                or not 0 <= record_count <= last_offset_delta + 1
            ):
                break
            if batch_next > trusted_below:
                if batch_end > chunk_end:
                    chunk, chunk_start, chunk_end = self._chunk(
                        position, max(_VALIDATE_BYTES, batch_end - position)
                    )
                checked = chunk[position + ATTRIBUTES_POSITION - chunk_start : batch_end - chunk_start]
                if crc32c(checked) != crc:
                    break
            # Most batches have nothing to tell: small ones are walked twice as fast without the calls.
            if position > quiet_until or max_timestamp > largest_timestamp:
                indexes.note(tuple.__new__(BatchHeader, fields), position)
                quiet_until, largest_timestamp = indexes.quiet_until, max(max_timestamp, largest_timestamp)
            if producer_id >= 0 or batch_epoch != epoch:
                on_batch(tuple.__new__(BatchHeader, fields))
                epoch = batch_epoch
            next_offset, position = batch_next, batch_end
        self.seal()
        problem = None if position >= end else self._problem_at(position, next_offset)
        return Recovery(position, next_offset, problem)

    def _chunk(self, position: int, length: int) -> tuple[memoryview, int, int]:
        """Bytes from ``position`` on, where they begin and where they end."""
        data = memoryview(self._pread(length, position))
        return data, position, position + len(data)

    def _problem_at(self, position: int, next_offset: int) -> str:
        """What is wrong with the batch at ``position``, which ``recover`` stopped at."""
        try:
            header = self._sensible_header(self._pread(HEADER_BYTES, position), 0, position)
            _check_order(header, next_offset=next_offset, path=self.path, position=position)
        except CorruptBatch as error:
            return str(error)
        try:
            validate_batch(self._pread(header.size_bytes, position))
        except CorruptBatch as error:
            return f"{self.path}: what begins at position {position} is damaged: {error}"
        return f"{self.path}: the bytes at position {position} changed while they were read"

    # --- indexes ----------------------------------------------------------------------------------------

    def _loaded_index(self) -> OffsetIndex:
        index = self._indexes.offsets(self.size_bytes)
        while index is None:
            self._build_indexes()
            index = self._indexes.offsets(self.size_bytes)
        return index

    def _loaded_times(self) -> TimeIndex:
        index = self._indexes.times(self.next_offset)
        while index is None:
            self._build_indexes()
            index = self._indexes.times(self.next_offset)
        return index

    def _build_indexes(self) -> None:
        self._indexes.begin_anew()
        for header, position in self.headers():
            self._indexes.note(header, position)
        self.seal()

    def _prepare_indexes(self) -> None:
        """Before batches are noted."""
        self._loaded_index()
        self._loaded_times()
        self.largest_timestamp()

    def largest_timestamp(self) -> TimestampOffset:
        """The largest timestamp here and its batch's last offset; -1 and the base offset where is none."""
        largest = self._indexes.largest
        if largest is None and self.size_bytes:
            largest = self._indexes.load_largest(self.next_offset)
            if largest is None:
                self._build_indexes()
                largest = self._indexes.largest
        if largest is None:
            largest = TimestampOffset(NO_TIMESTAMP, self.base_offset)
        self._indexes.largest = largest
        return largest

    def first_timestamp(self) -> int:
        """The first batch's largest timestamp; -1 where there is none."""
        if self.rolling_timestamp is None and self.size_bytes:
            was_open = self.is_open
            self.rolling_timestamp = next(self.headers())[0].max_timestamp
            if not was_open:
                self._close_file()
        return NO_TIMESTAMP if self.rolling_timestamp is None else self.rolling_timestamp

    def _walk_largest(self) -> TimestampOffset:
        """The same from a time index that does not end with it."""
        largest = self._loaded_times().last
        for header, _ in self.headers(self.position_before(largest.offset)):
            if header.max_timestamp > largest.timestamp:
                largest = TimestampOffset(header.max_timestamp, header.last_offset)
        return largest

    def headers_since(self, timestamp: int, *, lowest_offset: int) -> Iterator[tuple[BatchHeader, int]]:
        """Headers and positions from where the first batch may be that reaches ``timestamp``."""
        first = max(self._loaded_times().offset_before(timestamp), lowest_offset)
        return self.headers(self.position_before(first))

    @property
    def index_bytes(self) -> int:
        """What the larger index file would have with one more entry, as far as they are loaded."""
        return self._indexes.next_bytes

    def add_aborted(self, transaction: AbortedTransaction) -> None:
        """Index a transaction whose marker lies here; only of a segment that is being written."""
        index = self.transactions
        assert index is not None
        index.append(transaction)

    @property
    def transactions(self) -> TransactionIndex | None:
        """The aborted transactions that end here; None: their file is unsound, the batches have to tell."""
        return self._indexes.transactions(self.next_offset)

    @transactions.setter
    def transactions(self, index: TransactionIndex) -> None:
        self._indexes.set_transactions(index)

    def marker_at(self, header: BatchHeader, position: int) -> EndTransactionMarker | None:
        """What the control batch at ``position`` says; ``StorageError`` when that can not be read."""
        try:
            return decode_marker(self.batch_at(position, header.size_bytes))
        except CorruptBatch as error:
            raise StorageError(
                f"{self.path}: position {position}: which transaction ended here is unknown: {error}"
            ) from None

    # --- reading ----------------------------------------------------------------------------------------

    def _find(self, offset: int, *, cached_only: bool = False) -> tuple[int, BatchHeader | None]:
        """The first batch that ends at or after ``offset``: its position and header (None: there is none)."""
        if cached_only and not (self._index_is_warm or self._indexes.knows_offsets):
            raise ColdRead(self, length=0, position=0)
        start = self._loaded_index().position_before(offset)
        try:
            return self._find_from(start, offset, cached_only=cached_only)
        except CorruptBatch:
            if start == 0:
                raise
        # The index may be what is damaged: only a walk from the beginning tells.
        self._build_indexes()
        return self._find_from(0, offset)

    def _find_from(
        self, start: int, offset: int, *, cached_only: bool = False
    ) -> tuple[int, BatchHeader | None]:
        for header, position in self.headers(start, cached_only=cached_only):
            if position == start > 0 and header.base_offset > offset:
                raise CorruptBatch(f"{self.index_path}: position {start} lies after offset {offset}")
            if header.last_offset >= offset:
                return position, header
        return self.size_bytes, None

    def read(
        self, offset: int, *, max_bytes: int, upper_offset: int, minimum_one: bool, cached_only: bool = False
    ) -> memoryview | None:
        """Whole batches from the one holding ``offset``, all below ``upper_offset``; None when past the end.

        With ``minimum_one`` a first batch larger than ``max_bytes`` is returned all the same.  Raises
        ``ColdRead`` with ``cached_only`` when it would have to wait for the disk.
        """
        position = self._cursors.get(offset, -1)
        if position < 0:
            position, header = self._find(offset, cached_only=cached_only)
            if header is None:
                return None
        if position >= self.size_bytes:
            return None
        length = min(max(max_bytes, HEADER_BYTES), self.size_bytes - position)
        data = self._pread(length, position, cached_only=cached_only)
        end, next_offset = self._cut(data, position, upper_offset=upper_offset)
        if not end and minimum_one:
            length = self._sensible_header(data, 0, position).size_bytes
            data = self._pread(length, position, cached_only=cached_only)
            end, next_offset = self._cut(data, position, upper_offset=upper_offset)
        if end > max_bytes and not minimum_one:
            return memoryview(b"")
        if end:
            self._remember(next_offset, position + end)
        return memoryview(data)[:end]

    def batch_at(self, position: int, size_bytes: int) -> Buffer:
        """The bytes of the batch at a known boundary."""
        return self._pread(size_bytes, position)

    def _cut(self, data: Buffer, position: int, *, upper_offset: int) -> tuple[int, int]:
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
