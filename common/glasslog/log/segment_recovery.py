"""Recovery of one segment: checks every batch in its file, and indexes it again.

This module knows how to go through a file in large pieces; it refuses to know what is done about the first
batch that is not sound.  Source: Kafka's ``LogSegment.recover``.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    HEADER_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptBatch,
    check_header,
    parse_header,
    validate_batch,
)
from glasslog.log.codec import CODEC
from glasslog.log.segment import MAX_RELATIVE_OFFSET, Segment
from glasslog.log.time_index import TimestampOffset
from glasslog.log.walk_types import ScanState

_CHUNK_BYTES = 1024 * 1024
_BEYOND_ALL_OFFSETS = (1 << 63) - 1


class Recovery(NamedTuple):
    """The sound part of a segment: its size, the offset after it, and why it ends (None: the file does)."""

    size_bytes: int
    next_offset: int
    problem: str | None


def recover_segment(
    segment: Segment, *, trusted_below: int, on_batch: Callable[[BatchHeader, int], None]
) -> Recovery:
    """Check every batch in the file and index it again; nothing is cut.

    Batches below offset ``trusted_below`` were synced: their headers are walked, their checksums are not
    read.  ``on_batch`` is told header and position of the sound batches that are notable (see ``Scan``), in
    order.
    """
    segment.measure()
    indexes = segment.indexes
    indexes.begin_anew()
    state = ScanState(0, segment.base_offset, NO_TIMESTAMP, segment.base_offset, 0, None)
    end, wanted = segment.size_bytes, _CHUNK_BYTES
    while state.position < end:
        start, chunk = state.position, segment.bytes_at(state.position, wanted)
        scan = CODEC.scan_batches(chunk, start, end, trusted_below, indexes.interval_bytes, state)
        is_beyond = scan.state.next_offset > segment.base_offset + MAX_RELATIVE_OFFSET + 1
        if is_beyond:
            chunk = memoryview(chunk)[: _end_within(segment, chunk, state.position - start)]
            scan = CODEC.scan_batches(chunk, start, end, trusted_below, indexes.interval_bytes, state)
        state = scan.state
        indexes.extend(scan.entries)
        for position in scan.notable:
            on_batch(parse_header(chunk, position - start), position)
        if is_beyond or scan.stop or end - state.position < HEADER_BYTES:
            break
        before, wanted = wanted, _CHUNK_BYTES
        if state.position == start:
            # A batch that is larger than a piece is read as a whole, once.
            wanted = max(_CHUNK_BYTES, parse_header(chunk).size_bytes)
            if wanted <= before:
                break
    indexes.largest = TimestampOffset(state.largest_timestamp, state.largest_offset)
    segment.seal()
    problem = None if state.position >= end else _problem_at(segment, state.position, state.next_offset)
    return Recovery(state.position, state.next_offset, problem)


def _end_within(segment: Segment, chunk: Buffer, position: int) -> int:
    """Where in ``chunk`` the first batch begins, from ``position`` on, whose offsets no segment can have."""
    while (header := parse_header(chunk, position)).last_offset - segment.base_offset <= MAX_RELATIVE_OFFSET:
        position += header.size_bytes
    return position


def notable_batches(segment: Segment, offset: int) -> Iterator[tuple[BatchHeader, int]]:
    """Header and position of the notable batches (see ``Scan``) from ``offset`` on; checksums are not read.

    Raises ``DamagedLog`` where those make no sense.
    """
    position, end = _boundary_at(segment, offset), segment.size_bytes
    state = ScanState(position, segment.base_offset, NO_TIMESTAMP, segment.base_offset, 0, None)
    while state.position < end:
        start, chunk = state.position, segment.bytes_at(state.position, _CHUNK_BYTES)
        scan = CODEC.scan_batches(chunk, start, end, _BEYOND_ALL_OFFSETS, end, state)
        for position in scan.notable:
            yield parse_header(chunk, position - start), position
        state = scan.state
        if scan.stop or state.position == start:
            problem = _problem_at(segment, state.position, state.next_offset)
            raise segment.damaged(problem, position=state.position, offset=state.next_offset)


def _boundary_at(segment: Segment, offset: int) -> int:
    """Where the first batch begins that does not begin below ``offset``."""
    if offset > segment.base_offset:
        for header, position in segment.headers(segment.position_before(offset)):
            if header.base_offset >= offset:
                return position
        return segment.size_bytes
    return 0


def _problem_at(segment: Segment, position: int, next_offset: int) -> str:
    """What is wrong with the batch at ``position``, where the walk ended."""
    path, left = segment.path, segment.size_bytes - position
    try:
        header = parse_header(segment.bytes_at(position, HEADER_BYTES))
        check_header(header, position=position, available_bytes=left)
    except CorruptBatch as error:
        return f"{path}: {error}"
    if header.base_offset < next_offset:
        return (
            f"{path}: batch at position {position} begins at offset {header.base_offset}, "
            f"the one before ends at {next_offset - 1}"
        )
    if header.last_offset - segment.base_offset > MAX_RELATIVE_OFFSET:
        return f"{path}: batch at position {position} begins at offset {header.base_offset}: too far away"
    try:
        validate_batch(segment.bytes_at(position, header.size_bytes))
    except CorruptBatch as error:
        return f"{path}: what begins at position {position} is damaged: {error}"
    return f"{path}: the bytes at position {position} changed while they were read"
