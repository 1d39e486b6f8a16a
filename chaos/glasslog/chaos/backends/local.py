"""Breaks the processes of a ``glasslog local`` cluster, and the ways between them.

Refuses to know when and why.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from glasslog.chaos.backends.backend import PROCESS_KINDS
from glasslog.chaos.backends.toxiproxy import ProxyFaults, Toxiproxy
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Node
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.output import Json
from glasslog.common.errors import GlasslogError


class LocalBackend:
    """The cluster of one directory: signals, new processes, and the proxies between them if it has any."""

    def __init__(self, directory: Path) -> None:
        self._cluster = LocalCluster(directory)

    @property
    def description(self) -> str:
        return f"local processes in {self._cluster.directory}"

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return self._cluster.bootstrap

    @property
    def options(self) -> Mapping[str, str]:
        return {"--dir": str(self._cluster.directory)}

    @property
    def keepsake(self) -> Mapping[str, Json]:
        return {"kind": "local", "directory": str(self._cluster.directory)}

    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(name=node.name, node_id=node.node_id, role=node.role, rack=node.rack)
            for node in self._cluster.nodes()
        )

    def refusal(self, kind: FaultKind) -> str:
        if kind in PROCESS_KINDS:
            return ""
        found = self._cluster.state()
        if found.proxies is None:
            return (
                f"{kind} needs proxies between the nodes, and this cluster was started without: after "
                f"`glasslog local down`, `glasslog local up --set chaos.enabled=true` makes them"
            )
        linked = {link.target for link in found.proxies.links}
        if bare := [node.name for node in found.nodes if node.name not in linked]:
            return (
                f"{kind} needs proxies between the nodes, and {', '.join(bare)} came later: "
                f"`glasslog local down` and `up` makes them"
            )
        return self._cluster.trouble_of_proxies()

    async def unready(self) -> str:
        return await asyncio.to_thread(self._unready)

    def _unready(self) -> str:
        if trouble := self._cluster.trouble_of_proxies():
            return trouble
        for node in self._cluster.nodes():
            answer = self._cluster.readiness(node.name)
            if not answer.ready:
                return f"{node.name}: {answer.reason}"
        return ""

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.kill, name)

    async def stop(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.stop, name)

    async def start(self, name: str) -> None:
        await asyncio.to_thread(self._start, name)

    def _start(self, name: str) -> None:
        if self._cluster.condition(name) is Condition.GONE:
            self._cluster.start(name)

    async def pause(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.pause, name)

    async def resume(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.resume, name)

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        await self._faults(fault).disturb(fault, names, others)

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        await self._faults(fault).calm(fault, names, others)

    def _faults(self, fault: Fault) -> ProxyFaults:
        found = self._cluster.proxies
        if found is None:
            raise CommandError(self.refusal(fault.kind))
        return ProxyFaults(Toxiproxy(found.api))

    async def heal(self) -> None:
        await asyncio.to_thread(self._heal)

    def _heal(self) -> None:
        troubles = []
        try:
            self._heal_ways()
        except GlasslogError as error:
            troubles.append(str(error))
        for node in self._cluster.nodes():
            try:
                _HEALERS[self._cluster.condition(node.name)](self._cluster, node.name)
            except GlasslogError as error:
                troubles.append(f"{node.name}: {error}")
        if troubles:
            raise CommandError("; ".join(troubles))

    def _heal_ways(self) -> None:
        self._cluster.restore_proxies()
        if (found := self._cluster.proxies) is not None:
            self._cluster.wait_proxies()
            Toxiproxy(found.api).reset()


_HEALERS: Mapping[Condition, Callable[[LocalCluster, str], None]] = {
    Condition.GONE: LocalCluster.start,
    Condition.PAUSED: LocalCluster.resume,
    Condition.RUNNING: lambda cluster, name: None,
}
