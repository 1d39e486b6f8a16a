"""Breaks the ways of a cluster of which nothing but its Toxiproxy and its brokers can be reached.

Refuses to know where the nodes run, and when a fault is due.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from glasslog.chaos.backends.backend import PROCESS_KINDS
from glasslog.chaos.backends.links import CLIENTS, Link, nodes_of, separates
from glasslog.chaos.backends.toxiproxy import ProxyFaults, Toxiproxy
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Node, Role
from glasslog.client.admin import Admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json

BETWEEN_TWO = frozenset({FaultKind.PARTITION, FaultKind.ONE_WAY, FaultKind.DISCONNECT})
"""Kinds that need a proxy for each two nodes; for the others one for each node does."""


class ProxiesBackend:
    """The proxies of one server; ``nodes`` are those of the cluster (``nodes_behind``)."""

    def __init__(self, server: Toxiproxy, bootstrap: Sequence[str], nodes: Sequence[Node]) -> None:
        self._server = server
        self._bootstrap = tuple(bootstrap)
        self._nodes = tuple(nodes)
        self._faults = ProxyFaults(server)

    @property
    def description(self) -> str:
        return f"the proxies at {self._server.address}"

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return self._bootstrap

    @property
    def options(self) -> Mapping[str, str]:
        return {
            "--on": "proxies",
            "--toxiproxy": self._server.address,
            "--bootstrap": ",".join(self._bootstrap),
        }

    @property
    def keepsake(self) -> Mapping[str, Json]:
        return {"kind": "proxies", "address": self._server.address, "bootstrap": list(self._bootstrap)}

    def nodes(self) -> tuple[Node, ...]:
        return self._nodes

    def refusal(self, kind: FaultKind) -> str:
        if kind in PROCESS_KINDS:
            return f"{kind} happens to processes, and of this cluster only the proxies can be reached"
        return refusal_of_links(kind, self._server.links(), self._server.address)

    async def unready(self) -> str:
        await asyncio.to_thread(self._server.links)
        return ""

    async def kill(self, name: str) -> None:
        raise CommandError(self.refusal(FaultKind.KILL))

    async def stop(self, name: str) -> None:
        raise CommandError(self.refusal(FaultKind.STOP))

    async def start(self, name: str) -> None:
        raise CommandError(self.refusal(FaultKind.STOP))

    async def pause(self, name: str) -> None:
        raise CommandError(self.refusal(FaultKind.PAUSE))

    async def resume(self, name: str) -> None:
        raise CommandError(self.refusal(FaultKind.PAUSE))

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        await self._faults.disturb(fault, names, others)

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        await self._faults.calm(fault, names, others)

    async def heal(self) -> None:
        await self._faults.end_all()


def refusal_of_links(kind: FaultKind, links: Sequence[Link], address: str) -> str:
    """Why these proxies can not do this kind of fault between nodes; empty if they can."""
    if not links:
        return (
            f"{kind} needs proxies between the nodes, and none at {address} is named like broker-1-kafka, or "
            f"broker-2-to-broker-1-kafka"
        )
    if kind in BETWEEN_TWO and not separates(links):
        return (
            f"{kind} needs a proxy for each two nodes, named like broker-2-to-broker-1-kafka; those at "
            f"{address} are for everybody: latency, bandwidth and reset do with that"
        )
    if kind is FaultKind.DISCONNECT and not any(link.source == CLIENTS for link in links):
        return (
            f"{kind} needs proxies for clients too, named like clients-to-broker-1-grpc, and there are none "
            f"at {address}; partition does without"
        )
    return ""


async def nodes_behind(links: Sequence[Link], admin: Admin) -> tuple[Node, ...]:
    """All nodes of the cluster, by the names that proxies give them.

    Raises ``CommandError`` when a broker has no proxy, and what ``Admin`` raises.
    """
    known = (await admin.describe_cluster()).brokers
    brokers: dict[int, str] = {broker.node_id: broker.rack for broker in known}
    voters = [voter.node_id for voter in (await admin.describe_quorum()).voters]
    named = nodes_of(links)
    names = _named(sorted(brokers), [name for name in named if name.startswith("broker-")], "broker")
    of_voters = _named(
        sorted(voters), [name for name in named if name.startswith("controller-")], "controller"
    )
    return (
        *_nodes(of_voters, {}, "controller"),
        *_nodes(names, brokers, "broker"),
    )


def _nodes(names: Mapping[int, str], racks: Mapping[int, str], role: Role) -> list[Node]:
    return [
        Node(name=name, node_id=node_id, role=role, rack=racks.get(node_id, ""))
        for node_id, name in names.items()
    ]


def _named(ids: Sequence[int], names: Sequence[str], role: Role) -> dict[int, str]:
    """Whose name which is: by the id in it, or else both are counted from the lowest on.

    Controllers without any proxy are named by their place.
    """
    by_id = {int(name.rpartition("-")[2]): name for name in names}
    if set(by_id) == set(ids):
        return {node_id: by_id[node_id] for node_id in ids}
    if len(by_id) == len(ids):
        return dict(zip(ids, (by_id[number] for number in sorted(by_id)), strict=True))
    if role == "controller" and not names:
        return {node_id: f"controller-{place}" for place, node_id in enumerate(ids, 1)}
    known = ", ".join(names) or "none"
    raise CommandError(
        f"proxies are missing: the cluster has {len(ids)} {role}s ({', '.join(map(str, ids))}), and there "
        f"are proxies of {known}"
    )
