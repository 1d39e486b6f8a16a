"""The shapes of records as tuples, shared by both codecs of records. Refuses to know any bytes."""

from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
NewRecord = tuple[int, bytes | None, bytes | None, Headers]
"""What goes in: timestamp in milliseconds, key, value, headers."""

RecordTuple = tuple[int, int, bytes | None, bytes | None, Headers]
"""What comes out: offset, timestamp in milliseconds, key, value, headers."""

RecordKey = tuple[int, bytes | None, bool]
"""What compaction looks at: offset, key, and whether there is a value (a record without is a tombstone)."""


class Survey(NamedTuple):
    """What a leader wants to know of a batch's records. ``keyless``: how many have no key."""

    min_timestamp: int
    max_timestamp: int
    keyless: int


class Selection(NamedTuple):
    """Some of a batch's records, encoded, without a header. ``max_timestamp`` is -1 when there are none."""

    body: bytes
    record_count: int
    max_timestamp: int
