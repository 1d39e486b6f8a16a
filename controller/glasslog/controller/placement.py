"""Where the replicas of new partitions go.

A pure function of the brokers, their racks, a seed and what the topic's other partitions have already; it
refuses to know other topics.

How it places. Racks and, within each, brokers stand in a ring, turned by the seed. Each replica goes to the
rack that holds the fewest of this partition's, then to the one that is least loaded for its size, then to
its least loaded broker; ties are broken by the ring. The replica whose broker leads least becomes the
preferred leader.

What is guaranteed, always
- replicas of a partition are on distinct brokers, and on distinct racks as long as there are enough; with
  fewer racks than replicas, the racks' shares of a partition differ by at most one, unless a rack has too
  few brokers;
- the same arguments give the same result.

When all racks have equally many brokers (or there are no racks), also
- brokers' numbers of replicas differ by at most one, and so do their numbers of preferred leaders. This is
  so because the placement then walks the ring in blocks of one partition each: a walk covers the ring
  evenly, and once blocks begin to repeat, the next broker of each block leads.

When racks are unequal, distinct racks come first: a small rack's brokers take more if there are no more
racks than replicas. Within a rack, the brokers' numbers of replicas still differ by at most one.

When a topic has partitions already, the guarantees hold for replicas of old and new together as far as they
held for the old ones; leaders are evened out, without a bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import TypeVar

from glasslog.common.errors import require
from glasslog.common.ids import NodeId

T = TypeVar("T")


def place(
    racks: Mapping[NodeId, str],
    *,
    partitions: int,
    replication_factor: int,
    seed: int,
    existing: Sequence[Sequence[NodeId]] = (),
) -> tuple[tuple[NodeId, ...], ...]:
    """Replicas per new partition, the preferred leader first. ``racks`` has every usable broker.

    ``existing`` are the replicas of the topic's other partitions.
    Needs ``1 <= replication_factor <= len(racks)``.
    """
    require(
        1 <= replication_factor <= len(racks),
        f"placement of {replication_factor} replicas on {len(racks)} brokers",
    )
    ring = _Ring(racks, seed)
    ring.count(existing)
    return tuple(ring.next_partition(replication_factor) for _ in range(partitions))


@dataclass(slots=True)
class _Broker:
    broker_id: NodeId
    replicas: int = 0
    leaders: int = 0


@dataclass(slots=True)
class _Rack:
    """``weight`` makes replicas per broker comparable between racks, in whole numbers."""

    brokers: list[_Broker]
    weight: int
    replicas: int = 0

    @property
    def load(self) -> int:
        return self.replicas * self.weight

    def least_loaded(self, taken: list[_Broker], turn: int) -> _Broker:
        """Of those not ``taken``; among equals, the ring begins ``turn`` brokers further."""
        count = len(self.brokers)
        turned = (self.brokers[(turn + index) % count] for index in range(count))
        return min((broker for broker in turned if broker not in taken), key=lambda broker: broker.replicas)


@dataclass(slots=True)
class _Slots:
    """One partition's replicas while they are chosen."""

    chosen: list[_Broker] = field(default_factory=list)
    per_rack: list[int] = field(default_factory=list)


class _Ring:
    def __init__(self, racks: Mapping[NodeId, str], seed: int) -> None:
        by_rack: dict[str, list[_Broker]] = {}
        for broker_id in sorted(racks):
            by_rack.setdefault(racks[broker_id], []).append(_Broker(broker_id))
        names = sorted(by_rack)
        inner = seed // len(names)
        common = lcm(*(len(brokers) for brokers in by_rack.values()))
        self._racks = [
            _Rack(_turned(by_rack[name], inner), weight=common // len(by_rack[name]))
            for name in _turned(names, seed)
        ]
        self._size = len(racks)
        self._placed = 0

    def count(self, existing: Sequence[Sequence[NodeId]]) -> None:
        """Take in what partitions have that were placed before; brokers that are not here do not count."""
        by_id = {broker.broker_id: (rack, broker) for rack in self._racks for broker in rack.brokers}
        for replicas in existing:
            self._placed += 1
            for broker_id in replicas:
                if broker_id in by_id:
                    rack, broker = by_id[broker_id]
                    rack.replicas += 1
                    broker.replicas += 1
                    broker.leaders += broker_id == replicas[0]

    def next_partition(self, replication_factor: int) -> tuple[NodeId, ...]:
        slots = _Slots(per_rack=[0] * len(self._racks))
        # Once everyone leads equally many, neighbours are mixed anew: the partitions of a failed broker then
        # spread over several others.
        lap = self._placed // self._size
        self._placed += 1
        for _ in range(replication_factor):
            self._add_replica(slots, lap)
        leader = min(slots.chosen, key=lambda broker: broker.leaders)
        leader.leaders += 1
        followers = [broker for broker in slots.chosen if broker is not leader]
        return tuple(broker.broker_id for broker in (leader, *_turned(followers, lap)))

    def _add_replica(self, slots: _Slots, lap: int) -> None:
        candidates = [
            index for index, rack in enumerate(self._racks) if slots.per_rack[index] < len(rack.brokers)
        ]
        chosen = min(candidates, key=lambda index: (slots.per_rack[index], self._racks[index].load))
        rack = self._racks[chosen]
        broker = rack.least_loaded(slots.chosen, turn=lap * chosen)
        broker.replicas += 1
        rack.replicas += 1
        slots.per_rack[chosen] += 1
        slots.chosen.append(broker)


def _turned(items: list[T], by: int) -> list[T]:
    start = by % len(items) if items else 0
    return items[start:] + items[:start]
