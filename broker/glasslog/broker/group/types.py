"""What the group coordinator is asked and answers, whichever listener a request came through.

Plain values; refuses to know transports and storage. Source: Kafka's JoinGroup, SyncGroup, Heartbeat,
LeaveGroup, OffsetCommit and OffsetFetch requests.
A dynamic member's ``group_instance_id`` is empty (KIP-345).
"""

from dataclasses import dataclass, field

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_LEADER_EPOCH, NO_OFFSET, LeaderEpoch, Offset, TopicPartition

NO_GENERATION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """``new_member_id`` is the id to give a member that comes without one; the caller makes it unique.

    ``must_return``: such a newcomer is told its id and has to come again with it (KIP-394); clients from
    before that do not.
    """

    group_id: str
    member_id: str
    new_member_id: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    group_instance_id: str = ""
    client_id: str = ""
    client_host: str = ""
    must_return: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMember:
    """A member as the group's leader sees it."""

    member_id: str
    group_instance_id: str
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinResponse:
    """``members`` is filled for the group's leader only."""

    error: ErrorCode = ErrorCode.NONE
    generation_id: int = NO_GENERATION
    protocol_type: str = ""
    protocol_name: str = ""
    leader: str = ""
    member_id: str = ""
    members: tuple[JoinedMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """``assignments`` (by member id) comes from the group's leader only."""

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str = ""
    protocol_type: str = ""
    protocol_name: str = ""
    assignments: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResponse:
    """A member's own assignment."""

    error: ErrorCode = ErrorCode.NONE
    protocol_type: str = ""
    protocol_name: str = ""
    assignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberIdentity:
    """Who speaks: checked for every request of a member."""

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingMember:
    """By ``member_id``, or by ``group_instance_id`` alone."""

    member_id: str
    group_instance_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedOffset:
    """``offset`` is the next one to read. ``leader_epoch`` is that of the last record read."""

    offset: Offset
    leader_epoch: LeaderEpoch = NO_LEADER_EPOCH
    metadata: str = ""
    commit_timestamp_ms: int = -1


NOTHING_COMMITTED = CommittedOffset(offset=NO_OFFSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """A ``generation_id`` below zero with an empty member id commits from outside of the group protocol."""

    identity: MemberIdentity
    offsets: tuple[tuple[TopicPartition, CommittedOffset], ...]


CommitResponse = tuple[tuple[TopicPartition, ErrorCode], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDescription:
    """A member as an administrator sees it."""

    member_id: str
    group_instance_id: str
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group as an administrator sees it; ``state`` is Kafka's word, such as ``Stable``."""

    group_id: str
    state: str
    protocol_type: str = ""
    protocol_name: str = ""
    members: tuple[MemberDescription, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """Bounds a coordinator holds its groups to; all times in ms."""

    initial_rebalance_delay_ms: int
    min_session_timeout_ms: int
    max_session_timeout_ms: int
    max_group_size: int
    max_offset_metadata_bytes: int
    offsets_retention_ms: int
    offsets_retention_check_interval_ms: int
