"""Metadata and DescribeTopics of ``glasslog.v1.Broker``.

Answers from the broker's own image of the metadata; refuses to know how the image got here.
"""

from collections.abc import Callable, Mapping

from glasslog.broker.endpoints import GRPC
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
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Peer
from glasslog.common.topic_names import is_internal
from glasslog.metadata.image import MetadataImage, PartitionImage, TopicImage
from glasslog.v1 import broker_pb2 as pb


class MetadataHandlers:
    """``controller_id`` says who leads the quorum."""

    def __init__(
        self,
        metadata: MetadataView,
        *,
        cluster_id: str,
        controller_id: Callable[[], NodeId],
        auto_topics: AutoTopics,
        listener: str = GRPC,
    ) -> None:
        self._metadata = metadata
        self._cluster_id = cluster_id
        self._controller_id = controller_id
        self._auto_topics = auto_topics
        self._listener = listener

    async def metadata(self, message: pb.MetadataRequest, peer: Peer) -> pb.MetadataResponse:
        names = checked_names(message.topics)
        errors: Mapping[str, ErrorCode] = {}
        if message.allow_auto_topic_creation and not message.all_topics:
            errors = await self._auto_topics.create_missing(names)
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

    def _brokers(self, image: MetadataImage) -> list[pb.MetadataResponse.Broker]:
        return [
            pb.MetadataResponse.Broker(
                id=broker.broker_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker, endpoint in reachable_brokers(image, self._listener)
        ]

    async def describe_topics(
        self, message: pb.DescribeTopicsRequest, peer: Peer
    ) -> pb.DescribeTopicsResponse:
        image = self._metadata.image
        names = checked_names(message.topics) or sorted(image.topic_ids)
        return pb.DescribeTopicsResponse(topics=[_description(image, name) for name in names])


def _topic(
    image: MetadataImage, name: str, errors: Mapping[str, ErrorCode], listener: str
) -> pb.MetadataResponse.Topic:
    topic = image.topic(name)
    if topic is None:
        return pb.MetadataResponse.Topic(
            name=name,
            error_code=errors.get(name) or unknown_topic(name),
            internal=is_internal(name),
        )
    return pb.MetadataResponse.Topic(
        name=name,
        topic_id=topic.topic_id,
        internal=is_internal(name),
        partitions=[_partition(image, partition, listener) for partition in topic.partitions],
    )


def _partition(
    image: MetadataImage, partition: PartitionImage, listener: str
) -> pb.MetadataResponse.Partition:
    error = partition_error(image, partition, listener)
    return pb.MetadataResponse.Partition(
        error_code=error,
        partition=partition.partition,
        leader=told_leader(partition, error),
        leader_epoch=partition.leader_epoch,
        replicas=partition.replicas,
        isr=partition.isr,
        offline_replicas=offline_replicas(image, partition),
    )


def _description(image: MetadataImage, name: str) -> pb.DescribeTopicsResponse.Topic:
    topic = image.topic(name)
    if topic is None:
        return pb.DescribeTopicsResponse.Topic(
            name=name, error_code=unknown_topic(name), internal=is_internal(name)
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
            elr=partition.elr,
            adding_replicas=partition.adding_replicas,
            removing_replicas=partition.removing_replicas,
        )
        for partition in topic.partitions
    ]
