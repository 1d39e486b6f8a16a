"""DescribeGroups, ListGroups, DeleteGroups and OffsetDelete of the Kafka listener.

Translates to and from the coordinator's values; refuses to know how groups work.
"""

from collections.abc import Callable, Sequence

from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import GroupDescription
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import groups as wire
from glasslog.broker.kafka.operations import GROUP_OPERATIONS, NO_OPERATIONS
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.metadata.image import MetadataImage

_DEAD = "Dead"
_CLASSIC = "classic"
_UNKNOWN_IS_AN_ERROR_FROM = 6


class GroupApis:
    """See the module. ``image`` gives the newest metadata: offsets are kept for topics that exist."""

    def __init__(self, coordinator: GroupCoordinator, image: Callable[[], MetadataImage]) -> None:
        self._coordinator = coordinator
        self._image = image

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            at_once(wire.DESCRIBE_GROUPS, self.describe),
            at_once(wire.LIST_GROUPS, self.list),
            in_a_task(wire.DELETE_GROUPS, self.delete),
            in_a_task(wire.OFFSET_DELETE, self.delete_offsets),
        )

    def describe(self, request: wire.DescribeGroupsRequest, caller: Caller) -> wire.DescribeGroupsResponse:
        operations = GROUP_OPERATIONS if request.include_authorized_operations else NO_OPERATIONS
        return wire.DescribeGroupsResponse(
            groups=tuple(self._described(group_id, caller, operations) for group_id in request.groups)
        )

    def _described(self, group_id: str, caller: Caller, operations: int) -> wire.DescribedGroup:
        found = self._coordinator.describe(group_id)
        if isinstance(found, ErrorCode):
            return wire.DescribedGroup(group_id=group_id, error_code=found)
        if found.state == _DEAD and caller.version >= _UNKNOWN_IS_AN_ERROR_FROM:
            return wire.DescribedGroup(
                group_id=group_id,
                group_state=_DEAD,
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} not found.",
            )
        return _description(found, operations)

    def list(self, request: wire.ListGroupsRequest, caller: Caller) -> wire.ListGroupsResponse:
        states = {state.lower() for state in request.states_filter}
        types = {each.lower() for each in request.types_filter}
        return wire.ListGroupsResponse(
            groups=tuple(
                wire.ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type,
                    group_state=group.state,
                    group_type=_CLASSIC,
                )
                for group in self._coordinator.groups()
                if (not states or group.state.lower() in states) and (not types or _CLASSIC in types)
            )
        )

    async def delete(self, request: wire.DeleteGroupsRequest, caller: Caller) -> wire.DeleteGroupsResponse:
        results = [
            wire.DeletableGroupResult(
                group_id=group_id, error_code=await self._coordinator.delete_group(group_id)
            )
            for group_id in dict.fromkeys(request.groups_names)
        ]
        return wire.DeleteGroupsResponse(results=tuple(results))

    async def delete_offsets(
        self, request: wire.OffsetDeleteRequest, caller: Caller
    ) -> wire.OffsetDeleteResponse:
        image = self._image()
        partitions = tuple(
            TopicPartition(topic.name, each.partition_index)
            for topic in request.topics
            for each in topic.partitions
            if image.partition(topic.name, each.partition_index) is not None
        )
        outcomes = await self._coordinator.delete_offsets(request.group_id, partitions)
        if isinstance(outcomes, ErrorCode):
            return wire.OffsetDeleteResponse(error_code=outcomes)
        errors = dict(outcomes)
        return wire.OffsetDeleteResponse(
            topics=tuple(
                wire.OffsetDeleteResponseTopic(
                    name=topic.name,
                    partitions=tuple(
                        wire.OffsetDeleteResponsePartition(
                            partition_index=each.partition_index,
                            error_code=errors.get(
                                TopicPartition(topic.name, each.partition_index),
                                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                            ),
                        )
                        for each in topic.partitions
                    ),
                )
                for topic in request.topics
            )
        )


def _description(group: GroupDescription, operations: int) -> wire.DescribedGroup:
    return wire.DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol_name,
        members=tuple(
            wire.DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id or None,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ),
        authorized_operations=operations,
    )
