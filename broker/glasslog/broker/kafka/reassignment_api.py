"""AlterPartitionReassignments and ListPartitionReassignments of the Kafka listener.

Translates to and from what the controller is asked; refuses to know who decides.
Source: KIP-455, Kafka's ``ControllerApis``.
"""

from collections.abc import Iterable, Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import reassignments as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.reassignments import moving_partitions
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.metadata.image import PartitionImage
from glasslog.v1 import controller_pb2 as pb


class ReassignmentApis:
    """See the module."""

    def __init__(self, changes: ClusterChanges, metadata: MetadataView) -> None:
        self._changes = changes
        self._metadata = metadata

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
            answer = await self._changes.alter_reassignments(_asked(request))
        except GlasslogError as error:
            return wire.AlterPartitionReassignmentsResponse(
                allow_replication_factor_change=allowed, error_code=error.code, error_message=str(error)
            )
        return wire.AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=allowed, responses=_responses(answer.partitions)
        )

    def list(
        self, request: wire.ListPartitionReassignmentsRequest, caller: Caller
    ) -> wire.ListPartitionReassignmentsResponse:
        named = None
        if request.topics is not None:
            named = [
                TopicPartition(topic.name, number)
                for topic in request.topics
                for number in topic.partition_indexes
            ]
        try:
            found = moving_partitions(self._metadata.image, named)
        except GlasslogError as error:
            return wire.ListPartitionReassignmentsResponse(error_code=error.code, error_message=str(error))
        return wire.ListPartitionReassignmentsResponse(topics=_ongoing(found))


def _asked(request: wire.AlterPartitionReassignmentsRequest) -> pb.AlterPartitionReassignmentsRequest:
    asked = pb.AlterPartitionReassignmentsRequest(
        timeout_ms=request.timeout_ms,
        keep_replication_factor=not request.allow_replication_factor_change,
    )
    for topic in request.topics:
        for each in topic.partitions:
            asked.partitions.add(
                topic=topic.name,
                partition=each.partition_index,
                replicas=each.replicas,
                cancel=each.replicas is None,
            )
    return asked


def _responses(
    outcomes: Iterable[pb.AlterPartitionReassignmentsResponse.Partition],
) -> tuple[wire.ReassignableTopicResponse, ...]:
    topics: dict[str, list[wire.ReassignablePartitionResponse]] = {}
    for each in outcomes:
        topics.setdefault(each.topic, []).append(
            wire.ReassignablePartitionResponse(
                partition_index=each.partition,
                error_code=each.error_code,
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
