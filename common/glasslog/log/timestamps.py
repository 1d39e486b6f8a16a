"""Finding the first record at or after a time.

This module knows how to look through segments for a timestamp; it refuses to know what the answer is for.
Segments that end before the time are passed over once their largest timestamp is known.
"""

from collections.abc import Sequence

from glasslog.log.batch import BatchHeader
from glasslog.log.records import decode_fast
from glasslog.log.segment import Segment


def find_timestamp(
    segments: Sequence[Segment], timestamp: int, *, lowest_offset: int
) -> tuple[int, int] | None:
    """Offset and timestamp of the first record at or after ``timestamp`` and ``lowest_offset``, or None."""
    for segment in segments:
        known = segment.largest_timestamp
        if segment.next_offset <= lowest_offset or (known is not None and known < timestamp):
            continue
        found = _find_in_segment(segment, timestamp, lowest_offset)
        if found is not None:
            return found
    return None


def _find_in_segment(segment: Segment, timestamp: int, lowest_offset: int) -> tuple[int, int] | None:
    largest = -1
    for header, position in segment.headers():
        largest = max(largest, header.max_timestamp)
        if header.max_timestamp >= timestamp and header.last_offset >= lowest_offset:
            found = _find_in_batch(segment, header, position, timestamp, lowest_offset)
            if found is not None:
                return found
    segment.largest_timestamp = largest
    return None


def _find_in_batch(
    segment: Segment, header: BatchHeader, position: int, timestamp: int, lowest_offset: int
) -> tuple[int, int] | None:
    for offset, record_timestamp, *_ in decode_fast(segment.batch_at(position, header.size_bytes)):
        if record_timestamp >= timestamp and offset >= lowest_offset:
            return offset, record_timestamp
    return None
