"""Who leads a partition, and what a broker's leaving or return does to the partitions it holds.

Pure functions from an image to ``PartitionChange`` records; this module refuses to know why a broker leaves
or returns. Source: Kafka's ``PartitionChangeBuilder``, without eligible leader replicas.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from glasslog.common.ids import NO_NODE, NodeId
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import PartitionChange

UNCLEAN_KEY = "unclean.leader.election.enable"
"""The setting, by the same name on topics and brokers, that rather loses records than waits."""

T = TypeVar("T")

IsActive = Callable[[NodeId], bool]


def without_brokers(
    image: MetadataImage, gone: frozenset[NodeId], *, unclean_by_default: bool
) -> tuple[PartitionChange, ...]:
    """Take ``gone`` out of every ISR and leadership. Visits all partitions: linear in their number."""

    def concerned(partition: PartitionImage) -> bool:
        return partition.leader in gone or any(member in gone for member in partition.isr)

    return _elections(
        image,
        concerned,
        is_gone=lambda partition, broker_id: broker_id in gone,
        unclean_by_default=unclean_by_default,
    )


def without_directories(
    image: MetadataImage, broker_id: NodeId, gone: frozenset[bytes], *, unclean_by_default: bool
) -> tuple[PartitionChange, ...]:
    """Take a broker out of the ISRs and leaderships of what it held in the directories ``gone``.

    Linear in the number of all partitions.
    """

    def concerned(partition: PartitionImage) -> bool:
        return broker_id in partition.isr and partition.directory_of(broker_id) in gone

    return _elections(
        image,
        concerned,
        is_gone=lambda partition, member: member == broker_id,
        unclean_by_default=unclean_by_default,
    )


def _elections(
    image: MetadataImage,
    concerned: Callable[[PartitionImage], bool],
    *,
    is_gone: Callable[[PartitionImage, NodeId], bool],
    unclean_by_default: bool,
) -> tuple[PartitionChange, ...]:
    found = []
    for partition in filter(concerned, _partitions(image)):

        def is_active(broker_id: NodeId, partition: PartitionImage = partition) -> bool:
            return not is_gone(partition, broker_id) and is_online(image, partition, broker_id)

        change = changed(
            partition,
            isr=tuple(member for member in partition.isr if not is_gone(partition, member)),
            is_active=is_active,
            unclean=may_elect_unclean(image, partition, unclean_by_default),
        )
        if change is not None:
            found.append(change)
    return tuple(found)


def with_broker(
    image: MetadataImage, back: NodeId, *, unclean_by_default: bool
) -> tuple[PartitionChange, ...]:
    """Elect where nobody leads and ``back``, about to be unfenced, can. Linear in the partitions' number."""
    found = []
    for partition in _partitions(image):
        if partition.has_leader or back not in partition.replicas:
            continue

        def is_active(broker_id: NodeId, partition: PartitionImage = partition) -> bool:
            if broker_id == back:
                return _has_its_directory(image, partition, broker_id)
            return is_online(image, partition, broker_id)

        change = changed(
            partition,
            isr=partition.isr,
            is_active=is_active,
            unclean=may_elect_unclean(image, partition, unclean_by_default),
        )
        if change is not None:
            found.append(change)
    return tuple(found)


def elect_leaderless(
    image: MetadataImage, topics: frozenset[str] | None, *, unclean_by_default: bool
) -> tuple[PartitionChange, ...]:
    """Elect where nobody leads and somebody can, in ``topics`` or, with ``None``, everywhere.

    Linear in the partitions' number.
    """
    found = []
    for partition in _partitions(image):
        if partition.has_leader or (topics is not None and partition.topic not in topics):
            continue

        def is_active(broker_id: NodeId, partition: PartitionImage = partition) -> bool:
            return is_online(image, partition, broker_id)

        unclean = may_elect_unclean(image, partition, unclean_by_default)
        change = changed(partition, isr=partition.isr, is_active=is_active, unclean=unclean)
        if change is not None:
            found.append(change)
    return tuple(found)


def changed(
    partition: PartitionImage, *, isr: tuple[NodeId, ...], is_active: IsActive, unclean: bool
) -> PartitionChange | None:
    """The change that brings the partition to ``isr`` and to a leader that fits; ``None`` if it is there.

    The last ISR stays when ``isr`` is empty: its members have every acknowledged record, whoever else leads
    may lose some. A leader that may go on goes on; otherwise the first active ISR member in the order of
    the assignment leads; either with the active members only. Otherwise, if ``unclean``, the first active
    replica leads, alone in the ISR; otherwise nobody.
    """
    after = elected(replace(partition, isr=isr or partition.isr), is_active=is_active, unclean=unclean)
    return difference(partition, finished(after, is_active=is_active))


def elected(partition: PartitionImage, *, is_active: IsActive, unclean: bool) -> PartitionImage:
    """With a leader that fits its ISR, as ``changed`` says; epochs are left alone."""
    leader = _elect(partition, partition.isr, is_active)
    if leader != NO_NODE:
        # Members that died together with the last leader are kept while nobody leads, and no longer.
        return replace(partition, leader=leader, isr=tuple(filter(is_active, partition.isr)))
    if unclean:
        # A replica that is just being added may be empty: it is the last choice.
        choices = (*partition.original_replicas, *partition.adding_replicas)
        leader = next(filter(is_active, choices), NO_NODE)
    return replace(partition, leader=leader, isr=partition.isr if leader == NO_NODE else (leader,))


def finished(partition: PartitionImage, *, is_active: IsActive) -> PartitionImage:
    """Without the replicas that a reassignment removes, once all that shall stay are in the ISR."""
    targets = partition.target_replicas
    if not partition.is_moving or not all(target in partition.isr for target in targets):
        return partition
    after = replace(
        with_replicas(partition, targets),
        isr=tuple(member for member in partition.isr if member in targets),
        adding_replicas=(),
        removing_replicas=(),
    )
    return replace(after, leader=_elect(after, after.isr, is_active))


def with_replicas(partition: PartitionImage, replicas: tuple[NodeId, ...]) -> PartitionImage:
    """Assigned to ``replicas``; those that stay keep their directories."""
    directories = tuple(map(partition.directory_of, replicas)) if partition.directories else ()
    return replace(partition, replicas=replicas, directories=directories)


def difference(before: PartitionImage, after: PartitionImage) -> PartitionChange | None:
    """The change from one to the other, ``None`` if there is none.

    When a replica goes the leader epoch goes up, also under the same leader: should that replica come back
    empty, nothing that the leader knew of its former log, and no fetch of that time, may count any more.
    """
    is_left = any(replica not in after.replicas for replica in before.replicas)
    change = PartitionChange(
        topic_id=before.topic_id,
        partition=before.partition,
        leader=None if after.leader == before.leader and not is_left else after.leader,
        isr=_news(before.isr, after.isr),
        replicas=_news(before.replicas, after.replicas),
        directories=_news(before.directories, after.directories),
        adding_replicas=_news(before.adding_replicas, after.adding_replicas),
        removing_replicas=_news(before.removing_replicas, after.removing_replicas),
    )
    nothing = PartitionChange(topic_id=before.topic_id, partition=before.partition)
    return None if change == nothing else change


def _news(before: tuple[T, ...], after: tuple[T, ...]) -> tuple[T, ...] | None:
    return None if before == after else after


def leads_anything(image: MetadataImage, broker_id: NodeId) -> bool:
    """Whether any partition has ``broker_id`` as its leader."""
    return any(partition.leader == broker_id for partition in _partitions(image))


def _elect(partition: PartitionImage, isr: tuple[NodeId, ...], is_active: IsActive) -> NodeId:
    if partition.leader in isr and is_active(partition.leader):
        return partition.leader
    return next((replica for replica in partition.replicas if replica in isr and is_active(replica)), NO_NODE)


def may_elect_unclean(image: MetadataImage, partition: PartitionImage, default: bool) -> bool:
    """Whether the topic, or else what is set on every broker, or else the node, bears the loss of records."""
    text = image.topic_config(partition.topic).get(UNCLEAN_KEY)
    if text is None:
        text = image.broker_config(None).get(UNCLEAN_KEY)
    return default if text is None else text.strip().lower() == "true"


def is_online(image: MetadataImage, partition: PartitionImage, broker_id: NodeId) -> bool:
    """Whether a broker is active and the directory that holds its replica is one of those it has."""
    broker = image.brokers.get(broker_id)
    return broker is not None and broker.active and broker.has_directory(partition.directory_of(broker_id))


def _has_its_directory(image: MetadataImage, partition: PartitionImage, broker_id: NodeId) -> bool:
    broker = image.brokers.get(broker_id)
    return broker is not None and broker.has_directory(partition.directory_of(broker_id))


def _partitions(image: MetadataImage) -> Iterator[PartitionImage]:
    for topic in image.topics.values():
        yield from topic.partitions
