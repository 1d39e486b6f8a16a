"""A whole partition's folder: its segments, what lies beside them, and how they join.

This module knows what must hold in one folder; it refuses to know other partitions.  ``directories`` beside
it finds the folders and what their data directory says of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.checkpoint import LEADER_EPOCH_FILE, read_epochs
from glasslog.log.inspection.dump import DumpOptions
from glasslog.log.inspection.findings import Findings
from glasslog.log.inspection.items import Finding, Row, Severity
from glasslog.log.inspection.kinds import FileKind, parse_name
from glasslog.log.inspection.segment_check import Epochs, SegmentChecks, SegmentReport, check_segment
from glasslog.log.inspection.small_files import read_rows, reason_of
from glasslog.log.inspection.source import Source
from glasslog.log.recovery_limit import FILE_NAME as RECOVERY_LIMIT_FILE
from glasslog.log.segment_file import LOG_SUFFIX, file_name
from glasslog.log.segment_indexes import INDEX_SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a data directory says of one of its partitions; None where it says nothing.

    ``is_clean``: every log was closed in order and nobody has used the directory since.
    """

    is_clean: bool = False
    recovery_point: int | None = None
    high_watermark: int | None = None
    log_start_offset: int = 0
    is_cleaned: bool = False


@dataclass(slots=True, kw_only=True)
class PartitionReport:
    """What was found in one folder. Offsets are those of the batches that are there, the end exclusive."""

    path: str
    segments: int = 0
    batches: int = 0
    records: int = 0
    size_bytes: int = 0
    start_offset: int = 0
    end_offset: int = 0
    latest_epoch: int = -1
    findings: Findings = field(default_factory=Findings)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]


def verify_partition(
    files: FileSystem,
    path: str,
    claims: Claims,
    options: DumpOptions,
    on_bytes: Callable[[int], None] = lambda size_bytes: None,
) -> PartitionReport:
    """Check the folder at ``path``. A node that is busy with it is given a second look before it is blamed.

    Raises ``StorageError`` when the folder can not be listed.
    """
    report = _verify_once(files, path, claims, options, on_bytes)
    if report.findings.damage and not claims.is_clean:
        again = _verify_once(files, path, claims, options, lambda size_bytes: None)
        return again if again.findings.damage <= report.findings.damage else report
    return report


def _verify_once(
    files: FileSystem, path: str, claims: Claims, options: DumpOptions, on_bytes: Callable[[int], None]
) -> PartitionReport:
    report = PartitionReport(path=path)
    offsets = _names(files, path, report)
    epochs = _read_epochs(files, f"{path}/{LEADER_EPOCH_FILE}", report)
    recovery_point = _recovery_point(files, path, claims)
    checks = SegmentChecks(
        options=options,
        epochs=epochs,
        epochs_end=inf if recovery_point is None else recovery_point,
        transactions_end=inf if claims.is_clean else recovery_point or 0,
        log_start_offset=claims.log_start_offset,
        on_bytes=on_bytes,
    )
    segments = list(_segments(files, path, offsets, checks, report))
    if not segments:
        report.findings.add(Finding(path=path, text="there is no segment in it"))
        return report
    _sum_up(report, segments)
    _joints(path, segments, claims, report)
    _tail(segments, recovery_point, report)
    _before_the_start(epochs or (), claims, report)
    _beyond_the_end(epochs or (), claims, report)
    if epochs is None and report.latest_epoch >= 0:
        report.findings.note(path, f"{LEADER_EPOCH_FILE} can not be used: the next start builds it anew")
    _small_files(files, path, report)
    return report


def _segments(
    files: FileSystem, path: str, offsets: list[int], checks: SegmentChecks, report: PartitionReport
) -> Iterator[SegmentReport]:
    for offset in offsets:
        try:
            yield check_segment(files, path, offset, checks)
        except StorageError as error:
            name = f"{path}/{file_name(offset, LOG_SUFFIX)}"
            # Retention of a running node may have removed it since the folder was listed.
            severity = Severity.DAMAGE if files.exists(name) else Severity.NOTE
            text = str(error).removeprefix(f"{name}: ")
            report.findings.add(Finding(path=name, text=text, severity=severity))


def _names(files: FileSystem, path: str, report: PartitionReport) -> list[int]:
    """The base offsets of the segments, and what other names are worth a word."""
    offsets, left_over = [], 0
    for name in _listed(files, path):
        found = parse_name(name)
        where = f"{path}/{name}"
        if name.endswith(_TEMPORARY_SUFFIX) or (found is not None and found.undone):
            left_over += 1
        elif found is None:
            if not files.is_dir(where):
                report.findings.note(where, "no file of a log has such a name")
        elif found.offset is None and found.kind in _NUMBERED:
            report.findings.add(Finding(path=where, text="its name must be twenty digits and a suffix"))
        elif found.kind is FileKind.SEGMENT and found.offset is not None:
            offsets.append(found.offset)
    if left_over:
        text = f"{left_over} files of a deletion, or of a crash, are left over; the next start removes them"
        report.findings.note(path, text)
    return sorted(offsets)


_TEMPORARY_SUFFIX = ".tmp"


_NUMBERED = frozenset(
    {
        FileKind.SEGMENT,
        FileKind.OFFSET_INDEX,
        FileKind.TIME_INDEX,
        FileKind.TRANSACTION_INDEX,
        FileKind.PRODUCER_SNAPSHOT,
        FileKind.METADATA_SNAPSHOT,
    }
)


def _listed(files: FileSystem, path: str) -> list[str]:
    try:
        return list(files.list(path))
    except OSError as error:
        raise StorageError(f"{path}: can not be listed: {error.strerror or error}") from error


def _sum_up(report: PartitionReport, segments: list[SegmentReport]) -> None:
    report.segments = len(segments)
    report.batches = sum(segment.batches for segment in segments)
    report.records = sum(segment.records for segment in segments)
    report.size_bytes = sum(segment.size_bytes for segment in segments)
    report.start_offset = segments[0].base_offset
    report.end_offset = segments[-1].next_offset
    report.latest_epoch = max(segment.latest_epoch for segment in segments)
    for segment in segments:
        report.findings.absorb(segment.findings)


# --- segments among each other ----------------------------------------------------------------------------


def _joints(path: str, segments: list[SegmentReport], claims: Claims, report: PartitionReport) -> None:
    """Segments must not overlap; between them may be a gap only where compaction makes gaps."""
    is_compacted = claims.is_cleaned or any(segment.has_gaps for segment in segments)
    for before, after in pairwise(segments):
        name = f"{path}/{file_name(after.base_offset, LOG_SUFFIX)}"
        if after.base_offset < before.next_offset:
            text = f"the segment begins here, the one before ends at {before.next_offset}"
            report.findings.add(Finding(path=name, text=text, position=0, offset=after.base_offset))
        elif after.base_offset > before.next_offset and not is_compacted:
            text = f"offsets from {before.next_offset} on are missing: no segment has them"
            report.findings.add(Finding(path=name, text=text, position=0, offset=after.base_offset))


def _tail(segments: list[SegmentReport], recovery_point: int | None, report: PartitionReport) -> None:
    """The torn end of a log that was not closed in order is no damage: recovery cuts what was not synced."""
    last = segments[-1]
    name = f"{report.path}/{file_name(last.base_offset, LOG_SUFFIX)}"
    if recovery_point is None:
        return
    indexes = {f"{report.path}/{file_name(last.base_offset, suffix)}" for suffix in INDEX_SUFFIXES}
    for finding in list(report.findings):
        if finding.path in indexes and finding.offset is not None and finding.offset >= recovery_point:
            report.findings.excuse(finding, f"{finding.text}; recovery would build the index anew")
        if finding.path != name:
            continue
        is_behind = finding.position is not None and finding.position >= last.sound_end
        if is_behind and (finding.offset is None or finding.offset >= recovery_point):
            cut = last.size_bytes - last.sound_end
            text = f"{finding.text}; recovery would cut the last {cut} bytes, which are not synced"
            report.findings.excuse(finding, text)


def _recovery_point(files: FileSystem, path: str, claims: Claims) -> int | None:
    """Below it everything was synced; None where nothing may be torn, or nobody knows."""
    if claims.is_clean or claims.recovery_point is None:
        return None
    limit = f"{path}/{RECOVERY_LIMIT_FILE}"
    if not files.exists(limit):
        return claims.recovery_point
    try:
        (row,) = read_rows(FileKind.RECOVERY_LIMIT, files, limit)
        offset = row.fields["offset"]
        return min(claims.recovery_point, offset) if isinstance(offset, int) else 0
    except (StorageError, ValueError, OSError):
        return 0


# --- what lies beside the segments ------------------------------------------------------------------------


def _read_epochs(files: FileSystem, path: str, report: PartitionReport) -> Epochs | None:
    """The epoch cache on disk; None when it is not there or can not be read: a start builds it anew."""
    if not files.exists(path):
        return None
    try:
        epochs = read_epochs(files, path)
    except StorageError as error:
        report.findings.add(Finding(path=path, text=reason_of(error, path)))
        return None
    for (epoch, start), (later, later_start) in pairwise(epochs):
        if later <= epoch or later_start < start:
            text = f"epoch {later} from offset {later_start} on comes after {epoch} from {start} on"
            report.findings.add(Finding(path=path, text=text))
    return epochs


def _before_the_start(epochs: Epochs, claims: Claims, report: PartitionReport) -> None:
    """Epochs below a start are forgotten before any segment goes: where the first begins, the log must."""
    start = max(claims.log_start_offset, *(offset for _, offset in epochs[:1])) if epochs else 0
    if epochs and start < report.start_offset:
        text = f"the first segment begins here, the log at {start} by {LEADER_EPOCH_FILE}: records are gone"
        report.findings.add(Finding(path=report.path, text=text, offset=report.start_offset))


def _beyond_the_end(epochs: Epochs, claims: Claims, report: PartitionReport) -> None:
    """What is said of offsets that the log does not have (any more, or yet)."""
    end, path = report.end_offset, report.path
    for epoch, start in epochs:
        if start > end:
            text = f"epoch {epoch} begins at offset {start}, the log ends at {end}"
            report.findings.add(Finding(path=f"{path}/{LEADER_EPOCH_FILE}", text=text, offset=start))
    if claims.recovery_point is not None and claims.recovery_point > end:
        text = f"the log ends here, below its recovery point {claims.recovery_point}: synced records are gone"
        report.findings.add(Finding(path=path, text=text, offset=end))
    if claims.log_start_offset > end:
        text = f"the log ends at offset {end}, below its start {claims.log_start_offset}: it becomes empty"
        report.findings.note(path, text)
    if claims.high_watermark is not None and claims.high_watermark > end:
        text = f"the log ends at offset {end}, below its high watermark {claims.high_watermark}"
        if claims.is_clean:
            report.findings.add(Finding(path=path, text=text, offset=end))
        else:
            report.findings.note(path, f"{text}: what was not synced is gone, other replicas have it")


def _small_files(files: FileSystem, path: str, report: PartitionReport) -> None:
    for name in _listed(files, path):
        found = parse_name(name)
        where = f"{path}/{name}"
        if found is None or found.undone or found.kind not in _SMALL or not files.exists(where):
            continue
        try:
            rows = list(read_rows(found.kind, files, where))
        except (StorageError, ValueError, RecursionError, OSError) as error:
            report.findings.add(Finding(path=where, text=reason_of(error, where)))
            continue
        if found.kind is FileKind.PRODUCER_SNAPSHOT and found.offset is not None:
            report.findings.extend(_snapshot_findings(where, found.offset, rows))
            if found.offset > report.end_offset:
                text = f"it is the state at offset {found.offset}, the log ends at {report.end_offset}"
                report.findings.note(where, text)


def _snapshot_findings(path: str, offset: int, rows: list[Row]) -> Iterator[Finding]:
    """A snapshot is the state before its offset: nothing in it may lie at or behind that."""
    for row in rows:
        last = row.fields["last_offset"]
        if isinstance(last, int) and last >= offset:
            text = f"producer {row.fields['producer_id']!r} has its last batch at offset {last} in it"
            yield Finding(path=path, text=text, offset=last)


_SMALL = frozenset({FileKind.PRODUCER_SNAPSHOT, FileKind.PARTITION_METADATA, FileKind.QUORUM_STATE})


def log_bytes(files: FileSystem, path: str) -> int:
    """How much there is to check in a partition's folder, as far as it can be told."""
    total = 0
    for name in files.list(path):
        if name.endswith(LOG_SUFFIX):
            try:
                with Source(files, f"{path}/{name}") as source:
                    total += source.size_bytes
            except StorageError:
                continue
    return total
