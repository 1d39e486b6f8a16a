"""Replaces the disk of a controller that votes, and has it become a voter anew.

Never more than Raft bears: only while each voter runs with the disk that it votes with, and nobody changes
the voters meanwhile.  (Who lets a sound voter go in the second before a lost one is missed leaves no
majority; no check of the leader's can see that.)  Refuses to know when that comes.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from glasslog.common.errors import GlasslogError
from glasslog.controller.raft.core import RaftCore
from glasslog.simulator.cluster import MemoryCluster, controller_id
from glasslog.simulator.invariants import Invariants
from glasslog.v1 import quorum_pb2 as pb

_PATIENCE_MS = 1_500
_ATTEMPTS = 10
_FEWEST_VOTERS = 3


class VoterDisks:
    """One episode's hands on them; ``note`` writes into the trace."""

    def __init__(
        self, cluster: MemoryCluster, invariants: Invariants, random: Random, note: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._invariants = invariants
        self._random = random
        self._note = note

    async def lose_one(self) -> None:
        """A voter dies with its disk and comes back with an empty one; nothing when too few could bear it."""
        active = self._cluster.active_controller()
        core = self._core(active) if active else None
        touched = self._cluster.voters_touched
        if core is None or touched.locked() or not self._may_lose_one(core):
            return
        await touched.acquire()
        name = self._random.choice([name for name in self._cluster.controller_names if self._votes(name)])
        self._note(f"{name} dies, and gets an empty disk")
        await self._cluster.kill(name)
        self._cluster.world.disk(name).wipe()
        self._invariants.forget(name)
        await self._pass(1, 1_000)
        if not self._cluster.is_alive(name):
            self._note(f"start {name}")
            self._cluster.start(name)
        for _ in range(_ATTEMPTS):
            await self._pass(100, 1_500)
            if self._votes(name):
                touched.release()
                return
            await self._replace(name)

    async def _replace(self, name: str) -> None:
        """The voter that it was goes, the one that it is comes; asked of some broker, and perhaps refused."""
        node_id, broker = controller_id(name), self._random.choice(self._cluster.broker_names)
        remove = pb.RemoveVoterRequest(voter_id=node_id, timeout_ms=_PATIENCE_MS)
        add = pb.AddVoterRequest(voter_id=node_id, timeout_ms=_PATIENCE_MS)
        with suppress(GlasslogError):
            await self._cluster.call(broker, "RemoveVoter", remove, pb.ChangeVotersResponse)
            await self._cluster.call(broker, "AddVoter", add, pb.ChangeVotersResponse)

    # --- what is known of the quorum --------------------------------------------------------------------

    def _core(self, name: str) -> RaftCore | None:
        return self._cluster.controller(name).raft.core if self._cluster.is_alive(name) else None

    def _votes(self, name: str) -> bool:
        """With the disk that it has, in a set that its log names."""
        core = self._core(name)
        return core is not None and core.voters.is_recorded and core.is_voter

    def _may_lose_one(self, active: RaftCore) -> bool:
        voting = [name for name in self._cluster.controller_names if self._votes(name)]
        cores = [self._core(name) for name in voting]
        agreed = all(core is not None and core.voters == active.voters for core in cores)
        return agreed and len(voting) == len(active.voters.ids) >= _FEWEST_VOTERS

    async def _pass(self, least_ms: int, most_ms: int) -> None:
        await asyncio.sleep(self._random.uniform(least_ms, most_ms) / 1000)
