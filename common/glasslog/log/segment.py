"""One segment: a ``.log`` file of batches and the indexes beside it.

This module knows positions, whole batches and how to find them; it refuses to know about epochs, producers
and other segments.  Handles are opened on first use and given back by ``release``, so that an idle partition
holds none.  An operation that the OS refuses is a ``StorageError`` that names the file.
Source: Kafka's ``LogSegment``.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Buffer, FileSystem
from glasslog.log.batch import (
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptBatch,
    check_header,
    compute_crc,
    parse_header,
    validate_batch,
)
from glasslog.log.codec import CODEC
from glasslog.log.damage import DamagedLog
from glasslog.log.index import IndexEntry, OffsetIndex, UnsoundEntry
from glasslog.log.markers import EndTransactionMarker, decode_marker
from glasslog.log.segment_file import SegmentFile, file_name
from glasslog.log.segment_indexes import SegmentIndexes
from glasslog.log.time_index import TimeIndex, TimestampOffset
from glasslog.log.transaction_index import AbortedTransaction, TransactionIndex
from glasslog.log.walk_types import SoundPart, Stop

MAX_RELATIVE_OFFSET = (1 << 31) - 1
MAX_SEGMENT_BYTES = (1 << 31) - 1

_SCAN_BYTES = 32 * 1024
_MAX_CURSORS = 16
_WARM_BYTES = 1024 * 1024
_HOT_TAIL_BYTES = 16 * 1024 * 1024
"""Of what this process wrote, the end that is taken to be in the page cache: to ask costs a third more."""

REBUILD = -1
"""The length of a ``ColdRead`` that waits for an index to be built anew."""

_NEVER = 1 << 62


class ColdRead(Exception):  # noqa: N818 - nothing is wrong: the disk has to be waited for
    """A read of what is not in the page cache: ``Segment.warm`` the range off the event loop, read again."""

    def __init__(self, segment: "Segment", *, length: int, position: int) -> None:
        super().__init__(f"{segment.path}: {length} bytes at {position} are not in memory")
        self.segment = segment
        self.length = length
        self.position = position


class _Wanted(NamedTuple):
    """Where to read, and what of it."""

    position: int
    lowest_offset: int
    upper_offset: int
    cached_only: bool


class Segment(SegmentFile):
    """Batches from ``base_offset`` up to ``next_offset``, of which only the last segment's grows."""

    __slots__ = (
        "_cursors",
        "_index_is_rebuilt",
        "_index_is_warm",
        "_index_was_lost",
        "_written_from",
        "base_offset",
        "created_ms",
        "next_offset",
        "rolling_timestamp",
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
        indexes = SegmentIndexes(
            files,
            f"{directory}/{file_name(base_offset, '')}",
            base_offset=base_offset,
            interval_bytes=index_interval_bytes,
        )
        indexes.name_suffix = suffix
        super().__init__(files, indexes)
        self._cursors: dict[int, int] = {}
        self._written_from = _NEVER
        self._index_is_warm = False
        self._index_is_rebuilt = False
        self._index_was_lost = False
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.rolling_timestamp: int | None = None
        """The first batch's largest timestamp, against which ``segment.ms`` is measured; None: not known."""
        self.created_ms: int | None = None
        """Wall-clock time of the first append, to measure by where records have no timestamps."""

    # --- files ------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Save the indexes and give the memory and the handle back; the next use takes them again.

        Those that were built anew are made durable: no flush comes back to a segment that it has passed, and
        a power loss may leave of a time index a part that looks whole.
        """
        if self.indexes.is_loaded:
            self.save_index()
            if self._index_was_lost:
                self.sync_index()
                self._index_was_lost = False
        if self.indexes.is_loaded or self._file is not None:
            self.abandon()

    def abandon(self) -> None:
        """Give the memory and the handle back without writing anything."""
        self.indexes.forget()
        self._cursors.clear()
        self._written_from = _NEVER
        self._index_is_warm = self._index_is_rebuilt = False
        if self._pins:
            self._release_when_unpinned = True
            return
        self._close_file()

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
        self.indexes.seal()

    def save_index(self) -> None:
        """Write what is new in the indexes; ``sync_index`` makes it durable."""
        self.indexes.save()

    def save_transactions(self) -> bool:
        """Write what is new of the aborted transactions; False when there is nothing to sync."""
        return self.indexes.save_transactions()

    def sync_index(self) -> None:
        """Make the saved indexes durable; may run in another thread, beside a removal."""
        self.indexes.sync()

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

        Of ``length`` ``REBUILD`` the index is built anew.  The segment is pinned meanwhile.  What the disk
        refuses is left for the reader to meet.
        """
        if length == REBUILD:
            self._rebuild_indexes()
            return
        with suppress(OSError):
            if not length:
                self._index_is_warm = True
                self._files.read(self.index_path)
            for start in range(position, min(position + length, self.size_bytes), _WARM_BYTES):
                self._handle().pread(_WARM_BYTES, start)

    # --- writing ----------------------------------------------------------------------------------------

    def append(self, parts: Sequence[Buffer], size_bytes: int, headers: Sequence[BatchHeader]) -> None:
        """Write ``parts``, together the batches of ``headers``; nothing counts unless all is written."""
        indexes = self.indexes
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
        self.indexes.transactions(self.next_offset)
        self.indexes.truncate(position=size_bytes, offset=next_offset)
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
        self.indexes.largest = self._walk_largest()

    # --- scanning ---------------------------------------------------------------------------------------

    def headers(
        self, position: int = 0, *, first_offset: int | None = None, cached_only: bool = False
    ) -> Iterator[tuple[BatchHeader, int]]:
        """Every batch's header and position from a boundary on; checksums are not read.

        Raises ``DamagedLog`` at bytes that are no header; ``first_offset`` is what the first one is looked at
        for.
        """
        chunk: Buffer = b""
        chunk_start = 0
        offset = self.base_offset if first_offset is None else first_offset
        while position < self.size_bytes:
            if position + HEADER_BYTES > chunk_start + len(chunk):
                chunk, chunk_start = self._pread(_SCAN_BYTES, position, cached_only=cached_only), position
            header = self._sensible_header(chunk, position - chunk_start, position, offset)
            yield header, position
            position += header.size_bytes
            offset = header.next_offset

    def _sensible_header(self, chunk: Buffer, chunk_position: int, position: int, offset: int) -> BatchHeader:
        try:
            header = parse_header(chunk, chunk_position)
            check_header(header, position=position, available_bytes=self.size_bytes - position)
        except CorruptBatch as error:
            raise self.damaged(str(error), position=position, offset=offset) from None
        return header

    def damaged(self, reason: str, *, position: int, offset: int) -> DamagedLog:
        """What is to be raised of the bytes at ``position``."""
        return DamagedLog(
            reason, path=self.path, base_offset=self.base_offset, position=position, offset=offset
        )

    def position_before(self, offset: int) -> int:
        """A batch boundary at or before the batch that holds ``offset``, as near as the index knows."""
        return self._loaded_index().position_before(offset)

    def find_end(self) -> None:
        """Learn ``next_offset`` from the last batch; ``CorruptBatch`` when the tail makes no sense."""
        self.next_offset = self.base_offset
        for header, _ in self.headers(self._loaded_index().last_position):
            self.next_offset = header.next_offset

    # --- indexes ----------------------------------------------------------------------------------------

    def _loaded_index(self) -> OffsetIndex:
        index = self.indexes.offsets(self.size_bytes)
        while index is None:
            self._build_indexes()
            index = self.indexes.offsets(self.size_bytes)
        return index

    def _loaded_times(self) -> TimeIndex:
        index = self.indexes.times(self.next_offset)
        while index is None:
            self._build_indexes()
            index = self.indexes.times(self.next_offset)
        return index

    def _build_indexes(self) -> None:
        self._index_was_lost = self.size_bytes > 0
        self.indexes.begin_anew()
        for header, position in self.headers():
            self.indexes.note(header, position)
        self.seal()

    def _rebuild_indexes(self) -> None:
        """As ``_build_indexes``, beside readers, of a segment that does not grow."""
        fresh = self.indexes.fresh()
        with suppress(DamagedLog, StorageError):
            for header, position in self.headers():
                fresh.note(header, position)
        fresh.seal()
        self.indexes.adopt(fresh)
        self._index_is_rebuilt = self._index_was_lost = True

    def _prepare_indexes(self) -> None:
        """Before batches are noted."""
        self._loaded_index()
        self._loaded_times()
        self.largest_timestamp()

    def largest_timestamp(self) -> TimestampOffset:
        """The largest timestamp here and its batch's last offset; -1 and the base offset where is none."""
        largest = self.indexes.largest
        if largest is None and self.size_bytes:
            largest = self.indexes.load_largest(self.next_offset)
            if largest is None:
                self._build_indexes()
                largest = self.indexes.largest
        if largest is None:
            largest = TimestampOffset(NO_TIMESTAMP, self.base_offset)
        self.indexes.largest = largest
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

    def add_aborted(self, transaction: AbortedTransaction) -> None:
        """Index a transaction whose marker lies here; only of a segment that is being written."""
        index = self.transactions
        assert index is not None
        index.append(transaction)

    @property
    def transactions(self) -> TransactionIndex | None:
        """The aborted transactions that end here; None: their file is unsound, the batches have to tell."""
        return self.indexes.transactions(self.next_offset)

    @transactions.setter
    def transactions(self, index: TransactionIndex) -> None:
        self.indexes.set_transactions(index)

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
        if cached_only and not (self._index_is_warm or self.indexes.knows_offsets):
            raise ColdRead(self, length=0, position=0)
        for entry in self._loaded_index().entries_before(offset):
            try:
                return self._find_from(entry, offset, cached_only=cached_only)
            except UnsoundEntry:
                # It may be the batch there that is damaged: the entry before it tells.
                continue
        if cached_only and not self._index_is_rebuilt:
            raise ColdRead(self, length=REBUILD, position=0)
        self._build_indexes()
        return self._find_from(self._loaded_index().entries_before(offset)[0], offset)

    def _find_from(
        self, entry: IndexEntry, offset: int, *, cached_only: bool = False
    ) -> tuple[int, BatchHeader | None]:
        before: tuple[BatchHeader, int] | None = None
        try:
            for header, position in self.headers(
                entry.position, first_offset=entry.after_offset + 1, cached_only=cached_only
            ):
                if before is None and entry.position and not entry.fits(header):
                    raise UnsoundEntry
                lowest = entry.after_offset + 1 if before is None else before[0].next_offset
                if header.base_offset < lowest:
                    text = f"batch at position {position}: base offset {header.base_offset} is below {lowest}"
                    raise self.damaged(text, position=position, offset=lowest)
                if header.last_offset >= offset:
                    if header.base_offset > offset and before is not None:
                        self._check_gap(*before, cached_only=cached_only)
                    return position, header
                before = header, position
        except DamagedLog:
            if before is None and entry.position:
                raise UnsoundEntry from None
            raise
        return self.size_bytes, None

    def _check_gap(self, header: BatchHeader, position: int, *, cached_only: bool) -> None:
        """Compaction leaves gaps; but the batch before one may have lost sight of its end."""
        try:
            validate_batch(self._pread(header.size_bytes, position, cached_only=cached_only))
        except CorruptBatch as error:
            raise self.damaged(str(error), position=position, offset=header.base_offset) from None

    def read(
        self, offset: int, *, max_bytes: int, upper_offset: int, minimum_one: bool, cached_only: bool = False
    ) -> memoryview | None:
        """Whole batches from the one holding ``offset``, all below ``upper_offset``; None when past the end.

        Only such whose checksums hold: raises ``DamagedLog`` when the first one's does not.  With
        ``minimum_one`` a first batch larger than ``max_bytes`` is returned all the same.  Raises ``ColdRead``
        with ``cached_only`` when it would have to wait for the disk.
        """
        position, lowest = self._cursors.get(offset, -1), offset
        if position < 0:
            position, header = self._find(offset, cached_only=cached_only)
            if header is None:
                return None
            lowest = header.base_offset
        if position >= self.size_bytes:
            return None
        wanted = _Wanted(position, lowest, upper_offset, cached_only)
        data, found = self._read_sound(wanted, max_bytes)
        if minimum_one and not (found.size_bytes or found.stop):
            size_bytes = self._sensible_header(data, 0, position, lowest).size_bytes
            if size_bytes > max_bytes:
                data, found = self._read_sound(wanted, size_bytes)
        if found.stop == Stop.ORDER and found.size_bytes:
            # This batch or the next one is damaged: it does not count either.
            data, found = self._read_sound(wanted, found.last_position)
            found = found if found.size_bytes else found._replace(stop=Stop.ORDER)
        if found.stop and not found.size_bytes:
            raise self._damaged_batch(data, found.stop, position, lowest)
        if found.size_bytes:
            self._remember(found.next_offset, position + found.size_bytes)
        return memoryview(data)[: found.size_bytes]

    def _read_sound(self, wanted: "_Wanted", limit_bytes: int) -> tuple[Buffer, SoundPart]:
        position, lowest_offset, upper_offset, cached_only = wanted
        # The header after them confirms where they end.
        length = min(max(limit_bytes, 0) + HEADER_BYTES, self.size_bytes - position)
        data = self._pread(length, position, cached_only=cached_only)
        return data, CODEC.walk_sound(data, limit_bytes, lowest_offset, upper_offset, self.next_offset)

    def _damaged_batch(self, data: Buffer, stop: int, position: int, offset: int) -> DamagedLog:
        """Why the batch that ``data`` begins with can not be served."""
        header = parse_header(data)
        if stop == Stop.CHECKSUM:
            computed = compute_crc(data, 0, header.size_bytes)
            reason = f"checksum is {computed:#010x}, the header says {header.crc:#010x}"
        else:
            reason = f"its header does not fit here: {header}"
        text = f"batch at position {position} (offset {offset}): {reason}"
        return self.damaged(text, position=position, offset=offset)

    def bytes_at(self, position: int, length: int) -> Buffer:
        """What lies there, as far as the file goes; neither sound nor whole batches."""
        return self._pread(length, position)

    def batch_at(self, position: int, size_bytes: int) -> Buffer:
        """The bytes of the batch at a known boundary."""
        return self._pread(size_bytes, position)

    def _remember(self, next_offset: int, position: int) -> None:
        """Readers go on where they stopped: keep that place, so that they need not search."""
        cursors = self._cursors
        if next_offset > self.base_offset:
            cursors.pop(next_offset, None)
            cursors[next_offset] = position
            if len(cursors) > _MAX_CURSORS:
                del cursors[next(iter(cursors))]
