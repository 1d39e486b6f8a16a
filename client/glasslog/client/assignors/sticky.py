"""The sticky assignors: as even as subscriptions allow, and with as little moving as that takes.

Even means that no partition, or chain of partitions handed from member to member, could go from one who has
two more than the one at its end.  Then come near replicas (KIP-881), then what members had before.
Refuses to know the group protocol. Sources: Kafka's ``StickyAssignor`` and ``CooperativeStickyAssignor``,
KIP-54, KIP-429, KIP-792.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

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


class StickyAssignor:
    """Members give everything up for a rebalance, and mostly get back what they had."""

    name = "sticky"
    is_cooperative = False
    is_told_by_user_data = True

    def assign(
        self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks = NO_RACKS
    ) -> Assignment:
        return _divided(members, partition_counts, racks)


class CooperativeStickyAssignor:
    """As sticky, but a partition that moves is withheld until whoever has it has given it up."""

    name = "cooperative-sticky"
    is_cooperative = True
    is_told_by_user_data = False

    def assign(
        self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks = NO_RACKS
    ) -> Assignment:
        holders: dict[TopicPartition, list[str]] = {}
        for member in members:
            for partition in member.owned:
                holders.setdefault(partition, []).append(member.member_id)
        return {
            member_id: tuple(
                partition for partition in given if member_id in holders.get(partition, [member_id])
            )
            for member_id, given in _divided(members, partition_counts, racks).items()
        }


def _divided(members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks) -> Assignment:
    division = _Division(members, partition_counts, racks if racks_matter(members, racks) else NO_RACKS)
    division.keep()
    division.fill()
    division.balance()
    while division.bring_nearer():
        division.balance()
    return {member.member_id: tuple(sorted(division.held[member.member_id])) for member in members}


class _Division:
    """One division under way. ``held`` is what each member has so far."""

    def __init__(self, members: Sequence[Member], partition_counts: Mapping[str, int], racks: Racks) -> None:
        self._members = {member.member_id: member for member in in_order(members)}
        self._order = {member_id: index for index, member_id in enumerate(self._members)}
        self._racks = racks
        self._subscribers = {
            topic: tuple(name for name, member in self._members.items() if topic in member.topics)
            for topic in sorted(partition_counts)
        }
        self._partitions = [
            TopicPartition(topic, number)
            for topic, names in self._subscribers.items()
            if names
            for number in range(partition_counts[topic])
        ]
        self.held: dict[str, dict[TopicPartition, None]] = {name: {} for name in self._members}
        self._before = self._previous_owners()
        self._near: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def _previous_owners(self) -> Mapping[TopicPartition, str]:
        """Of two who claim a partition the one of the later generation had it; of one generation, neither."""
        exists = dict.fromkeys(self._partitions)
        claims: dict[TopicPartition, tuple[int, str]] = {}
        for name, member in self._members.items():
            for partition in member.owned:
                generation, _ = claims.get(partition, (member.generation_id - 1, ""))
                if partition not in exists or partition.topic not in member.topics:
                    continue
                if member.generation_id > generation:
                    claims[partition] = (member.generation_id, name)
                elif member.generation_id == generation:
                    claims[partition] = (generation, "")
        return {partition: name for partition, (_, name) in claims.items() if name}

    def _is_near(self, name: str, partition: TopicPartition) -> bool:
        return is_near(self._members[name], partition, self._racks)

    def _near_subscribers(self, partition: TopicPartition) -> tuple[str, ...]:
        key = (partition.topic, self._racks.get(partition, ()))
        found = self._near.get(key)
        if found is None:
            subscribers = self._subscribers[partition.topic]
            found = self._near[key] = tuple(name for name in subscribers if self._is_near(name, partition))
        return found

    # --- giving out -------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Everybody keeps what they had."""
        for partition, name in self._before.items():
            self.held[name][partition] = None

    def fill(self) -> None:
        """What nobody has goes to who has least, near ones first; what few can take comes before the rest."""
        taken = {partition: None for held in self.held.values() for partition in held}
        free = [partition for partition in self._partitions if partition not in taken]
        heaps: dict[tuple[str, ...], list[tuple[int, int, str]]] = {}
        for partition in sorted(free, key=lambda each: (len(self._subscribers[each.topic]), each)):
            names = self._near_subscribers(partition) or self._subscribers[partition.topic]
            heap = heaps.get(names)
            if heap is None:
                heap = heaps[names] = [(len(self.held[name]), self._order[name], name) for name in names]
                heapify(heap)
            self.held[self._pop_least(heap)][partition] = None

    def _pop_least(self, heap: list[tuple[int, int, str]]) -> str:
        """Who has least. Entries may be out of date, since a member is in several heaps: loads only grow."""
        while True:
            load, order, name = heappop(heap)
            current = len(self.held[name])
            heappush(heap, (current + (load == current), order, name))
            if load == current:
                return name

    # --- evening out ------------------------------------------------------------------------------------

    def balance(self) -> None:
        """Hand partitions on, directly or along a chain, until nobody has two more than they could have.

        Who has most gives first, one at a time: so none gives more than it takes.
        """
        while any(self._lower(load) for load in sorted({*map(len, self.held.values())}, reverse=True)):
            pass

    def _lower(self, load: int) -> bool:
        """Have everybody with this load hand one partition on, where it makes things more even."""
        is_changed = False
        for giver in [name for name, held in self.held.items() if len(held) == load]:
            chain = self._chain_from(giver)
            for source, target in pairwise(chain):
                self._hand_on(source, target)
            is_changed = is_changed or bool(chain)
        return is_changed

    def _chain_from(self, giver: str) -> list[str]:
        """The shortest way to the one who has least of all that can be reached; empty if it is even."""
        least = min(map(len, self.held.values()))
        if len(self.held[giver]) - least < 2:
            return []
        came_from: dict[str, str] = {giver: ""}
        seen: dict[str, None] = {}
        queue = deque([giver])
        while queue:
            name = queue.popleft()
            for topic in dict.fromkeys(partition.topic for partition in self.held[name]):
                if topic in seen:
                    continue
                seen[topic] = None
                for taker in self._subscribers[topic]:
                    if taker not in came_from:
                        came_from[taker] = name
                        if len(self.held[taker]) == least:
                            return _way(came_from, taker)
                        queue.append(taker)
        end = min(came_from, key=lambda name: len(self.held[name]))
        return _way(came_from, end) if len(self.held[giver]) - len(self.held[end]) >= 2 else []

    def _hand_on(self, source: str, target: str) -> None:
        topics = self._members[target].topics
        chosen = min(
            (partition for partition in self.held[source] if partition.topic in topics),
            key=lambda partition: (
                self._is_near(source, partition) and not self._is_near(target, partition),
                self._before.get(partition) != target,
                self._before.get(partition) == source,
                partition,
            ),
        )
        self._move(chosen, source, target)

    # --- nearness ---------------------------------------------------------------------------------------

    def bring_nearer(self) -> bool:
        """Let members exchange partitions, or one move to who has less, where more become near than cease.

        True if any did.  It ends: loads never get less even by it, and evening out makes them more so.
        """
        far = [
            (name, partition)
            for name, held in self.held.items()
            for partition in held
            if self._near_subscribers(partition) and not self._is_near(name, partition)
        ]
        return sum(self._bring_nearer(name, partition) for name, partition in far) > 0

    def _bring_nearer(self, name: str, partition: TopicPartition) -> bool:
        if partition not in self.held[name]:
            return False
        for other in self._near_subscribers(partition):
            if len(self.held[other]) < len(self.held[name]):
                self._move(partition, name, other)
                return True
            for offered in self._offers(other, self._members[name].topics):
                # What is far for both may change hands; what is near to the other has to be near here too.
                if self._is_near(name, offered) or not self._is_near(other, offered):
                    self._move(partition, name, other)
                    self._move(offered, other, name)
                    return True
        return False

    def _move(self, partition: TopicPartition, source: str, target: str) -> None:
        del self.held[source][partition]
        self.held[target][partition] = None

    def _offers(self, name: str, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = dict.fromkeys(topics)
        offers = [partition for partition in self.held[name] if partition.topic in wanted]
        return sorted(offers, key=lambda partition: (self._before.get(partition) == name, partition))


def _way(came_from: Mapping[str, str], end: str) -> list[str]:
    way = [end]
    while came_from[way[-1]]:
        way.append(came_from[way[-1]])
    return way[::-1]
