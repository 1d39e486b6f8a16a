"""Moves partitions on behalf of clients, through the active controller, and tells which are being moved.

A call returns when this broker's own metadata shows what it began, so that who asks here next sees it.
Refuses to know which listener a request came through, and what may be moved where: the controller checks
all of it.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Clock
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.v1 import controller_pb2 as pb

_ALTER = CONTROLLER_SERVICE + "AlterPartitionReassignments"
_DEFAULT_TIMEOUT_MS = 30_000
_MAX_WAIT_FOR_METADATA_MS = 5_000
MAX_PARTITIONS_PER_REQUEST = 10_000

Targets = Mapping[TopicPartition, tuple[NodeId, ...] | None]
"""Where partitions shall be, the preferred leader first; ``None``: no longer be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """What became of one partition's request."""

    partition: TopicPartition
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""


class Reassignments:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def alter(
        self, targets: Targets, *, timeout_ms: int, keep_replication_factor: bool = False
    ) -> tuple[MoveOutcome, ...]:
        """One outcome for each partition, in their order.

        Raises ``GlasslogError`` when nobody could be asked, INVALID_REQUEST for too many partitions.
        """
        if len(targets) > MAX_PARTITIONS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request"
            )
        deadline_ms = self._clock.now_ms() + (timeout_ms if timeout_ms > 0 else _DEFAULT_TIMEOUT_MS)
        request = pb.AlterPartitionReassignmentsRequest(
            partitions=[_asked(name, target) for name, target in targets.items()],
            timeout_ms=max(1, deadline_ms - self._clock.now_ms()),
            keep_replication_factor=keep_replication_factor,
        )
        answer = await self._controllers.call(
            _ALTER, request, pb.AlterPartitionReassignmentsResponse, timeout_ms=request.timeout_ms
        )
        outcomes = tuple(_outcome(item) for item in answer.partitions)
        begun = [each.partition for each in outcomes if not each.error]
        await self._until_seen({name: targets[name] for name in begun if name in targets}, deadline_ms)
        return outcomes

    def under_way(self, partitions: Collection[TopicPartition] | None = None) -> Sequence[PartitionImage]:
        """What is being moved, of ``partitions`` or of all, as this broker knows it."""
        image = self._metadata.image
        if partitions is not None:
            named = (image.partition(name.topic, name.partition) for name in partitions)
            return [each for each in named if each is not None and each.is_moving]
        topics = sorted(image.topics.values(), key=lambda topic: topic.name)
        return [each for topic in topics for each in topic.partitions if each.is_moving]

    async def _until_seen(self, targets: Targets, deadline_ms: int) -> None:
        """What was decided is decided: that this broker is slow to see it is no failure of the request."""
        left_ms = min(max(1, deadline_ms - self._clock.now_ms()), _MAX_WAIT_FOR_METADATA_MS)
        try:
            async with asyncio.timeout(left_ms / 1000):
                await self._metadata.wait_for(
                    lambda image: all(_shows(image, name, target) for name, target in targets.items())
                )
        except TimeoutError:
            return


def _shows(image: MetadataImage, name: TopicPartition, target: tuple[NodeId, ...] | None) -> bool:
    placed = image.partition(name.topic, name.partition)
    if placed is None:
        return True
    return not placed.is_moving if target is None else placed.target_replicas == target


def _asked(
    name: TopicPartition, target: tuple[NodeId, ...] | None
) -> pb.AlterPartitionReassignmentsRequest.Partition:
    return pb.AlterPartitionReassignmentsRequest.Partition(
        topic=name.topic, partition=name.partition, replicas=target or (), cancel=target is None
    )


def _outcome(item: pb.AlterPartitionReassignmentsResponse.Partition) -> MoveOutcome:
    return MoveOutcome(
        partition=TopicPartition(item.topic, item.partition),
        error=error_code_of(item.error_code),
        error_message=item.error_message,
    )
