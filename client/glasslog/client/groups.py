"""Groups as ``Admin`` sees and changes them from outside: members, where they go on, whether to forget them.

Refuses to know membership: a member's own commits are ``membership``'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from glasslog.client.admin_base import AdminBase, raise_for
from glasslog.client.cluster import BrokerView
from glasslog.client.consumer_protocol import decode_assignment
from glasslog.client.coordinator import CoordinatorClient
from glasslog.client.types import OffsetAndMetadata, positions_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.broker_pb2 import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)

_ATTEMPT_MS = 5_000
_HAS_MEMBERS = frozenset(
    {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NON_EMPTY_GROUP, ErrorCode.ILLEGAL_GENERATION}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupListing:
    """A group by name and state."""

    group_id: str
    protocol_type: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member and what it reads; ``group_instance_id`` is empty for a dynamic one."""

    member_id: str
    group_instance_id: str
    client_id: str
    client_host: str
    assignment: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group with its members."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    members: tuple[GroupMember, ...]


class GroupAdmin(AdminBase):
    """What ``Admin`` does with groups."""

    async def list_groups(self) -> list[GroupListing]:
        """The groups of all brokers, by name."""
        found: dict[str, GroupListing] = {}
        cluster = await self.describe_cluster()
        for broker in cluster.brokers:
            found.update(await self._groups_of(broker))
        return [found[name] for name in sorted(found)]

    async def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        """Groups with members; a group that does not exist has state ``Dead``."""
        return [await self._describe_group(group_id) for group_id in group_ids]

    async def group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """The group's committed positions, in these partitions or all."""
        request = OffsetFetchRequest(
            group_id=group_id,
            all_partitions=partitions is None,
            partitions=[
                OffsetFetchRequest.Partition(topic=partition.topic, partition=partition.partition)
                for partition in partitions or ()
            ],
        )
        reply, code = await CoordinatorClient(self._session, group_id).call(
            "OffsetFetch",
            request,
            OffsetFetchResponse,
            lambda answer: answer.error_code,
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        raise_for(code, f"positions of group {group_id!r}", "")
        return {
            TopicPartition(item.topic, item.partition): OffsetAndMetadata(
                item.offset, item.leader_epoch, item.metadata
            )
            for item in reply.partitions
            if item.offset >= 0
        }

    async def _groups_of(self, broker: BrokerView) -> dict[str, GroupListing]:
        response = await self._retry(
            lambda: self._session.connections.unary(
                broker.address, "ListGroups", ListGroupsRequest(), ListGroupsResponse, timeout_ms=_ATTEMPT_MS
            ),
            lambda reply: reply.error_code,
            f"ListGroups of broker {broker.node_id}",
        )
        return {
            group.group_id: GroupListing(
                group_id=group.group_id, protocol_type=group.protocol_type, state=group.state
            )
            for group in response.groups
        }

    async def _describe_group(self, group_id: str) -> GroupDescription:
        reply, code = await CoordinatorClient(self._session, group_id).call(
            "DescribeGroups",
            DescribeGroupsRequest(groups=[group_id]),
            DescribeGroupsResponse,
            lambda answer: answer.groups[0].error_code if answer.groups else 0,
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        if code is ErrorCode.GROUP_ID_NOT_FOUND or not reply.groups:
            return GroupDescription(
                group_id=group_id, state="Dead", protocol_type="", protocol_name="", members=()
            )
        raise_for(code, f"group {group_id!r}", "")
        return _group_of(reply.groups[0])

    async def commit_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]
    ) -> None:
        """Set where a group without members goes on. Raises UNKNOWN_MEMBER_ID while it has members."""
        request = OffsetCommitRequest(
            group_id=group_id,
            generation_id=-1,
            partitions=[
                OffsetCommitRequest.Partition(
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=position.offset,
                    leader_epoch=position.leader_epoch,
                    metadata=position.metadata,
                )
                for partition, position in positions_of(offsets).items()
            ],
        )
        _, code = await CoordinatorClient(self._session, group_id).call(
            "OffsetCommit",
            request,
            OffsetCommitResponse,
            lambda reply: next((each.error_code for each in reply.partitions if each.error_code), 0),
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        _check_change(group_id, code)

    async def delete_groups(self, group_ids: Iterable[str]) -> None:
        """Forget groups and all they committed.

        Raises NON_EMPTY_GROUP while one has members, GROUP_ID_NOT_FOUND; those before it are gone.
        """
        for group_id in group_ids:
            await self._delete_group(group_id)

    async def _delete_group(self, group_id: str) -> None:
        _, code = await CoordinatorClient(self._session, group_id).call(
            "DeleteGroups",
            DeleteGroupsRequest(groups=[group_id]),
            DeleteGroupsResponse,
            lambda reply: next((each.error_code for each in reply.groups if each.error_code), 0),
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        _check_change(group_id, code)


def _group_of(group: DescribeGroupsResponse.Group) -> GroupDescription:
    return GroupDescription(
        group_id=group.group_id,
        state=group.state,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        members=tuple(
            GroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                assignment=decode_assignment(member.assignment),
            )
            for member in group.members
        ),
    )


def _check_change(group_id: str, code: ErrorCode) -> None:
    if code in _HAS_MEMBERS:
        raise GlasslogError(code, f"group {group_id!r} has members: stop them first ({code.name})")
    if code is ErrorCode.GROUP_ID_NOT_FOUND:
        raise GlasslogError(code, f"there is no group {group_id!r}")
    if code is not ErrorCode.NONE:
        raise GlasslogError(code, f"group {group_id!r}: {code.name}")
