"""What compaction may make of a log's batches, as far as they are told apart by their bytes.

This module knows batches before and after; it refuses to know when they were compacted and what else there
was.
"""

from collections.abc import Iterator, Mapping, Sequence

from glasslog.log.batch import iterate_batches, parse_header
from glasslog.log.log import Log
from glasslog.log.records import decode_fast

_Record = tuple[bytes | None, bytes | None]


def batches_on_disk(log: Log) -> Iterator[bytes]:
    """Those of all segments, below the log's start too."""
    for segment in log.segments:
        data = bytes(segment.bytes_at(0, segment.size_bytes))
        for header, position in iterate_batches(data):
            yield data[position : position + header.size_bytes]


def check_compacted(before: Sequence[bytes], after: Sequence[bytes], *, up_to: int, now_ms: int) -> None:
    """Raise ``AssertionError`` unless ``after`` may be what is left of ``before``.

    ``up_to`` is where compaction stopped at the latest, ``now_ms`` its wall-clock time.
    """
    known, left = _records(before), _records(after)
    assert all(known[offset] == record for offset, record in left.items()), "a record changed"
    due = _due_tombstones(before, now_ms)
    for offset in sorted(_newest(known)):
        assert offset in left or offset in due, f"the newest record of a key is gone: {offset}"
    beyond = [batch for batch in before if parse_header(batch).next_offset > up_to]
    assert beyond == [batch for batch in after if parse_header(batch).next_offset > up_to], "too far"


def _records(batches: Sequence[bytes]) -> Mapping[int, _Record]:
    """By offset; the values are as they were appended, so that a mixture of both may be given."""
    return {offset: (key, value) for batch in batches for offset, _, key, value, _ in decode_fast(batch)}


def _newest(records: Mapping[int, _Record]) -> set[int]:
    """The last offset of each key."""
    return set({key: offset for offset, (key, _) in sorted(records.items())}.values())


def _due_tombstones(batches: Sequence[bytes], now_ms: int) -> set[int]:
    """Those that have been dated, and whose date is over."""
    found: set[int] = set()
    for batch in batches:
        horizon_ms = parse_header(batch).delete_horizon_ms
        if horizon_ms is not None and horizon_ms <= now_ms:
            found.update(offset for offset, _, _, value, _ in decode_fast(batch) if value is None)
    return found
