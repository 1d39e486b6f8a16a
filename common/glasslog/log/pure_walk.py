"""Walks along the batches of a log's file in pure Python: what may be served of them, what recovery learns.

This module knows the headers of batches and their checksums; it refuses to know files, and looks at no
record.  ``compiled_walk`` does the same in typed Cython; tests hold the two equal.  The leader epoch, which
lies outside of the checksum, is believed.
"""

from collections.abc import Sequence
from struct import Struct

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    ATTRIBUTES_POSITION,
    CONTROL_BIT,
    HEADER,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    TRANSACTIONAL_BIT,
)
from glasslog.log.checksum import crc32c
from glasslog.log.walk_types import REMEMBERED_BATCHES, Indexed, Scan, ScanState, SoundPart, Stop

_WALK = Struct(">qi4xBIhi")
"""Base offset, batch length, magic, checksum, attributes and last offset delta."""

_LEAST_LENGTH = HEADER_BYTES - LENGTH_PREFIX_BYTES
_INT64_MAX = (1 << 63) - 1


def walk_sound(
    data: Buffer, limit_bytes: int, lowest_offset: int, upper_offset: int, end_offset: int
) -> SoundPart:
    """The sound batches at the beginning of ``data``, within ``limit_bytes`` and below ``upper_offset``.

    They begin at ``lowest_offset`` or after it, and their segment ends before ``end_offset``.
    """
    view, available, unpack = memoryview(data), len(data), _WALK.unpack_from
    position = before = 0
    next_offset, stop = lowest_offset, Stop.END
    while position + HEADER_BYTES <= available:
        base_offset, length, magic, crc, _, delta = unpack(data, position)
        last_offset = base_offset + delta
        batch_end = position + LENGTH_PREFIX_BYTES + length
        if base_offset < next_offset:
            stop = Stop.ORDER
            break
        if magic != MAGIC or length < _LEAST_LENGTH or delta < 0 or last_offset >= end_offset:
            stop = Stop.HEADER
            break
        if batch_end > limit_bytes or batch_end > available or last_offset >= upper_offset:
            break
        if crc32c(view[position + ATTRIBUTES_POSITION : batch_end]) != crc:
            stop = Stop.CHECKSUM
            break
        before, position, next_offset = position, batch_end, last_offset + 1
    return SoundPart(position, next_offset, stop, before)


def scan_batches(
    data: Buffer, data_position: int, end: int, trusted_below: int, interval_bytes: int, state: ScanState
) -> Scan:
    """Check the batches in ``data``, which lies at ``data_position`` of a file of ``end`` bytes.

    From ``state`` on, until one is not wholly in ``data`` or not sound.  Of batches below offset
    ``trusted_below`` the checksum is not read, and only the header must be there.
    """
    view, unpack, available = memoryview(data), HEADER.unpack_from, data_position + len(data)
    position, next_offset, largest_timestamp, largest_offset, indexed_at, epoch = state
    entries: list[Indexed] = []
    notable: set[int] = set()
    produced: list[tuple[int, int, int, int]] = []
    stop = Stop.END
    while position + HEADER_BYTES <= available:
        fields = unpack(data, position - data_position)
        base_offset, length, batch_epoch, magic, crc, attributes, delta = fields[:7]
        _, max_timestamp, producer_id, _, base_sequence, record_count = fields[7:]
        batch_end, batch_next = position + LENGTH_PREFIX_BYTES + length, base_offset + delta + 1
        if (
            magic != MAGIC
            or length < _LEAST_LENGTH
            or batch_end > end
            or base_offset < next_offset
            or batch_next > _INT64_MAX
            or not 0 <= record_count <= delta + 1
        ):
            stop = Stop.HEADER
            break
        if batch_next > trusted_below:
            if batch_end > available:
                break
            start = position + ATTRIBUTES_POSITION - data_position
            if crc32c(view[start : batch_end - data_position]) != crc:
                stop = Stop.CHECKSUM
                break
            if next_offset <= trusted_below:
                epoch = None
        if max_timestamp > largest_timestamp:
            largest_timestamp, largest_offset = max_timestamp, batch_next - 1
        if position - indexed_at > interval_bytes:
            entries.append(Indexed(batch_next - 1, position, largest_timestamp, largest_offset))
            indexed_at = position
        if batch_epoch != epoch:
            notable.add(position)
            epoch = batch_epoch
        if producer_id >= 0:
            produced.append((position, producer_id, attributes, base_sequence))
        next_offset, position = batch_next, batch_end
    reached = ScanState(position, next_offset, largest_timestamp, largest_offset, indexed_at, epoch)
    notable |= _lasting(produced)
    return Scan(reached, entries, sorted(notable), stop)


def _lasting(produced: Sequence[tuple[int, int, int, int]]) -> set[int]:
    """Positions of the batches that leave a trace: see ``Scan``. Of each position, producer, attributes and
    base sequence.
    """
    lasting: set[int] = set()
    later: dict[int, int] = {}
    started: dict[int, int] = {}
    for position, producer_id, attributes, base_sequence in reversed(produced):
        if attributes & CONTROL_BIT:
            lasting.add(position)
            lasting.add(started.pop(producer_id, position))
            continue
        if attributes & TRANSACTIONAL_BIT:
            started[producer_id] = position
        count = later.get(producer_id, 0)
        if base_sequence < 0 or count < REMEMBERED_BATCHES:
            lasting.add(position)
        later[producer_id] = count + (base_sequence >= 0)
    return lasting.union(started.values())
