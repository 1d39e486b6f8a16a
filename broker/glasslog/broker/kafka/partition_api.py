"""CreatePartitions and ElectLeaders of the Kafka listener.

Translates to and from the values of partitions' administration; refuses to know who decides.
Source: Kafka's ``ControllerApis.createPartitions`` and ``electLeaders``.
"""

from collections.abc import Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import partitions as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.broker.partition_admin import ElectedLeader, EnlargedTopic, MorePartitions, PartitionAdmin
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId, TopicPartition


class PartitionApis:
    """See the module."""

    def __init__(self, admin: PartitionAdmin) -> None:
        self._admin = admin

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.CREATE_PARTITIONS, self.create),
            in_a_task(wire.ELECT_LEADERS, self.elect),
        )

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

    async def elect(self, request: wire.ElectLeadersRequest, caller: Caller) -> wire.ElectLeadersResponse:
        named = None
        if request.topic_partitions is not None:
            named = [
                TopicPartition(each.topic, number)
                for each in request.topic_partitions
                for number in each.partitions
            ]
        try:
            outcomes = await self._admin.elect(request.election_type, named, timeout_ms=request.timeout_ms)
        except GlasslogError as error:
            # Version 0 has no place for what is wrong with the whole: each partition says it.
            outcomes = tuple(
                ElectedLeader(partition=each, error=error.code, error_message=str(error))
                for each in dict.fromkeys(named or ())
            )
            return wire.ElectLeadersResponse(
                error_code=error.code, replica_election_results=_by_topic(outcomes)
            )
        return wire.ElectLeadersResponse(replica_election_results=_by_topic(outcomes))


def _by_topic(outcomes: Sequence[ElectedLeader]) -> tuple[wire.ReplicaElectionResult, ...]:
    found: dict[str, list[wire.ElectLeadersPartitionResult]] = {}
    for each in outcomes:
        found.setdefault(each.partition.topic, []).append(
            wire.ElectLeadersPartitionResult(
                partition_id=each.partition.partition,
                error_code=each.error,
                error_message=each.error_message or None,
            )
        )
    return tuple(
        wire.ReplicaElectionResult(topic=topic, partition_result=tuple(results))
        for topic, results in found.items()
    )


def _more(topic: wire.CreatePartitionsTopic) -> MorePartitions:
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=tuple(
            tuple(NodeId(broker_id) for broker_id in each.broker_ids) for each in topic.assignments or ()
        ),
    )
