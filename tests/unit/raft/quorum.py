"""A quorum of real nodes in one in-memory world, for the tests of the node. It refuses to know any rule."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from glasslog.common.addresses import Voter
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.controller.raft.node import RaftNode
from glasslog.controller.raft.types import CommittedBatch, QuorumConfig, SnapshotSource
from glasslog.metadata.snapshot import Snapshot, SnapshotId

CLUSTER = "quorum-of-the-tests"
PORT = 9093


class Recorder:
    """A listener that remembers everything, and checks the order of batches."""

    def __init__(self) -> None:
        self.batches: list[CommittedBatch] = []
        self.events: list[tuple[str, int, int]] = []
        self.snapshots: list[SnapshotId] = []

    def on_committed(self, batch: CommittedBatch) -> None:
        if self.batches:
            assert batch.base_offset >= self.batches[-1].next_offset
        self.batches.append(batch)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Its values are what the batches before it held, as ``take_snapshot`` wrote them."""
        self.snapshots.append(snapshot.id)
        values = tuple(value for batch in snapshot.batches for value in batch)
        self.batches = []
        if values:
            self.batches = [CommittedBatch(base_offset=Offset(0), epoch=snapshot.id.epoch, records=values)]

    def take_snapshot(self) -> SnapshotSource:
        values = self.values
        return lambda: iter([tuple(values)])

    def on_leader(self, epoch: int) -> None:
        self.events.append(("leader", epoch, -1))

    def on_not_leader(self, epoch: int, leader_id: NodeId) -> None:
        self.events.append(("not leader", epoch, leader_id))

    @property
    def values(self) -> list[bytes]:
        return [value for batch in self.batches for value in batch.records]

    @property
    def leads(self) -> bool:
        return bool(self.events) and self.events[-1][0] == "leader"


class Member:
    """One voter's process: what runs, and what it told."""

    def __init__(
        self, world: MemoryWorld, node_id: int, voters: tuple[Voter, ...], config: QuorumConfig
    ) -> None:
        self.host = f"controller-{node_id}"
        self.recorder = Recorder()
        self._runtime = world.runtime(self.host)
        self.node = RaftNode(
            runtime=self._runtime,
            log_dir="metadata",
            node_id=NodeId(node_id),
            cluster_id=CLUSTER,
            voters=voters,
            config=config,
            listener=self.recorder,
        )
        self.task = asyncio.create_task(self._run(), name=self.host)

    async def _run(self) -> None:
        listener = await self._runtime.transport.listen(f"{self.host}:{PORT}", self.node.services())
        try:
            await self.node.run()
        finally:
            await listener.close()


class Quorum:
    """Voters by id; ``start`` begins a new life of one."""

    def __init__(self, world: MemoryWorld, size: int = 3, *, config: QuorumConfig | None = None) -> None:
        self.world = world
        self.config = config or QuorumConfig()
        self.voters = tuple(
            Voter(node_id=node_id, address=f"controller-{node_id}:{PORT}") for node_id in range(1, size + 1)
        )
        self.members: dict[int, Member] = {}

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids or range(1, len(self.voters) + 1):
            self.members[node_id] = Member(self.world, node_id, self.voters, self.config)

    async def kill(self, node_id: int, *, power_loss: Keep | None = None) -> None:
        member = self.members.pop(node_id)
        self.world.kill(member.host, power_loss=power_loss)
        member.task.cancel()
        with suppress(asyncio.CancelledError):
            await member.task

    async def stop(self, node_id: int) -> None:
        member = self.members.pop(node_id)
        await member.node.shutdown()
        await member.task

    async def stop_all(self) -> None:
        for node_id in list(self.members):
            await self.stop(node_id)

    async def leader(self, *, after_epoch: int = 0) -> Member:
        """The member that leads, once there is one that said so and the others know it."""

        def found() -> Member | None:
            leading = [each for each in self.members.values() if each.recorder.leads]
            newest = max(leading, key=lambda each: each.node.epoch, default=None)
            is_new = newest is not None and newest.node.epoch > after_epoch
            return newest if is_new else None

        await until(lambda: found() is not None)
        member = found()
        assert member is not None
        return member

    async def all_know(self, leader: Member) -> None:
        leader_id = leader.node.leader_id
        assert leader_id != NO_NODE
        await until(lambda: all(each.node.leader_id == leader_id for each in self.members.values()))


async def until(condition: Callable[[], bool], *, within_ms: int = 10_000) -> None:
    """Wait in virtual time."""
    for _ in range(within_ms):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"not within {within_ms} ms")
