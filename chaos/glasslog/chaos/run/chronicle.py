"""What happened to the cluster, from views of it: leaders, ISRs, the active controller, and why.

Pure: views and faults go in with their times, events come out.  A change is told with what was being done to
the node that lost something; it refuses to guess further.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from glasslog.chaos.scenario.targets import ClusterView, Placed
from glasslog.common.ids import TopicPartition

EventKind = Literal["fault", "healed", "leader", "isr", "controller", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, or was first seen, at ``at_ms``; ``partition``: of which, if of one."""

    at_ms: float
    kind: EventKind
    text: str
    partition: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A fault that hit these nodes; it lasts as long as ``end_ms`` is missing."""

    number: int
    label: str
    nodes: tuple[str, ...]
    start_ms: float
    end_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A partition from ``at_ms`` on."""

    at_ms: float
    leader: int
    isr: tuple[int, ...]


@dataclass(slots=True)
class Chronicle:
    """``events`` and, for drawings, every state of every partition and who was the active controller."""

    events: list[Event] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    states: dict[str, list[State]] = field(default_factory=dict)
    controllers: list[tuple[float, int]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    on_ended: Callable[[Span], object] = lambda span: None
    """Told of each fault when it is over."""

    _last: ClusterView | None = None
    _last_of: dict[str, int] = field(default_factory=dict)
    """The number of the last fault that hit a node."""

    # --- faults -----------------------------------------------------------------------------------------

    def begun(self, label: str, nodes: Sequence[str], now_ms: float) -> int:
        """A fault begins; returns its number, for ``ended``."""
        number = len(self.spans)
        self.spans.append(Span(number=number, label=label, nodes=tuple(nodes), start_ms=now_ms))
        self._last_of |= dict.fromkeys(nodes, number)
        self._tell(now_ms, "fault", label)
        return number

    def ended(self, number: int, text: str, now_ms: float) -> None:
        self.spans[number] = replace(self.spans[number], end_ms=now_ms)
        self._tell(now_ms, "healed", text)
        self.on_ended(self.spans[number])

    def note(self, text: str, now_ms: float) -> None:
        self._tell(now_ms, "note", text)

    def _tell(self, at_ms: float, kind: EventKind, text: str, partition: str = "") -> None:
        self.events.append(Event(at_ms=at_ms, kind=kind, text=text, partition=partition))

    def _because(self, node_ids: Sequence[int], now_ms: float) -> str:
        """What is being done to these nodes, or was done last."""
        names = {self._name(node_id) for node_id in node_ids}
        hit = [self._last_of[name] for name in sorted(names) if name in self._last_of]
        if not hit:
            return ""
        last = self.spans[max(hit)]
        if last.end_ms is None:
            return f"; {(now_ms - last.start_ms) / 1000:.2f} s into: {last.label}"
        return f"; {(now_ms - last.end_ms) / 1000:.2f} s after the end of: {last.label}"

    # --- views ------------------------------------------------------------------------------------------

    @property
    def view(self) -> ClusterView | None:
        """The newest of what brokers told, partition by partition."""
        return self._last

    def observe(self, view: ClusterView, now_ms: float) -> None:
        """A look at the cluster; brokers learn one after the other, so what another knew better stays."""
        self.names |= {node.node_id: node.name for node in view.nodes}
        last = self._last
        if last is not None:
            view = replace(
                view,
                partitions={
                    name: _newer(last.partitions.get(name), placed)
                    for name, placed in view.partitions.items()
                },
                controller=view.controller if view.controller >= 0 else last.controller,
            )
        self._last = view
        for name, placed in sorted(view.partitions.items()):
            self._compare(name, None if last is None else last.partitions.get(name), placed, now_ms)
        before = -1 if last is None else last.controller
        if view.controller != before:
            self.controllers.append((now_ms, view.controller))
            if before >= 0:
                text = f"active controller: {self._name(before)} -> {self._name(view.controller)}"
                self._tell(now_ms, "controller", text + self._because([before], now_ms))

    def _compare(self, name: TopicPartition, old: Placed | None, new: Placed, now_ms: float) -> None:
        if old is not None and (old.leader, old.leader_epoch, old.isr) == (
            new.leader,
            new.leader_epoch,
            new.isr,
        ):
            return
        self.states.setdefault(str(name), []).append(State(at_ms=now_ms, leader=new.leader, isr=new.isr))
        if old is not None:
            for kind, text in self._changes(old, new, now_ms):
                self._tell(now_ms, kind, f"{name}: {text}", str(name))

    def _changes(self, old: Placed, new: Placed, now_ms: float) -> Iterator[tuple[EventKind, str]]:
        if (old.leader, old.leader_epoch) != (new.leader, new.leader_epoch):
            who = f"leader {self._name(old.leader)} -> {self._name(new.leader)}"
            if old.leader == new.leader:
                who = f"leader {self._name(new.leader)} again"
            yield "leader", f"{who} (epoch {new.leader_epoch}){self._because([old.leader], now_ms)}"
        lost = [node for node in old.isr if node not in new.isr]
        came = [node for node in new.isr if node not in old.isr]
        if lost:
            yield "isr", f"ISR loses {self._listed(lost)}, has {len(new.isr)}{self._because(lost, now_ms)}"
        if came:
            yield "isr", f"ISR regains {self._listed(came)}, has {len(new.isr)}"

    def _name(self, node_id: int) -> str:
        return "nobody" if node_id < 0 else self.names.get(node_id, str(node_id))

    def _listed(self, node_ids: Sequence[int]) -> str:
        return ", ".join(map(self._name, sorted(node_ids)))


def _newer(old: Placed | None, new: Placed) -> Placed:
    return old if old is not None and old.partition_epoch > new.partition_epoch else new
