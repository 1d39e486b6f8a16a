"""An image as records, and back: what a snapshot of the metadata holds.

This module knows which records say everything that an image says; it refuses to know how they are stored.  A
field that ``MetadataImage`` gains must be written here too, or a snapshot would forget it: its test compares
whole images.  Source: KIP-630, Kafka's ``MetadataImage.write``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from glasslog.common.ids import NO_BROKER_EPOCH, NO_NODE, Offset
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import EMPTY_IMAGE, BrokerImage, MetadataImage, PartitionImage, TopicImage
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    FeatureLevel,
    MetadataRecord,
    PartitionCreated,
    ProducerIdsAllocated,
    RegisterBroker,
    TopicCreated,
)
from glasslog.metadata.wire import encode_record

BATCH_RECORDS = 500
"""So many records of an image make one batch of its snapshot."""


def image_records(image: MetadataImage) -> Iterator[MetadataRecord]:
    """Records that make ``image`` out of nothing, in an order that may be replayed."""
    for name, level in image.features.items():
        yield FeatureLevel(name=name, level=level)
    for broker in image.brokers.values():
        yield from _broker_records(broker)
    for topic in image.topics.values():
        yield from _topic_records(topic)
    for (kind, name), settings in image.configs.items():
        for key, value in settings.items():
            yield ConfigChange(resource_type=kind, resource_name=name, key=key, value=value)
    for entity, limits in image.quotas.items():
        for key, limit in limits.items():
            yield ClientQuotaChange(entity=entity, key=key, limit=limit)
    if image.next_producer_id:
        yield ProducerIdsAllocated(
            broker_id=NO_NODE, broker_epoch=NO_BROKER_EPOCH, next_producer_id=image.next_producer_id
        )


def encoded_image(image: MetadataImage) -> Iterator[tuple[bytes, ...]]:
    """``image_records`` as a snapshot's batches."""
    records = map(encode_record, image_records(image))
    while batch := tuple(islice(records, BATCH_RECORDS)):
        yield batch


def image_of(records: Iterable[MetadataRecord], *, offset: Offset, epoch: int) -> MetadataImage:
    """The image that a snapshot's ``records`` make; it says everything up to and including ``offset``."""
    delta = MetadataDelta(EMPTY_IMAGE)
    for index, record in enumerate(records):
        delta.replay(Offset(index), epoch, record)
    return replace(delta.apply(), offset=offset, epoch=epoch)


def _broker_records(broker: BrokerImage) -> Iterator[MetadataRecord]:
    yield RegisterBroker(
        broker_id=broker.broker_id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.broker_epoch,
        endpoints=broker.endpoints,
        rack=broker.rack,
        fenced=broker.fenced,
        log_dir_ids=broker.log_dir_ids,
        features=broker.features,
    )
    if broker.in_controlled_shutdown:
        yield BrokerRegistrationChange(
            broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, in_controlled_shutdown=True
        )


def _topic_records(topic: TopicImage) -> Iterator[MetadataRecord]:
    yield TopicCreated(name=topic.name, topic_id=topic.topic_id)
    for partition in topic.partitions:
        yield _partition_record(partition)


def _partition_record(partition: PartitionImage) -> PartitionCreated:
    return PartitionCreated(
        topic_id=partition.topic_id,
        partition=partition.partition,
        replicas=partition.replicas,
        isr=partition.isr,
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        directories=partition.directories,
        adding_replicas=partition.adding_replicas,
        removing_replicas=partition.removing_replicas,
        elr=partition.elr,
        last_known_leader=partition.last_known_leader,
        recovering=partition.recovering,
    )
