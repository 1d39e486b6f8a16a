"""The records of ``__consumer_offsets`` and their bytes, as Kafka writes them, so that its tools read ours.

Knows the two kinds that classic groups need (offset commits and group metadata); a record of another kind or
a newer version decodes to ``Unknown`` and is passed over. Refuses to know what the records do.
Source: Kafka's ``{OffsetCommit,GroupMetadata}{Key,Value}.json`` (group-coordinator, common/message).
"""

import struct
from dataclasses import dataclass

from glasslog.broker.group.types import CommittedOffset
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition

_OFFSET_KEY_VERSIONS = (0, 1)
_GROUP_KEY_VERSION = 2
_OFFSET_VALUE_VERSION = 3
_GROUP_VALUE_VERSION = 3
_MAX_TEXT_BYTES = 0x7FFF


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetRecord:
    """A group's position in one partition; ``committed`` ``None`` forgets it."""

    group_id: str
    partition: TopicPartition
    committed: CommittedOffset | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """A member with its subscription and its assignment, opaque to the coordinator."""

    member_id: str
    group_instance_id: str
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValue:
    """A group's generation as it was agreed on."""

    protocol_type: str
    generation_id: int
    protocol_name: str
    leader: str
    state_timestamp_ms: int
    members: tuple[MemberRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """``value`` ``None`` forgets the group."""

    group_id: str
    value: GroupValue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A record that this version does not read."""

    key_version: int


GroupLogRecord = OffsetRecord | GroupRecord


def encode(record: GroupLogRecord) -> tuple[bytes, bytes | None]:
    """Key and value of one record. Raises INVALID_COMMIT_OFFSET_SIZE for a name longer than 32,767 bytes."""
    match record:
        case OffsetRecord():
            key = struct.pack(">h", 1) + _text(record.group_id) + _text(record.partition.topic)
            key += struct.pack(">i", record.partition.partition)
            return key, None if record.committed is None else _offset_value(record.committed)
        case GroupRecord():
            key = struct.pack(">h", _GROUP_KEY_VERSION) + _text(record.group_id)
            return key, None if record.value is None else _group_value(record.value)


def decode(key: bytes | None, value: bytes | None) -> GroupLogRecord | Unknown:
    """A record from its bytes. Raises ``StorageError`` for bytes that can not be one."""
    try:
        return _decode(_Reader(key or b""), value)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise StorageError(f"__consumer_offsets holds an unreadable record: {error}") from error


def _decode(key: "_Reader", value: bytes | None) -> GroupLogRecord | Unknown:
    version = key.int16()
    if version in _OFFSET_KEY_VERSIONS:
        group_id, partition = key.text(), TopicPartition(key.text(), key.int32())
        committed = None if value is None else _read_offset_value(_Reader(value))
        return OffsetRecord(group_id=group_id, partition=partition, committed=committed)
    if version == _GROUP_KEY_VERSION:
        group = None if value is None else _read_group_value(_Reader(value))
        return GroupRecord(group_id=key.text(), value=group)
    return Unknown(key_version=version)


def _offset_value(committed: CommittedOffset) -> bytes:
    head = struct.pack(">hqi", _OFFSET_VALUE_VERSION, committed.offset, committed.leader_epoch)
    return head + _text(committed.metadata) + struct.pack(">q", committed.commit_timestamp_ms)


def _read_offset_value(reader: "_Reader") -> CommittedOffset:
    version = reader.int16()
    offset = Offset(reader.int64())
    epoch = LeaderEpoch(reader.int32() if version >= 3 else -1)
    return CommittedOffset(
        offset=offset, leader_epoch=epoch, metadata=reader.text(), commit_timestamp_ms=reader.int64()
    )


def _group_value(value: GroupValue) -> bytes:
    parts = [
        struct.pack(">h", _GROUP_VALUE_VERSION),
        _text(value.protocol_type),
        struct.pack(">i", value.generation_id),
        _nullable(value.protocol_name),
        _nullable(value.leader),
        struct.pack(">qi", value.state_timestamp_ms, len(value.members)),
    ]
    for member in value.members:
        parts += [
            _text(member.member_id),
            _nullable(member.group_instance_id),
            _text(member.client_id),
            _text(member.client_host),
            struct.pack(">ii", member.rebalance_timeout_ms, member.session_timeout_ms),
            _bytes(member.subscription),
            _bytes(member.assignment),
        ]
    return b"".join(parts)


def _read_group_value(reader: "_Reader") -> GroupValue:
    version = reader.int16()
    protocol_type, generation_id = reader.text(), reader.int32()
    protocol_name, leader = reader.nullable(), reader.nullable()
    timestamp = reader.int64() if version >= 2 else -1
    return GroupValue(
        protocol_type=protocol_type,
        generation_id=generation_id,
        protocol_name=protocol_name,
        leader=leader,
        state_timestamp_ms=timestamp,
        members=tuple(_read_member(reader, version) for _ in range(reader.int32())),
    )


def _read_member(reader: "_Reader", version: int) -> MemberRecord:
    member_id = reader.text()
    instance = reader.nullable() if version >= 3 else ""
    client_id, client_host = reader.text(), reader.text()
    rebalance_timeout = reader.int32() if version >= 1 else -1
    session_timeout = reader.int32()
    return MemberRecord(
        member_id=member_id,
        group_instance_id=instance,
        client_id=client_id,
        client_host=client_host,
        rebalance_timeout_ms=rebalance_timeout if version >= 1 else session_timeout,
        session_timeout_ms=session_timeout,
        subscription=reader.bytes(),
        assignment=reader.bytes(),
    )


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > _MAX_TEXT_BYTES:
        raise GlasslogError(
            ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
            f"a name of {len(data)} bytes can not be stored; at most {_MAX_TEXT_BYTES} fit",
        )
    return struct.pack(">h", len(data)) + data


def _nullable(value: str) -> bytes:
    return _text(value) if value else struct.pack(">h", -1)


def _bytes(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class _Reader:
    """Reads Kafka's primitive types in order; ``IndexError`` when the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise IndexError(f"{length} bytes wanted, {len(self._data) - self._position} left")
        data = self._data[self._position : end]
        self._position = end
        return data

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def int64(self) -> int:
        return int.from_bytes(self._take(8), "big", signed=True)

    def text(self) -> str:
        return self._take(self.int16()).decode()

    def nullable(self) -> str:
        length = self.int16()
        return "" if length < 0 else self._take(length).decode()

    def bytes(self) -> bytes:
        return self._take(self.int32())
