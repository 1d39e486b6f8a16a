"""The group APIs of ``glasslog.v1.Broker`` on the coordinator's values.

Refuses to know how groups work; checks only what a number of a message must be to become a value.
"""

from glasslog.broker.coordinators import CoordinatorFinder
from glasslog.broker.endpoints import GRPC
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.members import client_host
from glasslog.broker.group.types import (
    CommitRequest,
    CommittedOffset,
    GroupDescription,
    JoinRequest,
    JoinResponse,
    LeavingMember,
    MemberIdentity,
    SyncRequest,
)
from glasslog.broker.grpc.data import check_partitions
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb

MAX_GROUPS_PER_REQUEST = 10_000


class GroupHandlers:
    """See the module."""

    def __init__(
        self, finder: CoordinatorFinder, coordinator: GroupCoordinator, *, listener: str = GRPC
    ) -> None:
        self._finder = finder
        self._coordinator = coordinator
        self._listener = listener

    async def find_coordinator(
        self, message: pb.FindCoordinatorRequest, peer: Peer
    ) -> pb.FindCoordinatorResponse:
        try:
            found = await self._finder.find(message.key, key_type=message.key_type, listener=self._listener)
        except GlasslogError as error:
            return pb.FindCoordinatorResponse(error_code=error.code, error_message=str(error), node_id=-1)
        return pb.FindCoordinatorResponse(
            node_id=found.node_id, host=found.endpoint.host, port=found.endpoint.port
        )

    # --- members ---

    async def join_group(self, message: pb.JoinGroupRequest, peer: Peer) -> pb.JoinGroupResponse:
        request = JoinRequest(
            group_id=message.group_id,
            member_id=message.member_id,
            new_member_id=self._coordinator.new_member_id(message.group_instance_id or message.client_id),
            session_timeout_ms=message.session_timeout_ms,
            # Kafka's oldest clients know one timeout for both.
            rebalance_timeout_ms=message.rebalance_timeout_ms or message.session_timeout_ms,
            protocol_type=message.protocol_type,
            protocols=tuple((protocol.name, protocol.metadata) for protocol in message.protocols),
            group_instance_id=message.group_instance_id,
            client_id=message.client_id,
            client_host=client_host(peer),
        )
        return _joined(await self._coordinator.join(request))

    async def sync_group(self, message: pb.SyncGroupRequest, peer: Peer) -> pb.SyncGroupResponse:
        response = await self._coordinator.sync(
            SyncRequest(
                group_id=message.group_id,
                generation_id=message.generation_id,
                member_id=message.member_id,
                group_instance_id=message.group_instance_id,
                protocol_type=message.protocol_type,
                protocol_name=message.protocol_name,
                assignments=tuple((each.member_id, each.assignment) for each in message.assignments),
            )
        )
        return pb.SyncGroupResponse(
            error_code=response.error,
            protocol_type=response.protocol_type,
            protocol_name=response.protocol_name,
            assignment=response.assignment,
        )

    async def heartbeat(self, message: pb.HeartbeatRequest, peer: Peer) -> pb.HeartbeatResponse:
        error = self._coordinator.heartbeat(_identity(message))
        return pb.HeartbeatResponse(error_code=error)

    async def leave_group(self, message: pb.LeaveGroupRequest, peer: Peer) -> pb.LeaveGroupResponse:
        members = tuple(
            LeavingMember(member_id=each.member_id, group_instance_id=each.group_instance_id)
            for each in message.members
        )
        outcomes = self._coordinator.leave(message.group_id, members)
        if isinstance(outcomes, ErrorCode):
            return pb.LeaveGroupResponse(error_code=outcomes)
        return pb.LeaveGroupResponse(
            members=[
                pb.LeaveGroupResponse.Member(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    error_code=outcome,
                )
                for member, outcome in zip(members, outcomes, strict=True)
            ]
        )

    # --- offsets ---

    async def offset_commit(self, message: pb.OffsetCommitRequest, peer: Peer) -> pb.OffsetCommitResponse:
        check_partitions((each.topic, each.partition) for each in message.partitions)
        outcomes = await self._coordinator.commit(
            CommitRequest(
                identity=_identity(message),
                offsets=tuple((_partition(each), _offset(each)) for each in message.partitions),
            )
        )
        return pb.OffsetCommitResponse(
            partitions=[
                pb.OffsetCommitResponse.Partition(
                    topic=partition.topic, partition=partition.partition, error_code=error
                )
                for partition, error in outcomes
            ]
        )

    async def offset_fetch(self, message: pb.OffsetFetchRequest, peer: Peer) -> pb.OffsetFetchResponse:
        check_partitions((each.topic, each.partition) for each in message.partitions)
        wanted = tuple(_partition(each) for each in message.partitions)
        found = self._coordinator.committed(message.group_id, None if message.all_partitions else wanted)
        if isinstance(found, ErrorCode):
            return pb.OffsetFetchResponse(error_code=found)
        return pb.OffsetFetchResponse(
            partitions=[
                pb.OffsetFetchResponse.Partition(
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=committed.offset,
                    leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                )
                for partition, committed in found
            ]
        )

    # --- looking in ---

    async def list_groups(self, message: pb.ListGroupsRequest, peer: Peer) -> pb.ListGroupsResponse:
        return pb.ListGroupsResponse(
            groups=[
                pb.ListGroupsResponse.Group(
                    group_id=group.group_id, protocol_type=group.protocol_type, state=group.state
                )
                for group in self._coordinator.groups()
            ]
        )

    async def describe_groups(
        self, message: pb.DescribeGroupsRequest, peer: Peer
    ) -> pb.DescribeGroupsResponse:
        if len(message.groups) > MAX_GROUPS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_GROUPS_PER_REQUEST} groups in one request"
            )
        return pb.DescribeGroupsResponse(groups=[self._description(group_id) for group_id in message.groups])

    async def delete_groups(self, message: pb.DeleteGroupsRequest, peer: Peer) -> pb.DeleteGroupsResponse:
        if len(message.groups) > MAX_GROUPS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_GROUPS_PER_REQUEST} groups in one request"
            )
        return pb.DeleteGroupsResponse(
            groups=[
                pb.DeleteGroupsResponse.Group(
                    group_id=group_id, error_code=await self._coordinator.delete_group(group_id)
                )
                for group_id in message.groups
            ]
        )

    def _description(self, group_id: str) -> pb.DescribeGroupsResponse.Group:
        found = self._coordinator.describe(group_id)
        if isinstance(found, ErrorCode):
            return pb.DescribeGroupsResponse.Group(group_id=group_id, error_code=found)
        return _described(found)


def _identity(message: pb.HeartbeatRequest | pb.OffsetCommitRequest) -> MemberIdentity:
    return MemberIdentity(
        group_id=message.group_id,
        generation_id=message.generation_id,
        member_id=message.member_id,
        group_instance_id=message.group_instance_id,
    )


def _partition(
    message: pb.OffsetCommitRequest.Partition | pb.OffsetFetchRequest.Partition,
) -> TopicPartition:
    return TopicPartition(message.topic, message.partition)


def _offset(message: pb.OffsetCommitRequest.Partition) -> CommittedOffset:
    return CommittedOffset(
        offset=Offset(message.offset),
        leader_epoch=LeaderEpoch(message.leader_epoch),
        metadata=message.metadata,
    )


def _joined(response: JoinResponse) -> pb.JoinGroupResponse:
    return pb.JoinGroupResponse(
        error_code=response.error,
        generation_id=response.generation_id,
        protocol_type=response.protocol_type,
        protocol_name=response.protocol_name,
        leader=response.leader,
        member_id=response.member_id,
        members=[
            pb.JoinGroupResponse.Member(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                metadata=member.metadata,
            )
            for member in response.members
        ],
    )


def _described(group: GroupDescription) -> pb.DescribeGroupsResponse.Group:
    return pb.DescribeGroupsResponse.Group(
        group_id=group.group_id,
        state=group.state,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        members=[
            pb.DescribeGroupsResponse.Member(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                metadata=member.metadata,
                assignment=member.assignment,
            )
            for member in group.members
        ],
    )
