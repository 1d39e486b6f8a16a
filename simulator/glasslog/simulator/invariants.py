"""What must hold in a running cluster at every moment, read off the live objects.

Looks only; refuses to know clients and which faults are active.  What was seen earlier is remembered, so that
epochs with two leaders and watermarks that go back are found across deaths and restarts.
"""

from collections.abc import Iterator

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.common.ids import NO_NODE, TopicPartition
from glasslog.controller.raft.roles import Leader
from glasslog.log.batch import iterate_batches
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.simulator.cluster import MemoryCluster, broker_id
from glasslog.simulator.outcome import Violated

PartitionKey = tuple[bytes, int]


class Invariants:
    """``check`` often; call it before a kill too, so that nothing a dead node knew goes unseen."""

    def __init__(self, cluster: MemoryCluster, *, may_lose: bool = False) -> None:
        self._cluster = cluster
        self._may_lose = may_lose
        self._quorum_leaders: dict[int, str] = {}
        self._quorum_epochs: dict[str, int] = {}
        self._leaders: dict[tuple[PartitionKey, int], str] = {}
        self._high_watermarks: dict[tuple[PartitionKey, int], int] = {}
        self._images: dict[int, tuple[str, MetadataImage]] = {}
        self._partition_epochs: dict[tuple[PartitionKey, int], PartitionImage] = {}
        self._highest: dict[TopicPartition, int] = {}
        self._committed: dict[PartitionKey, tuple[int, int]] = {}

    def highest_of(self, partition: TopicPartition, *, beyond: int) -> int:
        """The highest high watermark that any leader had; looks again unless it is known to be greater.

        Looks at the dead, too: one that was stopped in order may have served somebody in its last moment.
        """
        if self._highest.get(partition, 0) <= beyond:
            for name in self._cluster.broker_names:
                replicas = self._cluster.broker(name).replicas
                replica = None if replicas is None else replicas.find(partition)
                if replica is not None:
                    self._note_highest(partition, replica.high_watermark)
        return self._highest.get(partition, 0)

    def _note_highest(self, partition: TopicPartition, high_watermark: int) -> None:
        self._highest[partition] = max(self._highest.get(partition, 0), high_watermark)

    def check(self) -> None:
        """Raises ``Violated``."""
        for name in self._cluster.controller_names:
            if self._cluster.is_alive(name):
                self._check_controller(name)
        for name in self._cluster.broker_names:
            if self._cluster.is_alive(name):
                self._check_broker(name)

    # --- the quorum and the metadata --------------------------------------------------------------------

    def _check_controller(self, name: str) -> None:
        server = self._cluster.controller(name)
        core = server.raft.core
        if core is None:
            return
        if core.epoch < self._quorum_epochs.get(name, 0):
            raise Violated(f"{name} went back to quorum epoch {core.epoch}")
        self._quorum_epochs[name] = core.epoch
        if isinstance(core.role, Leader):
            known = self._quorum_leaders.setdefault(core.epoch, name)
            if known != name:
                raise Violated(f"{known} and {name} lead the quorum in epoch {core.epoch}")
        self._check_image(name, server.controller.committed)

    def _check_image(self, name: str, image: MetadataImage) -> None:
        if image.offset in self._images:
            other, seen = self._images[image.offset]
            if seen is not image and seen != image:
                raise Violated(f"{name} and {other} disagree on the metadata at {image.offset}")
            return
        self._images[image.offset] = (name, image)
        for topic in image.topics.values():
            for partition in topic.partitions:
                self._check_placed(partition, image)

    def _check_placed(self, placed: PartitionImage, image: MetadataImage) -> None:
        what = f"{placed.topic}-{placed.partition} at metadata offset {image.offset}"
        if not placed.isr or not set(placed.isr) <= set(placed.replicas):
            raise Violated(f"{what}: ISR {placed.isr} of replicas {placed.replicas}")
        if placed.leader != NO_NODE:
            for member in placed.isr:
                if not image.brokers[member].active:
                    raise Violated(f"{what}: {image.brokers[member]} is in the ISR {placed.isr}")
            if placed.leader not in placed.isr:
                raise Violated(f"{what}: leader {placed.leader} is not in the ISR {placed.isr}")
            if image.brokers[placed.leader].fenced:
                raise Violated(f"{what}: leader {placed.leader} is fenced")
        self._check_elected(placed, what)

    def _check_elected(self, placed: PartitionImage, what: str) -> None:
        key = ((placed.topic_id, placed.partition), int(placed.partition_epoch))
        seen = self._partition_epochs.setdefault(key, placed)
        if seen != placed:
            raise Violated(f"{what}: partition epoch {placed.partition_epoch} was {seen}, is {placed}")

    # --- replicas ---------------------------------------------------------------------------------------

    def _check_broker(self, name: str) -> None:
        server = self._cluster.broker(name)
        self._check_image(name, server.observer.image)
        for partition in [] if server.replicas is None else server.replicas.partitions():
            if partition.is_online:
                self._check_replica(name, partition)

    def _check_replica(self, name: str, partition: Partition) -> None:
        start, mark, end = partition.log_start_offset, partition.high_watermark, partition.log_end_offset
        if not start <= mark <= end:
            raise Violated(f"{partition.name} on {name}: not {start} <= {mark} <= {end}")
        state = partition.role
        if not isinstance(state, LeaderState):
            return
        key = (partition.key, int(state.leader_epoch))
        known = self._leaders.setdefault(key, name)
        if known != name:
            raise Violated(f"{known} and {name} lead {partition.name} in epoch {state.leader_epoch}")
        if state.high_watermark < self._high_watermarks.get(key, 0):
            raise Violated(
                f"high watermark of {partition.name} on {name} went back from "
                f"{self._high_watermarks[key]} to {state.high_watermark} in epoch {state.leader_epoch}"
            )
        self._high_watermarks[key] = state.high_watermark
        self._check_has_committed(name, partition, state)
        self._note_highest(partition.name, state.high_watermark)
        self._check_in_sync(name, partition, state)

    def _check_has_committed(self, name: str, partition: Partition, state: LeaderState) -> None:
        """Whoever is elected has every committed record."""
        committed = self._committed.get(partition.key, (-1, 0))
        if state.leader_epoch > committed[0] and not self._may_lose:
            end = partition.log_end_offset
            if end < committed[1]:
                raise Violated(
                    f"{partition.name}: {name} leads in epoch {state.leader_epoch} and ends at {end}, but in "
                    f"epoch {committed[0]} the high watermark was {committed[1]}"
                )
        if (state.leader_epoch, state.high_watermark) > committed:
            self._committed[partition.key] = (int(state.leader_epoch), int(state.high_watermark))

    def _check_in_sync(self, name: str, partition: Partition, state: LeaderState) -> None:
        """A member of the ISR, in the life the leader knows, holds everything below the high watermark."""
        for member, replica in self._members(name, partition, state):
            if replica.log_end_offset < state.high_watermark:
                raise Violated(
                    f"{partition.name}: {member} is in the ISR {state.isr} of {name}, ends at "
                    f"{replica.log_end_offset}, high watermark {state.high_watermark}"
                )

    def _members(
        self, leader: str, partition: Partition, state: LeaderState
    ) -> Iterator[tuple[str, Partition]]:
        """Not those whose new registration took them out of the ISR before the leader heard of it."""
        registered = self._cluster.broker(leader).observer.image.brokers
        for member in self._cluster.broker_names:
            follower = state.followers.get(broker_id(member))
            if follower is None or follower.node_id not in state.isr or not self._cluster.is_alive(member):
                continue
            server, known = self._cluster.broker(member), registered.get(follower.node_id)
            if server.replicas is None or server.status().broker_epoch != follower.broker_epoch:
                continue
            if known is None or known.broker_epoch != follower.broker_epoch:
                continue
            replica = server.replicas.find(partition.name)
            if replica is not None and replica.is_online and replica.key == partition.key:
                yield member, replica


def differing_replicas(cluster: MemoryCluster, topics: tuple[str, ...]) -> list[str]:
    """Where logs below the high watermark differ in any byte, once all has converged."""
    found: list[str] = []
    for topic in topics:
        image = cluster.image.topic(topic)
        for placed in () if image is None else image.partitions:
            found += _differing(cluster, TopicPartition(topic, placed.partition), placed)
    return found


def _differing(cluster: MemoryCluster, name: TopicPartition, placed: PartitionImage) -> Iterator[str]:
    copies: dict[str, bytes] = {}
    upper = _replica(cluster, placed.leader, name).high_watermark
    for node in placed.replicas:
        replica = _replica(cluster, node, name)
        copies[f"broker-{node}"] = _content(replica, upper)
    first, *others = copies.items()
    for member, content in others:
        if content != first[1]:
            yield f"{name} below {upper}: {first[0]} has {len(first[1])} bytes, {member} {len(content)}"


def _replica(cluster: MemoryCluster, node: int, name: TopicPartition) -> Partition:
    replicas = cluster.broker(f"broker-{node}").replicas
    assert replicas is not None
    found = replicas.find(name)
    assert found is not None, f"broker-{node} has no replica of {name}"
    return found


def _content(replica: Partition, upper: int) -> bytes:
    offset, content = int(replica.log_start_offset), b""
    while offset < upper:
        data = bytes(replica.log.read(offset, max_bytes=1 << 24, upper_offset=upper))
        if not data:
            break
        content += data
        offset = _next_offset(data)
    return content


def _next_offset(data: bytes) -> int:
    return max(header.next_offset for header, _ in iterate_batches(data))
