"""Produce requests of one partition, as nearly all are: what comes before the records is decoded once.

A client sends the same acks, timeout, topic and partition again and again, in the same bytes: these are
remembered with their meaning.  Whatever does not look like that goes to ``produce.decode_request``, which
decides what is right; this module only knows where the records of such a request begin.
"""

from typing import NamedTuple

from glasslog.broker.kafka.codec import INT16, INT32, Reader
from glasslog.broker.kafka.produce import FLEXIBLE_FROM, SERVED_FROM, ProduceCall, decode_request
from glasslog.broker.requests import ProducePartition, ProduceRequest
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Buffer

MAX_BEGINNINGS = 4_096
"""So many are remembered: partitions times the settings of their clients; then all are forgotten."""

_PLAIN_NAME_AT, _PLAIN_REST_BYTES = 12, 22
_FLEXIBLE_NAME_AT, _FLEXIBLE_REST_BYTES = 8, 13
"""Where the length of the topic's name stands, and how long the beginning is without the name."""

_SHORT = 0x80
"""Names from this length on are not remembered: their length takes two bytes in flexible versions."""
_MAX_LENGTH_BYTES = 5
_NO_TAGS = b"\0\0\0"
"""Behind the records: of the partition, of the topic, of the request."""


class _Beginning(NamedTuple):
    acks: int
    timeout_ms: int
    partition: TopicPartition


class UsualRequests:
    """Remembers how requests began. Decodes as ``decode_request`` does, whatever comes."""

    def __init__(self) -> None:
        self._plain: dict[bytes, _Beginning] = {}
        self._flexible: dict[bytes, _Beginning] = {}

    def decode(self, reader: Reader, version: int) -> ProduceCall:
        """See ``produce.decode_request``."""
        if version < SERVED_FROM:
            return decode_request(reader, version)
        rest = reader.rest()
        is_flexible = version >= FLEXIBLE_FROM
        known, end = (self._flexible, _flexible_end(rest)) if is_flexible else (self._plain, _plain_end(rest))
        key = bytes(rest[:end])
        beginning = known.get(key)
        if beginning is None:
            return self._learn(known, key, reader, version)
        records = _flexible_records(rest, end) if is_flexible else _plain_records(rest, end)
        if records is None:
            return decode_request(reader, version)
        acks, timeout_ms, name = beginning
        return ProduceCall(None, ProduceRequest(acks, timeout_ms, (ProducePartition(name, records),)))

    def _learn(self, known: dict[bytes, _Beginning], key: bytes, reader: Reader, version: int) -> ProduceCall:
        produced = decode_request(reader, version)
        request = produced.request
        if key and produced.transactional_id is None and _has_one_partition(key, version):
            if len(known) >= MAX_BEGINNINGS:
                known.clear()
            (each,) = request.partitions
            known[key] = _Beginning(request.acks, request.timeout_ms, each.partition)
        return produced


def _plain_end(rest: memoryview) -> int:
    """Where the length of the records stands, if there is one partition; 0 where that can not be."""
    if len(rest) < _PLAIN_REST_BYTES:
        return 0
    (name_bytes,) = INT16.unpack_from(rest, _PLAIN_NAME_AT)
    return int(name_bytes) + _PLAIN_REST_BYTES if 0 < name_bytes < _SHORT else 0


def _flexible_end(rest: memoryview) -> int:
    if len(rest) < _FLEXIBLE_REST_BYTES:
        return 0
    name_bytes = rest[_FLEXIBLE_NAME_AT] - 1
    return name_bytes + _FLEXIBLE_REST_BYTES + 1 if 0 < name_bytes < _SHORT - 1 else 0


def _has_one_partition(key: bytes, version: int) -> bool:
    """Whether a request that began with ``key`` and could be read has one topic with one partition."""
    if version >= FLEXIBLE_FROM:
        return key[0] == 0 and key[7] == 2 and key[-5] == 2
    return key[:2] == b"\xff\xff" and key[8:12] == key[-8:-4] == b"\0\0\0\1"


def _plain_records(rest: memoryview, end: int) -> Buffer | None:
    """All that is left, if that is what the request says."""
    start = end + INT32.size
    if len(rest) < start or INT32.unpack_from(rest, end)[0] != len(rest) - start:
        return None
    return rest[start:]


def _flexible_records(rest: memoryview, end: int) -> Buffer | None:
    length = shift = 0
    for position in range(end, min(end + _MAX_LENGTH_BYTES, len(rest))):
        byte = rest[position]
        length |= (byte & 0x7F) << shift
        if byte < _SHORT:
            start, stop = position + 1, position + length
            is_all = length > 0 and stop + len(_NO_TAGS) == len(rest) and rest[stop:] == _NO_TAGS
            return rest[start:stop] if is_all else None
        shift += 7
    return None
