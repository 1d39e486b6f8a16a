"""Elections that somebody asks for: of preferred leaders, and unclean ones where nobody leads.

Says for each partition why there is nothing to elect, or who can not be; who may lead is ``elections``'
business.  Source: KIP-183, KIP-460, Kafka's ``ReplicationControlManager.electLeaders``.
"""

from collections.abc import Iterable
from dataclasses import replace

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.controller.admin_requests import (
    ElectionResult,
    ElectionType,
    ElectLeadersRequest,
    ElectLeadersResponse,
)
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import changed, difference, is_online, terms_of
from glasslog.metadata.image import PartitionImage
from glasslog.metadata.records import PartitionChange


def elect_leaders(context: Context, request: ElectLeadersRequest) -> Decision[ElectLeadersResponse]:
    """Each partition independently of the others; of all partitions only those are told that need it."""
    if request.election_type not in tuple(ElectionType):
        return Decision(
            response=ElectLeadersResponse(
                error_code=ErrorCode.INVALID_REQUEST,
                error_message=f"there is no election of type {request.election_type}; allowed: "
                "0 (preferred), 1 (unclean)",
            )
        )
    kind = ElectionType(request.election_type)
    results: list[ElectionResult] = []
    records: list[PartitionChange] = []
    for topic, number in _everywhere(context) if request.partitions is None else _once(request.partitions):
        try:
            records.append(_decide(context, kind, topic, number))
        except GlasslogError as error:
            if request.partitions is None and error.code is ErrorCode.ELECTION_NOT_NEEDED:
                continue
            results.append(
                ElectionResult(topic=topic, partition=number, error_code=error.code, error_message=str(error))
            )
        else:
            results.append(ElectionResult(topic=topic, partition=number))
    return Decision(response=ElectLeadersResponse(partitions=tuple(results)), records=tuple(records))


def _everywhere(context: Context) -> Iterable[tuple[str, int]]:
    for topic in context.image.topics.values():
        for partition in topic.partitions:
            yield topic.name, partition.partition


def _once(partitions: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    return dict.fromkeys(partitions)


def _decide(context: Context, kind: ElectionType, topic: str, number: int) -> PartitionChange:
    partition = context.image.partition(topic, number)
    if partition is None:
        raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {topic}-{number}")
    if kind is ElectionType.PREFERRED:
        return _preferred(context, partition)
    return _unclean(context, partition)


def _preferred(context: Context, partition: PartitionImage) -> PartitionChange:
    name, preferred = f"{partition.topic}-{partition.partition}", partition.replicas[0]
    if partition.leader == preferred:
        raise GlasslogError(
            ErrorCode.ELECTION_NOT_NEEDED, f"{name} is led by its preferred leader, broker {preferred}"
        )
    if preferred not in partition.isr or not is_online(context.image, partition, preferred):
        raise GlasslogError(
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
            f"{name} can not be led by its preferred leader, broker {preferred}: in sync are "
            f"{[*partition.isr]}",
        )
    change = difference(partition, partition._replace(leader=preferred))
    assert change is not None
    return change


def _unclean(context: Context, partition: PartitionImage) -> PartitionChange:
    name, image = f"{partition.topic}-{partition.partition}", context.image
    if partition.has_leader:
        raise GlasslogError(ErrorCode.ELECTION_NOT_NEEDED, f"{name} is led, by broker {partition.leader}")
    change = changed(
        partition,
        isr=partition.isr,
        is_active=lambda member: is_online(image, partition, member),
        terms=replace(terms_of(image, context.settings, partition.topic), unclean=True),
    )
    if change is None or change.leader is None:
        raise GlasslogError(
            ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
            f"{name} can not be led by anybody: none of {[*partition.replicas]} is active",
        )
    return change
