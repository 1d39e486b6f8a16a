"""Kafka's Fetch: version 15 in both directions, as replicas speak it, and versions 4 to 16 for clients.

This module knows the layouts: topics by name up to version 12 and by id from 13 on, sessions from 7 on, the
tagged fields that replication rests on.  It refuses to know sessions' rules and where records come from.
Records pass through as they are.  Source: Kafka's ``FetchRequest.json`` and ``FetchResponse.json`` (KIP-227,
KIP-320, KIP-392, KIP-516, KIP-595, KIP-903, KIP-951).
"""

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import NamedTuple

from glasslog.broker.kafka.codec import (
    INT32,
    INT64,
    Reader,
    compact_string,
    nullable_string,
    tagged_field,
    unsigned_varint,
)
from glasslog.broker.kafka.node_addresses import NodeAddress, node_addresses
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.broker.requests import AbortedRange, DivergingEpoch
from glasslog.common.errors import ErrorCode, require
from glasslog.common.ids import (
    NO_BROKER_EPOCH,
    NO_LEADER_EPOCH,
    NO_NODE,
    NO_OFFSET,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    TopicId,
)
from glasslog.common.runtime.protocols import Buffer

API_KEY = 1
VERSION = 15
"""What replicas speak."""

MIN_VERSION, MAX_VERSION = 4, 16
FLEXIBLE_FROM = 12
IDS_FROM = 13

_HEAD = Struct(">iiibii")
"""Request: max wait, min bytes, max bytes, isolation level, session id, session epoch."""
_ASK = Struct(">iiqiqi")
"""Request: partition, leader epoch, offset, last fetched epoch, log start offset, max bytes."""
_OLDER_HEAD = Struct(">iiiib")
"""Request: replica, max wait, min bytes, max bytes, isolation level."""
_SESSION = Struct(">ii")
_REPLICA_STATE = Struct(">iq")
_ANSWER_HEAD = Struct(">ihi")
_ANSWER = Struct(">ihqqq")
"""Response: partition, error, high watermark, last stable offset, log start offset."""
_OLDER_ERROR = Struct(">hi")
_OLDER_ANSWER = Struct(">ihqq")
_NODES_FROM = 16
_ABORTED = Struct(">qq")
"""Answer: producer, first offset of one of its aborted transactions."""

_NULL = -1
_EPOCH_END = Struct(">iq")
_LEADER = Struct(">ii")

_CLUSTER_ID_TAG, _REPLICA_STATE_TAG = 0, 1
_DIVERGING_EPOCH_TAG, _CURRENT_LEADER_TAG = 0, 1
_TOPIC_BYTES = 18
_OLDER_TOPIC_BYTES = 2
_OLDER_ASKS = {
    version: Struct(">i" + ("i" if version >= 9 else "") + "q" + ("q" if version >= 5 else "") + "i")
    for version in range(MIN_VERSION, FLEXIBLE_FROM)
}
"""Request: partition, leader epoch (from 9 on), offset, log start offset (from 5 on), max bytes."""
_ASK_BYTES = _ASK.size + 1
_ANSWER_BYTES = _ANSWER.size + 7
_ABORTED_BYTES = 17
_NO_TAGS = b"\0"
_EMPTY = b"\1"
"""A compact array or string."""


class FetchCall(NamedTuple):
    """A request as it is on the wire. ``replica_id`` is ``NO_NODE`` for consumers."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    session_id: int
    session_epoch: int
    asks: Mapping[PartitionKey, PartitionAsk]
    forgotten: Sequence[PartitionKey] = ()
    isolation_level: int = 0
    replica_id: NodeId = NO_NODE
    broker_epoch: BrokerEpoch = NO_BROKER_EPOCH
    cluster_id: str | None = None
    rack: str = ""


class PartitionAnswer(NamedTuple):
    """One partition of a response. Decoded records are valid only as long as the frame is."""

    key: PartitionKey
    error: int
    high_watermark: int = NO_OFFSET
    last_stable_offset: int = NO_OFFSET
    log_start_offset: int = NO_OFFSET
    diverging_epoch: DivergingEpoch | None = None
    leader_id: int = NO_NODE
    leader_epoch: int = NO_LEADER_EPOCH
    preferred_read_replica: int = NO_NODE
    records: Buffer = b""
    aborted_transactions: Sequence[AbortedRange] = ()


class FetchAnswer(NamedTuple):
    """A response. ``nodes`` are where the leaders that it names can be reached (KIP-951)."""

    error: ErrorCode
    session_id: int
    partitions: Sequence[PartitionAnswer]
    throttle_time_ms: int = 0
    nodes: Sequence[NodeAddress] = ()


# --- requests ---------------------------------------------------------------------------------------------


def encode_request(call: FetchCall) -> bytes:
    """The body of a request, after its header."""
    parts = [
        _HEAD.pack(
            call.max_wait_ms,
            call.min_bytes,
            call.max_bytes,
            call.isolation_level,
            call.session_id,
            call.session_epoch,
        )
    ]
    _encode_asks(parts, call.asks)
    if call.forgotten:
        _encode_forgotten(parts, call.forgotten)
    else:
        parts.append(_EMPTY)
    parts.append(compact_string(call.rack) if call.rack else _EMPTY)
    parts.append(_request_tags(call))
    return b"".join(parts)


def _encode_asks(parts: list[bytes], asks: Mapping[PartitionKey, PartitionAsk]) -> None:
    topics = _by_topic(asks)
    parts.append(unsigned_varint(len(topics) + 1))
    for topic_id, indexes in topics.items():
        parts += (_id(topic_id), unsigned_varint(len(indexes) + 1))
        for index in indexes:
            ask = asks[(topic_id, index)]
            parts.append(
                _ASK.pack(
                    index,
                    ask.current_leader_epoch,
                    ask.fetch_offset,
                    ask.last_fetched_epoch,
                    ask.log_start_offset,
                    ask.max_bytes,
                )
            )
            parts.append(_NO_TAGS)
        parts.append(_NO_TAGS)


def _encode_forgotten(parts: list[bytes], forgotten: Sequence[PartitionKey]) -> None:
    topics = _by_topic(forgotten)
    parts.append(unsigned_varint(len(topics) + 1))
    for topic_id, indexes in topics.items():
        parts += (_id(topic_id), unsigned_varint(len(indexes) + 1))
        parts += (INT32.pack(index) for index in indexes)
        parts.append(_NO_TAGS)


def _id(topic: TopicId | str) -> TopicId:
    require(not isinstance(topic, str), f"replicas name topics by their ids, not as {topic!r}")
    assert not isinstance(topic, str)
    return topic


def _by_topic(keys: Iterable[PartitionKey]) -> dict[TopicId | str, list[int]]:
    topics: dict[TopicId | str, list[int]] = {}
    for topic_id, index in keys:
        topics.setdefault(topic_id, []).append(index)
    return topics


def _request_tags(call: FetchCall) -> bytes:
    fields = []
    if call.cluster_id is not None:
        fields.append(tagged_field(_CLUSTER_ID_TAG, compact_string(call.cluster_id)))
    if call.replica_id != NO_NODE:
        state = _REPLICA_STATE.pack(call.replica_id, call.broker_epoch) + _NO_TAGS
        fields.append(tagged_field(_REPLICA_STATE_TAG, state))
    return unsigned_varint(len(fields)) + b"".join(fields)


def decode_request(reader: Reader, version: int = VERSION) -> FetchCall:
    """The request whose body ``reader`` is at; raises ``MalformedFrame``. Keeps nothing of the frame."""
    if version < VERSION:
        return _decode_older(reader, version)
    max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch = reader.unpack(_HEAD)
    asks = _decode_asks(reader)
    forgotten = _decode_forgotten(reader)
    rack = reader.compact_string()
    cluster_id, replica_id, broker_epoch = None, NO_NODE, NO_BROKER_EPOCH
    for tag, content in reader.tagged_fields():
        if tag == _CLUSTER_ID_TAG:
            cluster_id = content.compact_nullable_string()
        elif tag == _REPLICA_STATE_TAG:
            replica, epoch = content.unpack(_REPLICA_STATE)
            replica_id, broker_epoch = NodeId(replica), BrokerEpoch(epoch)
    return FetchCall(
        replica_id=replica_id,
        broker_epoch=broker_epoch,
        cluster_id=cluster_id,
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation_level=isolation_level,
        session_id=session_id,
        session_epoch=session_epoch,
        asks=asks,
        forgotten=forgotten,
        rack=rack,
    )


def _decode_asks(reader: Reader) -> dict[PartitionKey, PartitionAsk]:
    asks: dict[PartitionKey, PartitionAsk] = {}
    for _ in range(reader.compact_array_length(item_bytes=_TOPIC_BYTES)):
        topic_id = TopicId(reader.uuid())
        for _ in range(reader.compact_array_length(item_bytes=_ASK_BYTES)):
            index, leader_epoch, offset, last_epoch, log_start, max_bytes = reader.unpack(_ASK)
            asks[(topic_id, index)] = PartitionAsk(offset, max_bytes, leader_epoch, last_epoch, log_start)
            reader.skip_tagged_fields()
        reader.skip_tagged_fields()
    return asks


def _decode_forgotten(reader: Reader) -> list[PartitionKey]:
    forgotten: list[PartitionKey] = []
    for _ in range(reader.compact_array_length(item_bytes=_TOPIC_BYTES)):
        topic_id = TopicId(reader.uuid())
        count = reader.compact_array_length(item_bytes=INT32.size)
        forgotten += ((topic_id, reader.int32()) for _ in range(count))
        reader.skip_tagged_fields()
    return forgotten


# --- requests of older versions -----------------------------------------------------------------------------


def _decode_older(reader: Reader, version: int) -> FetchCall:
    replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level = reader.unpack(_OLDER_HEAD)
    # Before there were sessions every fetch was complete and of none: as one that ends a session.
    session_id, session_epoch = reader.unpack(_SESSION) if version >= 7 else (0, -1)
    asks = _decode_older_asks(reader, version)
    forgotten = _decode_older_forgotten(reader, version) if version >= 7 else []
    rack, cluster_id = "", None
    if version >= FLEXIBLE_FROM:
        rack = reader.compact_string()
        for tag, content in reader.tagged_fields():
            if tag == _CLUSTER_ID_TAG:
                cluster_id = content.compact_nullable_string()
    elif version >= 11:
        rack = reader.string()
    return FetchCall(
        replica_id=NodeId(replica_id) if replica_id >= 0 else NO_NODE,
        cluster_id=cluster_id,
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation_level=isolation_level,
        session_id=session_id,
        session_epoch=session_epoch,
        asks=asks,
        forgotten=forgotten,
        rack=rack,
    )


def _array_length(reader: Reader, version: int, *, item_bytes: int) -> int:
    if version >= FLEXIBLE_FROM:
        return reader.compact_array_length(item_bytes=item_bytes)
    return reader.array_length(item_bytes=item_bytes)


def _topic_of(reader: Reader, version: int) -> TopicId | str:
    if version >= IDS_FROM:
        return TopicId(reader.uuid())
    return reader.compact_string() if version >= FLEXIBLE_FROM else reader.string()


def _decode_older_asks(reader: Reader, version: int) -> dict[PartitionKey, PartitionAsk]:
    is_flexible = version >= FLEXIBLE_FROM
    asks: dict[PartitionKey, PartitionAsk] = {}
    layout = _ASK if is_flexible else _OLDER_ASKS[version]
    for _ in range(_array_length(reader, version, item_bytes=_OLDER_TOPIC_BYTES)):
        topic = _topic_of(reader, version)
        for _ in range(_array_length(reader, version, item_bytes=layout.size)):
            values = reader.unpack(layout)
            if is_flexible:
                index, leader_epoch, offset, last_epoch, log_start, max_bytes = values
                reader.skip_tagged_fields()
            else:
                index, *optional, max_bytes = values
                leader_epoch = optional.pop(0) if version >= 9 else NO_LEADER_EPOCH
                last_epoch = NO_LEADER_EPOCH
                offset, log_start = optional if version >= 5 else (*optional, NO_OFFSET)
            asks[(topic, index)] = PartitionAsk(offset, max_bytes, leader_epoch, last_epoch, log_start)
        if is_flexible:
            reader.skip_tagged_fields()
    return asks


def _decode_older_forgotten(reader: Reader, version: int) -> list[PartitionKey]:
    forgotten: list[PartitionKey] = []
    for _ in range(_array_length(reader, version, item_bytes=_OLDER_TOPIC_BYTES)):
        topic = _topic_of(reader, version)
        count = _array_length(reader, version, item_bytes=INT32.size)
        forgotten += ((topic, reader.int32()) for _ in range(count))
        if version >= FLEXIBLE_FROM:
            reader.skip_tagged_fields()
    return forgotten


# --- responses --------------------------------------------------------------------------------------------


def encode_response(answer: FetchAnswer, version: int = VERSION) -> list[Buffer]:
    """The body of a response after its header, as parts: records are not copied."""
    if version < FLEXIBLE_FROM:
        return _encode_older_response(answer, version)
    parts: list[Buffer] = []
    small = bytearray(_ANSWER_HEAD.pack(answer.throttle_time_ms, answer.error, answer.session_id))
    topics = _answers_by_topic(answer)
    small += unsigned_varint(len(topics) + 1)
    for topic, partitions in topics.items():
        small += compact_string(topic) if isinstance(topic, str) else topic
        small += unsigned_varint(len(partitions) + 1)
        for partition in partitions:
            small += _answer_front(partition)
            if len(partition.records):
                parts += (small, partition.records)
                small = bytearray()
            small += _answer_tags(partition)
        small += _NO_TAGS
    small += node_addresses(answer.nodes) if version >= _NODES_FROM else _NO_TAGS
    parts.append(small)
    return parts


def _answers_by_topic(answer: FetchAnswer) -> dict[TopicId | str, list[PartitionAnswer]]:
    topics: dict[TopicId | str, list[PartitionAnswer]] = {}
    for partition in answer.partitions:
        topics.setdefault(partition.key[0], []).append(partition)
    return topics


def _encode_older_response(answer: FetchAnswer, version: int) -> list[Buffer]:
    parts: list[Buffer] = []
    small = bytearray(INT32.pack(answer.throttle_time_ms))
    if version >= 7:
        small += _OLDER_ERROR.pack(answer.error, answer.session_id)
    topics = _answers_by_topic(answer)
    small += INT32.pack(len(topics))
    for topic, partitions in topics.items():
        assert isinstance(topic, str)
        small += nullable_string(topic)
        small += INT32.pack(len(partitions))
        for partition in partitions:
            small += _older_answer_front(partition, version)
            if len(partition.records):
                parts += (small, partition.records)
                small = bytearray()
    parts.append(small)
    return parts


def _older_answer_front(partition: PartitionAnswer, version: int) -> bytes:
    error, high_watermark = partition.error, partition.high_watermark
    front = _OLDER_ANSWER.pack(partition.key[1], error, high_watermark, partition.last_stable_offset)
    if version >= 5:
        front += INT64.pack(partition.log_start_offset)
    aborted = partition.aborted_transactions
    front += INT32.pack(len(aborted) or _NULL)
    front += b"".join(_ABORTED.pack(*each) for each in aborted)
    if version >= 11:
        front += INT32.pack(partition.preferred_read_replica)
    return front + INT32.pack(len(partition.records))


def _answer_front(partition: PartitionAnswer) -> bytes:
    front = _ANSWER.pack(
        partition.key[1],
        partition.error,
        partition.high_watermark,
        partition.last_stable_offset,
        partition.log_start_offset,
    )
    aborted = partition.aborted_transactions
    front += _flexible_aborted(aborted) if aborted else b"\0"
    return front + INT32.pack(partition.preferred_read_replica) + unsigned_varint(len(partition.records) + 1)


def _flexible_aborted(aborted: Sequence[AbortedRange]) -> bytes:
    return unsigned_varint(len(aborted) + 1) + b"".join(_ABORTED.pack(*each) + _NO_TAGS for each in aborted)


def _answer_tags(partition: PartitionAnswer) -> bytes:
    diverging, leader_epoch = partition.diverging_epoch, partition.leader_epoch
    if diverging is None and leader_epoch == NO_LEADER_EPOCH and partition.leader_id == NO_NODE:
        return _NO_TAGS
    fields = []
    if diverging is not None:
        content = _EPOCH_END.pack(diverging.epoch, diverging.end_offset) + _NO_TAGS
        fields.append(tagged_field(_DIVERGING_EPOCH_TAG, content))
    if leader_epoch != NO_LEADER_EPOCH or partition.leader_id != NO_NODE:
        content = _LEADER.pack(partition.leader_id, leader_epoch) + _NO_TAGS
        fields.append(tagged_field(_CURRENT_LEADER_TAG, content))
    return unsigned_varint(len(fields)) + b"".join(fields)


def decode_response(reader: Reader) -> FetchAnswer:
    """The response whose body ``reader`` is at; raises ``MalformedFrame``."""
    throttle_time_ms, error, session_id = reader.unpack(_ANSWER_HEAD)
    partitions: list[PartitionAnswer] = []
    for _ in range(reader.compact_array_length(item_bytes=_TOPIC_BYTES)):
        topic_id = TopicId(reader.uuid())
        for _ in range(reader.compact_array_length(item_bytes=_ANSWER_BYTES)):
            partitions.append(_decode_answer(reader, topic_id))  # noqa: PERF401 - a generator costs more
        reader.skip_tagged_fields()
    reader.skip_tagged_fields()
    return FetchAnswer(error_code(error), session_id, partitions, throttle_time_ms)


def _decode_answer(reader: Reader, topic_id: TopicId) -> PartitionAnswer:
    index, error, high_watermark, last_stable_offset, log_start_offset = reader.unpack(_ANSWER)
    for _ in range(reader.compact_array_length(item_bytes=_ABORTED_BYTES)):
        reader.view(_ABORTED_BYTES - 1)
        reader.skip_tagged_fields()
    preferred_read_replica = reader.int32()
    records = reader.compact_nullable_bytes()
    diverging, leader_id, leader_epoch = None, int(NO_NODE), int(NO_LEADER_EPOCH)
    for tag, content in () if reader.has_no_tagged_fields() else reader.tagged_fields():
        if tag == _DIVERGING_EPOCH_TAG:
            epoch, end_offset = content.unpack(_EPOCH_END)
            diverging = DivergingEpoch(epoch=LeaderEpoch(epoch), end_offset=Offset(end_offset))
        elif tag == _CURRENT_LEADER_TAG:
            leader_id, leader_epoch = content.unpack(_LEADER)
    return PartitionAnswer(
        (topic_id, index),
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        diverging,
        leader_id,
        leader_epoch,
        preferred_read_replica,
        records,
    )


def error_code(number: int) -> ErrorCode:
    """The error with that number; one that this version does not know is an unknown server error."""
    if not number:
        return ErrorCode.NONE
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
