"""The round-robin assignor: all partitions of all topics, dealt out like cards.

Source: Kafka's ``RoundRobinAssignor``.
"""

from collections.abc import Mapping, Sequence

from glasslog.client.assignors.members import NO_RACKS, Assignment, Member, Racks, in_order
from glasslog.common.ids import TopicPartition


class RoundRobinAssignor:
    """Partitions in order to members in order; who has not subscribed to a topic is passed over."""

    name = "roundrobin"
    is_cooperative = False
    is_told_by_user_data = False

    def assign(
        self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks = NO_RACKS
    ) -> Assignment:
        ordered = in_order(members)
        assigned: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        turn = 0
        for topic in sorted(partition_counts):
            if not any(topic in member.topics for member in ordered):
                continue
            for number in range(partition_counts[topic]):
                while topic not in ordered[turn % len(ordered)].topics:
                    turn += 1
                assigned[ordered[turn % len(ordered)].member_id].append(TopicPartition(topic, number))
                turn += 1
        return {member_id: tuple(partitions) for member_id, partitions in assigned.items()}
