"""What a local cluster is going to be: which nodes, on which ports, with which proxies between them.

Asks the system for free ports and for nothing else; refuses to know processes.
"""

import base64
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local import layout, ports
from glasslog.client.cli.local.state import CLIENTS, ClusterState, NodeState, Proxies, Role

_Place = tuple[str, str]
"""What has a port: a node's listener, a link's proxy, or (nothing) the proxies' API."""


def new_cluster_id() -> str:
    """22 characters of Kafka's kind."""
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode("ascii")


def take(known: Sequence[NodeState], count: int, role: Role) -> tuple[NodeState, ...]:
    """The nodes that are known, and new ones up to ``count``; ports come later."""
    make = layout.broker if role == "broker" else layout.controller
    new = tuple(make(number, {}) for number in range(len(known) + 1, count + 1))
    return (*known, *new)


def new_controller(known: ClusterState) -> NodeState:
    """One more, with ports that nobody has. Raises ``CommandError`` when there are too many."""
    number = len(known.controllers) + 1
    if number > layout.MAX_NODES_PER_ROLE:
        raise CommandError(f"a local cluster has at most {layout.MAX_NODES_PER_ROLE} controllers")
    listeners = layout.LISTENERS["controller"]
    found = ports.free_ports(len(listeners), besides=_taken(known))
    return replace(layout.controller(number, dict(zip(listeners, found, strict=True))), joins=True)


def _taken(known: ClusterState) -> list[int]:
    """Every port that something of the cluster has."""
    taken = [port for node in known.nodes for port in (*node.ports.values(), *node.behind.values())]
    if known.proxies is not None:
        taken += [known.proxies.api_port, *(link.port for link in known.proxies.links)]
    return taken


def with_ports(planned: ClusterState) -> ClusterState:
    """Each listener with a port, and, where chaos is enabled, proxies: the ports they had, if still free.

    Nothing of it has a process. Raises ``CommandError`` when there are not enough free ports.
    """
    wanted = [(node.name, listener) for node in planned.nodes for listener in layout.LISTENERS[node.role]]
    had = {(node.name, listener): port for node in planned.nodes for listener, port in node.ports.items()}
    found = _settled(wanted, had, besides=())
    nodes = tuple(
        replace(
            node,
            process=None,
            ports={listener: found[node.name, listener] for listener in layout.LISTENERS[node.role]},
            behind={},
        )
        for node in planned.nodes
    )
    settled = replace(planned, nodes=nodes, proxies=None)
    return _with_proxies(settled, planned) if layout.is_for_chaos(planned.settings) else settled


def _with_proxies(settled: ClusterState, before: ClusterState) -> ClusterState:
    """Listeners that have clients move behind proxies; every way between two nodes gets one of its own."""
    between = [link for link in layout.links(settled.nodes) if link.source != CLIENTS]
    hidden = [(node.name, each) for node in settled.nodes for each in layout.BEHIND_PROXIES[node.role]]
    had = {(node.name, each): port for node in before.nodes for each, port in node.behind.items()}
    if (old := before.proxies) is not None:
        had |= {(link.name, ""): link.port for link in old.links} | {("", ""): old.api_port}
    wanted = [*hidden, *((link.name, "") for link in between), ("", "")]
    found = _settled(wanted, had, besides=_taken(settled))
    nodes = tuple(
        replace(node, behind={each: found[node.name, each] for each in layout.BEHIND_PROXIES[node.role]})
        for node in settled.nodes
    )
    links = [replace(link, port=found[link.name, ""]) for link in between]
    # The proxy of clients has the address by which they know the node.
    links += [
        replace(link, port=settled.node(link.target).ports[link.listener])
        for link in layout.links(nodes)
        if link.source == CLIENTS
    ]
    return replace(settled, nodes=nodes, proxies=Proxies(api_port=found["", ""], links=tuple(links)))


def _settled(
    wanted: Sequence[_Place], had: Mapping[_Place, int], *, besides: Collection[int]
) -> dict[_Place, int]:
    """A port for each: the one it had, if that is free still."""
    kept = {
        place: had[place]
        for place in wanted
        if place in had and had[place] not in besides and ports.is_free(had[place])
    }
    missing = [place for place in wanted if place not in kept]
    found = ports.free_ports(len(missing), besides={*besides, *kept.values()})
    return kept | dict(zip(missing, found, strict=True))
