"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup and FindCoordinator of the Kafka listener.

Translates to and from the coordinator's values; refuses to know how groups work.
Source: Kafka's ``KafkaApis.handleJoinGroupRequest`` and its neighbours.
"""

from collections.abc import Sequence

from glasslog.broker.coordinators import CoordinatorFinder
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.members import client_host
from glasslog.broker.group.types import JoinRequest, LeavingMember, MemberIdentity, SyncRequest
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import members as wire
from glasslog.broker.kafka.messages import metadata as finding
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.common.errors import ErrorCode, GlasslogError

_RETURNS_WITH_ITS_ID_FROM = 4
_PROTOCOL_MAY_BE_NULL_FROM = 7
_MEMBERS_FROM = 3
_NAMES_ITS_PROTOCOL_FROM = 5
_KEYS_FROM = 4


class MemberApis:
    """See the module."""

    def __init__(self, finder: CoordinatorFinder, coordinator: GroupCoordinator) -> None:
        self._finder = finder
        self._coordinator = coordinator

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(finding.FIND_COORDINATOR, self.find_coordinator),
            in_a_task(wire.JOIN_GROUP, self.join),
            in_a_task(wire.SYNC_GROUP, self.sync),
            at_once(wire.HEARTBEAT, self.heartbeat),
            at_once(wire.LEAVE_GROUP, self.leave),
        )

    # --- FindCoordinator ---

    async def find_coordinator(
        self, request: finding.FindCoordinatorRequest, caller: Caller
    ) -> finding.FindCoordinatorResponse:
        keys = request.coordinator_keys if caller.version >= _KEYS_FROM else (request.key,)
        # One after the other: the first may have to create the topic that all need.
        found = tuple([await self._find(key, request.key_type, caller.listener) for key in keys])
        if caller.version >= _KEYS_FROM:
            return finding.FindCoordinatorResponse(coordinators=found)
        (only,) = found
        return finding.FindCoordinatorResponse(
            error_code=only.error_code,
            error_message=only.error_message,
            node_id=only.node_id,
            host=only.host,
            port=only.port,
        )

    async def _find(self, key: str, key_type: int, listener: str) -> finding.Coordinator:
        try:
            found = await self._finder.find(key, key_type=key_type, listener=listener)
        except GlasslogError as error:
            return finding.Coordinator(
                key=key, node_id=-1, port=-1, error_code=error.code, error_message=str(error)
            )
        endpoint = found.endpoint
        return finding.Coordinator(key=key, node_id=found.node_id, host=endpoint.host, port=endpoint.port)

    # --- members ---

    async def join(self, request: wire.JoinGroupRequest, caller: Caller) -> wire.JoinGroupResponse:
        instance_id = request.group_instance_id or ""
        answer = await self._coordinator.join(
            JoinRequest(
                group_id=request.group_id,
                member_id=request.member_id,
                new_member_id=self._coordinator.new_member_id(instance_id or caller.client_id),
                session_timeout_ms=request.session_timeout_ms,
                # The oldest version knows one timeout for both.
                rebalance_timeout_ms=request.rebalance_timeout_ms
                if caller.version >= 1
                else request.session_timeout_ms,
                protocol_type=request.protocol_type,
                protocols=tuple((each.name, each.metadata) for each in request.protocols),
                group_instance_id=instance_id,
                client_id=caller.client_id,
                client_host=client_host(caller.peer),
                must_return=caller.version >= _RETURNS_WITH_ITS_ID_FROM,
            )
        )
        nothing = None if caller.version >= _PROTOCOL_MAY_BE_NULL_FROM else ""
        return wire.JoinGroupResponse(
            error_code=answer.error,
            generation_id=answer.generation_id,
            protocol_type=answer.protocol_type or None,
            protocol_name=answer.protocol_name or nothing,
            leader=answer.leader,
            member_id=answer.member_id,
            members=tuple(
                wire.JoinGroupResponseMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id or None,
                    metadata=member.metadata,
                )
                for member in answer.members
            ),
        )

    async def sync(self, request: wire.SyncGroupRequest, caller: Caller) -> wire.SyncGroupResponse:
        is_named = request.protocol_type is not None and request.protocol_name is not None
        if caller.version >= _NAMES_ITS_PROTOCOL_FROM and not is_named:
            return wire.SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        answer = await self._coordinator.sync(
            SyncRequest(
                group_id=request.group_id,
                generation_id=request.generation_id,
                member_id=request.member_id,
                group_instance_id=request.group_instance_id or "",
                protocol_type=request.protocol_type or "",
                protocol_name=request.protocol_name or "",
                assignments=tuple((each.member_id, each.assignment) for each in request.assignments),
            )
        )
        return wire.SyncGroupResponse(
            error_code=answer.error,
            protocol_type=answer.protocol_type or None,
            protocol_name=answer.protocol_name or None,
            assignment=answer.assignment,
        )

    def heartbeat(self, request: wire.HeartbeatRequest, caller: Caller) -> wire.HeartbeatResponse:
        identity = MemberIdentity(
            group_id=request.group_id,
            generation_id=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id or "",
        )
        return wire.HeartbeatResponse(error_code=self._coordinator.heartbeat(identity))

    def leave(self, request: wire.LeaveGroupRequest, caller: Caller) -> wire.LeaveGroupResponse:
        if not request.group_id:
            return wire.LeaveGroupResponse(error_code=ErrorCode.INVALID_GROUP_ID)
        members = tuple(
            LeavingMember(member_id=each.member_id, group_instance_id=each.group_instance_id or "")
            for each in request.members
        )
        if caller.version < _MEMBERS_FROM:
            members = (LeavingMember(member_id=request.member_id),)
        outcomes = self._coordinator.leave(request.group_id, members)
        if isinstance(outcomes, ErrorCode):
            return wire.LeaveGroupResponse(error_code=outcomes)
        if caller.version < _MEMBERS_FROM:
            return wire.LeaveGroupResponse(error_code=outcomes[0])
        return wire.LeaveGroupResponse(
            members=tuple(
                wire.MemberResponse(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id or None,
                    error_code=outcome,
                )
                for member, outcome in zip(members, outcomes, strict=True)
            )
        )
