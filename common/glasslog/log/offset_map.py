"""The newest offset of each key, in bounded memory: what compaction decides by.

This module knows keys and offsets; it refuses to know batches and files.  Keys shorter than a digest are
kept as they are, longer ones as 16 bytes of BLAKE2b, which unlike Kafka's MD5 nobody can make collide on
purpose.  Source: Kafka's ``SkimpyOffsetMap``, which keeps 24 bytes an entry in one array; a dictionary takes
more memory and a tenth of the time in Python.  What is done for each record is left to built-in functions.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from operator import le

from glasslog.log.record_types import RecordKey

_DIGEST_BYTES = 16
_UNKNOWN = -1
ENTRY_BYTES = 176
"""What one entry may take, measured: key 64, offset 32, and 75 of the dictionary where that grows."""


class OffsetMap:
    """Keys to the largest offset that was added; ``latest_offset`` is the last one that counts (-1: none)."""

    __slots__ = ("_capacity", "_offsets", "latest_offset")

    def __init__(self, *, max_bytes: int) -> None:
        self._offsets: dict[bytes, int] = {}
        self._capacity = max(max_bytes // ENTRY_BYTES, 1)
        self.latest_offset = -1

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def utilization(self) -> float:
        """Of the memory it may take, 0 to 1."""
        return len(self._offsets) / self._capacity

    def add(self, records: Sequence[RecordKey], *, from_offset: int) -> bool:
        """Take in the records of a batch from ``from_offset`` on; False when there was no room for all.

        The caller moves ``latest_offset`` past a batch that was taken in whole.
        """
        known = self._offsets
        if records[0][0] < from_offset or len(known) + len(records) > self._capacity:
            return self._add_slowly(records, from_offset)
        offsets, keys, _ = zip(*records, strict=True)
        if None in keys:
            return self._add_slowly(records, from_offset)
        known.update(zip(_names(keys), offsets, strict=True))
        return True

    def _add_slowly(self, records: Iterable[RecordKey], from_offset: int) -> bool:
        known, capacity = self._offsets, self._capacity
        for offset, key, _ in records:
            if key is None or offset < from_offset:
                continue
            (name,) = _names((key,))
            if len(known) >= capacity and name not in known:
                return False
            known[name] = offset
        return True

    def choose(self, records: Sequence[RecordKey], *, keep_tombstones: bool) -> bytes:
        """For each record 1 if it stays, 0 if not: without a key, superseded, or a tombstone that is due."""
        offsets, keys, values = zip(*records, strict=True)
        if offsets[-1] > self.latest_offset or None in keys or not (keep_tombstones or all(values)):
            return bytes(self._stays(record, keep_tombstones=keep_tombstones) for record in records)
        return bytes(map(le, map(self._offsets.get, _names(keys), repeat(_UNKNOWN)), offsets))

    def _stays(self, record: RecordKey, *, keep_tombstones: bool) -> bool:
        offset, key, has_value = record
        if offset > self.latest_offset:
            return True
        if key is None:
            return False
        (name,) = _names((key,))
        return self._offsets.get(name, _UNKNOWN) <= offset and (has_value or keep_tombstones)


def _names(keys: Sequence[bytes]) -> Sequence[bytes]:
    if max(map(len, keys)) < _DIGEST_BYTES:
        return keys
    return [
        key if len(key) < _DIGEST_BYTES else blake2b(key, digest_size=_DIGEST_BYTES).digest() for key in keys
    ]
