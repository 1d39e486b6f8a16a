"""Moves of partitions as values, to and from what brokers are asked.

Refuses to know who is asked, and where partitions should be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.v1.broker_pb2 import ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse
from glasslog.v1.controller_pb2 import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)

PARTITIONS_PER_REQUEST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReassignment:
    """A partition on its way. ``replicas`` are all that hold it now or are to hold it."""

    replicas: tuple[NodeId, ...]
    adding_replicas: tuple[NodeId, ...]
    removing_replicas: tuple[NodeId, ...]

    @property
    def target_replicas(self) -> tuple[NodeId, ...]:
        """Who holds it when the move is over."""
        return tuple(node for node in self.replicas if node not in self.removing_replicas)


Targets = Mapping[TopicPartition, Sequence[int] | None]
"""Where partitions shall be, the preferred leader first; ``None``: no longer be moved."""


def alter_requests(targets: Targets, *, timeout_ms: int) -> Iterable[AlterPartitionReassignmentsRequest]:
    """What to ask, one request after the other."""
    asked = [
        AlterPartitionReassignmentsRequest.Partition(
            topic=name.topic, partition=name.partition, replicas=target or (), cancel=target is None
        )
        for name, target in targets.items()
    ]
    for first in range(0, len(asked), PARTITIONS_PER_REQUEST):
        yield AlterPartitionReassignmentsRequest(
            partitions=asked[first : first + PARTITIONS_PER_REQUEST], timeout_ms=timeout_ms
        )


def refusals(answer: AlterPartitionReassignmentsResponse) -> dict[TopicPartition, GlasslogError]:
    """What was refused, and why."""
    return {
        TopicPartition(item.topic, item.partition): GlasslogError(code, item.error_message or code.name)
        for item in answer.partitions
        if (code := error_of(item.error_code)) is not ErrorCode.NONE
    }


def retry_code(answer: AlterPartitionReassignmentsResponse) -> int:
    """A code that says "later", when nothing of the request has been done."""
    codes = [item.error_code for item in answer.partitions]
    return codes[0] if codes and all(error_of(code).retriable for code in codes) else 0


def list_request(partitions: Iterable[TopicPartition] | None) -> ListPartitionReassignmentsRequest:
    """Which moves to tell of; all for ``None``."""
    topics: dict[str, list[int]] = {}
    for name in partitions or ():
        topics.setdefault(name.topic, []).append(name.partition)
    return ListPartitionReassignmentsRequest(
        topics=[
            ListPartitionReassignmentsRequest.Topic(name=topic, partitions=numbers)
            for topic, numbers in topics.items()
        ]
    )


def listed(answer: ListPartitionReassignmentsResponse) -> dict[TopicPartition, PartitionReassignment]:
    """What is on its way, by partition."""
    return {
        TopicPartition(item.topic, item.partition): PartitionReassignment(
            replicas=tuple(map(NodeId, item.replicas)),
            adding_replicas=tuple(map(NodeId, item.adding_replicas)),
            removing_replicas=tuple(map(NodeId, item.removing_replicas)),
        )
        for item in answer.partitions
    }
