"""The range assignor: each topic by itself, in contiguous runs; near replicas first where racks are known.

Source: Kafka's ``RangeAssignor``, KIP-881.
"""

from collections.abc import Iterable, Mapping, Sequence

from glasslog.client.assignors.members import (
    NO_RACKS,
    Assignment,
    Member,
    Racks,
    in_order,
    is_near,
    racks_matter,
)
from glasslog.common.ids import TopicPartition


class RangeAssignor:
    """Each topic by itself: contiguous runs of partitions to the members in order of their ids.

    Static members come before dynamic ones, so that topics with equal counts stay aligned over restarts.
    With racks, each member first gets, up to its share, partitions that have a replica on its rack; topics
    with equal counts and subscribers stay aligned where one member is near in all of them.
    """

    name = "range"
    is_cooperative = False
    is_told_by_user_data = False

    def assign(
        self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks = NO_RACKS
    ) -> Assignment:
        ordered = in_order(members)
        topics = [
            _Topic(name, partition_counts[name], [member for member in ordered if name in member.topics])
            for name in sorted(partition_counts)
        ]
        if racks_matter(members, racks):
            for aligned in _aligned(topics):
                _match_together(aligned, racks)
            for topic in topics:
                topic.match(racks)
        assigned: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        for topic in topics:
            for member_id, numbers in topic.finished().items():
                assigned[member_id] += [TopicPartition(topic.name, number) for number in numbers]
        return {member_id: tuple(partitions) for member_id, partitions in assigned.items()}


class _Topic:
    """One topic while it is divided: ``left`` is not given away yet, ``taken`` is, by member."""

    def __init__(self, name: str, count: int, members: Sequence[Member]) -> None:
        self.name = name
        self.members = members
        self.left = dict.fromkeys(range(count if members else 0))
        self.taken: dict[str, list[int]] = {member.member_id: [] for member in members}
        self._each, self._extra = divmod(count, max(1, len(members)))

    def has_room(self, member: Member) -> bool:
        """Whether the member's share is not used up: some may have one partition more than the others."""
        have = len(self.taken[member.member_id])
        if have < self._each:
            return True
        return have == self._each and sum(map(self._has_more, self.members)) < self._extra

    def _has_more(self, member: Member) -> bool:
        return len(self.taken[member.member_id]) > self._each

    def take(self, member: Member, number: int) -> None:
        del self.left[number]
        self.taken[member.member_id].append(number)

    def match(self, racks: Racks) -> None:
        """Give to members what is near to them, up to their share."""
        for number in list(self.left):
            partition = TopicPartition(self.name, number)
            for member in self.members:
                if is_near(member, partition, racks) and self.has_room(member):
                    self.take(member, number)
                    break

    def finished(self) -> Mapping[str, Sequence[int]]:
        """Everything given away: the rest goes in runs to those who have room."""
        for member in self.members:
            while self.left and self.has_room(member):
                self.take(member, next(iter(self.left)))
        return {member_id: sorted(numbers) for member_id, numbers in self.taken.items()}


def _aligned(topics: Iterable[_Topic]) -> list[list[_Topic]]:
    """Topics with the same number of partitions and the same members, two at least."""
    groups: dict[tuple[int, tuple[str, ...]], list[_Topic]] = {}
    for topic in topics:
        groups.setdefault((len(topic.left), tuple(topic.taken)), []).append(topic)
    return [group for group in groups.values() if len(group) > 1]


def _match_together(topics: Sequence[_Topic], racks: Racks) -> None:
    """One member gets the same partition of all topics, where it is near in all of them."""
    first = topics[0]
    for number in list(first.left):
        for member in first.members:
            near = all(is_near(member, TopicPartition(topic.name, number), racks) for topic in topics)
            if near and first.has_room(member):
                for topic in topics:
                    topic.take(member, number)
                break
