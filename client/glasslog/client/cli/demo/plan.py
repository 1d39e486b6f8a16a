"""Whom the demo kills, and when it brings them back. Pure: a choice among names, made on a snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from glasslog.client.cli.demo.narrator import Snapshot

RESTART_AFTER_S = 1.5
_BROKER_PARTITION = 0
"""Whose leader or follower is the victim; any would do."""


class Kill(Enum):
    """What ``--kill`` can say."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CONTROLLER = "controller"
    CONTROLLERS = "controllers"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Victims:
    """The nodes to kill, by id, and the sentence that says why these."""

    node_ids: tuple[int, ...]
    why: str


def choose(kill: Kill, snapshot: Snapshot, controllers: Mapping[int, str]) -> Victims | None:
    """The victims of ``kill`` at this moment, or ``None`` while there is no such node (ask again later)."""
    partition = snapshot.partitions.get(_BROKER_PARTITION)
    active = snapshot.controller
    match kill:
        case Kill.NONE:
            return Victims(node_ids=(), why="nobody is killed")
        case Kill.LEADER:
            if partition is None or partition.leader < 0:
                return None
            return Victims(node_ids=(partition.leader,), why=f"the leader of partition {_BROKER_PARTITION}")
        case Kill.FOLLOWER:
            if partition is None:
                return None
            followers = [node for node in partition.replicas if node != partition.leader]
            if not followers:
                return None
            return Victims(node_ids=(followers[-1],), why=f"a follower of partition {_BROKER_PARTITION}")
        case Kill.CONTROLLER:
            if active not in controllers:
                return None
            return Victims(node_ids=(active,), why="the active controller")
        case Kill.CONTROLLERS:
            if active not in controllers:
                return None
            others = sorted(node for node in controllers if node != active)
            lost = (active, *others[: len(controllers) // 2])
            return Victims(
                node_ids=lost, why=f"{len(lost)} of {len(controllers)} controllers: no quorum is left"
            )
