"""What a scenario's script works with: a cluster, clients that record, faults by name, and expectations.

Everything done here is noted, so that a failing run tells its story.  Refuses to know scenarios.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from glasslog.broker.partition.partition import Partition
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.content import Keep
from glasslog.simulator.checker.history import History
from glasslog.simulator.clients import Clients, drain
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.convergence import recover, settle
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.outcome import Violated
from glasslog.simulator.surroundings import SimulatedSurroundings
from glasslog.simulator.trace import Trace


class Stage:
    """Nodes are named ``broker-1``, ``controller-2``; clients' hosts by whatever name they are made with.

    ``random`` is the seed's: a script draws from it what may vary from run to run; or it draws from ``seed``.
    """

    def __init__(
        self,
        cluster: MemoryCluster,
        history: History,
        invariants: Invariants,
        random: Random,
        trace: Trace,
        *,
        seed: int = 0,
    ) -> None:
        self.trace = trace
        self.seed = seed
        self.cluster = cluster
        self.network = cluster.world.network
        self.history = history
        self.invariants = invariants
        self.random = random
        self.clients = Clients(SimulatedSurroundings(cluster, invariants), history, trace)
        self._partitions: list[TopicPartition] = []
        self.recovery_ms = 0

    # --- steps ------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Into the trace."""
        self.trace.fault(text)

    async def wait(self, ms: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(ms / 1000)

    async def until(self, condition: Callable[[], bool], what: str, *, within_ms: int = 10_000) -> None:
        """Wait until ``condition`` holds; not within that time is a failure."""
        await self.cluster.until(condition, within_ms=within_ms, what=what)

    def expect(self, condition: bool, what: str) -> None:
        """A failure unless ``condition`` holds."""
        if not condition:
            raise Violated(what)

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        replication_factor: int = 3,
        configs: Mapping[str, str] | None = None,
    ) -> list[TopicPartition]:
        """A topic whose records are read and checked in the end; returns its partitions, led and in sync."""
        await self.cluster.create_topic(
            name, partitions=partitions, replication_factor=replication_factor, configs=configs
        )
        made = [TopicPartition(name, number) for number in range(partitions)]
        self._partitions += made
        for partition in made:
            await self.led(partition)
        return made

    async def led(self, partition: TopicPartition) -> None:
        """Wait until a leader leads, as the metadata says and as it knows itself."""
        await self.until(lambda: self._is_led(partition), f"{partition} is led")

    def leader(self, partition: TopicPartition) -> str:
        """The node that leads, as the newest metadata says; empty without one."""
        placed = self.cluster.image.partition(partition.topic, partition.partition)
        return f"broker-{placed.leader}" if placed is not None and placed.has_leader else ""

    def in_sync(self, partition: TopicPartition) -> list[str]:
        """The nodes of the ISR, as the newest metadata says; none before anybody has read it."""
        placed = self.cluster.image.partition(partition.topic, partition.partition)
        return [] if placed is None else [f"broker-{node}" for node in placed.isr]

    def replicas(self, partition: TopicPartition) -> list[str]:
        """The nodes of the assignment, the preferred leader first."""
        placed = self.cluster.partition(partition.topic, partition.partition)
        return [f"broker-{node}" for node in placed.replicas]

    async def level(self, partition: TopicPartition, *names: str) -> None:
        """Wait until the logs of these brokers end at the same offset."""
        await self.until(
            lambda: len({self.end_of(name, partition) for name in names}) == 1,
            f"{', '.join(names)} are level",
        )

    def end_of(self, name: str, partition: TopicPartition) -> int:
        """Where a running broker's log of the partition ends."""
        return self._replica(name, partition).log_end_offset

    def high_watermark_of(self, name: str, partition: TopicPartition) -> int:
        return self._replica(name, partition).high_watermark

    def damaged(self, name: str) -> int:
        """How many replicas of a running broker are known to be damaged."""
        replicas = self.cluster.broker(name).replicas
        return 0 if replicas is None else len(replicas.damaged())

    def _replica(self, name: str, partition: TopicPartition) -> Partition:
        replicas = self.cluster.broker(name).replicas
        found = None if replicas is None else replicas.find(partition)
        if found is None:
            raise Violated(f"{name} has no replica of {partition}")
        return found

    def _is_led(self, partition: TopicPartition) -> bool:
        image = self.cluster.image.partition(partition.topic, partition.partition)
        if image is None or not image.has_leader:
            return False
        replica = self.cluster.broker(f"broker-{image.leader}").replicas
        found = None if replica is None else replica.find(partition)
        return found is not None and found.leader_id == image.leader

    # --- faults -----------------------------------------------------------------------------------------

    async def kill(self, name: str, *, power_loss: Keep | None = None) -> None:
        """As by SIGKILL; with ``power_loss`` its disk loses what was not synced."""
        self.invariants.check()
        self.note(f"kill {name} {power_loss or ''}".rstrip())
        await self.cluster.kill(name, power_loss=power_loss)

    async def stop(self, name: str) -> None:
        """As by SIGTERM; returns when it has ended."""
        self.note(f"stop {name}")
        await self.cluster.stop(name, within_ms=60_000)

    def start(self, name: str, *, empty_disk: bool = False) -> None:
        """A new process, perhaps on a new disk."""
        self.note(f"start {name}{' on an empty disk' if empty_disk else ''}")
        if empty_disk:
            self.cluster.world.disk(name).wipe()
        self.cluster.start(name)

    def pause(self, name: str) -> None:
        """As by SIGSTOP."""
        self.note(f"pause {name}")
        self.cluster.pause(name)

    def resume(self, name: str) -> None:
        self.note(f"resume {name}")
        self.cluster.resume(name)

    def cut(self, first: str, *others: str, one_way: bool = False) -> None:
        """Nothing passes between ``first`` and each of ``others``; ``one_way``: only not from ``first``."""
        self.note(f"cut {first} {'->' if one_way else '|'} {', '.join(others)}")
        for other in others:
            self.network.partition_one_way(first, other)
            if not one_way:
                self.network.partition_one_way(other, first)

    def heal(self, first: str | None = None, second: str | None = None) -> None:
        """End every cut, those of one host, or those between two."""
        self.note(f"heal {first or 'all'} {second or ''}".rstrip())
        self.network.heal(first, second)

    def damage(self, name: str, path: str) -> None:
        """One bit of a file of a host is wrong, or its end is missing."""
        disk = self.cluster.world.disk(name)
        size_bytes = len(disk.read(path))
        position = self.random.randrange(size_bytes)
        if self.random.randrange(2):
            self.note(f"a bit flips in {path} of {name} at {position}")
            disk.flip_bit(path, position, bit=self.random.randrange(8))
        else:
            self.note(f"{path} of {name} is cut from {size_bytes} to {position} bytes")
            disk.open(path).truncate(position)

    # --- the end ----------------------------------------------------------------------------------------

    def make_whole(self) -> None:
        """End all faults, start whoever is dead."""
        self.heal()
        for name in (*self.cluster.controller_names, *self.cluster.broker_names):
            self.cluster.resume(name)
            if not self.cluster.is_alive(name):
                self.start(name)

    async def finish(self) -> None:
        """Make it whole, demand that the cluster recovers, read everything."""
        self.make_whole()
        self.recovery_ms = max(self.recovery_ms, await recover(self.cluster))
        async with asyncio.timeout(60):
            await drain(self.clients, self._partitions)
        await settle(self.cluster, sorted({partition.topic for partition in self._partitions}))
