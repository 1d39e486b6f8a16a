"""CreatePartitions of ``glasslog.v1.Broker``. Refuses to know who decides."""

from glasslog.broker.partition_admin import MorePartitions, PartitionAdmin
from glasslog.common.ids import NodeId
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


def _more(topic: controller_pb2.CreatePartitionsRequest.Topic) -> MorePartitions:
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=tuple(
            tuple(NodeId(broker_id) for broker_id in each.broker_ids) for each in topic.assignments
        ),
    )
