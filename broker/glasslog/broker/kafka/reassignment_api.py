"""AlterPartitionReassignments and ListPartitionReassignments of the Kafka listener.

Translates to and from the values of ``reassignments``; refuses to know who decides.
Source: KIP-455, Kafka's ``ControllerApis``.
"""

from collections.abc import Iterable, Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import reassignments as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.reassignments import MAX_PARTITIONS_PER_REQUEST, MoveOutcome, Reassignments
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.metadata.image import PartitionImage


class ReassignmentApis:
    """See the module."""

    def __init__(self, reassignments: Reassignments) -> None:
        self._reassignments = reassignments

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.ALTER_PARTITION_REASSIGNMENTS, self.alter),
            at_once(wire.LIST_PARTITION_REASSIGNMENTS, self.list),
        )

    async def alter(
        self, request: wire.AlterPartitionReassignmentsRequest, caller: Caller
    ) -> wire.AlterPartitionReassignmentsResponse:
        allowed = request.allow_replication_factor_change
        try:
            outcomes = await self._reassignments.alter(
                _targets(request), timeout_ms=request.timeout_ms, keep_replication_factor=not allowed
            )
        except GlasslogError as error:
            return wire.AlterPartitionReassignmentsResponse(
                allow_replication_factor_change=allowed, error_code=error.code, error_message=str(error)
            )
        return wire.AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=allowed, responses=_responses(outcomes)
        )

    def list(
        self, request: wire.ListPartitionReassignmentsRequest, caller: Caller
    ) -> wire.ListPartitionReassignmentsResponse:
        wanted = None
        if request.topics is not None:
            wanted = {
                TopicPartition(topic.name, number): None
                for topic in request.topics
                for number in topic.partition_indexes
            }
            if len(wanted) > MAX_PARTITIONS_PER_REQUEST:
                return wire.ListPartitionReassignmentsResponse(
                    error_code=ErrorCode.INVALID_REQUEST,
                    error_message=f"more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request",
                )
        return wire.ListPartitionReassignmentsResponse(topics=_ongoing(self._reassignments.under_way(wanted)))


def _targets(
    request: wire.AlterPartitionReassignmentsRequest,
) -> dict[TopicPartition, tuple[NodeId, ...] | None]:
    targets: dict[TopicPartition, tuple[NodeId, ...] | None] = {}
    for topic in request.topics:
        for each in topic.partitions:
            name = TopicPartition(topic.name, each.partition_index)
            if name in targets:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{name} is named twice")
            targets[name] = None if each.replicas is None else tuple(map(NodeId, each.replicas))
    return targets


def _responses(outcomes: Iterable[MoveOutcome]) -> tuple[wire.ReassignableTopicResponse, ...]:
    topics: dict[str, list[wire.ReassignablePartitionResponse]] = {}
    for each in outcomes:
        topics.setdefault(each.partition.topic, []).append(
            wire.ReassignablePartitionResponse(
                partition_index=each.partition.partition,
                error_code=each.error,
                error_message=each.error_message or None,
            )
        )
    return tuple(
        wire.ReassignableTopicResponse(name=name, partitions=tuple(partitions))
        for name, partitions in topics.items()
    )


def _ongoing(moving: Iterable[PartitionImage]) -> tuple[wire.OngoingTopicReassignment, ...]:
    topics: dict[str, list[wire.OngoingPartitionReassignment]] = {}
    for each in moving:
        topics.setdefault(each.topic, []).append(
            wire.OngoingPartitionReassignment(
                partition_index=each.partition,
                replicas=each.replicas,
                adding_replicas=each.adding_replicas,
                removing_replicas=each.removing_replicas,
            )
        )
    return tuple(
        wire.OngoingTopicReassignment(name=name, partitions=tuple(partitions))
        for name, partitions in topics.items()
    )
