"""Finding the first record at or after a time.

This module knows how to look through segments for a timestamp; it refuses to know what the answer is for.
Segments whose largest timestamp is too old are passed over, and in the others the time index tells from where
to look.  Source: Kafka's ``UnifiedLog.fetchOffsetByTimestamp`` and ``LogSegment.findOffsetByTimestamp``.
"""

from collections.abc import Sequence

from glasslog.log.batch import BatchHeader, CorruptBatch
from glasslog.log.records import RecordTuple, decode_fast
from glasslog.log.segment import Segment


def find_timestamp(
    segments: Sequence[Segment], timestamp: int, *, lowest_offset: int
) -> tuple[int, int] | None:
    """Offset and timestamp of the first record at or after ``timestamp`` and ``lowest_offset``, or None."""
    for segment in segments:
        if segment.next_offset <= lowest_offset or segment.largest_timestamp().timestamp < timestamp:
            continue
        found = _find_in_segment(segment, timestamp, lowest_offset)
        if found is not None:
            return found
    return None


def find_largest_timestamp(segments: Sequence[Segment], *, lowest_offset: int) -> tuple[int, int] | None:
    """Offset and timestamp of the first record with the largest timestamp of all (KIP-734), or None."""
    largest = -1
    holder: Segment | None = None
    for segment in segments:
        if segment.next_offset > lowest_offset:
            found = _largest_of(segment, lowest_offset)
            # The first of equals, as in Kafka.
            if found > largest:
                largest, holder = found, segment
    return None if holder is None else find_timestamp([holder], largest, lowest_offset=lowest_offset)


def _largest_of(segment: Segment, lowest_offset: int) -> int:
    """The largest timestamp from ``lowest_offset`` on; where records were deleted the batches tell."""
    if segment.base_offset >= lowest_offset:
        return segment.largest_timestamp().timestamp
    largest = -1
    for header, position in segment.headers(segment.position_before(lowest_offset)):
        if header.base_offset >= lowest_offset:
            largest = max(largest, header.max_timestamp)
        elif header.last_offset >= lowest_offset:
            for offset, timestamp, *_ in _records(segment, header, position):
                if offset >= lowest_offset:
                    largest = max(largest, timestamp)
    return largest


def _find_in_segment(segment: Segment, timestamp: int, lowest_offset: int) -> tuple[int, int] | None:
    for header, position in segment.headers_since(timestamp, lowest_offset=lowest_offset):
        if header.max_timestamp >= timestamp and header.last_offset >= lowest_offset:
            found = _find_in_batch(segment, header, position, timestamp, lowest_offset)
            if found is not None:
                return found
    return None


def _find_in_batch(
    segment: Segment, header: BatchHeader, position: int, timestamp: int, lowest_offset: int
) -> tuple[int, int] | None:
    for offset, record_timestamp, *_ in _records(segment, header, position):
        if record_timestamp >= timestamp and offset >= lowest_offset:
            return offset, record_timestamp
    return None


def _records(segment: Segment, header: BatchHeader, position: int) -> list[RecordTuple]:
    try:
        return decode_fast(segment.batch_at(position, header.size_bytes))
    except CorruptBatch as error:
        raise segment.damaged(str(error), position=position, offset=header.base_offset) from None
