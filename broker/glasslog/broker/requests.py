"""What the data-path handlers take and give, whichever listener a request came through.

Plain values: listeners translate protobuf or Kafka's wire into them and back. Record bytes travel as they
are. This module refuses to know transports and storage.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import (
    NO_BROKER_EPOCH,
    NO_LEADER_EPOCH,
    NO_NODE,
    NO_OFFSET,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    TopicPartition,
)
from glasslog.common.runtime.protocols import Buffer

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1
ANY_REPLICA = NodeId(-2)
"""In the place of a replica's id: committed records of whichever replica is asked (Kafka's debug reader)."""


class IsolationLevel(IntEnum):
    """Up to where a consumer may read: the high watermark, or the last stable offset."""

    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1


class ProducePartition(NamedTuple):
    """Record batches for one partition; base offsets are assigned by the leader."""

    partition: TopicPartition
    records: Buffer


class ProduceRequest(NamedTuple):
    """``acks`` is 0, 1 or -1 (all); ``timeout_ms`` bounds the wait for replication."""

    acks: int
    timeout_ms: int
    partitions: tuple[ProducePartition, ...]


class ProducePartitionResult(NamedTuple):
    """One partition's outcome. ``current_leader_*`` help a client that asked the wrong broker (KIP-951)."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    base_offset: Offset = NO_OFFSET
    log_append_time_ms: int = -1
    log_start_offset: Offset = NO_OFFSET
    current_leader_id: NodeId = NO_NODE
    current_leader_epoch: LeaderEpoch = NO_LEADER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A fetch by a client: sees committed records only.

    Of a leader; with a ``rack`` of a follower as well, if it asks one that the leader has named to it
    (KIP-392); with ``any_replica`` of whoever is asked.
    """

    isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    rack: str = ""
    any_replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """A fetch by a replica: sees everything, and what it asks for tells how far it is."""

    replica_id: NodeId
    broker_epoch: BrokerEpoch = NO_BROKER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPartition:
    """``current_leader_epoch`` -1: unchecked; ``last_fetched_epoch`` -1: no divergence check."""

    partition: TopicPartition
    fetch_offset: Offset
    max_bytes: int
    current_leader_epoch: LeaderEpoch = NO_LEADER_EPOCH
    last_fetched_epoch: LeaderEpoch = NO_LEADER_EPOCH
    log_start_offset: Offset = NO_OFFSET


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """Waits up to ``max_wait_ms`` until ``min_bytes`` are there; gives at least one whole batch if any."""

    reader: Consumer | Follower
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partitions: tuple[FetchPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergingEpoch:
    """Where the fetcher's log has to be cut: the largest common epoch and its end offset here (KIP-595)."""

    epoch: LeaderEpoch
    end_offset: Offset


class AbortedRange(NamedTuple):
    """A transaction of ``producer_id`` from ``first_offset`` on was aborted: its marker ends it."""

    producer_id: int
    first_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPartitionResult:
    """One partition's records, or why there are none."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    high_watermark: Offset = NO_OFFSET
    last_stable_offset: Offset = NO_OFFSET
    log_start_offset: Offset = NO_OFFSET
    records: Buffer = b""
    diverging_epoch: DivergingEpoch | None = None
    preferred_read_replica: NodeId = NO_NODE
    current_leader_id: NodeId = NO_NODE
    current_leader_epoch: LeaderEpoch = NO_LEADER_EPOCH
    aborted_transactions: tuple[AbortedRange, ...] = ()
    """Of what ``records`` hold, for a consumer that reads committed records only."""


TO_HIGH_WATERMARK = -1
"""As the offset of a ``DeleteRecordsPartition``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsPartition:
    """Everything below ``offset`` shall go; ``TO_HIGH_WATERMARK``: everything that is committed."""

    partition: TopicPartition
    offset: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecordsResult:
    """``low_watermark``: the lowest log start of all replicas that live, -1 on error."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    low_watermark: Offset = NO_OFFSET


LATEST_TIMESTAMP, EARLIEST_TIMESTAMP = -1, -2
MAX_TIMESTAMP, EARLIEST_LOCAL_TIMESTAMP, LATEST_TIERED_TIMESTAMP = -3, -4, -5
"""The first record with the largest timestamp (KIP-734); of tiered storage (KIP-405), which there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsPartition:
    """``timestamp`` in ms, or one of the negative constants beside this."""

    partition: TopicPartition
    timestamp: int
    current_leader_epoch: LeaderEpoch = NO_LEADER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOffsetsResult:
    """The first offset at or after the timestamp, -1 when there is none."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    timestamp: int = -1
    offset: Offset = NO_OFFSET
    leader_epoch: LeaderEpoch = NO_LEADER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEndAsk:
    """Where did ``leader_epoch`` end in this partition's log (OffsetForLeaderEpoch, KIP-101, KIP-320)?"""

    partition: TopicPartition
    leader_epoch: LeaderEpoch
    current_leader_epoch: LeaderEpoch = NO_LEADER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """The largest epoch up to the one asked for and its end offset; -1 and -1 when there is none."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    leader_epoch: LeaderEpoch = NO_LEADER_EPOCH
    end_offset: Offset = NO_OFFSET
