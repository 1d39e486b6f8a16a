"""The cluster's metadata at one offset, as an immutable value that may be shared freely.

This module knows what the metadata is and how to look things up in it; it refuses to know how it changes
(``delta``) and where it comes from. Source: Kafka's ``MetadataImage`` (KIP-630).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from glasslog.common.ids import (
    NO_NODE,
    NO_OFFSET,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.metadata.features import FEATURES, FeatureRange
from glasslog.metadata.quotas import Quotas
from glasslog.metadata.records import UNASSIGNED_DIRECTORY, Endpoint, ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerImage:
    """A registered broker. Fenced ones lead nothing and are in no ISR."""

    broker_id: NodeId
    incarnation_id: bytes
    broker_epoch: BrokerEpoch
    endpoints: tuple[Endpoint, ...]
    rack: str
    fenced: bool
    in_controlled_shutdown: bool
    log_dir_ids: tuple[bytes, ...]
    features: tuple[FeatureRange, ...] = ()

    def endpoint(self, name: str) -> Endpoint | None:
        """The listener called ``name``, if the broker has one."""
        return next((endpoint for endpoint in self.endpoints if endpoint.name == name), None)

    @property
    def active(self) -> bool:
        """Whether new leaderships and ISR memberships may go to it."""
        return not self.fenced and not self.in_controlled_shutdown

    @property
    def directory_of_new_replicas(self) -> bytes:
        """Where a broker has no choice it need not be asked; the others say so when they have chosen."""
        return self.log_dir_ids[0] if len(self.log_dir_ids) == 1 else UNASSIGNED_DIRECTORY

    def has_directory(self, directory_id: bytes) -> bool:
        """Whether a replica there can be used; one that nobody has placed yet can be."""
        return (
            directory_id == UNASSIGNED_DIRECTORY or not self.log_dir_ids or directory_id in self.log_dir_ids
        )


Nodes = tuple[NodeId, ...]


class PartitionImage(NamedTuple):
    """Who holds a partition. ``replicas[0]`` is the preferred leader.

    While it is being moved ``replicas`` are both: those it comes from (all but ``adding_replicas``) and those
    it goes to (all but ``removing_replicas``). One of an earlier, replaced move may be in both.

    ``elr`` are replicas outside the ISR that have every committed record all the same: the high watermark
    stands still while there are any. ``last_known_leader`` led before nobody did (KIP-966). ``recovering``
    from an unclean election until its leader's first ISR change (KIP-704).

    A named tuple, as its records are: a broker's death makes ten thousands of them on every node, and a
    frozen dataclass costs four times as much to make and to change.
    """

    topic_id: TopicId
    topic: str
    partition: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    directories: tuple[bytes, ...] = ()
    adding_replicas: tuple[NodeId, ...] = ()
    removing_replicas: tuple[NodeId, ...] = ()
    elr: tuple[NodeId, ...] = ()
    last_known_leader: NodeId = NO_NODE
    recovering: bool = False

    @property
    def placement(self) -> "Placement":
        """All that elections go by: two partitions of a topic that are alike in it fare alike."""
        return (
            self.replicas,
            self.isr,
            self.leader,
            self.directories,
            self.adding_replicas,
            self.removing_replicas,
            self.elr,
            self.last_known_leader,
            self.recovering,
        )

    @property
    def has_leader(self) -> bool:
        return self.leader != NO_NODE

    @property
    def is_moving(self) -> bool:
        """Whether a reassignment is under way."""
        return bool(self.adding_replicas or self.removing_replicas)

    @property
    def original_replicas(self) -> tuple[NodeId, ...]:
        """Who held it before the move: where a cancelled one returns to."""
        return tuple(node for node in self.replicas if node not in self.adding_replicas)

    @property
    def target_replicas(self) -> tuple[NodeId, ...]:
        """Who is to hold it after the move."""
        return tuple(node for node in self.replicas if node not in self.removing_replicas)

    def directory_of(self, broker_id: NodeId) -> bytes:
        """In which of its directories a broker holds the partition; ``UNASSIGNED_DIRECTORY``: not known."""
        for replica, directory in zip(self.replicas, self.directories, strict=False):
            if replica == broker_id:
                return directory
        return UNASSIGNED_DIRECTORY

    def directories_with(self, broker_id: NodeId, directory_id: bytes) -> tuple[bytes, ...]:
        """What ``directories`` becomes when a broker's replica lies in ``directory_id``."""
        return tuple(
            directory_id if replica == broker_id else self.directory_of(replica) for replica in self.replicas
        )


Placement = tuple[Nodes, Nodes, NodeId, tuple[bytes, ...], Nodes, Nodes, Nodes, NodeId, bool]
"""See ``PartitionImage.placement``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicImage:
    """A topic; ``partitions`` is indexed by partition number, without gaps."""

    topic_id: TopicId
    name: str
    partitions: tuple[PartitionImage, ...]


_FIRST_PRODUCER_ID = ProducerId(0)
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataImage:
    """Everything the metadata log says up to and including ``offset`` (-1: nothing yet)."""

    offset: Offset = NO_OFFSET
    epoch: int = 0
    brokers: Mapping[NodeId, BrokerImage] = field(default_factory=dict)
    topics: Mapping[TopicId, TopicImage] = field(default_factory=dict)
    topic_ids: Mapping[str, TopicId] = field(default_factory=dict)
    configs: Mapping[tuple[ResourceType, str], Mapping[str, str]] = field(default_factory=dict)
    quotas: Quotas = field(default_factory=dict)
    next_producer_id: ProducerId = _FIRST_PRODUCER_ID
    features: Mapping[str, int] = field(default_factory=dict)

    def topic(self, name: str) -> TopicImage | None:
        topic_id = self.topic_ids.get(name)
        return None if topic_id is None else self.topics[topic_id]

    def partition(self, topic: str, partition: int) -> PartitionImage | None:
        return _at(self.topic(topic), partition)

    def partition_by_id(self, topic_id: TopicId, partition: int) -> PartitionImage | None:
        return _at(self.topics.get(topic_id), partition)

    def topic_config(self, name: str) -> Mapping[str, str]:
        """The settings made on the topic itself, without defaults."""
        return self.configs.get((ResourceType.TOPIC, name), _NOTHING)

    def broker_config(self, broker_id: NodeId | None) -> Mapping[str, str]:
        """The settings made on one broker while it runs; ``None``: on every broker."""
        return self.configs.get((ResourceType.BROKER, "" if broker_id is None else str(broker_id)), _NOTHING)

    def feature_level(self, name: str) -> int:
        """Of a feature of ``features.FEATURES``: as it was set, or else as a new cluster has it."""
        level = self.features.get(name)
        return FEATURES[name].default if level is None else level

    def broker_epoch(self, broker_id: NodeId) -> BrokerEpoch | None:
        broker = self.brokers.get(broker_id)
        return None if broker is None else broker.broker_epoch


def _at(topic: TopicImage | None, partition: int) -> PartitionImage | None:
    if topic is None or not 0 <= partition < len(topic.partitions):
        return None
    return topic.partitions[partition]


EMPTY_IMAGE = MetadataImage()
