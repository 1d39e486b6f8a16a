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
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Clock
from glasslog.v1 import controller_pb2 as pb

_CREATE = CONTROLLER_SERVICE + "CreatePartitions"


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


def _to_wire(topic: MorePartitions) -> pb.CreatePartitionsRequest.Topic:
    return pb.CreatePartitionsRequest.Topic(
        name=topic.name,
        count=topic.count,
        assignments=[
            pb.CreatePartitionsRequest.Replicas(broker_ids=replicas) for replicas in topic.assignments
        ],
    )
