"""Elections of leaders as ``Admin`` asks for them. Refuses to know who may lead."""

from collections.abc import Iterable
from enum import IntEnum

from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.controller_pb2 import ElectLeadersRequest, ElectLeadersResponse


class ElectionType(IntEnum):
    """Which election, with Kafka's numbers (KIP-460).

    ``PREFERRED``: the first of the replicas, if it is in sync; ``UNCLEAN``: where nobody leads anybody who is
    there, whatever records it lacks.
    """

    PREFERRED = 0
    UNCLEAN = 1


def election_request(
    election_type: ElectionType, partitions: Iterable[TopicPartition] | None, *, timeout_ms: int
) -> ElectLeadersRequest:
    """What is asked; ``None``: wherever it is needed."""
    return ElectLeadersRequest(
        election_type=election_type,
        partitions=[
            ElectLeadersRequest.Partition(topic=each.topic, partition=each.partition)
            for each in partitions or ()
        ],
        all=partitions is None,
        timeout_ms=timeout_ms,
    )


def elected(reply: ElectLeadersResponse) -> dict[TopicPartition, GlasslogError | None]:
    """By partition what was against it, ``None`` where the election was held."""
    found: dict[TopicPartition, GlasslogError | None] = {}
    for each in reply.partitions:
        code = error_of(each.error_code)
        error = None if code is ErrorCode.NONE else GlasslogError(code, each.error_message or code.name)
        found[TopicPartition(each.topic, each.partition)] = error
    return found
