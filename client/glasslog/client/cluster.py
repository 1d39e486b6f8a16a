"""What a client knows of the cluster: brokers, topics, leaders; and how a new answer is merged into it.

Pure values. A partition's entry with a lower leader epoch never replaces one with a higher, so that a
broker that lags behind can not send a client back to a dead leader.  Refuses to know how answers are
fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId, TopicPartition
from glasslog.common.runtime.addresses import join_address


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerView:
    """A broker's GRPC listener."""

    node_id: NodeId
    host: str
    port: int
    rack: str = ""

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """Who leads a partition; ``leader`` is ``NO_NODE`` while nobody does."""

    partition: int
    leader: NodeId
    leader_epoch: int
    replicas: tuple[NodeId, ...] = ()
    isr: tuple[NodeId, ...] = ()
    offline_replicas: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicView:
    """A topic, or why it is not there."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    topic_id: bytes = b""
    internal: bool = False
    partitions: tuple[PartitionView, ...] = ()
    """By partition number, without gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """One immutable picture of the cluster. ``metadata_offset`` tells how new it is."""

    cluster_id: str = ""
    controller_id: NodeId = NO_NODE
    brokers: Mapping[NodeId, BrokerView] = field(default_factory=dict)
    topics: Mapping[str, TopicView] = field(default_factory=dict)
    metadata_offset: int = -1

    def topic(self, name: str) -> TopicView | None:
        """The topic if it is known and exists."""
        topic = self.topics.get(name)
        return topic if topic is not None and topic.partitions else None

    def partition(self, partition: TopicPartition) -> PartitionView | None:
        topic = self.topics.get(partition.topic)
        if topic is None or partition.partition >= len(topic.partitions):
            return None
        return topic.partitions[partition.partition]

    def leader(self, partition: TopicPartition) -> BrokerView | None:
        """The leader's listener, if there is a leader and its address is known."""
        view = self.partition(partition)
        return None if view is None else self.brokers.get(view.leader)

    def leader_epoch(self, partition: TopicPartition) -> int:
        """-1 when unknown."""
        view = self.partition(partition)
        return -1 if view is None else view.leader_epoch


def merge(old: ClusterView, new: ClusterView) -> ClusterView:
    """``new`` with what ``old`` knows better; topics that ``new`` says nothing about are kept."""
    if old.cluster_id and new.cluster_id != old.cluster_id:
        return new
    is_newer = new.metadata_offset >= old.metadata_offset
    topics = dict(old.topics)
    for name, topic in new.topics.items():
        topics[name] = _merge_topic(old.topics.get(name), topic, is_newer=is_newer)
    latest = new if is_newer else old
    return replace(latest, topics=topics)


def with_leader_hint(
    view: ClusterView, partition: TopicPartition, *, leader: NodeId, leader_epoch: int
) -> ClusterView:
    """The view after a broker named a leader in an error (KIP-951); the same view if that is no news."""
    known = view.partition(partition)
    if known is None or leader not in view.brokers or leader_epoch <= known.leader_epoch:
        return view
    topic = view.topics[partition.topic]
    partitions = list(topic.partitions)
    partitions[partition.partition] = replace(known, leader=leader, leader_epoch=leader_epoch)
    topics = {**view.topics, partition.topic: replace(topic, partitions=tuple(partitions))}
    return replace(view, topics=topics)


def _merge_topic(old: TopicView | None, new: TopicView, *, is_newer: bool) -> TopicView:
    if old is None or not old.partitions:
        return new if old is None or is_newer or new.partitions else old
    if not new.partitions or new.topic_id != old.topic_id:
        return new if is_newer else old
    count = max(len(new.partitions), len(old.partitions))
    partitions = tuple(_merge_partition(old, new, number, is_newer=is_newer) for number in range(count))
    return replace(new, partitions=partitions)


def _merge_partition(old: TopicView, new: TopicView, number: int, *, is_newer: bool) -> PartitionView:
    if number >= len(old.partitions):
        return new.partitions[number]
    if number >= len(new.partitions):
        return old.partitions[number]
    ours, theirs = old.partitions[number], new.partitions[number]
    if theirs.leader_epoch != ours.leader_epoch:
        return max(ours, theirs, key=lambda view: view.leader_epoch)
    return theirs if is_newer else ours
