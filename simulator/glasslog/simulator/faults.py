"""Brings the faults of a plan about, one after the other or overlapping, and ends them all.

Refuses to know what a kind of fault does (``episodes``) and when which one comes (``plan``).
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from random import Random

from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.episodes import Disturbance, Ground, both_ways
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.plan import Plan
from glasslog.simulator.power import PowerGuard
from glasslog.simulator.trace import Trace


class Faults:
    """``run`` the plan, then ``heal``. At most ``plan.at_once`` episodes overlap: one more is left out."""

    def __init__(
        self,
        cluster: MemoryCluster,
        invariants: Invariants,
        trace: Trace,
        plan: Plan,
        *,
        skipped: Collection[int],
        clients: tuple[str, ...],
    ) -> None:
        self._plan = plan
        self._skipped = skipped
        self._trace = trace
        self._ground = Ground(
            cluster=cluster,
            invariants=invariants,
            trace=trace,
            power=PowerGuard(cluster),
            clients=clients,
            delay_ms=plan.delay_ms,
        )
        self._nodes = (*cluster.controller_names, *cluster.broker_names)

    async def run(self) -> None:
        """Begin the episodes when they are due, and break the last ones off."""
        loop = asyncio.get_running_loop()
        began, ground = loop.time(), self._ground
        for episode in self._plan.episodes:
            await asyncio.sleep(began + episode.at_ms / 1000 - loop.time())
            self._reap()
            if episode.index not in self._skipped and len(ground.active) < self._plan.at_once:
                self._trace.faults[episode.kind] += 1
                random = Random(f"episode {self._plan.seed} {episode.index}")
                work = self._disturb(Disturbance(ground, random, episode.index), episode.kind)
                ground.active.append(asyncio.create_task(work, name=episode.kind))
        end_s = began + (self._plan.faulty_ms + self._plan.calm_ms) / 1000
        await asyncio.sleep(max(0.0, end_s - loop.time()))
        self._reap()
        ground.is_over = True
        for task in ground.active:
            task.cancel()
        for task in ground.active:
            with suppress(asyncio.CancelledError):
                await task

    async def heal(self) -> None:
        """Undo what is left: cuts, pauses, delays, chances; start whoever is dead or was about to stop."""
        cluster, network = self._ground.cluster, self._ground.cluster.world.network
        self._trace.fault("heal")
        network.heal()
        network.drop_probability = network.duplicate_probability = 0.0
        everybody = (*self._nodes, *self._ground.clients)
        least_ms, most_ms = self._plan.delay_ms
        for source, target in both_ways(everybody, everybody):
            network.set_delay(source, target, minimum_ms=least_ms, jitter_ms=most_ms - least_ms)
        for name in self._nodes:
            cluster.resume(name)
            disk = cluster.world.disk(name)
            disk.clear_failures()
            disk.capacity_bytes = None
            if name in self._ground.ending:
                await cluster.kill(name)
            if not cluster.is_alive(name):
                cluster.start(name)

    def _reap(self) -> None:
        for task in [task for task in self._ground.active if task.done()]:
            self._ground.active.remove(task)
            task.result()

    async def _disturb(self, disturbance: Disturbance, kind: str) -> None:
        await disturbance.kinds[kind]()
