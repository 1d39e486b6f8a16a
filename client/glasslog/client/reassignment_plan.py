"""Where partitions should be: a balanced, rack-aware plan with few moves. A pure function.

Refuses to know how partitions get there, and what a broker can bear: all brokers count as equal.

How it plans. Replicas on brokers that are not to be used go first, and those of a partition that share a rack
while another has none; each to the rack with the fewest of this partition's and there to the broker with the
fewest at all. Then single replicas go from fuller to emptier brokers as long as that evens the numbers, along
shortest chains (1 to 2, and another partition's from 2 to 3) where no replica can go directly. Last, leaders
are evened the same way; that moves no records.

What is guaranteed, always
- replicas are on distinct brokers, and on distinct racks as long as there are enough; with fewer racks than
  replicas, the racks' shares of a partition differ by at most one, unless a rack has too few brokers;
- every partition keeps its replication factor; the same arguments give the same plan;
- what fulfils all of this already is left alone.

When all racks have equally many brokers (or there are no racks), also
- brokers' numbers of replicas differ by at most one: to choose brokers is then a flow from partitions through
  racks to brokers, and a shortest chain is an augmenting path of that flow;
- if all partitions have the same replication factor, so do their numbers of leaders.

When racks are unequal, distinct racks come first: the brokers of a small rack may hold more.
Source of the idea: the augmenting paths of maximum flows; Kafka's ``AdminUtils`` places anew instead.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

Assignment = Mapping[TopicPartition, tuple[NodeId, ...]]
"""Replicas by partition, the preferred leader first."""

Find = Callable[[NodeId, NodeId], TopicPartition | None]
Apply = Callable[[TopicPartition, NodeId, NodeId], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One partition's change; without ``added`` only another replica leads."""

    partition: TopicPartition
    before: tuple[NodeId, ...]
    after: tuple[NodeId, ...]

    @property
    def added(self) -> tuple[NodeId, ...]:
        """Who has to copy it."""
        return tuple(node for node in self.after if node not in self.before)

    @property
    def removed(self) -> tuple[NodeId, ...]:
        """Who holds it no more afterwards."""
        return tuple(node for node in self.before if node not in self.after)


def balanced(current: Assignment, racks: Mapping[NodeId, str]) -> tuple[Move, ...]:
    """What to change so that ``current`` is on the brokers of ``racks``, evenly; by partition.

    Raises INVALID_REPLICATION_FACTOR for a partition with more replicas than there are brokers.
    """
    layout = _Layout(current, racks)
    layout.place_all()
    _even(layout.loads(), layout.movable, layout.move)
    leaders = _Leaders(layout)
    _even(leaders.counts, leaders.movable, leaders.move)
    return _moves(current, layout, leaders)


def drained(current: Assignment, racks: Mapping[NodeId, str], *, leaving: NodeId) -> tuple[Move, ...]:
    """What to change so that ``leaving`` holds nothing, and nothing else.

    The emptiest brokers of ``racks`` get it; what is on others stays there. Raises INVALID_REPLICATION_FACTOR
    where a partition is on all of them already.
    """
    affected = {name: replicas for name, replicas in current.items() if leaving in replicas}
    holding = {node: "" for replicas in current.values() for node in replicas if node not in racks}
    known = {node: rack for node, rack in (holding | dict(racks)).items() if node != leaving}
    layout = _Layout(current, known, closed=frozenset(holding))
    for name in affected:
        layout.fill(name)
    return _moves(affected, layout, _Leaders(layout))


class _Candidates:
    """What may be shifted between two brokers, found without trying everything each time.

    Whether an item may go depends on the item alone, so that one which may not is not tried again until it
    ``changed``. What changed last is found first: it is copied anyway.
    """

    def __init__(
        self,
        held_by: Callable[[NodeId], Iterable[TopicPartition]],
        may_move: Callable[[TopicPartition, NodeId, NodeId], bool],
    ) -> None:
        self._held_by = held_by
        self._may_move = may_move
        self._stacks: dict[NodeId, dict[NodeId, list[TopicPartition]]] = {}

    def find(self, source: NodeId, target: NodeId) -> TopicPartition | None:
        stacks = self._stacks.setdefault(source, {})
        stack = stacks.get(target)
        if stack is None:
            stack = stacks[target] = list(self._held_by(source))[::-1]
        while stack and not self._may_move(stack[-1], source, target):
            stack.pop()
        return stack[-1] if stack else None

    def changed(self, name: TopicPartition, holders: Iterable[NodeId]) -> None:
        for holder in holders:
            for stack in self._stacks.get(holder, {}).values():
                stack.append(name)


class _Layout:
    """Who holds what while the plan is made."""

    def __init__(
        self,
        current: Assignment,
        racks: Mapping[NodeId, str],
        *,
        closed: frozenset[NodeId] = frozenset(),
    ) -> None:
        """``closed`` keep what they have and get nothing."""
        self._closed = closed
        self.current = dict(sorted(current.items()))
        self.racks = dict(sorted(racks.items()))
        self.sizes: dict[str, int] = {}
        for rack in self.racks.values():
            self.sizes[rack] = self.sizes.get(rack, 0) + 1
        self.replicas: dict[TopicPartition, list[NodeId]] = {}
        self.held: dict[NodeId, dict[TopicPartition, None]] = {node: {} for node in self.racks}
        self._candidates = _Candidates(self._held_by, self._may_move)
        for name, replicas in self.current.items():
            self.replicas[name] = [node for node in replicas if node in self.racks]
            for node in self.replicas[name]:
                self.held[node][name] = None

    def loads(self) -> dict[NodeId, int]:
        """Replicas by broker."""
        return {node: len(held) for node, held in self.held.items()}

    # --- what has to be ---

    def place_all(self) -> None:
        """Give every partition all its replicas, on racks that share it fairly."""
        for name in self.current:
            self.fill(name)
            while (unfair := self._unfair(name)) is not None:
                self.move(name, *unfair)

    def fill(self, name: TopicPartition) -> None:
        """Give a partition the replicas that it lacks, on the racks that have the fewest of it."""
        while len(self.replicas[name]) < len(self.current[name]):
            target = self._emptiest(name, self._shares(name))
            if target is None:
                raise GlasslogError(
                    ErrorCode.INVALID_REPLICATION_FACTOR,
                    f"{name} has {len(self.current[name])} replicas and only "
                    f"{len(self.racks)} brokers to be on",
                )
            self._put(name, target)

    def _unfair(self, name: TopicPartition) -> tuple[NodeId, NodeId] | None:
        """Which replica should go where, since its rack has too many of this partition's."""
        shares = self._shares(name)
        target = self._emptiest(name, shares)
        if target is None:
            return None
        least = shares[self.racks[target]]
        crowded = [node for node in self.replicas[name] if shares[self.racks[node]] > least + 1]
        if not crowded:
            return None
        leader = self.current[name][0]

        def reasons_to_go(node: NodeId) -> tuple[int, bool, int, NodeId]:
            return shares[self.racks[node]], node != leader, len(self.held[node]), node

        return max(crowded, key=reasons_to_go), target

    def _emptiest(self, name: TopicPartition, shares: Mapping[str, int]) -> NodeId | None:
        free = [node for node in self.racks if node not in self._closed and node not in self.replicas[name]]

        def reasons_against(node: NodeId) -> tuple[int, bool, int, NodeId]:
            is_new = node not in self.current[name]
            return shares[self.racks[node]], is_new, len(self.held[node]), node

        return min(free, key=reasons_against, default=None)

    def _shares(self, name: TopicPartition) -> dict[str, int]:
        shares = dict.fromkeys(self.sizes, 0)
        for node in self.replicas[name]:
            shares[self.racks[node]] += 1
        return shares

    # --- one replica ---

    def movable(self, source: NodeId, target: NodeId) -> TopicPartition | None:
        """A partition whose replica may go from one to the other; one that has to be copied anyway first."""
        return self._candidates.find(source, target)

    def _held_by(self, node: NodeId) -> Iterable[TopicPartition]:
        return sorted(self.held[node], key=lambda name: node in self.current[name])

    def _may_move(self, name: TopicPartition, source: NodeId, target: NodeId) -> bool:
        if name in self.held[target] or name not in self.held[source]:
            return False
        source_rack, target_rack = self.racks[source], self.racks[target]
        if source_rack == target_rack:
            return True
        on_target = on_source = 0
        for node in self.replicas[name]:
            rack = self.racks[node]
            on_target += rack == target_rack
            on_source += rack == source_rack
        return on_target < on_source

    def move(self, name: TopicPartition, source: NodeId, target: NodeId) -> None:
        self.replicas[name].remove(source)
        del self.held[source][name]
        self._put(name, target)
        self._candidates.changed(name, self.replicas[name])

    def _put(self, name: TopicPartition, target: NodeId) -> None:
        self.replicas[name].append(target)
        self.held[target][name] = None


class _Leaders:
    """Which replica is to lead; the one that does is kept where it can be."""

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self.of: dict[TopicPartition, NodeId] = {}
        self._led: dict[NodeId, dict[TopicPartition, None]] = {node: {} for node in layout.racks}
        self._candidates = _Candidates(lambda node: self._led[node], self._may_move)
        homeless = []
        for name, replicas in layout.current.items():
            if replicas[0] in layout.replicas[name]:
                self._set(name, replicas[0])
            else:
                homeless.append(name)
        for name in homeless:
            self._set(name, min(layout.replicas[name], key=lambda node: (len(self._led[node]), node)))
        self.counts = {node: len(led) for node, led in self._led.items()}

    def _set(self, name: TopicPartition, leader: NodeId) -> None:
        self.of[name] = leader
        self._led[leader][name] = None

    def movable(self, source: NodeId, target: NodeId) -> TopicPartition | None:
        return self._candidates.find(source, target)

    def _may_move(self, name: TopicPartition, source: NodeId, target: NodeId) -> bool:
        return name in self._led[source] and name in self._layout.held[target]

    def move(self, name: TopicPartition, source: NodeId, target: NodeId) -> None:
        del self._led[source][name]
        self._set(name, target)
        self._candidates.changed(name, (target,))


def _even(loads: dict[NodeId, int], find: Find, apply: Apply) -> None:
    """Shift single items to where there are fewer, until no shift evens the numbers any more."""
    settled = False
    while not settled:
        settled = True
        for start in sorted(loads, key=lambda node: (-loads[node], node)):
            if loads[start] < min(loads.values(), default=0) + 2:
                break
            chain = _shortest_chain(start, loads, find)
            if chain:
                for name, source, target in chain:
                    apply(name, source, target)
                loads[start] -= 1
                loads[chain[-1][2]] += 1
                settled = False
                break


Step = tuple[TopicPartition, NodeId, NodeId]


def _shortest_chain(start: NodeId, loads: Mapping[NodeId, int], find: Find) -> Sequence[Step]:
    """From ``start`` to a broker with at least two fewer; empty if there is no way."""
    came: dict[NodeId, Step | None] = {start: None}
    level = [start]
    while level:
        found: list[NodeId] = []
        for source in level:
            for target in sorted(loads, key=lambda node: (loads[node], node)):
                name = None if target in came else find(source, target)
                if name is None:
                    continue
                came[target] = (name, source, target)
                if loads[target] <= loads[start] - 2:
                    return _chain_to(target, came)
                found.append(target)
        level = found
    return ()


def _chain_to(end: NodeId, came: Mapping[NodeId, Step | None]) -> Sequence[Step]:
    chain: list[Step] = []
    step = came[end]
    while step is not None:
        chain.append(step)
        step = came[step[1]]
    return chain[::-1]


def _moves(wanted: Assignment, layout: _Layout, leaders: _Leaders) -> tuple[Move, ...]:
    found = []
    for name, before in sorted(wanted.items()):
        leader, held = leaders.of[name], layout.replicas[name]
        kept = [node for node in before if node in held and node != leader]
        new = [node for node in held if node not in before and node != leader]
        after = (leader, *kept, *sorted(new))
        if after != before:
            found.append(Move(partition=name, before=before, after=after))
    return tuple(found)
