"""CreatePartitions and ElectLeaders of the Kafka listener.

Translates to and from what the controller is asked; refuses to know who decides.
Source: Kafka's ``ControllerApis.createPartitions`` and ``electLeaders``.
"""

from collections.abc import Iterable, Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import partitions as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.common.errors import GlasslogError
from glasslog.v1 import controller_pb2 as pb


class PartitionApis:
    """See the module."""

    def __init__(self, changes: ClusterChanges) -> None:
        self._changes = changes

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.CREATE_PARTITIONS, self.create),
            in_a_task(wire.ELECT_LEADERS, self.elect),
        )

    async def create(
        self, request: wire.CreatePartitionsRequest, caller: Caller
    ) -> wire.CreatePartitionsResponse:
        asked = pb.CreatePartitionsRequest(
            topics=[_more(topic) for topic in request.topics],
            timeout_ms=request.timeout_ms,
            validate_only=request.validate_only,
        )
        try:
            answer = await self._changes.create_partitions(asked)
        except GlasslogError as error:
            answer = pb.CreatePartitionsResponse()
            for topic in asked.topics:
                answer.topics.add(name=topic.name, error_code=error.code, error_message=str(error))
        return wire.CreatePartitionsResponse(
            results=tuple(
                wire.CreatePartitionsTopicResult(
                    name=each.name, error_code=each.error_code, error_message=each.error_message or None
                )
                for each in answer.topics
            )
        )

    async def elect(self, request: wire.ElectLeadersRequest, caller: Caller) -> wire.ElectLeadersResponse:
        asked = pb.ElectLeadersRequest(
            election_type=request.election_type,
            all=request.topic_partitions is None,
            timeout_ms=request.timeout_ms,
        )
        for topic in request.topic_partitions or ():
            for number in topic.partitions:
                asked.partitions.add(topic=topic.topic, partition=number)
        try:
            answer = await self._changes.elect_leaders(asked)
        except GlasslogError as error:
            # Version 0 has no place for what is wrong with the whole: each partition says it.
            answer = pb.ElectLeadersResponse(error_code=error.code)
            for name, partition in dict.fromkeys((each.topic, each.partition) for each in asked.partitions):
                answer.partitions.add(
                    topic=name, partition=partition, error_code=error.code, error_message=str(error)
                )
        return wire.ElectLeadersResponse(
            error_code=answer.error_code, replica_election_results=_by_topic(answer.partitions)
        )


def _by_topic(
    outcomes: Iterable[pb.ElectLeadersResponse.Partition],
) -> tuple[wire.ReplicaElectionResult, ...]:
    found: dict[str, list[wire.ElectLeadersPartitionResult]] = {}
    for each in outcomes:
        found.setdefault(each.topic, []).append(
            wire.ElectLeadersPartitionResult(
                partition_id=each.partition,
                error_code=each.error_code,
                error_message=each.error_message or None,
            )
        )
    return tuple(
        wire.ReplicaElectionResult(topic=topic, partition_result=tuple(results))
        for topic, results in found.items()
    )


def _more(topic: wire.CreatePartitionsTopic) -> pb.CreatePartitionsRequest.Topic:
    return pb.CreatePartitionsRequest.Topic(
        name=topic.name,
        count=topic.count,
        assignments=[
            pb.CreatePartitionsRequest.Replicas(broker_ids=each.broker_ids)
            for each in topic.assignments or ()
        ],
    )
