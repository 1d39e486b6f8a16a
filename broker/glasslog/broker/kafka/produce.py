"""Kafka's Produce, versions 0 to 11: requests in, answers out.

This module knows the layouts; records pass through as they are. It refuses to know what is done with them.
Versions 0 to 2 are read only to be refused in their own layout.
Source: Kafka's ``ProduceRequest.json`` and ``ProduceResponse.json`` (KIP-467, KIP-951).
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from glasslog.broker.kafka.codec import (
    INT16,
    INT32,
    INT64,
    Reader,
    compact_string,
    nullable_string,
    tagged_field,
    unsigned_varint,
)
from glasslog.broker.kafka.node_addresses import NodeAddress, node_addresses
from glasslog.broker.requests import ProducePartition, ProducePartitionResult, ProduceRequest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, TopicPartition

API_KEY = 0
MIN_VERSION, MAX_VERSION = 0, 11
SERVED_FROM = 3
"""Older versions are of older record formats. They are advertised all the same: librdkafka before 2.12 takes
a broker that does not for one without compression (KAFKA-18659)."""
FLEXIBLE_FROM = 9

_TERMS = Struct(">hi")
"""Request: acks, timeout."""
_RESULT = Struct(">ihqqq")
"""Response: partition, error, base offset, log append time, log start offset."""
_LEADER = Struct(">ii")
_CURRENT_LEADER_TAG = 0
_TOPIC_BYTES, _PARTITION_BYTES = 2, 5
_NO_TAGS = b"\0"
_MAX_MESSAGE_CHARACTERS = 1000
"""Of an error's text, which may quote what a client sent."""


class ProduceCall(NamedTuple):
    """A request. ``records`` are valid only as long as the frame is."""

    transactional_id: str | None
    request: ProduceRequest


def decode_request(reader: Reader, version: int) -> ProduceCall:
    """The request whose body ``reader`` is at; raises ``MalformedFrame``."""
    is_flexible = version >= FLEXIBLE_FROM
    transactional_id = None
    if is_flexible:
        transactional_id = reader.compact_nullable_string()
    elif version >= SERVED_FROM:
        transactional_id = reader.nullable_string()
    acks, timeout_ms = reader.unpack(_TERMS)
    partitions = _decode_flexible(reader) if is_flexible else _decode_plain(reader)
    return ProduceCall(transactional_id, ProduceRequest(acks, timeout_ms, tuple(partitions)))


def _decode_flexible(reader: Reader) -> list[ProducePartition]:
    partitions = []
    for _ in range(reader.compact_array_length(item_bytes=_TOPIC_BYTES)):
        topic = reader.compact_string()
        for _ in range(reader.compact_array_length(item_bytes=_PARTITION_BYTES)):
            name = TopicPartition(topic, reader.int32())
            partitions.append(ProducePartition(name, reader.compact_nullable_bytes()))
            reader.skip_tagged_fields()
        reader.skip_tagged_fields()
    reader.skip_tagged_fields()
    return partitions


def _decode_plain(reader: Reader) -> list[ProducePartition]:
    partitions = []
    for _ in range(reader.array_length(item_bytes=_TOPIC_BYTES)):
        topic = reader.string()
        for _ in range(reader.array_length(item_bytes=_PARTITION_BYTES)):
            name = TopicPartition(topic, reader.int32())
            partitions.append(ProducePartition(name, reader.nullable_bytes()))
    return partitions


def encode_response(
    results: Sequence[ProducePartitionResult],
    nodes: Sequence[NodeAddress],
    version: int,
    *,
    throttle_ms: int = 0,
) -> bytearray:
    """The body of a response after its header. ``nodes`` are where leaders that it names can be reached."""
    topics: dict[str, list[ProducePartitionResult]] = {}
    for result in results:
        topics.setdefault(result.partition.topic, []).append(result)
    if version < FLEXIBLE_FROM:
        return _encode_plain(topics, version, throttle_ms)
    out = bytearray(unsigned_varint(len(topics) + 1))
    for topic, partitions in topics.items():
        out += compact_string(topic)
        out += unsigned_varint(len(partitions) + 1)
        for each in partitions:
            out += _packed(each)
            # No error belongs to a single record.
            out += b"\1"
            message = each.error_message[:_MAX_MESSAGE_CHARACTERS]
            out += compact_string(message) if message else b"\0"
            out += _leader_tag(each) if version >= 10 else _NO_TAGS
        out += _NO_TAGS
    out += INT32.pack(throttle_ms)
    out += node_addresses(nodes) if version >= 10 else _NO_TAGS
    return out


def _packed(each: ProducePartitionResult) -> bytes:
    return _RESULT.pack(
        each.partition.partition,
        each.error,
        each.base_offset,
        each.log_append_time_ms,
        each.log_start_offset,
    )


def _leader_tag(each: ProducePartitionResult) -> bytes:
    if each.error is ErrorCode.NONE or each.current_leader_id == NO_NODE:
        return _NO_TAGS
    content = _LEADER.pack(each.current_leader_id, each.current_leader_epoch) + _NO_TAGS
    return b"\1" + tagged_field(_CURRENT_LEADER_TAG, content)


def _encode_plain(
    topics: dict[str, list[ProducePartitionResult]], version: int, throttle_ms: int
) -> bytearray:
    out = bytearray(INT32.pack(len(topics)))
    for topic, partitions in topics.items():
        out += nullable_string(topic)
        out += INT32.pack(len(partitions))
        for each in partitions:
            out += INT32.pack(each.partition.partition)
            out += INT16.pack(each.error)
            out += INT64.pack(each.base_offset)
            if version >= 2:
                out += INT64.pack(each.log_append_time_ms)
            if version >= 5:
                out += INT64.pack(each.log_start_offset)
            if version >= 8:
                out += INT32.pack(0)
                out += nullable_string(each.error_message[:_MAX_MESSAGE_CHARACTERS] or None)
    if version >= 1:
        out += INT32.pack(throttle_ms)
    return out
