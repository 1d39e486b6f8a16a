"""CreatePartitions and ElectLeaders of ``glasslog.v1.Broker``. Refuses to know who decides."""

from glasslog.broker.partition_admin import MorePartitions, PartitionAdmin
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import controller_pb2


class PartitionHandlers:
    """See the module."""

    def __init__(self, admin: PartitionAdmin) -> None:
        self._admin = admin

    async def create_partitions(
        self, message: controller_pb2.CreatePartitionsRequest, peer: Peer
    ) -> controller_pb2.CreatePartitionsResponse:
        outcomes = await self._admin.create(
            [_more(topic) for topic in message.topics],
            timeout_ms=message.timeout_ms,
            validate_only=message.validate_only,
        )
        return controller_pb2.CreatePartitionsResponse(
            topics=[
                controller_pb2.CreatePartitionsResponse.Topic(
                    name=each.name, error_code=each.error, error_message=each.error_message
                )
                for each in outcomes
            ]
        )

    async def elect_leaders(
        self, message: controller_pb2.ElectLeadersRequest, peer: Peer
    ) -> controller_pb2.ElectLeadersResponse:
        named = [TopicPartition(each.topic, each.partition) for each in message.partitions]
        outcomes = await self._admin.elect(
            message.election_type, None if message.all else named, timeout_ms=message.timeout_ms
        )
        return controller_pb2.ElectLeadersResponse(
            partitions=[
                controller_pb2.ElectLeadersResponse.Partition(
                    topic=each.partition.topic,
                    partition=each.partition.partition,
                    error_code=each.error,
                    error_message=each.error_message,
                )
                for each in outcomes
            ]
        )


def _more(topic: controller_pb2.CreatePartitionsRequest.Topic) -> MorePartitions:
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=tuple(
            tuple(NodeId(broker_id) for broker_id in each.broker_ids) for each in topic.assignments
        ),
    )
