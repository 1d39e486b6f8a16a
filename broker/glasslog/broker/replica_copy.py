"""A log that becomes a copy of another one on the same broker: what is to be cut, what comes next.

This module knows by leader epochs where two logs part, as a follower does with its leader's (KIP-101): the
original may be truncated or begun anew at any time.  It refuses to know directories, threads and when the
copy takes the original's place.  Source: Kafka's ``ReplicaAlterLogDirsThread``.
"""

from dataclasses import dataclass

from glasslog.log.log import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The copy has to be cut at ``offset``, or with ``is_whole`` emptied, to begin there."""

    offset: int
    is_whole: bool = False


def find_cut(original: Log, copy: Log) -> Cut | None:
    """What of ``copy`` is not in ``original``; None: it is a part of it. Raises as ``Log.batch_start``.

    After a cut there may be another.
    """
    end, epoch = copy.log_end_offset, copy.latest_epoch
    is_empty = end == copy.segments[0].base_offset
    if is_empty or end < original.log_start_offset:
        # The log may begin within a batch, which the copy has as a whole.
        start = start_of(original)
        if end < start or (is_empty and end != start):
            return Cut(offset=start, is_whole=True)
    if is_empty:
        return None
    found, found_end = original.end_offset_for_epoch(epoch)
    if found < 0 or epoch < 0:
        # It is newer than all that the original knows by now.
        return Cut(offset=start_of(original), is_whole=True)
    if found == epoch and found_end >= end:
        return None
    own, own_end = copy.end_offset_for_epoch(found)
    target = min(own_end if own >= 0 else found_end, found_end, end)
    if target <= copy.segments[0].base_offset:
        return Cut(offset=start_of(original), is_whole=True)
    return Cut(offset=target)


def start_of(original: Log) -> int:
    """Where a copy begins."""
    return original.batch_start(original.log_start_offset)


def next_batches(original: Log, copy: Log, *, max_bytes: int, cached_only: bool) -> bytes:
    """What ``copy`` lacks next, empty when nothing. Raises as ``Log.read``."""
    offset = max(copy.log_end_offset, original.log_start_offset)
    if offset >= original.log_end_offset:
        return b""
    return bytes(original.read(offset, max_bytes=max_bytes, cached_only=cached_only))


def lag(original: Log, copy: Log | None) -> int:
    """Offsets that are left to copy, as administrators are told; all of them before the copy has begun."""
    begin = original.log_start_offset if copy is None else copy.log_end_offset
    return max(0, original.log_end_offset - begin)
