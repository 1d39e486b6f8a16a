"""The records of ``__consumer_offsets`` and ``__transaction_state``, Kafka's and ours, in readable form.

This module knows layouts as tables, those of versions and kinds that our own coordinators do not write
included; it refuses to know what coordinators do with them.
Source: Kafka's ``group-coordinator`` and ``transaction-coordinator``, ``common/message/*.json``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from glasslog.log.inspection.items import Fields
from glasslog.log.inspection.schema import Field, Message, read_message

_VERSION_BYTES = 2


class _Kind(NamedTuple):
    """A kind of record, by the version of its key: its name, key and value."""

    name: str
    key: Sequence[Field]
    value: Message


_GROUP = Field("groupId", "string")
_MEMBER = Field("memberId", "string")
_PARTITIONS = (Field("topicId", "uuid"), Field("partitions", "int32", is_array=True))
_OFFSET_KEY = (_GROUP, Field("topic", "string"), Field("partition", "int32"))
_OFFSET_VALUE = Message(
    fields=(
        Field("offset", "int64"),
        Field("leaderEpoch", "int32", first=3),
        Field("metadata", "string"),
        Field("commitTimestamp", "int64"),
        Field("expireTimestamp", "int64", first=1, last=1),
        Field("topicId", "uuid", tag=0),
    ),
    flexible=4,
    newest=4,
)
_CLASSIC_MEMBER = (
    _MEMBER,
    Field("groupInstanceId", "string", first=3),
    Field("clientId", "string"),
    Field("clientHost", "string"),
    Field("rebalanceTimeout", "int32", first=1),
    Field("sessionTimeout", "int32"),
    Field("subscription", "bytes"),
    Field("assignment", "bytes"),
)
_GROUP_VALUE = Message(
    fields=(
        Field("protocolType", "string"),
        Field("generation", "int32"),
        Field("protocol", "string"),
        Field("leader", "string"),
        Field("currentStateTimestamp", "int64", first=2),
        Field("members", _CLASSIC_MEMBER, is_array=True),
    ),
    flexible=4,
    newest=4,
)
_TOPIC_RACKS = (
    Field("topicId", "uuid"),
    Field("topicName", "string"),
    Field("numPartitions", "int32"),
    Field(
        "partitionRacks",
        (Field("partition", "int32"), Field("racks", "string", is_array=True)),
        is_array=True,
    ),
)
_CONSUMER_MEMBER = Message(
    fields=(
        Field("instanceId", "string"),
        Field("rackId", "string"),
        Field("clientId", "string"),
        Field("clientHost", "string"),
        Field("subscribedTopicNames", "string", is_array=True),
        Field("subscribedTopicRegex", "string"),
        Field("rebalanceTimeoutMs", "int32"),
        Field("serverAssignor", "string"),
    ),
    flexible=0,
)
_ASSIGNMENT_STATE = Message(
    fields=(
        Field("memberEpoch", "int32"),
        Field("previousMemberEpoch", "int32"),
        Field("state", "int8"),
        Field("assignedPartitions", _PARTITIONS, is_array=True),
        Field("partitionsPendingRevocation", _PARTITIONS, is_array=True),
    ),
    flexible=0,
)


def _flexible(*fields: Field) -> Message:
    return Message(fields=fields, flexible=0)


_OFFSETS: Mapping[int, _Kind] = {
    0: _Kind("OffsetCommit", _OFFSET_KEY, _OFFSET_VALUE),
    1: _Kind("OffsetCommit", _OFFSET_KEY, _OFFSET_VALUE),
    2: _Kind("GroupMetadata", (Field("group", "string"),), _GROUP_VALUE),
    3: _Kind(
        "ConsumerGroupMetadata",
        (_GROUP,),
        _flexible(Field("epoch", "int32"), Field("metadataHash", "int64", tag=0)),
    ),
    4: _Kind(
        "ConsumerGroupPartitionMetadata",
        (_GROUP,),
        _flexible(Field("topics", _TOPIC_RACKS, is_array=True)),
    ),
    5: _Kind("ConsumerGroupMemberMetadata", (_GROUP, _MEMBER), _CONSUMER_MEMBER),
    6: _Kind(
        "ConsumerGroupTargetAssignmentMetadata", (_GROUP,), _flexible(Field("assignmentEpoch", "int32"))
    ),
    7: _Kind(
        "ConsumerGroupTargetAssignmentMember",
        (_GROUP, _MEMBER),
        _flexible(Field("topicPartitions", _PARTITIONS, is_array=True)),
    ),
    8: _Kind("ConsumerGroupCurrentMemberAssignment", (_GROUP, _MEMBER), _ASSIGNMENT_STATE),
}

_TRANSACTION_VALUE = Message(
    fields=(
        Field("producerId", "int64"),
        Field("previousProducerId", "int64", tag=0),
        Field("nextProducerId", "int64", tag=1),
        Field("producerEpoch", "int16"),
        Field("transactionTimeoutMs", "int32"),
        Field("transactionStatus", "int8"),
        Field(
            "transactionPartitions",
            (Field("topic", "string"), Field("partitionIds", "int32", is_array=True)),
            is_array=True,
        ),
        Field("transactionLastUpdateTimestampMs", "int64"),
        Field("transactionStartTimestampMs", "int64"),
        Field("clientTransactionVersion", "int16", tag=2),
    ),
    flexible=1,
    newest=1,
)
_TRANSACTIONS: Mapping[int, _Kind] = {
    0: _Kind("TransactionLog", (Field("transactionalId", "string"),), _TRANSACTION_VALUE),
}
_STATUS = (
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
)


def decode_offsets_record(key: bytes | None, value: bytes | None) -> Fields:
    """What a record of ``__consumer_offsets`` says; ``ValueError`` for bytes that say nothing."""
    return _decode(_OFFSETS, key, value)


def decode_transactions_record(key: bytes | None, value: bytes | None) -> Fields:
    """What a record of ``__transaction_state`` says; ``ValueError`` for bytes that say nothing."""
    fields = dict(_decode(_TRANSACTIONS, key, value))
    status = fields.get("transactionStatus")
    if isinstance(status, int) and 0 <= status < len(_STATUS):
        fields["transactionStatus"] = _STATUS[status]
    return fields


def _decode(kinds: Mapping[int, _Kind], key: bytes | None, value: bytes | None) -> Fields:
    """A kind that is not known here is named by its number: a newer version wrote it."""
    key_version, key_body = _versioned(key, "key")
    kind = kinds.get(key_version)
    if kind is None:
        return {"record": f"kind {key_version}"}
    named = {"record": kind.name, **read_message(Message(fields=kind.key), key_body, version=0)}
    if value is None:
        return {**named, "tombstone": True}
    version, body = _versioned(value, "value")
    return {**named, **read_message(kind.value, body, version=version)}


def _versioned(data: bytes | None, what: str) -> tuple[int, bytes]:
    if data is None or len(data) < _VERSION_BYTES:
        raise ValueError(f"a {what} without a version")
    return int.from_bytes(data[:_VERSION_BYTES], "big", signed=True), data[_VERSION_BYTES:]
