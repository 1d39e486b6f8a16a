"""What a scenario is. Refuses to know any."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from glasslog.simulator.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A script over a simulated cluster.

    The cluster is healthy when ``script`` begins.  After it all faults end, the cluster must recover,
    everything is read, the history checked and the replicas compared; invariants are checked all along: a
    script need not.  ``origin`` names the proposal, issue or report that tells the story.  ``settings`` are
    for every node, ``racks`` of brokers by name.  ``file``: where it was read from, if it was; ``length_ms``
    is virtual time that it may take beyond the usual.  ``may_lose``: the story goes beyond what is promised:
    committed records may be lost.
    """

    name: str
    description: str
    origin: str
    script: Callable[[Stage], Awaitable[None]]
    controllers: int = 3
    brokers: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)
    racks: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    length_ms: int = 0
    may_lose: bool = False
