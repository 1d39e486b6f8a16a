"""CreatePartitions of the Kafka listener.

Translates to and from the values of partitions' administration; refuses to know who decides.
Source: Kafka's ``ControllerApis.createPartitions``.
"""

from collections.abc import Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import partitions as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.broker.partition_admin import EnlargedTopic, MorePartitions, PartitionAdmin
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId


class PartitionApis:
    """See the module."""

    def __init__(self, admin: PartitionAdmin) -> None:
        self._admin = admin

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (in_a_task(wire.CREATE_PARTITIONS, self.create),)

    async def create(
        self, request: wire.CreatePartitionsRequest, caller: Caller
    ) -> wire.CreatePartitionsResponse:
        try:
            outcomes = await self._admin.create(
                [_more(topic) for topic in request.topics],
                timeout_ms=request.timeout_ms,
                validate_only=request.validate_only,
            )
        except GlasslogError as error:
            outcomes = tuple(
                EnlargedTopic(name=topic.name, error=error.code, error_message=str(error))
                for topic in request.topics
            )
        return wire.CreatePartitionsResponse(
            results=tuple(
                wire.CreatePartitionsTopicResult(
                    name=each.name, error_code=each.error, error_message=each.error_message or None
                )
                for each in outcomes
            )
        )


def _more(topic: wire.CreatePartitionsTopic) -> MorePartitions:
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=tuple(
            tuple(NodeId(broker_id) for broker_id in each.broker_ids) for each in topic.assignments or ()
        ),
    )
