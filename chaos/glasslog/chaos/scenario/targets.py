"""Whom a fault hits: a role that is looked up at the moment, from a view of the cluster.

Pure: text, views and draws in, names of nodes out.  Refuses to know how a view is got, and what is done to
the nodes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, assert_never

from glasslog.common.ids import TopicPartition

T = TypeVar("T")
Role = Literal["broker", "controller"]

GRAMMAR = (
    "leader of TOPIC[-N], follower of TOPIC[-N], followers of TOPIC[-N], active controller, "
    "standby controller, broker N, controller N, rack NAME, any broker, any controller, any node, "
    "all brokers, all controllers, majority of controllers, minority of controllers"
)


class Draws(Protocol):
    """What is used of a source of randomness."""

    def randrange(self, stop: int, /) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node by its name, as in ``broker-1``; ``rack`` is empty where there is none."""

    name: str
    node_id: int
    role: Role
    rack: str = ""

    @property
    def number(self) -> int:
        """The one that ends its name."""
        return int(self.name.rpartition("-")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A partition; leader -1 is none."""

    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader_epoch: int = 0
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """The cluster at one moment; ``controller`` is -1 while none is known to be active."""

    nodes: tuple[Node, ...]
    partitions: Mapping[TopicPartition, Placed]
    controller: int

    def of(self, role: Role) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.role == role)

    def node(self, node_id: int) -> Node | None:
        return next((node for node in self.nodes if node.node_id == node_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPartition:
    """The leader, one follower or all of them; of one partition, or (-1) of one that is drawn."""

    who: Literal["leader", "follower", "followers"]
    topic: str
    partition: int = -1

    def __str__(self) -> str:
        return f"{self.who} of {self.topic}{f'-{self.partition}' if self.partition >= 0 else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneNode:
    """A node by the number in its name."""

    role: Role
    number: int

    def __str__(self) -> str:
        return f"{self.role} {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfController:
    """The controller that leads the quorum, or one that does not."""

    who: Literal["active", "standby"]

    def __str__(self) -> str:
        return f"{self.who} controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """Every broker of a rack; ``b`` is also ``rack-b``."""

    name: str

    def __str__(self) -> str:
        return f"rack {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    """One that is drawn, or all, of a role or of both."""

    how: Literal["any", "all"]
    role: Role | Literal["node"]

    def __str__(self) -> str:
        return f"{self.how} {self.role}{'s' if self.how == 'all' else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many controllers that those left are, or just are not, a quorum; drawn."""

    how: Literal["majority", "minority"]

    def __str__(self) -> str:
        return f"{self.how} of controllers"


Target = OfPartition | OneNode | OfController | Rack | Some | Share

_OF_PARTITION = re.compile(r"(leader|follower|followers) of (\S+)")
_ONE_NODE = re.compile(r"(broker|controller)[ -]([1-9]\d{0,3})")
_OF_CONTROLLER = re.compile(r"(active|standby) controller")
_RACK = re.compile(r"rack (\S+)")
_SOME = re.compile(r"(?:(any) (broker|controller|node)|(all) (broker|controller|node)s)")
_SHARE = re.compile(r"(majority|minority) of controllers")


def parse_target(text: str, topics: Sequence[str]) -> Target:
    """Raises ``ValueError`` that says what is allowed. ``topics`` are those of the scenario."""
    text = " ".join(text.split())
    if found := _OF_PARTITION.fullmatch(text):
        return _of_partition(found[1], found[2], topics)
    if found := _ONE_NODE.fullmatch(text):
        return OneNode(role=_role(found[1]), number=int(found[2]))
    if found := _OF_CONTROLLER.fullmatch(text):
        return OfController(who="active" if found[1] == "active" else "standby")
    if found := _RACK.fullmatch(text):
        return Rack(name=found[1])
    if found := _SOME.fullmatch(text):
        name = found[2] or found[4]
        return Some(how="any" if found[1] else "all", role="node" if name == "node" else _role(name))
    if found := _SHARE.fullmatch(text):
        return Share(how="majority" if found[1] == "majority" else "minority")
    raise ValueError(f"{text!r} is no target; there are: {GRAMMAR}")


def _role(name: str) -> Role:
    return "broker" if name == "broker" else "controller"


def _of_partition(who: str, where: str, topics: Sequence[str]) -> OfPartition:
    kind: Literal["leader", "follower", "followers"]
    kind = "leader" if who == "leader" else "follower" if who == "follower" else "followers"
    if where in topics:
        return OfPartition(who=kind, topic=where)
    topic, _, number = where.rpartition("-")
    if topic in topics and number.isdecimal():
        return OfPartition(who=kind, topic=topic, partition=int(number))
    raise ValueError(f"{where!r} is no topic or partition of this scenario; its topics: {', '.join(topics)}")


def absence(target: Target, nodes: Sequence[Node]) -> str:
    """Why no node can ever be this target, whatever happens; empty if one can."""
    match target:
        case OneNode(role=role, number=number):
            names = [node.name for node in nodes if node.role == role]
            is_there = any(node.number == number for node in nodes if node.role == role)
        case Rack():
            names = sorted({node.rack for node in nodes} - {""})
            is_there = any(_is_in(target, node) for node in nodes)
        case _:
            return ""
    return "" if is_there else f"there is no {target}; there are {', '.join(names) or 'none'}"


def _is_in(rack: Rack, node: Node) -> bool:
    return node.rack in (rack.name, f"rack-{rack.name}")


def resolve(target: Target, view: ClusterView, draws: Draws) -> tuple[str, ...]:
    """Names of the nodes that the target is now, in the order of the view; none when nobody is it."""
    match target:
        case OfPartition():
            return _holders(target, view, draws)
        case OneNode(role=role, number=number):
            return tuple(node.name for node in view.of(role) if node.number == number)
        case OfController(who="active"):
            return tuple(node.name for node in view.of("controller") if node.node_id == view.controller)
        case OfController():
            standby = [node.name for node in view.of("controller") if node.node_id != view.controller]
            return _one(standby, draws)
        case Rack():
            return tuple(node.name for node in view.nodes if _is_in(target, node))
        case Some(how=how, role=role):
            names = [node.name for node in (view.nodes if role == "node" else view.of(role))]
            return _one(names, draws) if how == "any" else tuple(names)
        case Share(how=how):
            names = [node.name for node in view.of("controller")]
            majority = len(names) // 2 + 1
            return _drawn(names, majority if how == "majority" else len(names) - majority, draws)
    assert_never(target)


def _holders(target: OfPartition, view: ClusterView, draws: Draws) -> tuple[str, ...]:
    wanted = [
        placed
        for name, placed in sorted(view.partitions.items())
        if name.topic == target.topic and target.partition in (-1, name.partition) and placed.leader >= 0
    ]
    found = _one(wanted, draws)
    if not found:
        return ()
    leader, followers = found[0].leader, [each for each in found[0].replicas if each != found[0].leader]
    match target.who:
        case "leader":
            ids: Sequence[int] = (leader,)
        case "follower":
            ids = _one(followers, draws)
        case "followers":
            ids = followers
    return tuple(node.name for node in view.of("broker") if node.node_id in ids)


def _one(options: Sequence[T], draws: Draws) -> tuple[T, ...]:
    return (options[draws.randrange(len(options))],) if options else ()


def _drawn(names: Sequence[str], count: int, draws: Draws) -> tuple[str, ...]:
    left, taken = list(names), set[str]()
    for _ in range(count):
        taken.add(left.pop(draws.randrange(len(left))))
    return tuple(name for name in names if name in taken)
