"""Offsets of logs and of groups: ListOffsets, OffsetCommit, OffsetFetch, OffsetForLeaderEpoch.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT8_FIELD,
    INT16_FIELD,
    INT32_FIELD,
    INT64_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsPartition:
    """One of ``ListOffsetsTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    current_leader_epoch: int = wire(INT32_FIELD, since=4, default=-1)
    timestamp: int = wire(INT64_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsTopic:
    """One of ``ListOffsetsRequest.topics``."""

    name: str = wire(STRING)
    partitions: tuple[ListOffsetsPartition, ...] = wire(array(ListOffsetsPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsRequest:
    """ListOffsets request, versions 1 to 10."""

    replica_id: int = wire(INT32_FIELD)
    isolation_level: int = wire(INT8_FIELD, since=2)
    topics: tuple[ListOffsetsTopic, ...] = wire(array(ListOffsetsTopic))
    timeout_ms: int = wire(INT32_FIELD, since=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsPartitionResponse:
    """One of ``ListOffsetsTopicResponse.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    timestamp: int = wire(INT64_FIELD, default=-1)
    offset: int = wire(INT64_FIELD, default=-1)
    leader_epoch: int = wire(INT32_FIELD, since=4, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsTopicResponse:
    """One of ``ListOffsetsResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[ListOffsetsPartitionResponse, ...] = wire(array(ListOffsetsPartitionResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsResponse:
    """ListOffsets response, versions 1 to 10."""

    throttle_time_ms: int = wire(INT32_FIELD, since=2)
    topics: tuple[ListOffsetsTopicResponse, ...] = wire(array(ListOffsetsTopicResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitRequestPartition:
    """One of ``OffsetCommitRequestTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    committed_offset: int = wire(INT64_FIELD)
    committed_leader_epoch: int = wire(INT32_FIELD, since=6, default=-1)
    committed_metadata: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitRequestTopic:
    """One of ``OffsetCommitRequest.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetCommitRequestPartition, ...] = wire(array(OffsetCommitRequestPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitRequest:
    """OffsetCommit request, versions 2 to 9."""

    group_id: str = wire(STRING)
    generation_id_or_member_epoch: int = wire(INT32_FIELD, default=-1)
    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=7, null_since=7, default=None)
    retention_time_ms: int = wire(INT64_FIELD, until=4, default=-1)
    topics: tuple[OffsetCommitRequestTopic, ...] = wire(array(OffsetCommitRequestTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitResponsePartition:
    """One of ``OffsetCommitResponseTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitResponseTopic:
    """One of ``OffsetCommitResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetCommitResponsePartition, ...] = wire(array(OffsetCommitResponsePartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitResponse:
    """OffsetCommit response, versions 2 to 9."""

    throttle_time_ms: int = wire(INT32_FIELD, since=3)
    topics: tuple[OffsetCommitResponseTopic, ...] = wire(array(OffsetCommitResponseTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchRequestTopic:
    """One of ``OffsetFetchRequest.topics``."""

    name: str = wire(STRING)
    partition_indexes: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchRequestTopics:
    """One of ``OffsetFetchRequestGroup.topics``."""

    name: str = wire(STRING)
    partition_indexes: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchRequestGroup:
    """One of ``OffsetFetchRequest.groups``."""

    group_id: str = wire(STRING)
    member_id: str | None = wire(STRING, since=9, null_since=9, default=None)
    member_epoch: int = wire(INT32_FIELD, since=9, default=-1)
    topics: tuple[OffsetFetchRequestTopics, ...] | None = wire(array(OffsetFetchRequestTopics), null_since=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchRequest:
    """OffsetFetch request, versions 1 to 9."""

    group_id: str = wire(STRING, until=7)
    topics: tuple[OffsetFetchRequestTopic, ...] | None = wire(
        array(OffsetFetchRequestTopic), until=7, null_since=2
    )
    groups: tuple[OffsetFetchRequestGroup, ...] = wire(array(OffsetFetchRequestGroup), since=8)
    require_stable: bool = wire(BOOLEAN, since=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponsePartition:
    """One of ``OffsetFetchResponseTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    committed_offset: int = wire(INT64_FIELD)
    committed_leader_epoch: int = wire(INT32_FIELD, since=5, default=-1)
    metadata: str | None = wire(STRING, null_since=0)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponseTopic:
    """One of ``OffsetFetchResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetFetchResponsePartition, ...] = wire(array(OffsetFetchResponsePartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponsePartitions:
    """One of ``OffsetFetchResponseTopics.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    committed_offset: int = wire(INT64_FIELD)
    committed_leader_epoch: int = wire(INT32_FIELD, default=-1)
    metadata: str | None = wire(STRING, null_since=8)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponseTopics:
    """One of ``OffsetFetchResponseGroup.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetFetchResponsePartitions, ...] = wire(array(OffsetFetchResponsePartitions))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponseGroup:
    """One of ``OffsetFetchResponse.groups``."""

    group_id: str = wire(STRING)
    topics: tuple[OffsetFetchResponseTopics, ...] = wire(array(OffsetFetchResponseTopics))
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetchResponse:
    """OffsetFetch response, versions 1 to 9."""

    throttle_time_ms: int = wire(INT32_FIELD, since=3)
    topics: tuple[OffsetFetchResponseTopic, ...] = wire(array(OffsetFetchResponseTopic), until=7)
    error_code: int = wire(INT16_FIELD, since=2, until=7)
    groups: tuple[OffsetFetchResponseGroup, ...] = wire(array(OffsetFetchResponseGroup), since=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForLeaderPartition:
    """One of ``OffsetForLeaderTopic.partitions``."""

    partition: int = wire(INT32_FIELD)
    current_leader_epoch: int = wire(INT32_FIELD, default=-1)
    leader_epoch: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForLeaderTopic:
    """One of ``OffsetForLeaderEpochRequest.topics``."""

    topic: str = wire(STRING)
    partitions: tuple[OffsetForLeaderPartition, ...] = wire(array(OffsetForLeaderPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForLeaderEpochRequest:
    """OffsetForLeaderEpoch request, versions 2 to 4."""

    replica_id: int = wire(INT32_FIELD, since=3, default=-2)
    topics: tuple[OffsetForLeaderTopic, ...] = wire(array(OffsetForLeaderTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEndOffset:
    """One of ``OffsetForLeaderTopicResult.partitions``."""

    error_code: int = wire(INT16_FIELD)
    partition: int = wire(INT32_FIELD)
    leader_epoch: int = wire(INT32_FIELD, default=-1)
    end_offset: int = wire(INT64_FIELD, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForLeaderTopicResult:
    """One of ``OffsetForLeaderEpochResponse.topics``."""

    topic: str = wire(STRING)
    partitions: tuple[EpochEndOffset, ...] = wire(array(EpochEndOffset))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForLeaderEpochResponse:
    """OffsetForLeaderEpoch response, versions 2 to 4."""

    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[OffsetForLeaderTopicResult, ...] = wire(array(OffsetForLeaderTopicResult))


LIST_OFFSETS = ApiLayout(
    key=2,
    name="ListOffsets",
    min_version=1,
    max_version=10,
    flexible_from=6,
    request=ListOffsetsRequest,
    response=ListOffsetsResponse,
)

OFFSET_COMMIT = ApiLayout(
    key=8,
    name="OffsetCommit",
    min_version=2,
    max_version=9,
    flexible_from=8,
    request=OffsetCommitRequest,
    response=OffsetCommitResponse,
)

OFFSET_FETCH = ApiLayout(
    key=9,
    name="OffsetFetch",
    min_version=1,
    max_version=9,
    flexible_from=6,
    request=OffsetFetchRequest,
    response=OffsetFetchResponse,
)

OFFSET_FOR_LEADER_EPOCH = ApiLayout(
    key=23,
    name="OffsetForLeaderEpoch",
    min_version=2,
    max_version=4,
    flexible_from=4,
    request=OffsetForLeaderEpochRequest,
    response=OffsetForLeaderEpochResponse,
)
