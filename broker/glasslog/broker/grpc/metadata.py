"""Metadata, DescribeTopics, CreateTopics and DeleteTopics of ``glasslog.v1.Broker``.

Answers from the broker's own image of the metadata; refuses to know how the image got here.
"""

from collections.abc import Callable, Iterable, Sequence

from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.topic_admin import MAX_TOPICS_PER_REQUEST, NewTopic, TopicAdmin, TopicOutcome
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.runtime.protocols import Peer
from glasslog.common.topic_names import is_internal, name_problem
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage, TopicImage
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2

GRPC_LISTENER = "GRPC"


class MetadataHandlers:
    """``controller_id`` says who leads the quorum; ``auto_create`` whether naming a topic may create it."""

    def __init__(
        self,
        metadata: MetadataView,
        admin: TopicAdmin,
        *,
        cluster_id: str,
        controller_id: Callable[[], NodeId],
        auto_create: bool,
        listener: str = GRPC_LISTENER,
    ) -> None:
        self._metadata = metadata
        self._admin = admin
        self._cluster_id = cluster_id
        self._controller_id = controller_id
        self._auto_create = auto_create
        self._listener = listener

    # --- reading ---

    async def metadata(self, message: pb.MetadataRequest, peer: Peer) -> pb.MetadataResponse:
        names = _checked_names(message.topics)
        errors: dict[str, ErrorCode] = {}
        if message.allow_auto_topic_creation and self._auto_create and not message.all_topics:
            errors = await self._create_missing(names)
        image = self._metadata.image
        if message.all_topics:
            names = sorted(image.topic_ids)
        return pb.MetadataResponse(
            cluster_id=self._cluster_id,
            controller_id=self._controller_id(),
            brokers=self._brokers(image),
            topics=[_topic(image, name, errors, self._listener) for name in names],
            metadata_offset=image.offset,
        )

    async def _create_missing(self, names: Sequence[str]) -> dict[str, ErrorCode]:
        """Why names that are still missing afterwards could not be created."""
        image = self._metadata.image
        missing = [
            NewTopic(name=name)
            for name in names
            if name not in image.topic_ids and not name_problem(name) and not is_internal(name)
        ]
        if not missing:
            return {}
        outcomes = await self._admin.create_automatically(missing)
        return {name: _why_missing(outcome) for name, outcome in outcomes.items()}

    def _brokers(self, image: MetadataImage) -> list[pb.MetadataResponse.Broker]:
        """Those that clients can talk to: unfenced, with a listener of this kind."""
        found = []
        for broker in sorted(image.brokers.values(), key=lambda broker: broker.broker_id):
            endpoint = broker.endpoint(self._listener)
            if endpoint is not None and not broker.fenced:
                found.append(
                    pb.MetadataResponse.Broker(
                        id=broker.broker_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
                    )
                )
        return found

    async def describe_topics(
        self, message: pb.DescribeTopicsRequest, peer: Peer
    ) -> pb.DescribeTopicsResponse:
        image = self._metadata.image
        names = _checked_names(message.topics) or sorted(image.topic_ids)
        return pb.DescribeTopicsResponse(topics=[_description(image, name) for name in names])

    # --- changing ---

    async def create_topics(
        self, message: controller_pb2.CreateTopicsRequest, peer: Peer
    ) -> controller_pb2.CreateTopicsResponse:
        """As the client asked, except that what it creates is never internal."""
        outcomes = await self._admin.create(
            [_new_topic(topic) for topic in message.topics],
            timeout_ms=message.timeout_ms,
            validate_only=message.validate_only,
        )
        return controller_pb2.CreateTopicsResponse(topics=[_created(outcome) for outcome in outcomes])

    async def delete_topics(
        self, message: controller_pb2.DeleteTopicsRequest, peer: Peer
    ) -> controller_pb2.DeleteTopicsResponse:
        outcomes = await self._admin.delete(tuple(message.names), timeout_ms=message.timeout_ms)
        return controller_pb2.DeleteTopicsResponse(
            topics=[
                controller_pb2.DeleteTopicsResponse.Topic(
                    name=outcome.name, error_code=outcome.error, error_message=outcome.error_message
                )
                for outcome in outcomes
            ]
        )


def _checked_names(names: Iterable[str]) -> list[str]:
    """The names without repetitions, in their order; raises INVALID_REQUEST for too many."""
    unique = list(dict.fromkeys(names))
    if len(unique) > MAX_TOPICS_PER_REQUEST:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"more than {MAX_TOPICS_PER_REQUEST} topics in one request"
        )
    return unique


def _why_missing(outcome: TopicOutcome) -> ErrorCode:
    """Created but not seen yet, or no controller now: the client shall ask again (as Kafka says it)."""
    if outcome.error is ErrorCode.NONE or outcome.error.retriable:
        return ErrorCode.LEADER_NOT_AVAILABLE
    return outcome.error


def _topic(
    image: MetadataImage, name: str, errors: dict[str, ErrorCode], listener: str
) -> pb.MetadataResponse.Topic:
    topic = image.topic(name)
    if topic is None:
        return pb.MetadataResponse.Topic(
            name=name,
            error_code=errors.get(name) or _unknown(name),
            internal=is_internal(name),
        )
    return pb.MetadataResponse.Topic(
        name=name,
        topic_id=topic.topic_id,
        internal=is_internal(name),
        partitions=[_partition(image, partition, listener) for partition in topic.partitions],
    )


def _unknown(name: str) -> ErrorCode:
    if name_problem(name):
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _partition(
    image: MetadataImage, partition: PartitionImage, listener: str
) -> pb.MetadataResponse.Partition:
    error = partition_error(image, partition, listener)
    return pb.MetadataResponse.Partition(
        error_code=error,
        partition=partition.partition,
        leader=NO_NODE if error is ErrorCode.LEADER_NOT_AVAILABLE else partition.leader,
        leader_epoch=partition.leader_epoch,
        replicas=partition.replicas,
        isr=partition.isr,
        offline_replicas=[node for node in partition.replicas if not _is_alive(image.brokers.get(node))],
    )


def partition_error(image: MetadataImage, partition: PartitionImage, listener: str) -> ErrorCode:
    """Whether clients of ``listener`` can reach the partition's leader."""
    leader = image.brokers.get(partition.leader)
    if leader is None or leader.fenced:
        return ErrorCode.LEADER_NOT_AVAILABLE
    if leader.endpoint(listener) is None:
        return ErrorCode.LISTENER_NOT_FOUND
    return ErrorCode.NONE


def _is_alive(broker: BrokerImage | None) -> bool:
    return broker is not None and not broker.fenced


def _description(image: MetadataImage, name: str) -> pb.DescribeTopicsResponse.Topic:
    topic = image.topic(name)
    if topic is None:
        return pb.DescribeTopicsResponse.Topic(
            name=name, error_code=_unknown(name), internal=is_internal(name)
        )
    return pb.DescribeTopicsResponse.Topic(
        name=name,
        topic_id=topic.topic_id,
        internal=is_internal(name),
        configs=image.topic_config(name),
        partitions=_partition_descriptions(topic),
    )


def _partition_descriptions(topic: TopicImage) -> list[pb.DescribeTopicsResponse.Partition]:
    return [
        pb.DescribeTopicsResponse.Partition(
            partition=partition.partition,
            leader=partition.leader,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            replicas=partition.replicas,
            isr=partition.isr,
        )
        for partition in topic.partitions
    ]


def _new_topic(topic: controller_pb2.CreateTopicsRequest.Topic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        configs=dict(topic.configs),
        assignments=tuple(
            (assignment.partition, tuple(NodeId(node) for node in assignment.replicas))
            for assignment in topic.assignments
        ),
    )


def _created(outcome: TopicOutcome) -> controller_pb2.CreateTopicsResponse.Topic:
    return controller_pb2.CreateTopicsResponse.Topic(
        name=outcome.name,
        error_code=outcome.error,
        error_message=outcome.error_message,
        topic_id=outcome.topic_id,
        partitions=outcome.partitions,
        replication_factor=outcome.replication_factor,
    )
