"""Finding the cluster: Metadata, FindCoordinator, DescribeCluster, DescribeTopicPartitions.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT8_FIELD,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    UUID,
    ApiLayout,
    Encoded,
    array,
    record,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRequestTopic:
    """One of ``MetadataRequest.topics``."""

    topic_id: bytes = wire(UUID, since=10)
    name: str | None = wire(STRING, null_since=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRequest:
    """Metadata request, versions 0 to 13."""

    topics: tuple[MetadataRequestTopic, ...] | None = wire(array(MetadataRequestTopic), null_since=1)
    allow_auto_topic_creation: bool = wire(BOOLEAN, since=4, default=True)
    include_cluster_authorized_operations: bool = wire(BOOLEAN, since=8, until=10)
    include_topic_authorized_operations: bool = wire(BOOLEAN, since=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataResponseBroker:
    """One of ``MetadataResponse.brokers``."""

    node_id: int = wire(INT32_FIELD)
    host: str = wire(STRING)
    port: int = wire(INT32_FIELD)
    rack: str | None = wire(STRING, since=1, null_since=1, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataResponsePartition:
    """One of ``MetadataResponseTopic.partitions``."""

    error_code: int = wire(INT16_FIELD)
    partition_index: int = wire(INT32_FIELD)
    leader_id: int = wire(INT32_FIELD)
    leader_epoch: int = wire(INT32_FIELD, since=7, default=-1)
    replica_nodes: tuple[int, ...] = wire(array(INT32_FIELD))
    isr_nodes: tuple[int, ...] = wire(array(INT32_FIELD))
    offline_replicas: tuple[int, ...] = wire(array(INT32_FIELD), since=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataResponseTopic:
    """One of ``MetadataResponse.topics``."""

    error_code: int = wire(INT16_FIELD)
    name: str | None = wire(STRING, null_since=12)
    topic_id: bytes = wire(UUID, since=10)
    is_internal: bool = wire(BOOLEAN, since=1)
    partitions: tuple[MetadataResponsePartition, ...] = wire(array(MetadataResponsePartition))
    topic_authorized_operations: int = wire(INT32_FIELD, since=8, default=-2147483648)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataResponse:
    """Metadata response, versions 0 to 13."""

    throttle_time_ms: int = wire(INT32_FIELD, since=3)
    brokers: tuple[MetadataResponseBroker, ...] = wire(array(MetadataResponseBroker))
    cluster_id: str | None = wire(STRING, since=2, null_since=2, default=None)
    controller_id: int = wire(INT32_FIELD, since=1, default=-1)
    topics: tuple[MetadataResponseTopic | Encoded, ...] = wire(array(MetadataResponseTopic))
    cluster_authorized_operations: int = wire(INT32_FIELD, since=8, until=10, default=-2147483648)
    error_code: int = wire(INT16_FIELD, since=13)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindCoordinatorRequest:
    """FindCoordinator request, versions 0 to 6."""

    key: str = wire(STRING, until=3)
    key_type: int = wire(INT8_FIELD, since=1)
    coordinator_keys: tuple[str, ...] = wire(array(STRING), since=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """One of ``FindCoordinatorResponse.coordinators``."""

    key: str = wire(STRING)
    node_id: int = wire(INT32_FIELD)
    host: str = wire(STRING)
    port: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindCoordinatorResponse:
    """FindCoordinator response, versions 0 to 6."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    error_code: int = wire(INT16_FIELD, until=3)
    error_message: str | None = wire(STRING, since=1, until=3, null_since=1)
    node_id: int = wire(INT32_FIELD, until=3)
    host: str = wire(STRING, until=3)
    port: int = wire(INT32_FIELD, until=3)
    coordinators: tuple[Coordinator, ...] = wire(array(Coordinator), since=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeClusterRequest:
    """DescribeCluster request, versions 0 to 2."""

    include_cluster_authorized_operations: bool = wire(BOOLEAN)
    endpoint_type: int = wire(INT8_FIELD, since=1, default=1)
    include_fenced_brokers: bool = wire(BOOLEAN, since=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeClusterBroker:
    """One of ``DescribeClusterResponse.brokers``."""

    broker_id: int = wire(INT32_FIELD)
    host: str = wire(STRING)
    port: int = wire(INT32_FIELD)
    rack: str | None = wire(STRING, null_since=0, default=None)
    is_fenced: bool = wire(BOOLEAN, since=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeClusterResponse:
    """DescribeCluster response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)
    endpoint_type: int = wire(INT8_FIELD, since=1, default=1)
    cluster_id: str = wire(STRING)
    controller_id: int = wire(INT32_FIELD, default=-1)
    brokers: tuple[DescribeClusterBroker, ...] = wire(array(DescribeClusterBroker))
    cluster_authorized_operations: int = wire(INT32_FIELD, default=-2147483648)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRequest:
    """One of ``DescribeTopicPartitionsRequest.topics``."""

    name: str = wire(STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """``DescribeTopicPartitionsRequest.cursor``."""

    topic_name: str = wire(STRING)
    partition_index: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTopicPartitionsRequest:
    """DescribeTopicPartitions request, version 0."""

    topics: tuple[TopicRequest, ...] = wire(array(TopicRequest))
    response_partition_limit: int = wire(INT32_FIELD, default=2000)
    cursor: Cursor | None = wire(record(Cursor), null_since=0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTopicPartitionsResponsePartition:
    """One of ``DescribeTopicPartitionsResponseTopic.partitions``."""

    error_code: int = wire(INT16_FIELD)
    partition_index: int = wire(INT32_FIELD)
    leader_id: int = wire(INT32_FIELD)
    leader_epoch: int = wire(INT32_FIELD, default=-1)
    replica_nodes: tuple[int, ...] = wire(array(INT32_FIELD))
    isr_nodes: tuple[int, ...] = wire(array(INT32_FIELD))
    eligible_leader_replicas: tuple[int, ...] | None = wire(array(INT32_FIELD), null_since=0, default=None)
    last_known_elr: tuple[int, ...] | None = wire(array(INT32_FIELD), null_since=0, default=None)
    offline_replicas: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTopicPartitionsResponseTopic:
    """One of ``DescribeTopicPartitionsResponse.topics``."""

    error_code: int = wire(INT16_FIELD)
    name: str | None = wire(STRING, null_since=0)
    topic_id: bytes = wire(UUID)
    is_internal: bool = wire(BOOLEAN)
    partitions: tuple[DescribeTopicPartitionsResponsePartition, ...] = wire(
        array(DescribeTopicPartitionsResponsePartition)
    )
    topic_authorized_operations: int = wire(INT32_FIELD, default=-2147483648)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTopicPartitionsResponse:
    """DescribeTopicPartitions response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[DescribeTopicPartitionsResponseTopic, ...] = wire(
        array(DescribeTopicPartitionsResponseTopic)
    )
    next_cursor: Cursor | None = wire(record(Cursor), null_since=0, default=None)


METADATA = ApiLayout(
    key=3,
    name="Metadata",
    min_version=0,
    max_version=13,
    flexible_from=9,
    request=MetadataRequest,
    response=MetadataResponse,
)

FIND_COORDINATOR = ApiLayout(
    key=10,
    name="FindCoordinator",
    min_version=0,
    max_version=6,
    flexible_from=3,
    request=FindCoordinatorRequest,
    response=FindCoordinatorResponse,
)

DESCRIBE_CLUSTER = ApiLayout(
    key=60,
    name="DescribeCluster",
    min_version=0,
    max_version=2,
    flexible_from=0,
    request=DescribeClusterRequest,
    response=DescribeClusterResponse,
)

DESCRIBE_TOPIC_PARTITIONS = ApiLayout(
    key=75,
    name="DescribeTopicPartitions",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=DescribeTopicPartitionsRequest,
    response=DescribeTopicPartitionsResponse,
)
