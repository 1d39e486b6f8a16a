"""Groups as an administrator sees them: DescribeGroups, ListGroups, DeleteGroups, OffsetDelete.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    BYTES,
    INT16_FIELD,
    INT32_FIELD,
    NEWEST,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeGroupsRequest:
    """DescribeGroups request, versions 0 to 6."""

    groups: tuple[str, ...] = wire(array(STRING))
    include_authorized_operations: bool = wire(BOOLEAN, since=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedGroupMember:
    """One of ``DescribedGroup.members``."""

    member_id: str = wire(STRING)
    group_instance_id: str | None = wire(STRING, since=4, null_since=4, default=None)
    client_id: str = wire(STRING)
    client_host: str = wire(STRING)
    member_metadata: bytes = wire(BYTES)
    member_assignment: bytes = wire(BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedGroup:
    """One of ``DescribeGroupsResponse.groups``."""

    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, since=6, null_since=6, default=None)
    group_id: str = wire(STRING)
    group_state: str = wire(STRING)
    protocol_type: str = wire(STRING)
    protocol_data: str = wire(STRING)
    members: tuple[DescribedGroupMember, ...] = wire(array(DescribedGroupMember))
    authorized_operations: int = wire(INT32_FIELD, since=3, default=-2147483648)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeGroupsResponse:
    """DescribeGroups response, versions 0 to 6."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    groups: tuple[DescribedGroup, ...] = wire(array(DescribedGroup))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListGroupsRequest:
    """ListGroups request, versions 0 to 5."""

    states_filter: tuple[str, ...] = wire(array(STRING), since=4)
    types_filter: tuple[str, ...] = wire(array(STRING), since=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGroup:
    """One of ``ListGroupsResponse.groups``."""

    group_id: str = wire(STRING)
    protocol_type: str = wire(STRING)
    group_state: str = wire(STRING, since=4)
    group_type: str = wire(STRING, since=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListGroupsResponse:
    """ListGroups response, versions 0 to 5."""

    throttle_time_ms: int = wire(INT32_FIELD, since=1)
    error_code: int = wire(INT16_FIELD)
    groups: tuple[ListedGroup, ...] = wire(array(ListedGroup))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroupsRequest:
    """DeleteGroups request, versions 0 to 2."""

    groups_names: tuple[str, ...] = wire(array(STRING))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletableGroupResult:
    """One of ``DeleteGroupsResponse.results``."""

    group_id: str = wire(STRING)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroupsResponse:
    """DeleteGroups response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    results: tuple[DeletableGroupResult, ...] = wire(array(DeletableGroupResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteRequestPartition:
    """One of ``OffsetDeleteRequestTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteRequestTopic:
    """One of ``OffsetDeleteRequest.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetDeleteRequestPartition, ...] = wire(array(OffsetDeleteRequestPartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteRequest:
    """OffsetDelete request, version 0."""

    group_id: str = wire(STRING)
    topics: tuple[OffsetDeleteRequestTopic, ...] = wire(array(OffsetDeleteRequestTopic))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteResponsePartition:
    """One of ``OffsetDeleteResponseTopic.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteResponseTopic:
    """One of ``OffsetDeleteResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[OffsetDeleteResponsePartition, ...] = wire(array(OffsetDeleteResponsePartition))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetDeleteResponse:
    """OffsetDelete response, version 0."""

    error_code: int = wire(INT16_FIELD)
    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[OffsetDeleteResponseTopic, ...] = wire(array(OffsetDeleteResponseTopic))


DESCRIBE_GROUPS = ApiLayout(
    key=15,
    name="DescribeGroups",
    min_version=0,
    max_version=6,
    flexible_from=5,
    request=DescribeGroupsRequest,
    response=DescribeGroupsResponse,
)

LIST_GROUPS = ApiLayout(
    key=16,
    name="ListGroups",
    min_version=0,
    max_version=5,
    flexible_from=3,
    request=ListGroupsRequest,
    response=ListGroupsResponse,
)

DELETE_GROUPS = ApiLayout(
    key=42,
    name="DeleteGroups",
    min_version=0,
    max_version=2,
    flexible_from=2,
    request=DeleteGroupsRequest,
    response=DeleteGroupsResponse,
)

OFFSET_DELETE = ApiLayout(
    key=47,
    name="OffsetDelete",
    min_version=0,
    max_version=0,
    flexible_from=NEWEST,
    request=OffsetDeleteRequest,
    response=OffsetDeleteResponse,
)
