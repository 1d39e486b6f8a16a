"""One segment against its indexes and its log's leader epochs.

This module knows what must agree between a segment and the files beside it; it refuses to know other
segments.  Indexes are read along with the segment, entry by entry: both go forward only.
Source: what Kafka's ``DumpLogSegments`` calls a sanity check, and more.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import CorruptBatch
from glasslog.log.inspection.dump import DumpOptions, look_into
from glasslog.log.inspection.findings import Findings
from glasslog.log.inspection.index_walk import (
    AbortedEntry,
    OffsetEntry,
    TimeEntry,
    walk_offset_index,
    walk_time_index,
    walk_transaction_index,
)
from glasslog.log.inspection.items import Finding, SeenBatch
from glasslog.log.inspection.segment_walk import SegmentWalk
from glasslog.log.inspection.source import Source
from glasslog.log.markers import decode_marker
from glasslog.log.segment_file import file_name

Epochs = Sequence[tuple[int, int]]
"""Leader epochs and where they begin, oldest first."""


@dataclass(slots=True)
class SegmentReport:
    """What was found in one segment. ``sound_end`` is where its last sound batch ends."""

    base_offset: int
    next_offset: int
    size_bytes: int = 0
    batches: int = 0
    records: int = 0
    latest_epoch: int = -1
    has_gaps: bool = False
    sound_end: int = 0
    contradiction: tuple[int, int | None] | None = None
    """The leader epochs of the last batch and of the epoch cache, where these do not agree."""

    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentChecks:
    """What to look for: ``options.records`` looks into batches; ``epochs`` is the log's epoch cache, if any.

    From ``epochs_end`` on it need not know a batch's epoch: above its recovery point a log asks the batches.
    So it does for aborted transactions from ``transactions_end`` on.
    ``on_bytes`` hears how far the check has come.
    """

    options: DumpOptions
    epochs: Epochs | None
    epochs_end: float
    transactions_end: float
    log_start_offset: int
    on_bytes: Callable[[int], None]


def check_segment(files: FileSystem, folder: str, base_offset: int, checks: SegmentChecks) -> SegmentReport:
    """Walk the segment that begins at ``base_offset``. Raises ``StorageError`` when it can not be read."""
    followers = list(_followers(files, folder, base_offset))
    report = SegmentReport(base_offset, base_offset)
    with Source(files, f"{folder}/{file_name(base_offset, '.log')}") as source:
        aborts = _Aborts(files, source, folder, base_offset)
        walk = SegmentWalk(
            source,
            base_offset=base_offset,
            want_body=checks.options.records,
            max_body_bytes=checks.options.max_body_bytes,
        )
        for item in walk:
            if isinstance(item, Finding):
                report.findings.add(item)
                continue
            _take(report, source.path, item, checks)
            for follower in followers:
                report.findings.extend(follower.follow(item))
            if item.header.next_offset <= checks.transactions_end:
                report.findings.extend(aborts.follow(item))
        report.size_bytes = source.size_bytes
        report.next_offset = base_offset if walk.next_offset is None else walk.next_offset
    for follower in followers:
        report.findings.extend(follower.follow(None))
    return report


def _take(report: SegmentReport, path: str, batch: SeenBatch, checks: SegmentChecks) -> None:
    header = batch.header
    report.has_gaps = report.has_gaps or (
        header.record_count != header.last_offset_delta + 1
        or (report.batches > 0 and header.base_offset > report.next_offset)
    )
    report.batches += 1
    report.records += header.record_count
    report.next_offset = header.next_offset
    report.latest_epoch = max(report.latest_epoch, header.partition_leader_epoch)
    if batch.crc_holds:
        report.sound_end = batch.position + header.size_bytes
        _compare_epochs(report, path, batch, checks)
        if checks.options.records:
            looked = look_into(path, batch, checks.options)
            report.findings.extend(item for item in looked if isinstance(item, Finding))
    checks.on_bytes(header.size_bytes)


# --- leader epochs ----------------------------------------------------------------------------------------


def _compare_epochs(report: SegmentReport, path: str, batch: SeenBatch, checks: SegmentChecks) -> None:
    """The cache against one batch; only the first of a run of batches that contradict it is worth a word."""
    offset, epoch = batch.header.base_offset, batch.header.partition_leader_epoch
    before, report.contradiction = report.contradiction, None
    if checks.epochs is None or epoch < 0 or not checks.log_start_offset <= offset < checks.epochs_end:
        return
    if checks.epochs and offset < checks.epochs[0][1] and epoch <= checks.epochs[0][0]:
        # The cache forgets epochs with the records below the log's start.
        return
    cached = _epoch_at(checks.epochs, offset)
    if cached == epoch:
        return
    report.contradiction = (epoch, cached)
    if report.contradiction != before:
        known = "none" if cached is None else str(cached)
        text = f"the batch is of leader epoch {epoch}, leader-epoch-checkpoint says {known}"
        report.findings.add(Finding(path=path, text=text, position=batch.position, offset=offset))


def _epoch_at(epochs: Epochs, offset: int) -> int | None:
    above = bisect_right(epochs, offset, key=lambda entry: entry[1])
    return epochs[above - 1][0] if above else None


# --- indexes ----------------------------------------------------------------------------------------------

_MAX_ONGOING = 10_000
_MAX_MARKER_BYTES = 4096
_NOTHING_MORE = 1 << 64

_Entry = TypeVar("_Entry", OffsetEntry, TimeEntry, AbortedEntry)
_IsDue = Callable[[_Entry, SeenBatch], bool]
_Complaint = Callable[[_Entry, SeenBatch | None, int], str | None]
"""What an entry gets wrong, given the first batch that ends at or after it and the largest timestamp yet."""


class _Follower(Generic[_Entry]):
    """Goes through an index beside its segment: told of every batch in order, and of the end with None."""

    def __init__(
        self,
        path: str,
        walk: Iterator[_Entry | Finding],
        *,
        due: _IsDue[_Entry],
        complaint: _Complaint[_Entry],
    ) -> None:
        self._path = path
        self._walk: Iterator[_Entry | Finding] = walk
        self._due: _IsDue[_Entry] = due
        self._complaint: _Complaint[_Entry] = complaint
        self._youngest = -1
        self._next: _Entry | Finding | None = next(walk, None)

    def follow(self, batch: SeenBatch | None) -> Iterator[Finding]:
        """What is wrong with the entries that ``batch`` decides."""
        before = self._youngest
        if batch is not None:
            self._youngest = max(before, batch.header.max_timestamp)
        while (item := self._next) is not None:
            if isinstance(item, Finding):
                yield item
            elif batch is not None and not self._due(item, batch):
                return
            else:
                is_inside = batch is not None and item.offset >= batch.header.base_offset
                text = self._complaint(item, batch, self._youngest if is_inside else before)
                if text is not None:
                    yield Finding(path=self._path, text=text, position=item.position, offset=item.offset)
            self._next = next(self._walk, None)


def _offset_complaint(entry: OffsetEntry, batch: SeenBatch | None, _: int) -> str | None:
    if batch is None or entry.target != batch.position:
        return f"the entry points at position {entry.target}, where no batch begins"
    if entry.offset < batch.header.last_offset:
        first, last = batch.header.base_offset, batch.header.last_offset
        return f"the entry points at position {entry.target}, at the batch of offsets {first} to {last}"
    return None


def _time_complaint(entry: TimeEntry, batch: SeenBatch | None, youngest: int) -> str | None:
    if batch is None:
        return f"timestamp {entry.timestamp} for an offset that the segment does not have"
    if entry.timestamp != youngest:
        return f"timestamp {entry.timestamp}, but up to there the largest in the segment is {youngest}"
    return None


def _transaction_complaint(entry: AbortedEntry, batch: SeenBatch | None, _: int) -> str | None:
    header = None if batch is None else batch.header
    if header is None or not header.is_control or header.base_offset > entry.last_offset:
        return f"no marker ends a transaction of producer {entry.producer_id} there"
    if header.producer_id != entry.producer_id:
        return f"the marker there is of producer {header.producer_id}, not {entry.producer_id}"
    return None


class _Aborts:
    """Looks whether the transactions that were aborted in a segment are in its index.

    Those that began in it: of others nobody knows here whether compaction has left anything.
    """

    def __init__(self, files: FileSystem, source: Source, folder: str, base_offset: int) -> None:
        self._source = source
        self._path = f"{folder}/{file_name(base_offset, '.txnindex')}"
        walk = _opened(
            files, self._path, lambda index: walk_transaction_index(index, base_offset=base_offset)
        )
        self._indexed = (entry.last_offset for entry in walk if isinstance(entry, AbortedEntry))
        self._last_indexed = -1
        self._ongoing: set[int] = set()

    def follow(self, batch: SeenBatch) -> Iterator[Finding]:
        """What the index lacks of ``batch``, if that is a marker."""
        header = batch.header
        if not header.is_transactional or not batch.crc_holds:
            return
        if not header.is_control:
            if header.record_count and len(self._ongoing) < _MAX_ONGOING:
                self._ongoing.add(header.producer_id)
        elif header.producer_id in self._ongoing:
            self._ongoing.discard(header.producer_id)
            if self._is_abort(batch) and not self._is_indexed(header.last_offset):
                text = f"an aborted transaction of producer {header.producer_id} is not in it"
                yield Finding(path=self._path, text=text, offset=header.last_offset)

    def _is_abort(self, batch: SeenBatch) -> bool:
        if batch.header.size_bytes > _MAX_MARKER_BYTES:
            return False
        try:
            marker = decode_marker(self._source.read(batch.position, batch.header.size_bytes))
        except CorruptBatch:
            return False
        return marker is not None and not marker.is_commit

    def _is_indexed(self, offset: int) -> bool:
        while self._last_indexed < offset:
            self._last_indexed = next(self._indexed, _NOTHING_MORE)
        return self._last_indexed == offset


def _followers(
    files: FileSystem, folder: str, base_offset: int
) -> Iterator["_Follower[OffsetEntry] | _Follower[TimeEntry] | _Follower[AbortedEntry]"]:
    path = f"{folder}/{file_name(base_offset, '.index')}"
    yield _Follower(
        path,
        _opened(files, path, lambda source: walk_offset_index(source, base_offset=base_offset)),
        due=lambda entry, batch: entry.target <= batch.position,
        complaint=_offset_complaint,
    )
    path = f"{folder}/{file_name(base_offset, '.timeindex')}"
    yield _Follower(
        path,
        _opened(files, path, lambda source: walk_time_index(source, base_offset=base_offset)),
        due=lambda entry, batch: entry.offset <= batch.header.last_offset,
        complaint=_time_complaint,
    )
    path = f"{folder}/{file_name(base_offset, '.txnindex')}"
    yield _Follower(
        path,
        _opened(files, path, lambda source: walk_transaction_index(source, base_offset=base_offset)),
        due=lambda entry, batch: entry.offset <= batch.header.last_offset,
        complaint=_transaction_complaint,
    )


def _opened(
    files: FileSystem, path: str, walk: Callable[[Source], Iterator[_Entry | Finding]]
) -> Iterator[_Entry | Finding]:
    """The entries of an index that need not be there: it can be built anew."""
    if not files.exists(path):
        return
    try:
        with Source(files, path) as source:
            yield from walk(source)
    except StorageError as error:
        yield Finding(path=path, text=str(error).removeprefix(f"{path}: "))
