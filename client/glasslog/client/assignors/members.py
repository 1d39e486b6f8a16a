"""What assignors are given and give: members, where partitions have replicas, who gets what.

Plain values and the protocol that every assignor follows. Refuses to know the group protocol and its bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from glasslog.common.ids import TopicPartition

NO_GENERATION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member as an assignor sees it.

    ``group_instance_id`` is empty for a dynamic one, ``rack`` when it does not say. ``owned`` is what it had
    in ``generation_id``, as far as it says.
    """

    member_id: str
    topics: tuple[str, ...]
    group_instance_id: str = ""
    owned: tuple[TopicPartition, ...] = ()
    generation_id: int = NO_GENERATION
    rack: str = ""


Assignment = Mapping[str, tuple[TopicPartition, ...]]
"""Member id to its partitions, in order."""

Racks = Mapping[TopicPartition, tuple[str, ...]]
"""The racks that have replicas of a partition, as far as they are known."""

NO_RACKS: Racks = {}


class Assignor(Protocol):
    """``name`` is what members agree on; ``assign`` gives each partition of a subscribed topic away.

    ``is_cooperative``: members keep what they have while they rebalance, and a partition that moves is
    first given up, then given away by the next generation (KIP-429). ``is_told_by_user_data``: what a member
    had travels beside its subscription, since by then it holds nothing any more.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_cooperative(self) -> bool: ...

    @property
    def is_told_by_user_data(self) -> bool: ...

    def assign(
        self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks = NO_RACKS
    ) -> Assignment: ...


def in_order(members: Sequence[Member]) -> list[Member]:
    """Static members before dynamic ones, each by name: so that a restart changes nobody's place."""
    return sorted(members, key=_place)


def racks_matter(members: Sequence[Member], racks: Racks) -> bool:
    """Whether it makes a difference who reads what: not if all partitions are on the same racks."""
    wanted = {member.rack for member in members if member.rack}
    layouts = {tuple(sorted(set(each))) for each in racks.values()}
    return len(layouts) > 1 and any(rack in wanted for layout in layouts for rack in layout)


def is_near(member: Member, partition: TopicPartition, racks: Racks) -> bool:
    """Whether the partition has a replica on the member's rack."""
    return bool(member.rack) and member.rack in racks.get(partition, ())


def _place(member: Member) -> tuple[bool, str]:
    return (not member.group_instance_id, member.group_instance_id or member.member_id)
