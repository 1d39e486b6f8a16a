"""Leaderships return to the brokers that should have them, when enough have gone astray.

Every partition has a preferred leader, the first of its replicas; placement spreads those evenly. After a
failure others lead. From time to time the active controller looks, and gives each broker that lacks more than
the allowed part of its own leaderships those back for which it is in sync. Refuses to know when to look
(``driver``).

Nothing moves while a broker is being shut down in order, since its leaderships are on their way elsewhere,
and nothing of a partition that is being moved. Source: Kafka's ``maybeBalancePartitionLeaders`` and, for the
percentage, its ``checkAndTriggerAutoLeaderRebalance``.
"""

from collections import Counter
from collections.abc import Iterator

from glasslog.common.ids import NodeId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import difference, is_online
from glasslog.controller.requests import RebalanceLeadersRequest, RebalanceLeadersResponse
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import PartitionChange

MAX_ELECTIONS_PER_ROUND = 1_000
"""More are left to the next round, so that other decisions need not wait."""


def rebalance_leaders(
    context: Context, request: RebalanceLeadersRequest
) -> Decision[RebalanceLeadersResponse]:
    """Preferred leaders where that is due. Linear in the number of partitions."""
    image = context.image
    if any(broker.in_controlled_shutdown and not broker.fenced for broker in image.brokers.values()):
        return Decision(response=RebalanceLeadersResponse(elected=0, has_more=False))
    lacking = _lacking(image, context.settings.leader_imbalance_per_broker_percentage)
    records: list[PartitionChange] = []
    for partition in _astray(image):
        preferred = partition.replicas[0]
        if preferred not in lacking or not _may_lead(image, partition, preferred):
            continue
        if len(records) == MAX_ELECTIONS_PER_ROUND:
            return _decision(records, has_more=True)
        change = difference(partition, partition._replace(leader=preferred))
        records += () if change is None else (change,)
    return _decision(records, has_more=False)


def _decision(records: list[PartitionChange], *, has_more: bool) -> Decision[RebalanceLeadersResponse]:
    response = RebalanceLeadersResponse(elected=len(records), has_more=has_more)
    return Decision(response=response, records=tuple(records))


def _lacking(image: MetadataImage, percentage: int) -> frozenset[NodeId]:
    """The brokers that lead too few of what they are preferred for."""
    owned = Counter(each.replicas[0] for topic in image.topics.values() for each in topic.partitions)
    astray = Counter(partition.replicas[0] for partition in _astray(image))
    return frozenset(node for node, count in astray.items() if count * 100 > owned[node] * percentage)


def _astray(image: MetadataImage) -> Iterator[PartitionImage]:
    for topic in image.topics.values():
        for partition in topic.partitions:
            if partition.has_leader and partition.leader != partition.replicas[0]:
                yield partition


def _may_lead(image: MetadataImage, partition: PartitionImage, preferred: NodeId) -> bool:
    return not partition.is_moving and preferred in partition.isr and is_online(image, partition, preferred)
