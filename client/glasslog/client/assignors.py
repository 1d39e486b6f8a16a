"""How a group's leader divides partitions among members.

Pure functions behind one small protocol; ``ASSIGNORS`` is where a new one is added. Refuses to know the group
protocol. Source: Kafka's ``RangeAssignor``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from glasslog.common.errors import ConfigError
from glasslog.common.ids import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member as an assignor sees it; ``group_instance_id`` is empty for a dynamic one."""

    member_id: str
    topics: tuple[str, ...]
    group_instance_id: str = ""
    owned: tuple[TopicPartition, ...] = ()


Assignment = Mapping[str, tuple[TopicPartition, ...]]
"""Member id to its partitions, in order."""


class Assignor(Protocol):
    """``name`` is what members agree on; ``assign`` gives each partition of a subscribed topic away."""

    @property
    def name(self) -> str: ...

    def assign(self, members: Sequence[Member], partition_counts: Mapping[str, int]) -> Assignment: ...


class RangeAssignor:
    """Each topic by itself: contiguous runs of partitions to the members in order of their ids.

    Static members come before dynamic ones, so that topics with equal counts stay aligned over restarts.
    """

    name = "range"

    def assign(self, members: Sequence[Member], partition_counts: Mapping[str, int]) -> Assignment:
        assigned: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        for topic in sorted(partition_counts):
            interested = sorted((member for member in members if topic in member.topics), key=_range_order)
            if not interested:
                continue
            each, extra = divmod(partition_counts[topic], len(interested))
            start = 0
            for index, member in enumerate(interested):
                end = start + each + (index < extra)
                assigned[member.member_id] += [TopicPartition(topic, number) for number in range(start, end)]
                start = end
        return {member_id: tuple(partitions) for member_id, partitions in assigned.items()}


def _range_order(member: Member) -> tuple[bool, str]:
    return (not member.group_instance_id, member.group_instance_id or member.member_id)


ASSIGNORS: Mapping[str, Assignor] = {"range": RangeAssignor()}


def assignors_named(names: Sequence[str]) -> tuple[Assignor, ...]:
    """The assignors by name; raises ``ConfigError`` for one that does not exist."""
    for name in names:
        if name not in ASSIGNORS:
            raise ConfigError(
                f"partition_assignment_strategy={name!r}: there is only {', '.join(sorted(ASSIGNORS))}"
            )
    return tuple(ASSIGNORS[name] for name in names)
