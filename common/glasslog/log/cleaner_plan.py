"""Which part of a compacted log may be cleaned now, how dirty it is, and which segments become one.

This module knows the rules; it refuses to change anything.  Whole closed segments only, none that reaches
above the last stable offset (and so the high watermark), none younger than ``min.compaction.lag.ms``.
Source: Kafka's ``LogCleanerManager.cleanableOffsets``, ``LogToClean`` and ``Cleaner.groupSegmentsBySize``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from glasslog.log.batch import HEADER_BYTES
from glasslog.log.config import NEVER, LogConfig
from glasslog.log.log import Log
from glasslog.log.segment import MAX_RELATIVE_OFFSET, Segment

_INDEX_ENTRY_BYTES = 12
"""Of the time index, whose entries are the larger ones."""


class SourceSegment(NamedTuple):
    """A closed segment as it is read: its files stay as they are while it is part of the log."""

    base_offset: int
    end_offset: int
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanable:
    """What a cleaning would do: ``segments`` from the log's start on, of which the tail is dirty."""

    segments: tuple[SourceSegment, ...]
    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool

    @property
    def dirty_ratio(self) -> float:
        """Of what could be cleaned, 0 to 1."""
        total_bytes = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total_bytes if total_bytes else 0.0

    def is_due(self, config: LogConfig) -> bool:
        """Whether it is worth the work, or asked for by ``max.compaction.lag.ms``."""
        if not self.dirty_bytes:
            return False
        return self.is_overdue or self.dirty_ratio > config.min_cleanable_dirty_ratio


def find_cleanable(log: Log, *, high_watermark: int, now_ms: int) -> Cleanable:
    """What of ``log`` could be cleaned now. ``now_ms`` is wall-clock time. Raises ``StorageError``."""
    first_dirty = log.cleaner_offset
    if not log.log_start_offset <= first_dirty <= log.log_end_offset:
        first_dirty = log.log_start_offset
    stable = log.last_stable_offset(high_watermark=high_watermark)
    chosen: list[Segment] = []
    for segment in log.segments[:-1]:
        if segment.next_offset > stable or (
            segment.next_offset > first_dirty and _is_too_young(segment, log.config, now_ms)
        ):
            break
        chosen.append(segment)
    dirty = [segment for segment in chosen if segment.next_offset > first_dirty]
    clean_bytes = sum(segment.size_bytes for segment in chosen[: len(chosen) - len(dirty)])
    return Cleanable(
        segments=tuple(
            SourceSegment(each.base_offset, each.next_offset, each.size_bytes, each.path) for each in chosen
        ),
        first_dirty_offset=first_dirty,
        end_offset=chosen[-1].next_offset if chosen else first_dirty,
        clean_bytes=clean_bytes,
        dirty_bytes=sum(segment.size_bytes for segment in dirty),
        is_overdue=_is_overdue(dirty, log.config, now_ms),
    )


def _is_too_young(segment: Segment, config: LogConfig, now_ms: int) -> bool:
    lag_ms = config.min_compaction_lag_ms
    return lag_ms > 0 and segment.largest_timestamp().timestamp > now_ms - lag_ms


def _is_overdue(dirty: Sequence[Segment], config: LogConfig, now_ms: int) -> bool:
    if config.max_compaction_lag_ms == NEVER:
        return False
    horizon_ms = now_ms - config.max_compaction_lag_ms
    return any(0 < segment.first_timestamp() < horizon_ms for segment in dirty)


def group_segments(segments: Sequence[SourceSegment], *, config: LogConfig) -> list[list[SourceSegment]]:
    """Neighbours that fit into one segment even if nothing of them is dropped, and into its indexes."""
    groups: list[list[SourceSegment]] = []
    for segment in segments:
        if groups and _fits([*groups[-1], segment], config):
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


def _fits(group: Sequence[SourceSegment], config: LogConfig) -> bool:
    size_bytes = sum(segment.size_bytes for segment in group)
    entries = size_bytes // max(config.index_interval_bytes, HEADER_BYTES) + len(group)
    return (
        size_bytes <= config.segment_bytes
        and entries * _INDEX_ENTRY_BYTES <= config.segment_index_bytes
        and group[-1].end_offset - 1 - group[0].base_offset <= MAX_RELATIVE_OFFSET
    )
