"""Moves of partitions: AlterPartitionReassignments, ListPartitionReassignments.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassignablePartition:
    """One of ``ReassignableTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    replicas: tuple[int, ...] | None = wire(array(INT32_FIELD), null_since=0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassignableTopic:
    """One of ``AlterPartitionReassignmentsRequest.topics``."""

    name: str = wire(STRING)
    partitions: tuple[ReassignablePartition, ...] = wire(array(ReassignablePartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionReassignmentsRequest:
    """AlterPartitionReassignments request, versions 0 to 1."""

    timeout_ms: int = wire(INT32_FIELD, default=60000)
    allow_replication_factor_change: bool = wire(BOOLEAN, since=1, default=True)
    topics: tuple[ReassignableTopic, ...] = wire(array(ReassignableTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassignablePartitionResponse:
    """One of ``ReassignableTopicResponse.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassignableTopicResponse:
    """One of ``AlterPartitionReassignmentsResponse.responses``."""

    name: str = wire(STRING)
    partitions: tuple[ReassignablePartitionResponse, ...] = wire(array(ReassignablePartitionResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionReassignmentsResponse:
    """AlterPartitionReassignments response, versions 0 to 1."""

    throttle_time_ms: int = wire(INT32_FIELD)
    allow_replication_factor_change: bool = wire(BOOLEAN, since=1, default=True)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)
    responses: tuple[ReassignableTopicResponse, ...] = wire(array(ReassignableTopicResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartitionReassignmentsTopics:
    """One of ``ListPartitionReassignmentsRequest.topics``."""

    name: str = wire(STRING)
    partition_indexes: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartitionReassignmentsRequest:
    """ListPartitionReassignments request, version 0."""

    timeout_ms: int = wire(INT32_FIELD, default=60000)
    topics: tuple[ListPartitionReassignmentsTopics, ...] | None = wire(
        array(ListPartitionReassignmentsTopics), null_since=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OngoingPartitionReassignment:
    """One of ``OngoingTopicReassignment.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    replicas: tuple[int, ...] = wire(array(INT32_FIELD))
    adding_replicas: tuple[int, ...] = wire(array(INT32_FIELD))
    removing_replicas: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class OngoingTopicReassignment:
    """One of ``ListPartitionReassignmentsResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OngoingPartitionReassignment, ...] = wire(array(OngoingPartitionReassignment))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartitionReassignmentsResponse:
    """ListPartitionReassignments response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)
    topics: tuple[OngoingTopicReassignment, ...] = wire(array(OngoingTopicReassignment))


ALTER_PARTITION_REASSIGNMENTS = ApiLayout(
    key=45,
    name="AlterPartitionReassignments",
    min_version=0,
    max_version=1,
    flexible_from=0,
    request=AlterPartitionReassignmentsRequest,
    response=AlterPartitionReassignmentsResponse,
)

LIST_PARTITION_REASSIGNMENTS = ApiLayout(
    key=46,
    name="ListPartitionReassignments",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=ListPartitionReassignmentsRequest,
    response=ListPartitionReassignmentsResponse,
)
