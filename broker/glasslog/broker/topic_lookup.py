"""What clients are told of topics and brokers, whichever listener they asked through.

Answers from the broker's own image of the metadata; creates topics that clients name where that is allowed.
Refuses to know wires, and how the image got here.
"""

from collections.abc import Iterable, Mapping, Sequence

from glasslog.broker.cluster_changes import BY_DEFAULT, ClusterChanges, Topic, check_count
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.topic_names import is_internal, name_problem
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage
from glasslog.metadata.records import Endpoint


class AutoTopics:
    """Creates topics because somebody names them, if ``enabled``."""

    def __init__(self, metadata: MetadataView, changes: ClusterChanges, *, enabled: bool) -> None:
        self._metadata = metadata
        self._changes = changes
        self.enabled = enabled

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that would be created."""
        image = self._metadata.image
        return [
            name
            for name in names
            if name not in image.topic_ids and not name_problem(name) and not is_internal(name)
        ]

    async def create_missing(self, names: Iterable[str]) -> Mapping[str, ErrorCode]:
        """Why names that are still missing afterwards could not be created."""
        missing = self.missing(names) if self.enabled else []
        if not missing:
            return {}
        refusals = await self._changes.create_automatically(
            [Topic(name=name, partitions=BY_DEFAULT, replication_factor=BY_DEFAULT) for name in missing]
        )
        return {name: _why_missing(refusals[name][0] if name in refusals else None) for name in missing}


def _why_missing(refusal: ErrorCode | None) -> ErrorCode:
    """Created but not seen yet, or no controller now: the client shall ask again (as Kafka says it)."""
    if refusal is None or refusal.retriable:
        return ErrorCode.LEADER_NOT_AVAILABLE
    return refusal


def checked_names(names: Iterable[str]) -> list[str]:
    """The names without repetitions, in their order; raises INVALID_REQUEST for too many."""
    unique = list(dict.fromkeys(names))
    check_count(len(unique), "topics")
    return unique


def unknown_topic(name: str) -> ErrorCode:
    """What is wrong with the name of a topic that does not exist."""
    if name_problem(name):
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def reachable_brokers(image: MetadataImage, listener: str) -> Sequence[tuple[BrokerImage, Endpoint]]:
    """Those that clients of ``listener`` can talk to: unfenced, with a listener of this kind; by id."""
    found = []
    for broker in sorted(image.brokers.values(), key=lambda broker: broker.broker_id):
        endpoint = broker.endpoint(listener)
        if endpoint is not None and not broker.fenced:
            found.append((broker, endpoint))
    return found


def partition_error(image: MetadataImage, partition: PartitionImage, listener: str) -> ErrorCode:
    """Whether clients of ``listener`` can reach the partition's leader."""
    leader = image.brokers.get(partition.leader)
    if leader is None or leader.fenced:
        return ErrorCode.LEADER_NOT_AVAILABLE
    if leader.endpoint(listener) is None:
        return ErrorCode.LISTENER_NOT_FOUND
    return ErrorCode.NONE


def told_leader(partition: PartitionImage, error: ErrorCode) -> NodeId:
    """The leader that clients are told, given the partition's error."""
    return NO_NODE if error is ErrorCode.LEADER_NOT_AVAILABLE else partition.leader


def offline_replicas(image: MetadataImage, partition: PartitionImage) -> list[NodeId]:
    """Replicas on brokers that are gone or fenced."""
    return [node for node in partition.replicas if not _is_alive(image.brokers.get(node))]


def _is_alive(broker: BrokerImage | None) -> bool:
    return broker is not None and not broker.fenced
