"""The quorum of controllers: DescribeQuorum, AddRaftVoter, RemoveRaftVoter.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    INT16_FIELD,
    INT32_FIELD,
    INT64_FIELD,
    STRING,
    UINT16_FIELD,
    UUID,
    ApiLayout,
    array,
    wire,
)

_NO_DIRECTORY = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedPartition:
    """One of ``DescribedTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedTopic:
    """One of ``DescribeQuorumRequest.topics``."""

    topic_name: str = wire(STRING)
    partitions: tuple[DescribedPartition, ...] = wire(array(DescribedPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeQuorumRequest:
    """DescribeQuorum request, versions 0 to 2."""

    topics: tuple[DescribedTopic, ...] = wire(array(DescribedTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """One of ``PartitionResponse.current_voters`` and ``observers``. Times in ms since 1970, -1: unknown."""

    replica_id: int = wire(INT32_FIELD)
    replica_directory_id: bytes = wire(UUID, since=2, default=_NO_DIRECTORY)
    log_end_offset: int = wire(INT64_FIELD)
    last_fetch_timestamp: int = wire(INT64_FIELD, since=1, default=-1)
    last_caught_up_timestamp: int = wire(INT64_FIELD, since=1, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionResponse:
    """One of ``TopicResponse.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, since=2, null_since=2, default=None)
    leader_id: int = wire(INT32_FIELD)
    leader_epoch: int = wire(INT32_FIELD)
    high_watermark: int = wire(INT64_FIELD)
    current_voters: tuple[ReplicaState, ...] = wire(array(ReplicaState))
    observers: tuple[ReplicaState, ...] = wire(array(ReplicaState))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicResponse:
    """One of ``DescribeQuorumResponse.topics``."""

    topic_name: str = wire(STRING)
    partitions: tuple[PartitionResponse, ...] = wire(array(PartitionResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterListener:
    """One of ``QuorumNode.listeners`` and ``AddRaftVoterRequest.listeners``."""

    name: str = wire(STRING)
    host: str = wire(STRING)
    port: int = wire(UINT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumNode:
    """One of ``DescribeQuorumResponse.nodes``."""

    node_id: int = wire(INT32_FIELD)
    listeners: tuple[VoterListener, ...] = wire(array(VoterListener))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeQuorumResponse:
    """DescribeQuorum response, versions 0 to 2."""

    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, since=2, null_since=2, default=None)
    topics: tuple[TopicResponse, ...] = wire(array(TopicResponse))
    nodes: tuple[QuorumNode, ...] = wire(array(QuorumNode), since=2, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRaftVoterRequest:
    """AddRaftVoter request, version 0."""

    cluster_id: str | None = wire(STRING, null_since=0)
    timeout_ms: int = wire(INT32_FIELD)
    voter_id: int = wire(INT32_FIELD)
    voter_directory_id: bytes = wire(UUID)
    listeners: tuple[VoterListener, ...] = wire(array(VoterListener))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRaftVoterRequest:
    """RemoveRaftVoter request, version 0."""

    cluster_id: str | None = wire(STRING, null_since=0)
    voter_id: int = wire(INT32_FIELD)
    voter_directory_id: bytes = wire(UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRaftVoterResponse:
    """AddRaftVoter response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRaftVoterResponse:
    """RemoveRaftVoter response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)


DESCRIBE_QUORUM = ApiLayout(
    key=55,
    name="DescribeQuorum",
    min_version=0,
    max_version=2,
    flexible_from=0,
    request=DescribeQuorumRequest,
    response=DescribeQuorumResponse,
)

ADD_RAFT_VOTER = ApiLayout(
    key=80,
    name="AddRaftVoter",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=AddRaftVoterRequest,
    response=AddRaftVoterResponse,
)

REMOVE_RAFT_VOTER = ApiLayout(
    key=81,
    name="RemoveRaftVoter",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=RemoveRaftVoterRequest,
    response=RemoveRaftVoterResponse,
)
