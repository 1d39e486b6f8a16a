"""A growing set of changes over an image: ``replay`` records, then ``apply`` for the next image.

The only code that mutates metadata; controllers and brokers both run it, so they can not disagree. It refuses
to know who decided the records, and treats one that contradicts the image as an ``InvariantViolation``.
Source: Kafka's ``MetadataDelta``; cost is in the size of what changed, plus one copy of each touched map.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from glasslog.common.errors import require
from glasslog.common.ids import LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerId, TopicId
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage, TopicImage
from glasslog.metadata.quotas import QuotaEntity
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    FeatureLevel,
    MetadataRecord,
    NoOp,
    PartitionChange,
    PartitionCreated,
    ProducerIdsAllocated,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
    UnregisterBroker,
)

K = TypeVar("K")
V = TypeVar("V")


class MetadataDelta:
    """Changes since ``base``. ``changed_*`` say what the next image has that the base has not."""

    def __init__(self, base: MetadataImage) -> None:
        self.base = base
        self._offset = base.offset
        self._epoch = base.epoch
        self._next_producer_id = base.next_producer_id
        self._features: dict[str, int] = {}
        self._brokers: dict[NodeId, BrokerImage | None] = {}
        self._topics: dict[TopicId, _TopicDelta] = {}
        self._removed_topics: dict[TopicId, TopicImage] = {}
        self._names: dict[str, TopicId | None] = {}
        self._configs: dict[tuple[ResourceType, str], dict[str, str]] = {}
        self._quotas: dict[QuotaEntity, dict[str, float]] = {}

    @classmethod
    def between(cls, base: MetadataImage, image: MetadataImage) -> "MetadataDelta":
        """The changes that lead from ``base`` to ``image``, an image of the same log (from a snapshot).

        What both have in common is in no ``changed_*``, so taking it in costs what replaying would have.
        """
        delta = cls(base)
        delta._offset, delta._epoch = image.offset, image.epoch
        delta._next_producer_id = image.next_producer_id
        delta._features = dict(image.features)
        delta._brokers = _differences(base.brokers, image.brokers)
        delta._names = _differences(base.topic_ids, image.topic_ids)
        configs = _differences(base.configs, image.configs)
        delta._configs = {key: dict(values or {}) for key, values in configs.items()}
        quotas = _differences(base.quotas, image.quotas)
        delta._quotas = {entity: dict(limits or {}) for entity, limits in quotas.items()}
        for topic_id, topic in _differences(base.topics, image.topics).items():
            old = base.topics.get(topic_id)
            if topic is None and old is not None:
                delta._removed_topics[topic_id] = old
            elif topic is not None:
                delta._topics[topic_id] = _TopicDelta.between(old, topic)
        return delta

    # --- what changed ---

    @property
    def changed_brokers(self) -> tuple[NodeId, ...]:
        return tuple(self._brokers)

    @property
    def changed_partitions(self) -> tuple[PartitionImage, ...]:
        """New or changed partitions, in their newest state."""
        return tuple(p for topic in self._topics.values() for p in topic.changed.values())

    @property
    def removed_topics(self) -> tuple[TopicImage, ...]:
        """Topics of the base that are gone."""
        return tuple(self._removed_topics.values())

    @property
    def changed_configs(self) -> tuple[tuple[ResourceType, str], ...]:
        return tuple(self._configs)

    # --- replay ---

    def replay(self, offset: Offset, epoch: int, record: MetadataRecord) -> None:
        """Take in the record at ``offset``, written in the quorum's ``epoch``. Offsets only go up."""
        require(offset > self._offset, f"metadata offset {offset} replayed after {self._offset}")
        self._offset, self._epoch = offset, epoch
        match record:
            case RegisterBroker():
                self._register(record)
            case UnregisterBroker():
                self._broker(record.broker_id, record.broker_epoch)
                self._brokers[record.broker_id] = None
            case BrokerRegistrationChange():
                self._change_registration(record)
            case TopicCreated():
                self._create_topic(record)
            case TopicRemoved():
                self._remove_topic(record.topic_id)
            case PartitionCreated():
                self._create_partition(record)
            case PartitionChange():
                self._topic(record.topic_id).change(record)
            case ConfigChange():
                self._change_config(record)
            case ClientQuotaChange():
                self._change_quota(record)
            case ProducerIdsAllocated():
                self._allocate_producer_ids(record.next_producer_id)
            case FeatureLevel():
                self._features[record.name] = record.level
            case NoOp():
                pass
            case _:
                assert_never(record)

    def _register(self, record: RegisterBroker) -> None:
        self._brokers[record.broker_id] = BrokerImage(
            broker_id=record.broker_id,
            incarnation_id=record.incarnation_id,
            broker_epoch=record.broker_epoch,
            endpoints=record.endpoints,
            rack=record.rack,
            fenced=record.fenced,
            in_controlled_shutdown=False,
            log_dir_ids=record.log_dir_ids,
            features=record.features,
        )

    def _broker(self, broker_id: NodeId, broker_epoch: int) -> BrokerImage:
        broker = self._brokers.get(broker_id, self.base.brokers.get(broker_id))
        require(broker is not None, f"metadata record for unknown broker {broker_id}")
        assert broker is not None
        require(
            broker.broker_epoch == broker_epoch,
            f"metadata record for epoch {broker_epoch} of broker {broker_id}, now at {broker.broker_epoch}",
        )
        return broker

    def _change_registration(self, record: BrokerRegistrationChange) -> None:
        broker = self._broker(record.broker_id, record.broker_epoch)
        shutting_down = record.in_controlled_shutdown
        self._brokers[record.broker_id] = replace(
            broker,
            fenced=broker.fenced if record.fenced is None else record.fenced,
            in_controlled_shutdown=(
                broker.in_controlled_shutdown if shutting_down is None else shutting_down
            ),
            log_dir_ids=broker.log_dir_ids if record.log_dir_ids is None else record.log_dir_ids,
        )

    def _create_topic(self, record: TopicCreated) -> None:
        known = self._names.get(record.name, self.base.topic_ids.get(record.name))
        require(known is None, f"topic {record.name} created twice")
        self._names[record.name] = record.topic_id
        self._topics[record.topic_id] = _TopicDelta(record.topic_id, record.name, ())

    def _remove_topic(self, topic_id: TopicId) -> None:
        topic = self._topic(topic_id)
        del self._topics[topic_id]
        self._names[topic.name] = None
        base = self.base.topics.get(topic_id)
        if base is not None:
            self._removed_topics[topic_id] = base
        self._configs[(ResourceType.TOPIC, topic.name)] = {}

    def _create_partition(self, record: PartitionCreated) -> None:
        self._topic(record.topic_id).create(record)

    def _topic(self, topic_id: TopicId) -> "_TopicDelta":
        topic = self._topics.get(topic_id)
        if topic is None:
            base = self.base.topics.get(topic_id)
            require(
                base is not None and topic_id not in self._removed_topics,
                f"metadata record for unknown topic id {topic_id.hex()}",
            )
            assert base is not None
            topic = self._topics[topic_id] = _TopicDelta(topic_id, base.name, base.partitions)
        return topic

    def _change_config(self, record: ConfigChange) -> None:
        resource = (record.resource_type, record.resource_name)
        values = self._configs.get(resource)
        if values is None:
            values = self._configs[resource] = dict(self.base.configs.get(resource, {}))
        if record.value is None:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value

    def _change_quota(self, record: ClientQuotaChange) -> None:
        limits = self._quotas.get(record.entity)
        if limits is None:
            limits = self._quotas[record.entity] = dict(self.base.quotas.get(record.entity, {}))
        if record.limit is None:
            limits.pop(record.key, None)
        else:
            limits[record.key] = record.limit

    def _allocate_producer_ids(self, next_producer_id: ProducerId) -> None:
        require(
            next_producer_id >= self._next_producer_id,
            f"producer ids go back from {self._next_producer_id} to {next_producer_id}",
        )
        self._next_producer_id = next_producer_id

    # --- the next image ---

    def apply(self) -> MetadataImage:
        """The base with every replayed record; maps that nothing touched are shared with the base."""
        base = self.base
        return MetadataImage(
            offset=self._offset,
            epoch=self._epoch,
            brokers=_without_none({**base.brokers, **self._brokers}) if self._brokers else base.brokers,
            topics=self._next_topics(),
            topic_ids=_without_none({**base.topic_ids, **self._names}) if self._names else base.topic_ids,
            configs=_with_changed(base.configs, self._configs),
            quotas=_with_changed(base.quotas, self._quotas),
            next_producer_id=self._next_producer_id,
            features={**base.features, **self._features} if self._features else base.features,
        )

    def _next_topics(self) -> Mapping[TopicId, TopicImage]:
        if not self._topics and not self._removed_topics:
            return self.base.topics
        topics = {key: value for key, value in self.base.topics.items() if key not in self._removed_topics}
        for topic_id, topic in self._topics.items():
            topics[topic_id] = topic.image()
        return topics


class _TopicDelta:
    """One topic's changed partitions over those it had."""

    def __init__(self, topic_id: TopicId, name: str, partitions: tuple[PartitionImage, ...]) -> None:
        self.topic_id = topic_id
        self.name = name
        self._partitions = partitions
        self.changed: dict[int, PartitionImage] = {}

    @classmethod
    def between(cls, base: TopicImage | None, topic: TopicImage) -> "_TopicDelta":
        partitions = () if base is None else base.partitions
        delta = cls(topic.topic_id, topic.name, partitions)
        for partition in topic.partitions:
            number = partition.partition
            if number >= len(partitions) or partitions[number] != partition:
                delta.changed[number] = partition
        return delta

    def create(self, record: PartitionCreated) -> None:
        require(
            record.partition >= len(self._partitions) and record.partition not in self.changed,
            f"partition {self.name}-{record.partition} created twice",
        )
        self.changed[record.partition] = PartitionImage(
            topic_id=self.topic_id,
            topic=self.name,
            partition=record.partition,
            replicas=record.replicas,
            isr=record.isr,
            leader=record.leader,
            leader_epoch=record.leader_epoch,
            partition_epoch=record.partition_epoch,
            directories=record.directories,
            adding_replicas=record.adding_replicas,
            removing_replicas=record.removing_replicas,
            elr=record.elr,
            last_known_leader=record.last_known_leader,
            recovering=record.recovering,
        )

    def change(self, record: PartitionChange) -> None:
        old = self.changed.get(record.partition)
        if old is None:
            require(
                0 <= record.partition < len(self._partitions),
                f"metadata record for unknown partition {self.name}-{record.partition}",
            )
            old = self._partitions[record.partition]
        epoch_bump = 0 if record.leader is None else 1
        adding, removing = record.adding_replicas, record.removing_replicas
        last_known = record.last_known_leader
        self.changed[record.partition] = old._replace(
            leader=old.leader if record.leader is None else record.leader,
            isr=old.isr if record.isr is None else record.isr,
            replicas=old.replicas if record.replicas is None else record.replicas,
            directories=_next_directories(old, record),
            adding_replicas=old.adding_replicas if adding is None else adding,
            removing_replicas=old.removing_replicas if removing is None else removing,
            elr=old.elr if record.elr is None else record.elr,
            last_known_leader=old.last_known_leader if last_known is None else last_known,
            recovering=old.recovering if record.recovering is None else record.recovering,
            leader_epoch=LeaderEpoch(old.leader_epoch + epoch_bump),
            partition_epoch=PartitionEpoch(old.partition_epoch + 1),
        )

    def image(self) -> TopicImage:
        count = max(len(self._partitions), max(self.changed, default=-1) + 1)
        partitions: list[PartitionImage | None] = [*self._partitions]
        partitions.extend([None] * (count - len(self._partitions)))
        for index, partition in self.changed.items():
            partitions[index] = partition
        whole = tuple(p for p in partitions if p is not None)
        require(len(whole) == count, f"topic {self.name} has gaps in its partitions")
        return TopicImage(topic_id=self.topic_id, name=self.name, partitions=whole)


def _next_directories(old: PartitionImage, record: PartitionChange) -> tuple[bytes, ...]:
    if record.directories is not None:
        return record.directories
    if record.replicas is None or not old.directories:
        return old.directories
    return tuple(old.directory_of(replica) for replica in record.replicas)


def _with_changed(
    base: Mapping[K, Mapping[str, V]], changed: Mapping[K, Mapping[str, V]]
) -> Mapping[K, Mapping[str, V]]:
    """``changed`` replaces what ``base`` has of the same keys; what became empty is left out."""
    if not changed:
        return base
    merged = {key: values for key, values in base.items() if key not in changed}
    merged.update({key: values for key, values in changed.items() if values})
    return merged


def _differences(base: Mapping[K, V], image: Mapping[K, V]) -> dict[K, V | None]:
    """What ``image`` has that ``base`` has not, and None for what it has no more."""
    found: dict[K, V | None] = {key: None for key in base if key not in image}
    found.update({key: value for key, value in image.items() if base.get(key) != value})
    return found


def _without_none(mapping: dict[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in mapping.items() if value is not None}
