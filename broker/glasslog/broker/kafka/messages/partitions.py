"""Changes of partitions: CreatePartitions, ElectLeaders.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT8_FIELD,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


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
    error_message: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsResponse:
    """CreatePartitions response, versions 0 to 3."""

    throttle_time_ms: int = wire(INT32_FIELD)
    results: tuple[CreatePartitionsTopicResult, ...] = wire(array(CreatePartitionsTopicResult))


CREATE_PARTITIONS = ApiLayout(
    key=37,
    name="CreatePartitions",
    min_version=0,
    max_version=3,
    flexible_from=2,
    request=CreatePartitionsRequest,
    response=CreatePartitionsResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersTopicPartitions:
    """One of ``ElectLeadersRequest.topic_partitions``."""

    topic: str = wire(STRING)
    partitions: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersRequest:
    """ElectLeaders request, versions 0 to 2."""

    election_type: int = wire(INT8_FIELD, since=1)
    topic_partitions: tuple[ElectLeadersTopicPartitions, ...] | None = wire(
        array(ElectLeadersTopicPartitions), null_since=0
    )
    timeout_ms: int = wire(INT32_FIELD, default=60000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersPartitionResult:
    """One of ``ReplicaElectionResult.partition_result``."""

    partition_id: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaElectionResult:
    """One of ``ElectLeadersResponse.replica_election_results``."""

    topic: str = wire(STRING)
    partition_result: tuple[ElectLeadersPartitionResult, ...] = wire(array(ElectLeadersPartitionResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersResponse:
    """ElectLeaders response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD, since=1)
    replica_election_results: tuple[ReplicaElectionResult, ...] = wire(array(ReplicaElectionResult))


ELECT_LEADERS = ApiLayout(
    key=43,
    name="ElectLeaders",
    min_version=0,
    max_version=2,
    flexible_from=2,
    request=ElectLeadersRequest,
    response=ElectLeadersResponse,
)
