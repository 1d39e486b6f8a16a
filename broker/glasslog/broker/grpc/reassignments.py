"""AlterPartitionReassignments and ListPartitionReassignments of ``glasslog.v1.Broker``.

Translates to and from the values of ``reassignments``; refuses to know who decides.
"""

from glasslog.broker.reassignments import MAX_PARTITIONS_PER_REQUEST, Reassignments
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2


class ReassignmentHandlers:
    """See the module."""

    def __init__(self, reassignments: Reassignments) -> None:
        self._reassignments = reassignments

    async def alter(
        self, message: controller_pb2.AlterPartitionReassignmentsRequest, peer: Peer
    ) -> controller_pb2.AlterPartitionReassignmentsResponse:
        targets: dict[TopicPartition, tuple[NodeId, ...] | None] = {}
        for item in message.partitions:
            name = TopicPartition(item.topic, item.partition)
            if name in targets:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{name} is named twice")
            targets[name] = None if item.cancel else tuple(map(NodeId, item.replicas))
        outcomes = await self._reassignments.alter(
            targets,
            timeout_ms=message.timeout_ms,
            keep_replication_factor=message.keep_replication_factor,
        )
        return controller_pb2.AlterPartitionReassignmentsResponse(
            partitions=[
                controller_pb2.AlterPartitionReassignmentsResponse.Partition(
                    topic=each.partition.topic,
                    partition=each.partition.partition,
                    error_code=each.error,
                    error_message=each.error_message,
                )
                for each in outcomes
            ]
        )

    async def list(
        self, message: pb.ListPartitionReassignmentsRequest, peer: Peer
    ) -> pb.ListPartitionReassignmentsResponse:
        wanted = {
            TopicPartition(topic.name, number): None
            for topic in message.topics
            for number in topic.partitions
        }
        if len(wanted) > MAX_PARTITIONS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request"
            )
        found = self._reassignments.under_way(wanted if message.topics else None)
        return pb.ListPartitionReassignmentsResponse(
            partitions=[
                pb.ListPartitionReassignmentsResponse.Partition(
                    topic=each.topic,
                    partition=each.partition,
                    replicas=each.replicas,
                    adding_replicas=each.adding_replicas,
                    removing_replicas=each.removing_replicas,
                )
                for each in found
            ]
        )
