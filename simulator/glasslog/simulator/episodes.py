"""What each kind of fault does to the cluster, never more than the guarantees bear.

Killed processes keep what they wrote, so any number may die.  Controllers sync, so any of them may lose
power; for brokers see ``power``.  An episode undoes what it did, or leaves it to the heal.  Refuses to know
clients, and when which kind comes (``plan``).
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import Operation
from glasslog.metadata.image import PartitionImage
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.power import PowerGuard
from glasslog.simulator.rot import BitFlip, segments
from glasslog.simulator.trace import Trace
from glasslog.simulator.voter_disks import VoterDisks
from glasslog.simulator.workload import TOPIC

_STOP_WITHIN_MS = 40_000
_FAILOVER_MS = 3_000


@dataclass(slots=True, kw_only=True)
class Ground:
    """What all episodes of a run share.

    ``ending``: nodes that are about to stop by themselves; ``refused``: those whose disk failed in this life.
    """

    cluster: MemoryCluster
    invariants: Invariants
    trace: Trace
    power: PowerGuard
    clients: tuple[str, ...]
    delay_ms: tuple[float, float]
    ending: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    active: list[asyncio.Task[None]] = field(default_factory=list)
    is_over: bool = False


class Disturbance:
    """One episode at work, with its own ``random``: leaving another one out shifts none of its draws."""

    def __init__(self, ground: Ground, random: Random, index: int) -> None:
        self._ground = ground
        self._cluster = ground.cluster
        self._network = ground.cluster.world.network
        self._random = random
        self._index = index
        self._clients = ground.clients
        self._nodes = (*ground.cluster.controller_names, *ground.cluster.broker_names)
        self._voter_disks = VoterDisks(ground.cluster, ground.invariants, random, self._note)
        self.kinds: Mapping[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill_any,
            "kill-leader": self._kill_leader,
            "kill-two-leaders": self._kill_two_leaders,
            "stop": self._stop_any,
            "controller-loses-power": self._controller_loses_power,
            "broker-loses-power": self._broker_loses_power,
            "pause": self._pause_any,
            "isolate": self._isolate_any,
            "halves": self._halves,
            "bridge": self._bridge,
            "one-way": self._one_way,
            "broker-without-controllers": self._broker_without_controllers,
            "leader-without-followers": self._leader_without_followers,
            "client-without-broker": self._client_without_broker,
            "slow-links": self._slow_links,
            "jittery-links": self._jittery_links,
            "lossy-calls": self._lossy_calls,
            "doubled-calls": self._doubled_calls,
            "partition-then-kill": self._partition_then_kill,
            "pause-then-kill": self._pause_then_kill,
            "clock-jump": self._clock_jump,
            "everybody-dies": self._everybody_dies,
            "disk-fails": self._disk_fails,
            "disk-full": self._disk_full,
            "bit-flip": self._bit_flip,
            "voter-loses-disk": self._voter_disks.lose_one,
        }

    # --- drawing ----------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._ground.trace.fault(text, index=self._index)

    async def _pass(self, least_ms: int, most_ms: int) -> None:
        await asyncio.sleep(self._random.uniform(least_ms, most_ms) / 1000)

    def _placed(self) -> Iterator[PartitionImage]:
        for topic in self._cluster.image.topics.values():
            yield from topic.partitions

    def _leader(self) -> str:
        """Some partition's leader, or any broker while there is none."""
        if not any(map(self._cluster.is_alive, self._cluster.broker_names)):
            return self._random.choice(self._cluster.broker_names)
        leaders = [f"broker-{placed.leader}" for placed in self._placed() if placed.has_leader]
        return self._random.choice(leaders or self._cluster.broker_names)

    def _any(self) -> str:
        return self._random.choice(self._nodes)

    # --- deaths -----------------------------------------------------------------------------------------

    async def _kill(self, name: str, *, power_loss: Keep | None = None) -> bool:
        if not self._cluster.is_alive(name) or self._ground.power.is_needed(name):
            return False
        self._ground.invariants.check()
        self._note(f"kill {name} {power_loss or ''}")
        await self._cluster.kill(name, power_loss=power_loss)
        return True

    def _start(self, name: str) -> None:
        if not self._cluster.is_alive(name):
            self._ground.refused.discard(name)
            self._note(f"start {name}")
            self._cluster.start(name)

    async def _kill_and_start(self, name: str) -> None:
        await self._kill(name)
        await self._pass(1, self._random.choice((20, 400, 4_000)))
        self._start(name)

    async def _kill_any(self) -> None:
        await self._kill_and_start(self._any())

    async def _kill_leader(self) -> None:
        await self._kill_and_start(self._leader())

    async def _kill_two_leaders(self) -> None:
        """The next leader dies soon after its election, the first comes back meanwhile (KIP-279)."""
        first = self._leader()
        await self._kill(first)
        await self._pass(1, 600)
        second = self._leader()
        self._start(first)
        await self._pass(1, 300)
        await self._kill(second)
        await self._pass(1, 1_500)
        self._start(second)

    async def _stop_any(self) -> None:
        name = self._any()
        if not self._cluster.is_alive(name) or self._ground.power.is_needed(name):
            return
        self._note(f"stop {name}")
        self._ground.ending.add(name)
        try:
            await self._cluster.stop(name, within_ms=_STOP_WITHIN_MS)
        except asyncio.CancelledError:
            # Somebody killed it meanwhile, or all is over.
            if self._ground.is_over:
                raise
        except StorageError as error:
            # Its disk refused meanwhile.
            if name not in self._ground.refused:
                raise
            self._note(f"{name} ended: {error}")
        self._ground.ending.discard(name)
        self._note(f"stopped {name}")
        await self._pass(1, 1_000)
        self._start(name)

    async def _controller_loses_power(self) -> None:
        name = self._random.choice(self._cluster.controller_names)
        keep: Keep = self._random.choice(("none", "torn"))
        await self._kill(name, power_loss=keep)
        await self._pass(1, 2_000)
        self._start(name)

    async def _broker_loses_power(self) -> None:
        """Only with everybody in sync and nothing else going on; see ``PowerGuard``."""
        if (
            self._network.drop_probability
            or len(self._ground.active) > 1
            or not self._ground.power.may_lose_power()
        ):
            return
        name = self._random.choice(self._cluster.broker_names)
        keep: Keep = self._random.choice(("none", "torn"))
        self._ground.power.watch(name)
        await self._kill(name, power_loss=keep)
        if not self._random.randrange(4):
            self._note(f"{name} gets an empty disk")
            self._cluster.world.disk(name).wipe()
        await self._pass(1, self._random.choice((50, 2_000)))
        self._start(name)

    async def _everybody_dies(self) -> None:
        for name in self._nodes:
            await self._kill(name)
        await self._pass(1, 500)
        names = list(self._nodes)
        self._random.shuffle(names)
        for name in names:
            await self._pass(0, 100)
            self._start(name)

    async def _disk_fails(self) -> None:
        """A disk refuses once: the node bears it, or ends rather than limp on; then it is restarted."""
        name = self._any()
        if not self._cluster.is_alive(name) or self._ground.power.is_needed(name):
            return
        operation: Operation = self._random.choice(("pwrite", "sync"))
        self._note(f"{operation} fails on {name}")
        disk = self._cluster.world.disk(name)
        disk.fail_next(operation, "*", OSError(errno.EIO, "the disk refused"))
        await self._until_given_up(name)
        disk.clear_failures()
        await self._kill_and_start(name)

    async def _disk_full(self) -> None:
        """A disk takes only a few bytes more: the node ends rather than limp on, and room is made."""
        name = self._any()
        if not self._cluster.is_alive(name) or self._ground.power.is_needed(name):
            return
        disk = self._cluster.world.disk(name)
        disk.capacity_bytes = disk.used_bytes() + self._random.randrange(4_000)
        self._note(f"the disk of {name} is full at {disk.capacity_bytes} bytes")
        try:
            await self._until_given_up(name)
        finally:
            disk.capacity_bytes = None
        await self._kill_and_start(name)

    async def _bit_flip(self) -> None:
        """A bit of one replica is wrong; nobody who has it right dies, until it has been mended.

        What nobody has read meanwhile is made right again: it could be the only copy later.
        """
        if self._network.drop_probability or len(self._ground.active) > 1:
            return
        name = self._random.choice(self._cluster.broker_names)
        disk = self._cluster.world.disk(name)
        paths = segments(disk, TOPIC)
        if not paths or not self._ground.power.may_lose_power():
            return
        path = self._random.choice(paths)
        flip = BitFlip(disk, path, self._random)
        self._note(f"a bit flips in {path} of {name} at {flip.position}")
        self._ground.power.hold()
        try:
            flip.make()
            await self._pass(200, 6_000)
        finally:
            self._note(f"{path} of {name} is {'made right' if flip.undo() else 'another by now'}")
            self._ground.power.release()

    async def _until_given_up(self, name: str) -> None:
        """The node ends with a ``StorageError``, or bears it for as long as this waits."""
        self._ground.ending.add(name)
        self._ground.refused.add(name)
        with suppress(AssertionError):
            error = await self._cluster.ended(name, within_ms=2_000)
            if error is not None and not isinstance(error, StorageError):
                raise error
            self._note(f"{name} ended: {error}")
        self._ground.ending.discard(name)

    # --- pauses -----------------------------------------------------------------------------------------

    async def _pause_any(self) -> None:
        name = self._leader() if self._random.randrange(2) else self._any()
        self._note(f"pause {name}")
        self._cluster.pause(name)
        await self._pass(50, self._random.choice((1_000, 12_000)))
        self._resume(name)

    def _resume(self, name: str) -> None:
        self._note(f"resume {name}")
        self._cluster.resume(name)

    async def _pause_then_kill(self) -> None:
        paused = self._leader()
        self._note(f"pause {paused}")
        self._cluster.pause(paused)
        await self._pass(50, 11_000)
        killed = self._leader()
        await self._kill(killed)
        await self._pass(1, 1_000)
        self._resume(paused)
        await self._pass(1, 1_000)
        self._start(killed)

    # --- partitions -------------------------------------------------------------------------------------

    async def _cut(self, pairs: Sequence[tuple[str, str]], *, for_ms: int = 5_000) -> None:
        for source, target in pairs:
            self._network.partition_one_way(source, target)
        await self._pass(100, for_ms)
        for source, target in pairs:
            self._network.heal(source, target)

    async def _isolate_any(self) -> None:
        name = self._leader() if self._random.randrange(2) else self._any()
        self._note(f"isolate {name}")
        others = [other for other in (*self._nodes, *self._clients) if other != name]
        with_clients = self._random.randrange(2)
        await self._cut(both_ways([name], others if with_clients else others[: len(self._nodes) - 1]))

    async def _halves(self) -> None:
        nodes = list(self._nodes)
        self._random.shuffle(nodes)
        middle = self._random.randrange(1, len(nodes))
        self._note(f"halves {nodes[:middle]} {nodes[middle:]}")
        await self._cut(both_ways(nodes[:middle], nodes[middle:]))

    async def _bridge(self) -> None:
        """Two halves that do not see each other, and one node that sees both."""
        nodes = list(self._nodes)
        self._random.shuffle(nodes)
        middle = len(nodes) // 2
        self._note(f"bridge {nodes[:middle]} {nodes[middle]} {nodes[middle + 1 :]}")
        await self._cut(both_ways(nodes[:middle], nodes[middle + 1 :]))

    async def _one_way(self) -> None:
        name = self._any()
        others = [other for other in self._nodes if other != name]
        is_deaf = self._random.randrange(2)
        self._note(f"{name} is {'deaf' if is_deaf else 'mute'}")
        await self._cut([(other, name) if is_deaf else (name, other) for other in others])

    async def _broker_without_controllers(self) -> None:
        name = self._leader()
        self._note(f"{name} is cut from the controllers")
        pairs = both_ways([name], self._cluster.controller_names)
        await self._cut(pairs, for_ms=self._random.choice((2_000, 14_000)))

    async def _leader_without_followers(self) -> None:
        name = self._leader()
        self._note(f"{name} is cut from the brokers")
        await self._cut(both_ways([name], [other for other in self._cluster.broker_names if other != name]))

    async def _client_without_broker(self) -> None:
        client, name = self._random.choice(self._clients), self._leader()
        self._note(f"{client} is cut from {name}")
        await self._cut(both_ways([client], [name]))

    async def _partition_then_kill(self) -> None:
        """The leader is cut off, another one leads; that one dies, the first is healed."""
        cut_off = self._leader()
        self._note(f"isolate {cut_off}, then kill")
        pairs = both_ways([cut_off], [other for other in self._nodes if other != cut_off])
        for source, target in pairs:
            self._network.partition_one_way(source, target)
        await self._pass(50, _FAILOVER_MS)
        killed = self._leader()
        await self._kill(killed)
        await self._pass(1, 1_000)
        for source, target in pairs:
            self._network.heal(source, target)
        await self._pass(1, 2_000)
        self._start(killed)

    # --- bad links --------------------------------------------------------------------------------------

    async def _slow_links(self) -> None:
        name = self._any()
        others = [other for other in (*self._nodes, *self._clients) if other != name]
        minimum_ms = self._random.choice((5, 50, 300))
        self._note(f"links of {name} take {minimum_ms} ms")
        for source, target in both_ways([name], others):
            self._network.set_delay(source, target, minimum_ms=minimum_ms, jitter_ms=minimum_ms)
        await self._pass(500, 6_000)
        self._network_delays([name], others)

    async def _jittery_links(self) -> None:
        """Calls overtake each other; what rides on one connection keeps its order."""
        name = self._any()
        others = [other for other in (*self._nodes, *self._clients) if other != name]
        jitter_ms = self._random.choice((20, 100, 400))
        self._note(f"links of {name} take up to {jitter_ms} ms")
        for source, target in both_ways([name], others):
            self._network.set_delay(source, target, minimum_ms=0.1, jitter_ms=jitter_ms)
        await self._pass(500, 6_000)
        self._network_delays([name], others)

    def _network_delays(self, names: Sequence[str], others: Sequence[str]) -> None:
        least_ms, most_ms = self._ground.delay_ms
        for source, target in both_ways(names, others):
            self._network.set_delay(source, target, minimum_ms=least_ms, jitter_ms=most_ms - least_ms)

    async def _lossy_calls(self) -> None:
        self._network.drop_probability = self._random.choice((0.02, 0.1, 0.4))
        self._note(f"calls are lost with {self._network.drop_probability}")
        await self._pass(500, 5_000)
        self._network.drop_probability = 0.0

    async def _doubled_calls(self) -> None:
        self._network.duplicate_probability = self._random.choice((0.05, 0.3, 0.6))
        self._note(f"calls are doubled with {self._network.duplicate_probability}")
        await self._pass(500, 5_000)
        self._network.duplicate_probability = 0.0

    async def _clock_jump(self) -> None:
        name = self._any()
        jump_ms = self._random.choice((-3_600_000, -5_000, 5_000, 3_600_000))
        self._note(f"the clock of {name} jumps by {jump_ms} ms")
        self._cluster.world.clock(name).wall_offset_ms += jump_ms


def both_ways(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Every directed link between two groups of hosts."""
    return [pair for one in first for other in second for pair in ((one, other), (other, one))]
