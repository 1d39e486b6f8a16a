"""Metadata, DescribeCluster and DescribeTopicPartitions of the Kafka listener.

Each topic's bytes are made once for a version and used again until the topic or a broker changes.
Refuses to know how the image got here and where topics are created.  Brokers forward what only a controller
can do, so that any of them may be called the controller: this one, as long as clients can reach it.
Source: Kafka's ``KafkaApis.handleTopicMetadataRequest`` and ``DescribeTopicPartitionsRequestHandler``.
"""

from collections.abc import Mapping, Sequence

from glasslog.broker.cluster_changes import MAX_ITEMS_PER_REQUEST
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.layout import Encoded, record_codec
from glasslog.broker.kafka.messages import metadata as wire
from glasslog.broker.kafka.operations import (
    CLUSTER_OPERATIONS,
    NO_OPERATIONS,
    TOPIC_OPERATIONS,
)
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.topic_lookup import (
    AutoTopics,
    checked_names,
    offline_replicas,
    partition_error,
    reachable_brokers,
    told_leader,
    unknown_topic,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, ZERO_TOPIC_ID, NodeId, TopicId
from glasslog.common.topic_names import is_internal
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage, PartitionImage, TopicImage

_BROKER_ENDPOINTS, _CONTROLLER_ENDPOINTS = 1, 2
_BY_ID_FROM = 12
"""Older versions have a place for a topic's id and do not know how to look for one."""


class _TopicBytes:
    """Encoded topics by version, whether operations are asked for, and topic id.

    They hold as long as the topic and the brokers are the same in the newest image.
    """

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._image = EMPTY_IMAGE
        self._known: dict[tuple[int, bool], dict[TopicId, tuple[TopicImage, Encoded]]] = {}

    def encoded(
        self, image: MetadataImage, topics: Sequence[TopicImage], version: int, *, with_operations: bool
    ) -> list[Encoded]:
        if image is not self._image:
            self._take(image)
        known = self._known.setdefault((version, with_operations), {})
        found = []
        for topic in topics:
            entry = known.get(topic.topic_id)
            if entry is None or entry[0] is not topic:
                encoded = self._encode(image, topic, version, with_operations=with_operations)
                entry = known[topic.topic_id] = (topic, encoded)
            found.append(entry[1])
        return found

    def _take(self, image: MetadataImage) -> None:
        if image.brokers is not self._image.brokers and image.brokers != self._image.brokers:
            self._known.clear()
        self._image = image
        for known in self._known.values():
            if len(known) > len(image.topics):
                for gone in [topic_id for topic_id in known if topic_id not in image.topics]:
                    del known[gone]

    def _encode(
        self, image: MetadataImage, topic: TopicImage, version: int, *, with_operations: bool
    ) -> Encoded:
        message = wire.MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=is_internal(topic.name),
            partitions=tuple(self._partition(image, each) for each in topic.partitions),
            topic_authorized_operations=TOPIC_OPERATIONS if with_operations else NO_OPERATIONS,
        )
        out = bytearray()
        is_flexible = version >= wire.METADATA.flexible_from
        record_codec(wire.MetadataResponseTopic, version, is_flexible=is_flexible).write(out, message)
        return Encoded(out)

    def _partition(self, image: MetadataImage, partition: PartitionImage) -> wire.MetadataResponsePartition:
        error = partition_error(image, partition, self._listener)
        return wire.MetadataResponsePartition(
            error_code=error,
            partition_index=partition.partition,
            leader_id=told_leader(partition, error),
            leader_epoch=partition.leader_epoch,
            replica_nodes=partition.replicas,
            isr_nodes=partition.isr,
            offline_replicas=tuple(offline_replicas(image, partition)),
        )


class MetadataApis:
    """See the module. ``listener`` is the one whose addresses clients are told."""

    def __init__(
        self,
        metadata: MetadataView,
        auto_topics: AutoTopics,
        *,
        node_id: NodeId,
        cluster_id: str,
        listener: str,
    ) -> None:
        self._metadata = metadata
        self._auto_topics = auto_topics
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._listener = listener
        self._topic_bytes = _TopicBytes(listener)

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.METADATA, self.metadata),
            at_once(wire.DESCRIBE_CLUSTER, self.describe_cluster),
            at_once(wire.DESCRIBE_TOPIC_PARTITIONS, self.describe_topic_partitions),
        )

    # --- Metadata ---

    async def metadata(self, request: wire.MetadataRequest, caller: Caller) -> wire.MetadataResponse:
        asked = request.topics
        if asked is None or (not asked and caller.version == 0):
            image = self._metadata.image
            return self._metadata_answer(request, caller, image, list(image.topics.values()), [])
        if caller.version < _BY_ID_FROM and any(map(_is_by_id, asked)):
            return _refused(asked)
        by_id = [each.topic_id for each in asked if each.topic_id != ZERO_TOPIC_ID]
        if by_id:
            return self._with_ids(request, caller, list(dict.fromkeys(by_id)))
        try:
            names = checked_names(each.name for each in asked if each.name is not None)
        except GlasslogError as error:
            failed = tuple(
                wire.MetadataResponseTopic(
                    error_code=error.code, name=each.name or "", topic_id=each.topic_id
                )
                for each in asked[:MAX_ITEMS_PER_REQUEST]
            )
            return self._metadata_answer(request, caller, self._metadata.image, [], failed)
        errors: Mapping[str, ErrorCode] = {}
        if request.allow_auto_topic_creation:
            errors = await self._auto_topics.create_missing(names)
        return self._named(request, caller, names, errors)

    def _named(
        self,
        request: wire.MetadataRequest,
        caller: Caller,
        names: Sequence[str],
        errors: Mapping[str, ErrorCode],
    ) -> wire.MetadataResponse:
        image = self._metadata.image
        found: dict[TopicId, TopicImage] = {}
        failed = []
        for name in names:
            topic = image.topic(name)
            if topic is None:
                error = errors.get(name) or unknown_topic(name)
                with_operations = request.include_topic_authorized_operations
                failed.append(
                    wire.MetadataResponseTopic(
                        error_code=error,
                        name=name,
                        is_internal=is_internal(name),
                        topic_authorized_operations=TOPIC_OPERATIONS if with_operations else NO_OPERATIONS,
                    )
                )
            else:
                found[topic.topic_id] = topic
        return self._metadata_answer(request, caller, image, list(found.values()), failed)

    def _with_ids(
        self, request: wire.MetadataRequest, caller: Caller, topic_ids: Sequence[bytes]
    ) -> wire.MetadataResponse:
        """As soon as one topic is named by its id the names are not looked at."""
        image = self._metadata.image
        topics = {topic_id: image.topics.get(TopicId(topic_id)) for topic_id in topic_ids}
        failed = [
            wire.MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
            for topic_id, topic in topics.items()
            if topic is None
        ]
        found = [topic for topic in topics.values() if topic is not None]
        return self._metadata_answer(request, caller, image, found, failed)

    def _metadata_answer(
        self,
        request: wire.MetadataRequest,
        caller: Caller,
        image: MetadataImage,
        topics: Sequence[TopicImage],
        failed: Sequence[wire.MetadataResponseTopic],
    ) -> wire.MetadataResponse:
        encoded = self._topic_bytes.encoded(
            image, topics, caller.version, with_operations=request.include_topic_authorized_operations
        )
        with_operations = request.include_cluster_authorized_operations
        return wire.MetadataResponse(
            brokers=tuple(
                wire.MetadataResponseBroker(
                    node_id=broker.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.rack or None,
                )
                for broker, endpoint in reachable_brokers(image, self._listener)
            ),
            cluster_id=self._cluster_id,
            controller_id=self._controller_id(image),
            topics=(*encoded, *failed),
            cluster_authorized_operations=CLUSTER_OPERATIONS if with_operations else NO_OPERATIONS,
        )

    def _controller_id(self, image: MetadataImage) -> NodeId:
        ids = [broker.broker_id for broker, _ in reachable_brokers(image, self._listener)]
        if self._node_id in ids:
            return self._node_id
        return ids[0] if ids else NO_NODE

    # --- DescribeCluster ---

    def describe_cluster(
        self, request: wire.DescribeClusterRequest, caller: Caller
    ) -> wire.DescribeClusterResponse:
        if request.endpoint_type != _BROKER_ENDPOINTS:
            is_known = request.endpoint_type == _CONTROLLER_ENDPOINTS
            return wire.DescribeClusterResponse(
                error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE
                if is_known
                else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
                error_message="this listener is a broker's: ask it for brokers",
            )
        image = self._metadata.image
        with_operations = request.include_cluster_authorized_operations
        return wire.DescribeClusterResponse(
            cluster_id=self._cluster_id,
            controller_id=self._controller_id(image),
            brokers=self._described_brokers(image, with_fenced=request.include_fenced_brokers),
            cluster_authorized_operations=CLUSTER_OPERATIONS if with_operations else NO_OPERATIONS,
        )

    def _described_brokers(
        self, image: MetadataImage, *, with_fenced: bool
    ) -> tuple[wire.DescribeClusterBroker, ...]:
        found = []
        for broker in sorted(image.brokers.values(), key=lambda broker: broker.broker_id):
            endpoint = broker.endpoint(self._listener)
            if endpoint is not None and (with_fenced or not broker.fenced):
                found.append(
                    wire.DescribeClusterBroker(
                        broker_id=broker.broker_id,
                        host=endpoint.host,
                        port=endpoint.port,
                        rack=broker.rack or None,
                        is_fenced=broker.fenced,
                    )
                )
        return tuple(found)

    # --- DescribeTopicPartitions ---

    def describe_topic_partitions(
        self, request: wire.DescribeTopicPartitionsRequest, caller: Caller
    ) -> wire.DescribeTopicPartitionsResponse:
        """Topics in the order of their names, at most as many partitions as asked for; then a cursor."""
        image = self._metadata.image
        cursor = request.cursor
        if cursor is not None and not _is_among(cursor, request):
            return _unplaced(request)
        names = sorted({each.name for each in request.topics} or image.topic_ids)
        first = 0
        if cursor is not None:
            names = [name for name in names if name >= cursor.topic_name]
            if names and names[0] == cursor.topic_name:
                first = max(cursor.partition_index, 0)
        left = min(max(request.response_partition_limit, 1), _MAX_DESCRIBED_PARTITIONS)
        topics: list[wire.DescribeTopicPartitionsResponseTopic] = []
        for name in names:
            topic = image.topic(name)
            if left <= 0:
                return _described(topics, wire.Cursor(topic_name=name, partition_index=0))
            if topic is None:
                topics.append(_undescribed(name))
                continue
            partitions = topic.partitions[first : first + left]
            topics.append(self._described_topic(image, topic, partitions))
            left -= len(partitions)
            if first + len(partitions) < len(topic.partitions):
                next_index = first + len(partitions)
                return _described(topics, wire.Cursor(topic_name=name, partition_index=next_index))
            first = 0
        return _described(topics, None)

    def _described_topic(
        self, image: MetadataImage, topic: TopicImage, partitions: Sequence[PartitionImage]
    ) -> wire.DescribeTopicPartitionsResponseTopic:
        return wire.DescribeTopicPartitionsResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=is_internal(topic.name),
            partitions=tuple(self._described_partition(image, each) for each in partitions),
            topic_authorized_operations=TOPIC_OPERATIONS,
        )

    def _described_partition(
        self, image: MetadataImage, partition: PartitionImage
    ) -> wire.DescribeTopicPartitionsResponsePartition:
        error = partition_error(image, partition, self._listener)
        return wire.DescribeTopicPartitionsResponsePartition(
            error_code=error,
            partition_index=partition.partition,
            leader_id=told_leader(partition, error),
            leader_epoch=partition.leader_epoch,
            replica_nodes=partition.replicas,
            isr_nodes=partition.isr,
            eligible_leader_replicas=partition.elr,
            last_known_elr=() if partition.last_known_leader == NO_NODE else (partition.last_known_leader,),
            offline_replicas=tuple(offline_replicas(image, partition)),
        )


_MAX_DESCRIBED_PARTITIONS = 2000


def _described(
    topics: Sequence[wire.DescribeTopicPartitionsResponseTopic], cursor: wire.Cursor | None
) -> wire.DescribeTopicPartitionsResponse:
    return wire.DescribeTopicPartitionsResponse(topics=tuple(topics), next_cursor=cursor)


def _is_among(cursor: wire.Cursor, request: wire.DescribeTopicPartitionsRequest) -> bool:
    """Whether a cursor is one that an answer to such a request has given."""
    names = {each.name for each in request.topics}
    return cursor.partition_index >= 0 and (not names or cursor.topic_name in names)


def _unplaced(request: wire.DescribeTopicPartitionsRequest) -> wire.DescribeTopicPartitionsResponse:
    refused = (
        wire.DescribeTopicPartitionsResponseTopic(
            error_code=ErrorCode.INVALID_REQUEST, name=each.name, topic_id=ZERO_TOPIC_ID
        )
        for each in request.topics[:_MAX_DESCRIBED_PARTITIONS]
    )
    return wire.DescribeTopicPartitionsResponse(topics=tuple(refused), next_cursor=None)


def _undescribed(name: str) -> wire.DescribeTopicPartitionsResponseTopic:
    return wire.DescribeTopicPartitionsResponseTopic(
        error_code=unknown_topic(name),
        name=name,
        topic_id=ZERO_TOPIC_ID,
        is_internal=is_internal(name),
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _is_by_id(asked: wire.MetadataRequestTopic) -> bool:
    return asked.name is None or asked.topic_id != ZERO_TOPIC_ID


def _refused(asked: Sequence[wire.MetadataRequestTopic]) -> wire.MetadataResponse:
    """As Kafka refuses a request as a whole: each topic says why, and nothing is told of brokers."""
    return wire.MetadataResponse(
        brokers=(),
        controller_id=NO_NODE,
        topics=tuple(
            wire.MetadataResponseTopic(
                error_code=ErrorCode.INVALID_REQUEST, name=each.name or "", topic_id=each.topic_id
            )
            for each in asked[:MAX_ITEMS_PER_REQUEST]
        ),
    )
