"""The three indexes beside one segment: loaded when they are needed, saved and synced together.

This module knows their files and when an entry is due; it refuses to read the segment: whoever is told that
an index is missing or unsound walks the batches and calls ``begin_anew`` and ``note``.
An operation that the OS refuses is a ``StorageError`` that names the file.
Source: Kafka's ``LogSegment``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import NO_TIMESTAMP, BatchHeader
from glasslog.log.index import ENTRY_BYTES as OFFSET_ENTRY_BYTES
from glasslog.log.index import OffsetIndex
from glasslog.log.time_index import ENTRY_BYTES as TIME_ENTRY_BYTES
from glasslog.log.time_index import TimeIndex, TimestampOffset
from glasslog.log.transaction_index import TransactionIndex
from glasslog.log.walk_types import Indexed

INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
INDEX_SUFFIXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)

_Result = TypeVar("_Result")


class SegmentIndexes:
    """What is in memory of the indexes of the segment whose files are called ``path`` and a suffix.

    ``largest`` is the largest timestamp so far; None: not known.
    """

    __slots__ = (
        "_base_offset",
        "_files",
        "_offsets",
        "_path",
        "_times",
        "_transactions",
        "_unsynced",
        "interval_bytes",
        "largest",
        "name_suffix",
    )

    def __init__(self, files: FileSystem, path: str, *, base_offset: int, interval_bytes: int) -> None:
        self._files = files
        self._path = path
        self.name_suffix = ""
        self._base_offset = base_offset
        self.interval_bytes = interval_bytes
        self._offsets: OffsetIndex | None = None
        self._times: TimeIndex | None = None
        self._transactions: TransactionIndex | None = None
        self._unsynced: tuple[str, ...] = ()
        self.largest: TimestampOffset | None = None

    def path(self, suffix: str) -> str:
        return self._path + suffix + self.name_suffix

    # --- loading ----------------------------------------------------------------------------------------

    def offsets(self, segment_bytes: int) -> OffsetIndex | None:
        """The offset index; None when it has to be built."""
        if self._offsets is None:
            path = self.path(INDEX_SUFFIX)
            self._offsets = _attempt(
                path,
                "read",
                lambda: OffsetIndex.load(
                    self._files, path, base_offset=self._base_offset, segment_bytes=segment_bytes
                ),
            )
        return self._offsets

    def times(self, next_offset: int) -> TimeIndex | None:
        """The time index of a segment that ends at ``next_offset``; None when it has to be built."""
        if self._times is None:
            path = self.path(TIME_INDEX_SUFFIX)
            self._times = _attempt(
                path,
                "read",
                lambda: TimeIndex.load(
                    self._files, path, base_offset=self._base_offset, next_offset=next_offset
                ),
            )
        return self._times

    def transactions(self, next_offset: int) -> TransactionIndex | None:
        """The aborted transactions of a segment that ends at ``next_offset``; None: nobody knows them."""
        if self._transactions is None:
            path = self.path(TRANSACTION_INDEX_SUFFIX)
            self._transactions = _attempt(
                path,
                "read",
                lambda: TransactionIndex.load(
                    self._files, path, base_offset=self._base_offset, next_offset=next_offset
                ),
            )
        return self._transactions

    def load_largest(self, next_offset: int) -> TimestampOffset | None:
        """The last entry of the time index on disk, which an orderly end made the largest timestamp.

        None when there is none: the batches have to tell.
        """
        path = self.path(TIME_INDEX_SUFFIX)
        return _attempt(
            path,
            "read",
            lambda: TimeIndex.load_last(
                self._files, path, base_offset=self._base_offset, next_offset=next_offset
            ),
        )

    # --- building ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Of a new segment: nothing to tell yet."""
        self.begin_anew()
        self._transactions = TransactionIndex()

    def begin_anew(self) -> None:
        """Forget what was known of offsets and times, to be told of every batch by ``note``."""
        self._offsets = OffsetIndex(self._base_offset)
        self._times = TimeIndex(self._base_offset)
        self.largest = TimestampOffset(NO_TIMESTAMP, self._base_offset)

    def fresh(self) -> "SegmentIndexes":
        """Of the same segment, to be told of every batch and then adopted."""
        made = SegmentIndexes(
            self._files, self._path, base_offset=self._base_offset, interval_bytes=self.interval_bytes
        )
        made.begin_anew()
        return made

    def adopt(self, fresh: "SegmentIndexes") -> None:
        """Take what ``fresh`` knows of offsets and times; another thread may be reading."""
        self._offsets, self._times = fresh._offsets, fresh._times
        if self.largest is None or (fresh.largest is not None and fresh.largest > self.largest):
            self.largest = fresh.largest

    def set_transactions(self, index: TransactionIndex) -> None:
        self._transactions = index

    @property
    def knows_offsets(self) -> bool:
        """Whether the offset index is in memory."""
        return self._offsets is not None

    @property
    def is_loaded(self) -> bool:
        """Whether any index takes memory."""
        return not (self._offsets is None and self._times is None and self._transactions is None)

    @property
    def is_ready(self) -> bool:
        """Whether ``note`` may be called."""
        return self._offsets is not None and self._times is not None and self.largest is not None

    def note(self, header: BatchHeader, position: int) -> None:
        """Take in the next batch, which begins at ``position``."""
        offsets, times, largest = self._offsets, self._times, self.largest
        assert offsets is not None
        assert times is not None
        assert largest is not None
        timestamp, last_offset = header.max_timestamp, header.base_offset + header.last_offset_delta
        if timestamp > largest.timestamp:
            self.largest = largest = TimestampOffset(timestamp, last_offset)
        if position - offsets.last_position > self.interval_bytes:
            offsets.append(last_offset, position)
            if largest is not times.last:
                times.maybe_append(largest)

    def extend(self, entries: Sequence[Indexed]) -> None:
        """Take in what a walk has found to be worth an entry, in order."""
        assert self._offsets is not None
        assert self._times is not None
        self._offsets.extend(entries)
        known = self._times.last.timestamp
        for entry in entries:
            if entry.largest_timestamp > known:
                known = entry.largest_timestamp
                self._times.maybe_append(TimestampOffset(known, entry.largest_offset))

    @property
    def next_bytes(self) -> int:
        """The larger index file's size with one more entry; sealing takes one more of the time index."""
        offsets, times = self._offsets, self._times
        if offsets is None or times is None:
            return 0
        return max(offsets.size_bytes + OFFSET_ENTRY_BYTES, times.size_bytes + 2 * TIME_ENTRY_BYTES)

    def seal(self) -> None:
        """No batch will follow: the time index ends with the largest timestamp."""
        if self._times is not None and self.largest is not None:
            self._times.maybe_append(self.largest)

    def truncate(self, *, position: int, offset: int) -> None:
        """Forget batches at or after ``position`` and ``offset`` in what is loaded, which must be all."""
        if self._offsets is not None:
            self._offsets.truncate(position)
        if self._times is not None:
            self._times.truncate(offset)
        if self._transactions is not None:
            self._transactions.truncate(offset)
        self.largest = None

    # --- files ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what is new; ``sync`` makes it durable."""
        self._save(INDEX_SUFFIX, self._offsets)
        self._save(TIME_INDEX_SUFFIX, self._times)
        self._save(TRANSACTION_INDEX_SUFFIX, self._transactions)

    def save_transactions(self) -> bool:
        """Write what is new of the aborted transactions; False when there is nothing.

        Unlike the other indexes this one is not built anew when its file is missing: that is how it looks
        when nothing was aborted.
        """
        self._save(TRANSACTION_INDEX_SUFFIX, self._transactions)
        return TRANSACTION_INDEX_SUFFIX in self._unsynced

    def _save(self, suffix: str, index: OffsetIndex | TimeIndex | TransactionIndex | None) -> None:
        path = self.path(suffix)
        if index is not None and _attempt(path, "written", lambda: index.save(self._files, path)):
            self._unsynced = tuple(sorted({*self._unsynced, suffix}))

    def sync(self) -> None:
        """Make what was saved durable; may run in another thread, beside a removal."""
        unsynced, self._unsynced = self._unsynced, ()
        for path in map(self.path, unsynced):
            _attempt(path, "synced", partial(self._sync, path))

    def _sync(self, path: str) -> None:
        try:
            file = self._files.open(path)
        except FileNotFoundError:
            return
        try:
            file.sync()
        finally:
            file.close()

    def forget(self) -> None:
        """Give the memory back without writing anything; ``largest`` stays known."""
        self._offsets = self._times = self._transactions = None


def _attempt(path: str, what: str, action: Callable[[], _Result]) -> _Result:
    try:
        return action()
    except OSError as error:
        raise StorageError(f"{path}: can not be {what}: {error.strerror or error}") from error
