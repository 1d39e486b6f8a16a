"""When a segment is closed and another begun: by size, age, a full index, or its range of offsets.

This module knows the rule; it refuses to do it.  On the way of every append: the cheap questions come first.
Source: Kafka's ``LogSegment.shouldRoll``.
"""

from glasslog.log.batch import BatchHeader
from glasslog.log.checksum import crc32c
from glasslog.log.config import LogConfig
from glasslog.log.segment import MAX_RELATIVE_OFFSET, Segment


def must_roll(
    active: Segment,
    config: LogConfig,
    *,
    added_bytes: int,
    max_timestamp: int,
    last: BatchHeader,
    now_ms: int,
) -> bool:
    """Whether batches of ``added_bytes`` that end with ``last`` have to go into a new segment."""
    if last.base_offset + last.last_offset_delta - active.base_offset > MAX_RELATIVE_OFFSET:
        return True
    size_bytes = active.size_bytes
    if not size_bytes:
        return False
    if (
        size_bytes + added_bytes > config.segment_bytes
        or active.indexes.next_bytes > config.segment_index_bytes
    ):
        return True
    waited_ms = _waited_ms(active, max_timestamp, now_ms)
    if waited_ms <= config.segment_ms - config.segment_jitter_ms:
        return False
    return waited_ms > config.segment_ms - _jitter_ms(active, config)


def _waited_ms(active: Segment, max_timestamp: int, now_ms: int) -> int:
    """The segment's age by its records' timestamps, or by the clock where they have none."""
    first_timestamp = active.rolling_timestamp
    if first_timestamp is None:
        header, _ = next(active.headers())
        first_timestamp = active.rolling_timestamp = header.max_timestamp
    if first_timestamp >= 0:
        return max_timestamp - first_timestamp
    return 0 if active.created_ms is None else now_ms - active.created_ms


def _jitter_ms(active: Segment, config: LogConfig) -> int:
    """Kafka draws it for each segment; here its name decides, which spreads partitions as well."""
    most_ms = min(config.segment_jitter_ms, config.segment_ms)
    return crc32c(active.path.encode()) % most_ms if most_ms else 0
