"""A metadata record as names and plain values, for people who look into the metadata log.

This module knows the records' fields; it refuses to know what they do.  The records of Kafka's own metadata
log are in Kafka's layout: those are named, not taken apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum

from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import format_uuid
from glasslog.metadata.records import Endpoint, MetadataRecord
from glasslog.metadata.wire import decode_record

Readable = bool | int | str | list[bool | int | str] | None

_KAFKA_FRAME = 1
"""The first byte of every record of Kafka's metadata log; no protobuf message begins with it."""

_UUID_BYTES = 16
_KAFKA_RECORDS = {
    0: "RegisterBrokerRecord",
    1: "UnregisterBrokerRecord",
    2: "TopicRecord",
    3: "PartitionRecord",
    4: "ConfigRecord",
    5: "PartitionChangeRecord",
    6: "AccessControlEntryRecord",
    7: "FenceBrokerRecord",
    8: "UnfenceBrokerRecord",
    9: "RemoveTopicRecord",
    10: "DelegationTokenRecord",
    11: "UserScramCredentialRecord",
    12: "FeatureLevelRecord",
    14: "ClientQuotaRecord",
    15: "ProducerIdsRecord",
    17: "BrokerRegistrationChangeRecord",
    18: "AccessControlEntryRecord",
    19: "RemoveAccessControlEntryRecord",
    20: "NoOpRecord",
    21: "ZkMigrationStateRecord",
    22: "RemoveUserScramCredentialRecord",
    23: "BeginTransactionRecord",
    24: "EndTransactionRecord",
    25: "AbortTransactionRecord",
    26: "RemoveDelegationTokenRecord",
    27: "RegisterControllerRecord",
}


def describe_metadata_value(value: bytes | None) -> Mapping[str, Readable]:
    """What a record of the metadata log says. Raises ``ValueError`` for bytes that say nothing."""
    if value is None:
        raise ValueError("a record without a value")
    if len(value) >= 3 and value[0] == _KAFKA_FRAME and value[1] < 0x80:
        return {"record": _KAFKA_RECORDS.get(value[1], f"kind {value[1]}"), "version": value[2]}
    try:
        return describe(decode_record(value))
    except InvariantViolation as error:
        raise ValueError(str(error)) from None


def describe(record: MetadataRecord) -> Mapping[str, Readable]:
    """The record's name and the fields that say something."""
    named: dict[str, Readable] = {"record": type(record).__name__}
    for name in _field_names(record):
        content: object = getattr(record, name)
        if content is not None:
            named[name] = _readable(content)
    return named


def _field_names(record: MetadataRecord) -> Sequence[str]:
    return record._fields if isinstance(record, tuple) else [field.name for field in fields(record)]


def _readable(content: object) -> Readable:
    if isinstance(content, tuple):
        return [_one(item) for item in content]
    return _one(content)


def _one(content: object) -> bool | int | str:
    match content:
        case Enum():
            return content.name
        case bool() | int() | str():
            return content
        case bytes():
            return format_uuid(content) if len(content) == _UUID_BYTES else content.hex()
        case Endpoint():
            return f"{content.name}://{content.address}"
        case _:
            return str(content)
