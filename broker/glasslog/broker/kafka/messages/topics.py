"""Topics and their partitions: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords.

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
    UUID,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatableReplicaAssignment:
    """One of ``CreatableTopic.assignments``."""

    partition_index: int = wire(INT32_FIELD)
    broker_ids: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatableTopicConfig:
    """One of ``CreatableTopic.configs``."""

    name: str = wire(STRING)
    value: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatableTopic:
    """One of ``CreateTopicsRequest.topics``."""

    name: str = wire(STRING)
    num_partitions: int = wire(INT32_FIELD)
    replication_factor: int = wire(INT16_FIELD)
    assignments: tuple[CreatableReplicaAssignment, ...] = wire(array(CreatableReplicaAssignment))
    configs: tuple[CreatableTopicConfig, ...] = wire(array(CreatableTopicConfig))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopicsRequest:
    """CreateTopics request, versions 2 to 7."""

    topics: tuple[CreatableTopic, ...] = wire(array(CreatableTopic))
    timeout_ms: int = wire(INT32_FIELD, default=60000)
    validate_only: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatableTopicConfigs:
    """One of ``CreatableTopicResult.configs``."""

    name: str = wire(STRING)
    value: str | None = wire(STRING, null_since=5)
    read_only: bool = wire(BOOLEAN)
    config_source: int = wire(INT8_FIELD, default=-1)
    is_sensitive: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatableTopicResult:
    """One of ``CreateTopicsResponse.topics``."""

    name: str = wire(STRING)
    topic_id: bytes = wire(UUID, since=7)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    topic_config_error_code: int = wire(INT16_FIELD, since=5, tag=0, tag_since=5)
    num_partitions: int = wire(INT32_FIELD, since=5, default=-1)
    replication_factor: int = wire(INT16_FIELD, since=5, default=-1)
    configs: tuple[CreatableTopicConfigs, ...] | None = wire(
        array(CreatableTopicConfigs), since=5, null_since=5
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopicsResponse:
    """CreateTopics response, versions 2 to 7."""

    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[CreatableTopicResult, ...] = wire(array(CreatableTopicResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopicState:
    """One of ``DeleteTopicsRequest.topics``."""

    name: str | None = wire(STRING, null_since=6, default=None)
    topic_id: bytes = wire(UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopicsRequest:
    """DeleteTopics request, versions 1 to 6."""

    topics: tuple[DeleteTopicState, ...] = wire(array(DeleteTopicState), since=6)
    topic_names: tuple[str, ...] = wire(array(STRING), until=5)
    timeout_ms: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletableTopicResult:
    """One of ``DeleteTopicsResponse.responses``."""

    name: str | None = wire(STRING, null_since=6)
    topic_id: bytes = wire(UUID, since=6)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, since=5, null_since=5, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopicsResponse:
    """DeleteTopics response, versions 1 to 6."""

    throttle_time_ms: int = wire(INT32_FIELD)
    responses: tuple[DeletableTopicResult, ...] = wire(array(DeletableTopicResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsAssignment:
    """One of ``CreatePartitionsTopic.assignments``."""

    broker_ids: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsTopic:
    """One of ``CreatePartitionsRequest.topics``."""

    name: str = wire(STRING)
    count: int = wire(INT32_FIELD)
    assignments: tuple[CreatePartitionsAssignment, ...] | None = wire(
        array(CreatePartitionsAssignment), null_since=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsRequest:
    """CreatePartitions request, versions 0 to 3."""

    topics: tuple[CreatePartitionsTopic, ...] = wire(array(CreatePartitionsTopic))
    timeout_ms: int = wire(INT32_FIELD)
    validate_only: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsTopicResult:
    """One of ``CreatePartitionsResponse.results``."""

    name: str = wire(STRING)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsResponse:
    """CreatePartitions response, versions 0 to 3."""

    throttle_time_ms: int = wire(INT32_FIELD)
    results: tuple[CreatePartitionsTopicResult, ...] = wire(array(CreatePartitionsTopicResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsPartition:
    """One of ``DeleteRecordsTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    offset: int = wire(INT64_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsTopic:
    """One of ``DeleteRecordsRequest.topics``."""

    name: str = wire(STRING)
    partitions: tuple[DeleteRecordsPartition, ...] = wire(array(DeleteRecordsPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsRequest:
    """DeleteRecords request, versions 0 to 2."""

    topics: tuple[DeleteRecordsTopic, ...] = wire(array(DeleteRecordsTopic))
    timeout_ms: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsPartitionResult:
    """One of ``DeleteRecordsTopicResult.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    low_watermark: int = wire(INT64_FIELD)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsTopicResult:
    """One of ``DeleteRecordsResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[DeleteRecordsPartitionResult, ...] = wire(array(DeleteRecordsPartitionResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsResponse:
    """DeleteRecords response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[DeleteRecordsTopicResult, ...] = wire(array(DeleteRecordsTopicResult))


CREATE_TOPICS = ApiLayout(
    key=19,
    name="CreateTopics",
    min_version=2,
    max_version=7,
    flexible_from=5,
    request=CreateTopicsRequest,
    response=CreateTopicsResponse,
)

DELETE_TOPICS = ApiLayout(
    key=20,
    name="DeleteTopics",
    min_version=1,
    max_version=6,
    flexible_from=4,
    request=DeleteTopicsRequest,
    response=DeleteTopicsResponse,
)

CREATE_PARTITIONS = ApiLayout(
    key=37,
    name="CreatePartitions",
    min_version=0,
    max_version=3,
    flexible_from=2,
    request=CreatePartitionsRequest,
    response=CreatePartitionsResponse,
)

DELETE_RECORDS = ApiLayout(
    key=21,
    name="DeleteRecords",
    min_version=0,
    max_version=2,
    flexible_from=2,
    request=DeleteRecordsRequest,
    response=DeleteRecordsResponse,
)
