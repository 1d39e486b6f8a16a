"""Who leads a partition, and what a broker's leaving or return does to the partitions it holds.

Pure functions from an image to ``PartitionChange`` records; this module refuses to know why a broker leaves
or returns.

Theory of operation. A replica may be elected when it has every committed record: the members of the ISR do.
Nothing is committed while the ISR is smaller than ``min.insync.replicas``, so whoever leaves it then, or is
the last to leave it, still has everything: it becomes an eligible leader replica (ELR), and may lead when the
ISR is empty. It stays one until the ISR is large enough again, or until its broker's stop was unclean, which
may have cost it records that were not synced yet. When nobody is left who surely has everything, the leader
of the time before leads again as soon as it is back: it is the likeliest to have most.
Where the feature ``eligible.leader.replicas.version`` is at 0, the last members of the ISR stay in it instead
and lead when they are back, whatever they lost.
Whoever is elected although it may lack records makes the partition a recovering one (KIP-704).
Source: KIP-966, Kafka's ``PartitionChangeBuilder`` with the last known leader in balanced recovery.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.decision import ControllerSettings
from glasslog.metadata.features import ELIGIBLE_LEADER_REPLICAS
from glasslog.metadata.image import MetadataImage, PartitionImage, Placement
from glasslog.metadata.records import PartitionChange

UNCLEAN_KEY = "unclean.leader.election.enable"
"""The setting, by the same name on topics and brokers, that rather loses records than waits."""

MIN_ISR_KEY = "min.insync.replicas"
"""The setting, by the same name on topics and brokers, below which nothing is committed."""

T = TypeVar("T")

IsActive = Callable[[NodeId], bool]

_NOBODY: frozenset[NodeId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a partition's elections go by; ``unclean``: it would rather lose records than wait."""

    unclean: bool
    min_insync_replicas: int
    keeps_elr: bool

    def least_for(self, partition: PartitionImage) -> int:
        """The smallest ISR with which something is committed."""
        return min(self.min_insync_replicas, len(partition.replicas))


def terms_of(image: MetadataImage, settings: ControllerSettings, topic: str) -> Terms:
    """By the topic's settings, or else what is set on every broker, or else the node's."""
    return Terms(
        unclean=may_elect_unclean(image, settings, topic),
        min_insync_replicas=int(_setting(image, topic, MIN_ISR_KEY) or settings.min_insync_replicas),
        keeps_elr=image.feature_level(ELIGIBLE_LEADER_REPLICAS) >= 1,
    )


def may_elect_unclean(image: MetadataImage, settings: ControllerSettings, topic: str) -> bool:
    """Whether the topic bears the loss of records; see ``terms_of``."""
    text = _setting(image, topic, UNCLEAN_KEY)
    return settings.unclean_leader_election_enable if text is None else text.strip().lower() == "true"


def _setting(image: MetadataImage, topic: str, key: str) -> str | None:
    own = image.topic_config(topic).get(key)
    return image.broker_config(None).get(key) if own is None else own


# --- brokers leave and return ---


def without_brokers(
    image: MetadataImage,
    settings: ControllerSettings,
    gone: frozenset[NodeId],
    *,
    lost: frozenset[NodeId] = _NOBODY,
) -> tuple[PartitionChange, ...]:
    """Take ``gone`` out of every ISR and leadership; those ``lost``, who may lack records, also of every ELR.

    Visits all partitions: linear in their number.
    """

    def concerned(partition: PartitionImage) -> bool:
        return (
            partition.leader in gone
            or any(member in gone for member in partition.isr)
            or any(member in lost for member in partition.elr)
        )

    return _elections(image, settings, concerned, is_gone=gone.__contains__, lost=lost)


def without_directories(
    image: MetadataImage, settings: ControllerSettings, broker_id: NodeId, gone: frozenset[bytes]
) -> tuple[PartitionChange, ...]:
    """Take a broker out of the ISRs, ELRs and leaderships of what it held in the directories ``gone``.

    Linear in the number of all partitions.
    """

    def concerned(partition: PartitionImage) -> bool:
        is_held = broker_id in partition.isr or broker_id in partition.elr
        return is_held and partition.directory_of(broker_id) in gone

    return _elections(
        image,
        settings,
        concerned,
        is_gone=lambda member: member == broker_id,
        lost=frozenset((broker_id,)),
    )


def _elections(
    image: MetadataImage,
    settings: ControllerSettings,
    concerned: Callable[[PartitionImage], bool],
    *,
    is_gone: Callable[[NodeId], bool],
    lost: frozenset[NodeId] = _NOBODY,
) -> tuple[PartitionChange, ...]:
    def elect(partition: PartitionImage) -> PartitionChange | None:
        return changed(
            partition,
            isr=tuple(member for member in partition.isr if not is_gone(member)),
            is_active=lambda member: not is_gone(member) and is_online(image, partition, member),
            terms=terms_of(image, settings, partition.topic),
            lost=lost,
        )

    found: list[PartitionChange] = []
    for topic in image.topics.values():
        alike: dict[Placement, PartitionChange | None] = {}
        for partition in filter(concerned, topic.partitions):
            placement = partition.placement
            if placement not in alike:
                # A topic's thousand partitions are placed in a few ways, and what is so once is so for all.
                alike[placement] = elect(partition)
            change = alike[placement]
            if change is not None:
                found.append(change._replace(partition=partition.partition))
    return tuple(found)


def with_broker(
    image: MetadataImage, settings: ControllerSettings, back: NodeId
) -> tuple[PartitionChange, ...]:
    """Elect where nobody leads and ``back``, about to be unfenced, can. Linear in the partitions' number."""
    found, terms = [], cache(partial(terms_of, image, settings))
    for partition in _partitions(image):
        if partition.has_leader or back not in partition.replicas:
            continue

        def is_active(broker_id: NodeId, partition: PartitionImage = partition) -> bool:
            if broker_id == back:
                return _has_its_directory(image, partition, broker_id)
            return is_online(image, partition, broker_id)

        change = changed(partition, isr=partition.isr, is_active=is_active, terms=terms(partition.topic))
        if change is not None:
            found.append(change)
    return tuple(found)


def adjusted(
    image: MetadataImage, settings: ControllerSettings, topics: frozenset[str] | None
) -> tuple[PartitionChange, ...]:
    """What changed terms change at once, in ``topics`` or, with ``None``, everywhere.

    Where nobody leads somebody may now, and an ISR that is large enough now leaves no ELR. Linear in the
    partitions' number.
    """
    found, terms = [], cache(partial(terms_of, image, settings))
    for partition in _partitions(image):
        if topics is not None and partition.topic not in topics:
            continue
        if partition.has_leader and not partition.elr:
            continue

        def is_active(broker_id: NodeId, partition: PartitionImage = partition) -> bool:
            return is_online(image, partition, broker_id)

        change = changed(partition, isr=partition.isr, is_active=is_active, terms=terms(partition.topic))
        if change is not None:
            found.append(change)
    return tuple(found)


# --- one partition ---


def changed(
    partition: PartitionImage,
    *,
    isr: tuple[NodeId, ...],
    is_active: IsActive,
    terms: Terms,
    lost: frozenset[NodeId] = _NOBODY,
) -> PartitionChange | None:
    """The change that ``settled`` makes; ``None`` if the partition is settled already."""
    return difference(partition, settled(partition, isr=isr, is_active=is_active, terms=terms, lost=lost))


def settled(
    partition: PartitionImage,
    *,
    isr: tuple[NodeId, ...],
    is_active: IsActive,
    terms: Terms,
    lost: frozenset[NodeId] = _NOBODY,
) -> PartitionImage:
    """With ``isr``, the ELR and the leader that fit it, and its move ended if that is done.

    A leader that may go on goes on; otherwise the first active ISR member in the order of the assignment
    leads; either with the active members only.  Otherwise the first active one of the ELR, alone in the ISR;
    otherwise the last known leader; otherwise, if the terms say so, the first active replica; otherwise
    nobody.
    """
    after = eligible(partition, isr=isr, is_active=is_active, terms=terms, lost=lost)
    return finished(elected(after, is_active=is_active, terms=terms), is_active=is_active)


def eligible(
    partition: PartitionImage,
    *,
    isr: tuple[NodeId, ...],
    is_active: IsActive,
    terms: Terms,
    lost: frozenset[NodeId] = _NOBODY,
) -> PartitionImage:
    """With ``isr`` and the ELR that goes with it, without those ``lost``; the leader is left alone.

    Without ELR the last ISR stays when ``isr`` is empty: its members have every acknowledged record.
    """
    if not terms.keeps_elr:
        known = () if partition.last_known_leader == NO_NODE else (partition.last_known_leader,)
        return partition._replace(isr=isr or partition.isr or partition.elr or known, elr=())
    had = (*partition.isr, *partition.elr)
    if not partition.has_leader and partition.last_known_leader == NO_NODE:
        # It lost its leader when there was no ELR: one of those who had everything is as good.
        partition = partition._replace(last_known_leader=had[0] if had else NO_NODE)
    isr = tuple(filter(is_active, isr))
    if len(isr) >= terms.least_for(partition):
        return partition._replace(isr=isr, elr=())
    elr = (node for node in partition.replicas if node in had and node not in isr and node not in lost)
    return partition._replace(isr=isr, elr=tuple(elr))


def elected(partition: PartitionImage, *, is_active: IsActive, terms: Terms) -> PartitionImage:
    """With a leader that fits its ISR and ELR, as ``settled`` says; epochs are left alone."""
    leader = _elect(partition, partition.isr, is_active)
    if leader != NO_NODE:
        # Members that died together with the last leader are kept while nobody leads, and no longer.
        isr = tuple(filter(is_active, partition.isr))
        return partition._replace(leader=leader, isr=isr, last_known_leader=NO_NODE)
    leader = NO_NODE if partition.isr else _elect(partition, partition.elr, is_active)
    if leader != NO_NODE:
        # Where one is enough, it commits alone from now on.
        is_enough = terms.least_for(partition) <= 1
        elr = () if is_enough else tuple(node for node in partition.elr if node != leader)
        return partition._replace(leader=leader, isr=(leader,), elr=elr, last_known_leader=NO_NODE)
    leader = _last_choice(partition, is_active, terms)
    if leader != NO_NODE:
        return partition._replace(
            leader=leader, isr=(leader,), elr=(), last_known_leader=NO_NODE, recovering=True
        )
    return partition._replace(leader=NO_NODE, last_known_leader=_led_last(partition, terms))


def _last_choice(partition: PartitionImage, is_active: IsActive, terms: Terms) -> NodeId:
    """Who leads although it may lack acknowledged records."""
    last = partition.last_known_leader
    is_wanted = terms.keeps_elr and not partition.isr and not partition.elr
    if is_wanted and last in partition.replicas and is_active(last):
        return last
    if not terms.unclean:
        return NO_NODE
    # A replica that is just being added may be empty: it is the last choice of all.
    choices = (*partition.original_replicas, *partition.adding_replicas)
    return next(filter(is_active, choices), NO_NODE)


def _led_last(partition: PartitionImage, terms: Terms) -> NodeId:
    """Whom to remember, now that nobody leads."""
    if not terms.keeps_elr:
        return NO_NODE
    return partition.leader if partition.leader in partition.replicas else partition.last_known_leader


def finished(partition: PartitionImage, *, is_active: IsActive) -> PartitionImage:
    """Without the replicas that a reassignment removes, once all that shall stay are in the ISR."""
    if not partition.is_moving:
        return partition
    targets = partition.target_replicas
    if not all(target in partition.isr for target in targets):
        return partition
    after = with_replicas(partition, targets)._replace(
        isr=tuple(member for member in partition.isr if member in targets),
        adding_replicas=(),
        removing_replicas=(),
        elr=(),
    )
    return after._replace(leader=_elect(after, after.isr, is_active))


def with_replicas(partition: PartitionImage, replicas: tuple[NodeId, ...]) -> PartitionImage:
    """Assigned to ``replicas``; those that stay keep their directories, and may be elected as before."""
    directories = tuple(map(partition.directory_of, replicas)) if partition.directories else ()
    last = partition.last_known_leader
    return partition._replace(
        replicas=replicas,
        directories=directories,
        elr=tuple(node for node in partition.elr if node in replicas),
        last_known_leader=last if last in replicas else NO_NODE,
    )


def difference(before: PartitionImage, after: PartitionImage) -> PartitionChange | None:
    """The change from one to the other, ``None`` if there is none.

    When a replica goes the leader epoch goes up, also under the same leader: should that replica come back
    empty, nothing that the leader knew of its former log, and no fetch of that time, may count any more.
    """
    if before == after:
        return None
    last = after.last_known_leader
    is_left = before.replicas != after.replicas and not set(before.replicas) <= set(after.replicas)
    return PartitionChange(
        topic_id=before.topic_id,
        partition=before.partition,
        leader=None if after.leader == before.leader and not is_left else after.leader,
        isr=_news(before.isr, after.isr),
        replicas=_news(before.replicas, after.replicas),
        directories=_news(before.directories, after.directories),
        adding_replicas=_news(before.adding_replicas, after.adding_replicas),
        removing_replicas=_news(before.removing_replicas, after.removing_replicas),
        elr=_news(before.elr, after.elr),
        last_known_leader=None if before.last_known_leader == last else last,
        recovering=None if before.recovering == after.recovering else after.recovering,
    )


def _news(before: tuple[T, ...], after: tuple[T, ...]) -> tuple[T, ...] | None:
    return None if before == after else after


def leads_anything(image: MetadataImage, broker_id: NodeId) -> bool:
    """Whether any partition has ``broker_id`` as its leader."""
    return any(partition.leader == broker_id for partition in _partitions(image))


def _elect(partition: PartitionImage, isr: tuple[NodeId, ...], is_active: IsActive) -> NodeId:
    if partition.leader in isr and is_active(partition.leader):
        return partition.leader
    return next((replica for replica in partition.replicas if replica in isr and is_active(replica)), NO_NODE)


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
