"""A scenario as values: the cluster it wants, the load on it, what is done to it and when.

Refuses to know files (``reading``), clusters, and who can do a fault (``backends``).  Times in milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from glasslog.chaos.scenario.targets import Target

DEFAULT_RECOVERY_MS = 60_000
DEFAULT_SLOW_SHARE = 0.9


class FaultKind(StrEnum):
    """What can be done to nodes. Whatever has a duration is undone after it, and at the latest in the end."""

    KILL = "kill"
    """SIGKILL; started again after the duration."""
    STOP = "stop"
    """Stopped in order; started again after the duration."""
    PAUSE = "pause"
    """SIGSTOP: connections stay open and nothing is answered."""
    RESTART = "restart"
    """Stopped in order and started again, one node after the other, each once the one before is in sync."""
    SLOW = "slow"
    """Paused and resumed many times a second, so that only a share of the time is left to it."""
    DISCONNECT = "disconnect"
    """Cut off from every other node and from clients."""
    PARTITION = "partition"
    """Cut off from other nodes; clients still reach it."""
    ONE_WAY = "one-way"
    """Nothing that it sends reaches other nodes, while it still hears them."""
    LATENCY = "latency"
    """What goes between it and other nodes takes longer."""
    BANDWIDTH = "bandwidth"
    """Little gets through to it at a time."""
    RESET = "reset"
    """Its connections are reset, over and over."""


BETWEEN_NODES = frozenset({FaultKind.PARTITION, FaultKind.ONE_WAY, FaultKind.LATENCY})
"""Kinds that may name who is at the other end; unless they do, that is every other node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing to do to whoever ``target`` is at that moment.

    ``others``: the other end of a fault between nodes, or nobody named.  ``delay_ms`` is of latency,
    ``rate_kb_per_s`` of bandwidth, ``share`` (of the time in which the node is frozen) of slow.
    """

    kind: FaultKind
    target: Target
    others: Target | None = None
    delay_ms: int = 0
    rate_kb_per_s: int = 0
    share: float = DEFAULT_SLOW_SHARE

    def __str__(self) -> str:
        details = {
            FaultKind.LATENCY: f" by {self.delay_ms} ms",
            FaultKind.BANDWIDTH: f" to {self.rate_kb_per_s} KB/s",
        }
        between = "" if self.others is None else f" from {self.others}"
        return f"{self.kind} {self.target}{between}{details.get(self.kind, '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """So long after the start."""

    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """So long after the end of the step before; of a restart, after its beginning."""

    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Again and again from ``from_ms`` on, ``times`` times or (0) as long as the scenario lasts."""

    ms: int
    from_ms: int
    times: int = 0


When = At | After | Every


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """When, what (one of ``faults``, drawn by the seed), and for how long (0: until all faults end)."""

    when: When
    faults: tuple[Fault, ...]
    duration_ms: int
    line: int = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        """Everybody that any of the faults names."""
        named = [each for fault in self.faults for each in (fault.target, fault.others)]
        return tuple(target for target in named if target is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic that the load goes to; made if it is not there."""

    name: str
    partitions: int = 3
    replicas: int = 3
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """What the cluster must have at least."""

    brokers: int = 3
    controllers: int = 3
    racks: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Producers:
    """``count`` producers alike. ``rate`` is records a second of each, ``size_bytes`` that of a value."""

    count: int = 1
    topic: str = ""
    acks: Literal["all", "1", "0"] = "all"
    is_idempotent: bool = True
    rate: int = 200
    size_bytes: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumers:
    """``members`` of one group."""

    group: str
    topic: str
    members: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything. ``duration_ms`` is that of load under faults; recovery and reading to the end follow."""

    name: str
    description: str
    seed: int
    duration_ms: int
    topics: tuple[Topic, ...]
    producers: tuple[Producers, ...]
    consumers: tuple[Consumers, ...]
    steps: tuple[Step, ...]
    cluster: ClusterShape = field(default_factory=ClusterShape)
    recovery_ms: int = DEFAULT_RECOVERY_MS

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """Every kind that a step may do, in their own order."""
        wanted = {fault.kind for step in self.steps for fault in step.faults}
        return tuple(kind for kind in FaultKind if kind in wanted)
