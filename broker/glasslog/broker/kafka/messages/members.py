"""Members of groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    BYTES,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGroupRequestProtocol:
    """One of ``JoinGroupRequest.protocols``."""

    name: str = wire(STRING)
    metadata: bytes = wire(BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGroupRequest:
    """JoinGroup request, versions 0 to 9."""

    group_id: str = wire(STRING)
    session_timeout_ms: int = wire(INT32_FIELD)
    rebalance_timeout_ms: int = wire(INT32_FIELD, since=1, default=-1)
    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=5, null_since=5, default=None)
    protocol_type: str = wire(STRING)
    protocols: tuple[JoinGroupRequestProtocol, ...] = wire(array(JoinGroupRequestProtocol))
    reason: str | None = wire(STRING, since=8, null_since=8, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGroupResponseMember:
    """One of ``JoinGroupResponse.members``."""

    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=5, null_since=5, default=None)
    metadata: bytes = wire(BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGroupResponse:
    """JoinGroup response, versions 0 to 9."""

    throttle_time_ms: int = wire(INT32_FIELD, since=2)
    error_code: int = wire(INT16_FIELD)
    generation_id: int = wire(INT32_FIELD, default=-1)
    protocol_type: str | None = wire(STRING, since=7, null_since=7, default=None)
    protocol_name: str | None = wire(STRING, null_since=7)
    leader: str = wire(STRING)
    skip_assignment: bool = wire(BOOLEAN, since=9)
    member_id: str = wire(STRING)
    members: tuple[JoinGroupResponseMember, ...] = wire(array(JoinGroupResponseMember))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncGroupRequestAssignment:
    """One of ``SyncGroupRequest.assignments``."""

    member_id: str = wire(STRING)
    assignment: bytes = wire(BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncGroupRequest:
    """SyncGroup request, versions 0 to 5."""

    group_id: str = wire(STRING)
    generation_id: int = wire(INT32_FIELD)
    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=3, null_since=3, default=None)
    protocol_type: str | None = wire(STRING, since=5, null_since=5, default=None)
    protocol_name: str | None = wire(STRING, since=5, null_since=5, default=None)
    assignments: tuple[SyncGroupRequestAssignment, ...] = wire(array(SyncGroupRequestAssignment))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncGroupResponse:
    """SyncGroup response, versions 0 to 5."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    error_code: int = wire(INT16_FIELD)
    protocol_type: str | None = wire(STRING, since=5, null_since=5, default=None)
    protocol_name: str | None = wire(STRING, since=5, null_since=5, default=None)
    assignment: bytes = wire(BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest:
    """Heartbeat request, versions 0 to 4."""

    group_id: str = wire(STRING)
    generation_id: int = wire(INT32_FIELD)
    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=3, null_since=3, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse:
    """Heartbeat response, versions 0 to 4."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberIdentity:
    """One of ``LeaveGroupRequest.members``."""

    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, null_since=3, default=None)
    reason: str | None = wire(STRING, since=5, null_since=5, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveGroupRequest:
    """LeaveGroup request, versions 0 to 5."""

    group_id: str = wire(STRING)
    member_id: str = wire(STRING, until=2)
    members: tuple[MemberIdentity, ...] = wire(array(MemberIdentity), since=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberResponse:
    """One of ``LeaveGroupResponse.members``."""

    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, null_since=3)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveGroupResponse:
    """LeaveGroup response, versions 0 to 5."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    error_code: int = wire(INT16_FIELD)
    members: tuple[MemberResponse, ...] = wire(array(MemberResponse), since=3)


JOIN_GROUP = ApiLayout(
    key=11,
    name="JoinGroup",
    min_version=0,
    max_version=9,
    flexible_from=6,
    request=JoinGroupRequest,
    response=JoinGroupResponse,
)

SYNC_GROUP = ApiLayout(
    key=14,
    name="SyncGroup",
    min_version=0,
    max_version=5,
    flexible_from=4,
    request=SyncGroupRequest,
    response=SyncGroupResponse,
)

HEARTBEAT = ApiLayout(
    key=12,
    name="Heartbeat",
    min_version=0,
    max_version=4,
    flexible_from=4,
    request=HeartbeatRequest,
    response=HeartbeatResponse,
)

LEAVE_GROUP = ApiLayout(
    key=13,
    name="LeaveGroup",
    min_version=0,
    max_version=5,
    flexible_from=4,
    request=LeaveGroupRequest,
    response=LeaveGroupResponse,
)
