"""Which of a log's oldest segments may go, by size, by time and below the log's start.

This module knows the rules and how to learn how old a segment is; it refuses to remove anything.  The rules
are Kafka's (``UnifiedLog.deleteOldSegments``): always the oldest first, nothing above the high watermark, and
of the newest segment only all of it, after another was begun.
"""

from collections.abc import Sequence
from typing import NamedTuple

from glasslog.log.batch import NO_TIMESTAMP
from glasslog.log.config import LogConfig
from glasslog.log.segment import Segment

FOREVER = -1
UNBOUNDED = -1
FRESH = (1 << 63) - 1


class SegmentFacts(NamedTuple):
    """What decides about one segment. ``end_offset`` is exclusive.

    ``largest_timestamp`` is -1 when no record has one: such a segment goes with the next one that has. It may
    be ``FRESH`` after the first segment that has not expired, where it does not matter any more.
    """

    end_offset: int
    size_bytes: int
    largest_timestamp: int


class Expired(NamedTuple):
    """How many of the oldest segments may go, and why."""

    segments: int
    reason: str


def find_expired(
    segments: Sequence[SegmentFacts],
    *,
    config: LogConfig,
    log_start_offset: int,
    high_watermark: int,
    now_ms: int,
) -> Expired:
    """How many of ``segments``, all of a log from the oldest on, may go. ``now_ms`` is wall-clock time.

    When that is every one, the caller begins a new segment first.
    """
    removable = _count_removable(segments, high_watermark)
    below_start = _count_below_start(segments[:-1], log_start_offset)
    found = [Expired(below_start, f"they lie below the log's start {log_start_offset}")]
    if config.is_deleted:
        by_size = _count_by_size(segments, config.retention_bytes)
        found.append(Expired(by_size, f"of retention.bytes={config.retention_bytes}"))
        by_time = _count_by_time(segments, horizon_ms(config, now_ms))
        found.append(Expired(by_time, f"of retention.ms={config.retention_ms}"))
    most = max(found, key=lambda each: each.segments)
    return Expired(min(most.segments, removable), most.reason)


def horizon_ms(config: LogConfig, now_ms: int) -> int:
    """Segments whose largest timestamp is below this have expired; 0 when none ever does."""
    if not config.is_deleted or config.retention_ms == FOREVER:
        return 0
    return max(now_ms - config.retention_ms, 0)


def _count_removable(segments: Sequence[SegmentFacts], high_watermark: int) -> int:
    count = 0
    for segment in segments:
        if segment.end_offset > high_watermark:
            break
        count += 1
    is_last_empty = count == len(segments) and not segments[-1].size_bytes
    return count - is_last_empty


def _count_below_start(closed: Sequence[SegmentFacts], log_start_offset: int) -> int:
    count = 0
    for segment in closed:
        if segment.end_offset > log_start_offset:
            break
        count += 1
    return count


def _count_by_size(segments: Sequence[SegmentFacts], retention_bytes: int) -> int:
    if retention_bytes == UNBOUNDED:
        return 0
    excess_bytes = sum(segment.size_bytes for segment in segments) - retention_bytes
    count = 0
    for segment in segments:
        excess_bytes -= segment.size_bytes
        if excess_bytes < 0:
            break
        count += 1
    return count


def _count_by_time(segments: Sequence[SegmentFacts], horizon: int) -> int:
    expired = 0
    for count, segment in enumerate(segments, start=1):
        if segment.largest_timestamp >= horizon:
            break
        if segment.largest_timestamp != NO_TIMESTAMP:
            expired = count
    return expired


# --- how old a segment is ---------------------------------------------------------------------------------


def largest_timestamp_of(segment: Segment) -> int:
    """Of all its records; only without a sound time index every batch is asked.

    Raises ``CorruptBatch`` or ``StorageError``.
    """
    was_open = segment.is_open
    largest = segment.largest_timestamp().timestamp
    if not was_open:
        segment.release()
    return largest
