"""Changes partitions on behalf of clients, through the active controller.

A call returns when this broker's own metadata shows the result.  Refuses to know which listener a request
came through, and what may be changed: the controller checks all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.metadata_wait import Deadline, await_offset
from glasslog.broker.topic_admin import MAX_TOPICS_PER_REQUEST
from glasslog.broker.wire_errors import error_code_of, raise_for
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Clock
from glasslog.v1 import controller_pb2 as pb

_CREATE = CONTROLLER_SERVICE + "CreatePartitions"
_ELECT = CONTROLLER_SERVICE + "ElectLeaders"
MAX_PARTITIONS_PER_ELECTION = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """``count`` partitions in all; ``assignments``: replicas of the new ones, else the controller chooses."""

    name: str
    count: int
    assignments: tuple[tuple[NodeId, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargedTopic:
    """What became of one topic."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectedLeader:
    """What became of one partition's election."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""


class PartitionAdmin:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def create(
        self, topics: Sequence[MorePartitions], *, timeout_ms: int, validate_only: bool = False
    ) -> tuple[EnlargedTopic, ...]:
        """One outcome for each, in their order. Raises ``GlasslogError`` when nobody could be asked."""
        if len(topics) > MAX_TOPICS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_TOPICS_PER_REQUEST} topics in one request"
            )
        deadline = Deadline(self._clock, timeout_ms)
        request = pb.CreatePartitionsRequest(
            topics=[_to_wire(topic) for topic in topics],
            timeout_ms=deadline.left_ms,
            validate_only=validate_only,
        )
        answer = await self._controllers.call(
            _CREATE, request, pb.CreatePartitionsResponse, timeout_ms=request.timeout_ms
        )
        if not validate_only:
            await await_offset(self._metadata, answer.metadata_offset, deadline)
        return tuple(
            EnlargedTopic(
                name=each.name, error=error_code_of(each.error_code), error_message=each.error_message
            )
            for each in answer.topics
        )

    async def elect(
        self, election_type: int, partitions: Sequence[TopicPartition] | None, *, timeout_ms: int
    ) -> tuple[ElectedLeader, ...]:
        """One outcome for each, or with ``None`` for each that needed an election.

        Raises ``GlasslogError``: INVALID_REQUEST for an unknown type, and when nobody could be asked.
        """
        if len(partitions or ()) > MAX_PARTITIONS_PER_ELECTION:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST,
                f"more than {MAX_PARTITIONS_PER_ELECTION} partitions in one request",
            )
        deadline = Deadline(self._clock, timeout_ms)
        request = pb.ElectLeadersRequest(
            election_type=election_type,
            partitions=[
                pb.ElectLeadersRequest.Partition(topic=each.topic, partition=each.partition)
                for each in partitions or ()
            ],
            all=partitions is None,
            timeout_ms=deadline.left_ms,
        )
        answer = await self._controllers.call(
            _ELECT, request, pb.ElectLeadersResponse, timeout_ms=request.timeout_ms
        )
        raise_for(answer.error_code, answer.error_message)
        await await_offset(self._metadata, answer.metadata_offset, deadline)
        return tuple(
            ElectedLeader(
                partition=TopicPartition(each.topic, each.partition),
                error=error_code_of(each.error_code),
                error_message=each.error_message,
            )
            for each in answer.partitions
        )


def _to_wire(topic: MorePartitions) -> pb.CreatePartitionsRequest.Topic:
    return pb.CreatePartitionsRequest.Topic(
        name=topic.name,
        count=topic.count,
        assignments=[
            pb.CreatePartitionsRequest.Replicas(broker_ids=replicas) for replicas in topic.assignments
        ],
    )
