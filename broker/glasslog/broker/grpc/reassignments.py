"""ListPartitionReassignments of ``glasslog.v1.Broker``. Refuses to know who decides."""

from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.reassignments import moving_partitions
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class ReassignmentHandlers:
    """See the module."""

    def __init__(self, metadata: MetadataView) -> None:
        self._metadata = metadata

    async def list(
        self, message: pb.ListPartitionReassignmentsRequest, peer: Peer
    ) -> pb.ListPartitionReassignmentsResponse:
        named = [
            TopicPartition(topic.name, number) for topic in message.topics for number in topic.partitions
        ]
        found = moving_partitions(self._metadata.image, named if message.topics else None)
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
