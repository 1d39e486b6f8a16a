"""Data directories: DescribeLogDirs and AlterReplicaLogDirs.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT16_FIELD,
    INT32_FIELD,
    INT64_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribableLogDirTopic:
    """One of ``DescribeLogDirsRequest.topics``."""

    topic: str = wire(STRING)
    partitions: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeLogDirsRequest:
    """DescribeLogDirs request, versions 1 to 4."""

    topics: tuple[DescribableLogDirTopic, ...] | None = wire(array(DescribableLogDirTopic), null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeLogDirsPartition:
    """One of ``DescribeLogDirsTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    partition_size: int = wire(INT64_FIELD)
    offset_lag: int = wire(INT64_FIELD)
    is_future_key: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeLogDirsTopic:
    """One of ``DescribeLogDirsResult.topics``."""

    name: str = wire(STRING)
    partitions: tuple[DescribeLogDirsPartition, ...] = wire(array(DescribeLogDirsPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeLogDirsResult:
    """One of ``DescribeLogDirsResponse.results``."""

    error_code: int = wire(INT16_FIELD)
    log_dir: str = wire(STRING)
    topics: tuple[DescribeLogDirsTopic, ...] = wire(array(DescribeLogDirsTopic))
    total_bytes: int = wire(INT64_FIELD, since=4, default=-1)
    usable_bytes: int = wire(INT64_FIELD, since=4, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeLogDirsResponse:
    """DescribeLogDirs response, versions 1 to 4."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD, since=3)
    results: tuple[DescribeLogDirsResult, ...] = wire(array(DescribeLogDirsResult))


DESCRIBE_LOG_DIRS = ApiLayout(
    key=35,
    name="DescribeLogDirs",
    min_version=1,
    max_version=4,
    flexible_from=2,
    request=DescribeLogDirsRequest,
    response=DescribeLogDirsResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDirTopic:
    """One of ``AlterReplicaLogDir.topics``."""

    name: str = wire(STRING)
    partitions: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDir:
    """One of ``AlterReplicaLogDirsRequest.dirs``."""

    path: str = wire(STRING)
    topics: tuple[AlterReplicaLogDirTopic, ...] = wire(array(AlterReplicaLogDirTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDirsRequest:
    """AlterReplicaLogDirs request, versions 1 to 2."""

    dirs: tuple[AlterReplicaLogDir, ...] = wire(array(AlterReplicaLogDir))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDirPartitionResult:
    """One of ``AlterReplicaLogDirTopicResult.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDirTopicResult:
    """One of ``AlterReplicaLogDirsResponse.results``."""

    topic_name: str = wire(STRING)
    partitions: tuple[AlterReplicaLogDirPartitionResult, ...] = wire(array(AlterReplicaLogDirPartitionResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterReplicaLogDirsResponse:
    """AlterReplicaLogDirs response, versions 1 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    results: tuple[AlterReplicaLogDirTopicResult, ...] = wire(array(AlterReplicaLogDirTopicResult))


ALTER_REPLICA_LOG_DIRS = ApiLayout(
    key=34,
    name="AlterReplicaLogDirs",
    min_version=1,
    max_version=2,
    flexible_from=2,
    request=AlterReplicaLogDirsRequest,
    response=AlterReplicaLogDirsResponse,
)
