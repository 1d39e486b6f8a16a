"""What must hold in a running cluster at every moment, read off the live objects.

Looks only; refuses to know clients and which faults are active.  What was seen earlier is remembered, so that
epochs with two leaders and watermarks that go back are found across deaths and restarts.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from functools import partial

from glasslog.broker.partition.follower_state import FollowerState
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.common.ids import NO_NODE, TopicPartition
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.roles import Leader
from glasslog.log.batch import iterate_batches
from glasslog.log.records import RecordTuple, decode_fast
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.simulator.cluster import MemoryCluster, broker_id, controller_id
from glasslog.simulator.outcome import Violated

PartitionKey = tuple[bytes, int]


class Invariants:
    """Told of each change (``on_replica``, ``on_metadata``, ``on_quorum``), checks what it touches.

    ``may_lose``: committed records may be lost, since the run goes beyond what is promised.

    Once all that runs at the same moment has run, that is: a change is often several steps.  ``check`` looks
    at everything.  What is found first is kept: ``until_violated`` raises it.
    """

    def __init__(self, cluster: MemoryCluster, *, may_lose: bool = False) -> None:
        self._cluster = cluster
        self._may_lose = may_lose
        self._violated = asyncio.Event()
        self._violation: Violated | None = None
        self._touched: dict[tuple[str, PartitionKey], Partition] = {}
        self._is_due = False
        self._quorum_leaders: dict[int, str] = {}
        self._cores: dict[str, tuple[RaftCore, int]] = {}
        self._led_epochs: dict[str, int] = {}
        self._leaders: dict[tuple[PartitionKey, int], str] = {}
        self._high_watermarks: dict[tuple[PartitionKey, int], int] = {}
        self._images: dict[int, tuple[str, MetadataImage]] = {}
        self._partition_epochs: dict[tuple[PartitionKey, int], PartitionImage] = {}
        self._highest: dict[TopicPartition, int] = {}
        self._committed: dict[PartitionKey, dict[int, int]] = {}
        """Up to where each leader epoch has committed."""

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

    # --- changes ----------------------------------------------------------------------------------------

    def on_replica(self, node: str, partition: Partition) -> None:
        """Its log's ends, role, ISR or high watermark has changed."""
        self._touched[node, partition.key] = partition
        if not self._is_due:
            self._is_due = True
            # In a context of no host: it runs whoever is paused.
            asyncio.get_running_loop().call_soon(self._check_touched, context=Context())

    def on_metadata(self, node: str, image: MetadataImage) -> None:
        """Another image is in force on a controller or broker."""
        self._try(partial(self._check_image, node, image))

    def on_quorum(self, node: str, core: RaftCore) -> None:
        """A controller has another role or epoch."""
        self._try(partial(self._check_voter, node, core))

    def forget(self, node: str) -> None:
        """A controller's disk was replaced: it begins again, without its epoch and its log."""
        self._led_epochs.pop(node, None)

    async def until_violated(self) -> None:
        """Raises ``Violated`` as soon as there is a reason, and never returns."""
        await self._violated.wait()
        self.raise_violation()

    def raise_violation(self) -> None:
        """Raises the ``Violated`` that was found, if any."""
        if self._violation is not None:
            raise self._violation

    def _check_touched(self) -> None:
        """Each replica that has changed, and who leads those that follow, once."""
        self._is_due = False
        touched, self._touched = self._touched, {}
        due: dict[Partition, str] = {}
        for (node, _), partition in touched.items():
            if self._cluster.is_alive(node) and partition.is_online:
                due[partition] = node
                if not isinstance(partition.role, LeaderState):
                    due |= self._led_by(partition)
        for partition, node in due.items():
            self._try(partial(self._check_replica, node, partition))

    def _led_by(self, partition: Partition) -> dict[Partition, str]:
        """The leader's replica of the epoch that ``partition`` is in, if it runs, with its node."""
        leader = self._leaders.get((partition.key, int(partition.leader_epoch)))
        found = None if leader is None else self._replica_on(leader, partition)
        return {} if leader is None or found is None else {found: leader}

    def _try(self, check: Callable[[], None]) -> None:
        """What runs inside a node's own call must not raise into it."""
        try:
            check()
        except Violated as violation:
            self._violation = self._violation or violation
            self._violated.set()

    # --- everything -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ``Violated``."""
        self.raise_violation()
        for name in self._cluster.controller_names:
            if self._cluster.is_alive(name):
                self._check_controller(name)
        self._check_quorum()
        for name in self._cluster.broker_names:
            if self._cluster.is_alive(name):
                self._check_broker(name)

    # --- the quorum and the metadata --------------------------------------------------------------------

    def _check_controller(self, name: str) -> None:
        server = self._cluster.controller(name)
        core = server.raft.core
        if core is not None:
            self._check_voter(name, core)
            self._check_image(name, server.controller.committed)

    def _check_quorum(self) -> None:
        """No majority lacks, durably, what a leader calls committed; whoever is dead may hold it.

        It was committed by a majority of its time: of those who vote now only so many can lack it.
        """
        names = [name for name in self._cluster.controller_names if self._cluster.is_alive(name)]
        cores = {controller_id(name): self._cluster.controller(name).raft.core for name in names}
        running = {node: core for node, core in cores.items() if core is not None}
        for leader in running.values():
            if isinstance(leader.role, Leader):
                voters = leader.voters
                voting = [core for core in running.values() if voters.has(core.node_id, core.directory_id)]
                held = [core.log.synced_offset for core in voting]
                lacking = sum(synced_offset < leader.high_watermark for synced_offset in held)
                if lacking >= voters.majority:
                    raise Violated(
                        f"the quorum's high watermark is {leader.high_watermark} in epoch {leader.epoch}, "
                        f"but {lacking} of {len(voters.ids)} voters do not have it on disk"
                    )

    def _check_voter(self, name: str, core: RaftCore) -> None:
        if core.epoch < self._least_epoch(name, core):
            raise Violated(f"{name} went back to quorum epoch {core.epoch}")
        self._cores[name] = core, core.epoch
        if isinstance(core.role, Leader):
            if len(core.voters.ids) > 1:
                # Others have heard of this epoch, so that no death of the process may take it back.
                self._led_epochs[name] = core.epoch
            known = self._quorum_leaders.setdefault(core.epoch, name)
            if known != name:
                raise Violated(f"{known} and {name} lead the quorum in epoch {core.epoch}")

    def _least_epoch(self, name: str, core: RaftCore) -> int:
        """Within one life the last one; what a dead process had not synced, it had told nobody."""
        known = self._cores.get(name)
        return known[1] if known is not None and known[0] is core else self._led_epochs.get(name, 0)

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
        if not {*placed.isr, *placed.elr} <= set(placed.replicas) or {*placed.isr} & {*placed.elr}:
            raise Violated(f"{what}: ISR {placed.isr}, ELR {placed.elr} of replicas {placed.replicas}")
        if placed.leader != NO_NODE:
            for member in placed.isr:
                if not image.brokers[member].active:
                    raise Violated(f"{what}: {image.brokers[member]} is in the ISR {placed.isr}")
            if placed.leader not in placed.isr:
                raise Violated(f"{what}: leader {placed.leader} is not in the ISR {placed.isr}")
            if image.brokers[placed.leader].fenced:
                raise Violated(f"{what}: leader {placed.leader} is fenced")
        self._check_elected(placed, what)
        self._check_move(placed, what)

    def _check_elected(self, placed: PartitionImage, what: str) -> None:
        key = ((placed.topic_id, placed.partition), int(placed.partition_epoch))
        seen = self._partition_epochs.setdefault(key, placed)
        if seen != placed:
            raise Violated(f"{what}: partition epoch {placed.partition_epoch} was {seen}, is {placed}")

    def _check_move(self, placed: PartitionImage, what: str) -> None:
        """Nobody is left without replicas by it, it is over when it can be, and who goes leaves an epoch."""
        moving = {*placed.adding_replicas, *placed.removing_replicas}
        if not (moving <= {*placed.replicas} and placed.original_replicas and placed.target_replicas):
            raise Violated(f"{what}: adding {placed.adding_replicas}, removing {placed.removing_replicas}")
        if placed.is_moving and {*placed.target_replicas} <= {*placed.isr}:
            raise Violated(f"{what}: still moving to {placed.target_replicas}, and all are in {placed.isr}")
        key = (placed.topic_id, placed.partition)
        before = self._partition_epochs.get((key, placed.partition_epoch - 1))
        gone = {*()} if before is None else {*before.replicas} - {*placed.replicas}
        if before is not None and gone and placed.leader_epoch <= before.leader_epoch:
            raise Violated(f"{what}: replicas {gone} went, and the leader epoch stays {placed.leader_epoch}")

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
        if key not in self._leaders:
            self._check_elected_leader(name, partition, state)
        known = self._leaders.setdefault(key, name)
        if known != name:
            raise Violated(f"{known} and {name} lead {partition.name} in epoch {state.leader_epoch}")
        if state.high_watermark < self._high_watermarks.get(key, 0):
            raise Violated(
                f"high watermark of {partition.name} on {name} went back from "
                f"{self._high_watermarks[key]} to {state.high_watermark} in epoch {state.leader_epoch}"
            )
        self._high_watermarks[key] = state.high_watermark
        self._committed.setdefault(partition.key, {})[int(state.leader_epoch)] = state.high_watermark
        self._note_highest(partition.name, state.high_watermark)
        self._check_in_sync(name, partition, state)
        self._check_epochs(name, partition, state)

    def _check_elected_leader(self, name: str, partition: Partition, state: LeaderState) -> None:
        """It has what was committed before. Who reads its election late is no leader any more by then."""
        before = self._committed.get(partition.key, {})
        committed = max((end for epoch, end in before.items() if epoch < state.leader_epoch), default=0)
        if state.epoch_start_offset < committed and not self._may_lose:
            raise Violated(
                f"{name} leads {partition.name} in epoch {state.leader_epoch} with a log that ended at "
                f"{state.epoch_start_offset}, but everything below {committed} was committed"
            )

    def _check_epochs(self, name: str, partition: Partition, state: LeaderState) -> None:
        """Committed records are the same everywhere: the same leader epochs wrote them in the ISR's logs.

        Not asked of compacted logs: who copies one whose first records of an epoch are compacted away learns
        that the epoch began at the first that is left, and no record is of another epoch for it.
        """
        if partition.log.config.is_compacted:
            return
        entries = partition.log.epochs.entries
        for node in state.isr:
            replica = self._replica_on(f"broker-{node}", partition)
            if replica is None or replica is partition or replica.log.epochs.entries == entries:
                continue
            lower = max(replica.log_start_offset, partition.log_start_offset)
            upper = min(replica.log_end_offset, state.high_watermark)
            own, others = (
                [entry for entry in each.log.epochs.entries if lower < entry[1] < upper]
                for each in (partition, replica)
            )
            if own != others:
                raise Violated(
                    f"{partition.name} below {upper}: leader epochs began at {own} on {name}, "
                    f"but at {others} on broker-{node}"
                )

    def _check_in_sync(self, name: str, partition: Partition, state: LeaderState) -> None:
        """A member of the ISR, in the life the leader knows, holds everything below the high watermark."""
        for follower in state.followers.values():
            if follower.node_id not in state.isr:
                continue
            member = f"broker-{follower.node_id}"
            replica = self._replica_on(member, partition)
            if replica is None or replica.log_end_offset >= state.high_watermark:
                continue
            if replica.leader_epoch > state.leader_epoch:
                # Moved away and back, it begins empty in a later epoch: this leader has not heard of its end.
                continue
            if self._is_known(name, member, follower):
                raise Violated(
                    f"{partition.name}: {member} is in the ISR {state.isr} of {name}, ends at "
                    f"{replica.log_end_offset}, high watermark {state.high_watermark}"
                )

    def _replica_on(self, member: str, partition: Partition) -> Partition | None:
        """That broker's replica of the same partition; None if it does not run or has failed."""
        replicas = self._cluster.broker(member).replicas if self._cluster.is_alive(member) else None
        replica = None if replicas is None else replicas.find(partition.name)
        if replica is None or not replica.is_online or replica.key != partition.key:
            return None
        return replica

    def _is_known(self, leader: str, member: str, follower: FollowerState) -> bool:
        """Not when a new registration took it out of the ISR before the leader heard of it."""
        known = self._cluster.broker(leader).observer.image.brokers.get(follower.node_id)
        status = self._cluster.broker(member).status()
        return known is not None and known.broker_epoch == follower.broker_epoch == status.broker_epoch


def leftover_folders(cluster: MemoryCluster) -> list[str]:
    """Folders of partitions on the disks of brokers that do not hold them, or not any more."""
    image = cluster.image
    return [
        f"{name} still has {path}/{folder}"
        for name in cluster.broker_names
        for path in cluster.config(name).log_dirs
        for folder in cluster.world.disk(name).list(path)
        if cluster.world.disk(name).is_dir(f"{path}/{folder}") and not _is_placed(image, folder, name)
    ]


def _is_placed(image: MetadataImage, folder: str, name: str) -> bool:
    topic, _, number = folder.rpartition("-")
    placed = image.partition(topic, int(number)) if number.isdecimal() else None
    return placed is not None and broker_id(name) in placed.replicas


def differing_replicas(cluster: MemoryCluster, topics: tuple[str, ...]) -> list[str]:
    """Where logs below the high watermark differ in any byte, once all has converged.

    Each replica compacts its log for itself: there the newest record of each key must be the same.
    """
    found: list[str] = []
    for topic in topics:
        image = cluster.image.topic(topic)
        for placed in () if image is None else image.partitions:
            found += _differing(cluster, TopicPartition(topic, placed.partition), placed)
    return found


def _differing(cluster: MemoryCluster, name: TopicPartition, placed: PartitionImage) -> Iterator[str]:
    copies: dict[str, bytes] = {}
    leader = _replica(cluster, placed.leader, name)
    upper, is_compacted = leader.high_watermark, leader.log.config.is_compacted
    for node in placed.replicas:
        replica = _replica(cluster, node, name)
        copies[f"broker-{node}"] = _content(replica, upper)
    first, *others = copies.items()
    for member, content in others:
        if content == first[1] or (is_compacted and _newest(content) == _newest(first[1])):
            continue
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


def _newest(content: bytes) -> dict[bytes | None, RecordTuple]:
    """The newest record of each key, but for tombstones, which may be gone."""
    found: dict[bytes | None, RecordTuple] = {}
    for header, position in iterate_batches(content):
        if not header.is_control:
            found |= {record[2]: record for record in decode_fast(content, position)}
    return {key: record for key, record in found.items() if record[3] is not None}


def _next_offset(data: bytes) -> int:
    return max(header.next_offset for header, _ in iterate_batches(data))
