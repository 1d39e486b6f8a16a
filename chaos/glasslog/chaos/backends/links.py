"""Which proxies a fault between nodes is put on, and as what: from names to toxics.

A proxy is called like what it leads to, and like whom it serves if that is one node or the clients:
``broker-1-to-controller-2-controller``, ``clients-to-broker-1-grpc``, ``broker-3-kafka``.

Pure: refuses to know who has proxies, and where.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.client.cli.output import Json

CLIENTS = "clients"
"""In place of a node: everybody who is none."""

PREFIX = "chaos-"
"""What every toxic of ours begins with."""

_NAME = re.compile(r"(?:(broker-\d+|controller-\d+|clients)-to-)?(broker-\d+|controller-\d+)(?:-\w+)?")

Stream = Literal["upstream", "downstream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A proxy on the way from ``source`` to ``target``; without a source it is on everybody's way."""

    proxy: str
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A toxic on one stream of a proxy, as Toxiproxy's API takes it."""

    proxy: str
    toxic: str
    body: Mapping[str, Json]


def parse_link(proxy: str) -> Link | None:
    """From a proxy's name; nothing if it is not called like a link between nodes."""
    found = _NAME.fullmatch(proxy)
    return Link(proxy=proxy, source=found[1] or "", target=found[2]) if found else None


def nodes_of(links: Collection[Link]) -> list[str]:
    """Every node that a link is of."""
    return sorted({name for link in links for name in (link.source, link.target)} - {CLIENTS, ""})


def separates(links: Collection[Link]) -> bool:
    """Whether every two nodes have a way of their own, so that one can be cut off from another."""
    return all(link.source for link in links) and any(link.source != CLIENTS for link in links)


def placements(
    fault: Fault, names: Sequence[str], others: Collection[str], links: Collection[Link]
) -> list[Placement]:
    """The toxics that make up a fault of ``names``; none if no link is concerned."""
    kind, attributes = _toxic(fault)
    label = "-".join((str(fault.kind), *names))
    return [
        Placement(
            proxy=link.proxy,
            toxic=f"{PREFIX}{label}-{stream}",
            body={
                "name": f"{PREFIX}{label}-{stream}",
                "type": kind,
                "stream": stream,
                "attributes": dict(attributes),
            },
        )
        for link in links
        for stream, sender, receiver in _streams(link, names)
        if _is_concerned(fault.kind, sender, receiver, names, others)
    ]


def _toxic(fault: Fault) -> tuple[str, Mapping[str, int]]:
    match fault.kind:
        case FaultKind.LATENCY:
            return "latency", {"latency": fault.delay_ms}
        case FaultKind.BANDWIDTH:
            return "bandwidth", {"rate": fault.rate_kb_per_s}
        case FaultKind.RESET:
            return "reset_peer", {"timeout": 0}
        case _:
            # Swallows all, of connections that are open as well, and closes them when it is taken away.
            return "timeout", {"timeout": 0}


def _streams(link: Link, names: Sequence[str]) -> Iterator[tuple[Stream, str, str]]:
    """Both streams of a link with who sends and who receives; of everybody's way only to one of ``names``."""
    if link.source or link.target in names:
        yield "upstream", link.source, link.target
        yield "downstream", link.target, link.source


def _is_concerned(
    kind: FaultKind, sender: str, receiver: str, names: Sequence[str], others: Collection[str]
) -> bool:
    """Whether what ``sender`` sends to ``receiver`` is hit by a fault of ``names``."""
    beyond = {*others, ""}
    match kind:
        case FaultKind.ONE_WAY:
            return sender in names and receiver in beyond
        case FaultKind.BANDWIDTH:
            return receiver in names and sender in {*beyond, CLIENTS}
        case FaultKind.DISCONNECT | FaultKind.RESET:
            beyond.add(CLIENTS)
    return (sender in names and receiver in beyond) or (receiver in names and sender in beyond)
