"""Which broker coordinates a group: the leader of the group's partition of ``__consumer_offsets``.

Creates that topic when it is first needed. Refuses to know what a coordinator does. Source: Kafka's
``GroupCoordinator.partitionFor`` and ``AutoTopicCreationManager``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from glasslog.broker.cluster_changes import ClusterChanges, Topic
from glasslog.broker.group.hashing import partition_of_group
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import OFFSETS_TOPIC, NodeId
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import Endpoint

GROUP_KEY, TRANSACTION_KEY = 0, 1

_OFFSETS_TOPIC_CONFIGS: Mapping[str, str] = {"cleanup.policy": "compact", "compression.type": "producer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """A broker and where clients of one listener reach it."""

    node_id: NodeId
    endpoint: Endpoint


class CoordinatorFinder:
    """``partitions`` and what follows are of ``__consumer_offsets`` when it is created here."""

    def __init__(
        self,
        metadata: MetadataView,
        changes: ClusterChanges,
        *,
        partitions: int,
        replication_factor: int,
        segment_bytes: int,
    ) -> None:
        self._metadata = metadata
        self._changes = changes
        self._partitions = partitions
        self._replication_factor = replication_factor
        self._segment_bytes = segment_bytes

    async def find(self, group_id: str, *, key_type: int = GROUP_KEY, listener: str) -> Coordinator:
        """The coordinator of ``group_id`` for clients of ``listener``.

        ``key_type`` is Kafka's; UNSUPPORTED_VERSION for that of transactions, which have no coordinator here,
        INVALID_REQUEST for any other. Raises ``GlasslogError``:
        COORDINATOR_NOT_AVAILABLE until the partition has a leader that can be reached.
        """
        _check_key_type(key_type)
        image = self._metadata.image
        if image.topic(OFFSETS_TOPIC) is None:
            image = await self._create()
        topic = image.topic(OFFSETS_TOPIC)
        if topic is None:
            raise _not_available(f"{OFFSETS_TOPIC} is being created")
        partition = topic.partitions[partition_of_group(group_id, len(topic.partitions))]
        leader = image.brokers.get(partition.leader)
        endpoint = None if leader is None or leader.fenced else leader.endpoint(listener)
        if endpoint is None:
            raise _not_available(f"{OFFSETS_TOPIC}-{partition.partition} has no leader now")
        return Coordinator(node_id=partition.leader, endpoint=endpoint)

    async def _create(self) -> MetadataImage:
        topic = Topic(
            name=OFFSETS_TOPIC,
            partitions=self._partitions,
            # Refused until enough brokers are there: a consumer that comes early must not leave every group's
            # offsets on one replica for ever (KAFKA-3959).
            replication_factor=self._replication_factor,
            configs={**_OFFSETS_TOPIC_CONFIGS, "segment.bytes": str(self._segment_bytes)},
        )
        refusals = await self._changes.create_automatically([topic])
        if OFFSETS_TOPIC in refusals:
            raise _not_available(f"{OFFSETS_TOPIC} could not be created: {refusals[OFFSETS_TOPIC][1]}")
        return self._metadata.image


def _check_key_type(key_type: int) -> None:
    if key_type == TRANSACTION_KEY:
        raise GlasslogError(ErrorCode.UNSUPPORTED_VERSION, "this version has no transaction coordinators")
    if key_type != GROUP_KEY:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"key_type={key_type}; allowed: 0, 1")


def _not_available(reason: str) -> GlasslogError:
    return GlasslogError(ErrorCode.COORDINATOR_NOT_AVAILABLE, reason)
