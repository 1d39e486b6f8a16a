"""What a run asks of those who can break nodes. Refuses to know any of them.

Nodes go by name.  ``heal`` is by state and not by memory: it makes everything right that this backend can
make wrong, whoever did it, so that another process can do it once the one that ran the scenario is gone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Node
from glasslog.client.cli.output import Json

PROCESS_KINDS = frozenset(
    {FaultKind.KILL, FaultKind.STOP, FaultKind.PAUSE, FaultKind.RESTART, FaultKind.SLOW}
)
"""Kinds that happen to a process; the others happen to what goes between processes."""


class Backend(Protocol):
    """One way in which a cluster runs. Methods raise ``GlasslogError`` when something can not be done."""

    @property
    def description(self) -> str:
        """What it breaks, for people: as in "local processes in DIR"."""
        ...

    @property
    def bootstrap(self) -> Sequence[str]:
        """Where clients find the cluster."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """The options of ``glasslog chaos run`` that choose this backend, by name."""
        ...

    @property
    def keepsake(self) -> Mapping[str, Json] | None:
        """What ``glasslog.chaos.watchdog`` needs to make this backend again; nothing if no one must heal."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """All nodes that it knows, brokers and controllers."""
        ...

    def refusal(self, kind: FaultKind) -> str:
        """Why it can not do this kind of fault, and what could; empty if it can."""
        ...

    async def unready(self) -> str:
        """What keeps nodes from being ready, in a few words; empty when all of them are."""
        ...

    async def kill(self, name: str) -> None: ...

    async def stop(self, name: str) -> None:
        """In order; returns when it is gone."""
        ...

    async def start(self, name: str) -> None:
        """Begin to start it; a node that runs is left alone."""
        ...

    async def pause(self, name: str) -> None: ...

    async def resume(self, name: str) -> None: ...

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        """Begin a fault between nodes: ``names`` on the one side, ``others`` on the other."""
        ...

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        """End it."""
        ...

    async def heal(self) -> None:
        """Every node runs, nothing is paused, cut or slowed down. Does as much as it can before it raises."""
        ...
