"""What clients did and saw in one run, and what is wrong with it.

The anomalies and their definitions follow the published Kafka workload of Jepsen.  Values are unique in the
whole run. This module refuses to know clusters, faults and time: a history can be made up by hand.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from glasslog.common.ids import TopicPartition

UNKNOWN = -1


@dataclass(slots=True, kw_only=True)
class Sent:
    """One value on its way: ``number`` counts its producer's sends, ``offset`` is known once acknowledged.

    ``validated`` values must survive (acks=all) and be there once and in order (idempotent).
    """

    value: str
    producer: str
    number: int
    partition: TopicPartition
    validated: bool
    offset: int = UNKNOWN
    is_acknowledged: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """Records of one partition in the order in which a poll handed them out."""

    consumer: str
    partition: TopicPartition
    records: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """What is wrong, by Jepsen's name for it, and with which values."""

    kind: str
    partition: TopicPartition
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.partition}: {self.detail}"


@dataclass(slots=True)
class History:
    """Everything that was sent and polled.

    ``final`` are the polls of fresh consumers that read everything in the end, ``assigned`` names the
    consumers that nobody rebalances, ``groups`` maps each group to its members.
    """

    sent: dict[str, Sent] = field(default_factory=dict)
    polled: list[Polled] = field(default_factory=list)
    final: list[Polled] = field(default_factory=list)
    assigned: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Something that happened, for the trace."""
        self.lines.append(line)

    def trace_hash(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def check(history: History) -> list[Anomaly]:
    """Every anomaly of a complete history."""
    found: list[Anomaly] = []
    partitions = sorted({sent.partition for sent in history.sent.values()}, key=str)
    for partition in partitions:
        found += _Partition(history, partition).check()
    return found


class _Partition:
    """One partition's part of a history."""

    def __init__(self, history: History, partition: TopicPartition) -> None:
        self._history = history
        self._partition = partition
        self._sent = [sent for sent in history.sent.values() if sent.partition == partition]
        self._polled = [polled for polled in history.polled if polled.partition == partition]
        self._final = [polled for polled in history.final if polled.partition == partition]
        self._log: dict[int, set[str]] = {}
        for polled in (*self._polled, *self._final):
            for offset, value in polled.records:
                self._log.setdefault(offset, set()).add(value)
        for sent in self._sent:
            if sent.validated and sent.is_acknowledged and sent.offset != UNKNOWN:
                self._log.setdefault(sent.offset, set()).add(sent.value)
        self._index = {offset: index for index, offset in enumerate(sorted(self._log))}

    def check(self) -> Iterator[Anomaly]:
        yield from self._inconsistent_offsets()
        yield from self._duplicates()
        yield from self._lost_and_unseen()
        yield from self._vanished()
        yield from self._orders_of_polls()
        yield from self._order_of_sends()
        yield from self._unseen_by_groups()

    def _found(self, kind: str, detail: str) -> Anomaly:
        return Anomaly(kind=kind, partition=self._partition, detail=detail)

    def _inconsistent_offsets(self) -> Iterator[Anomaly]:
        for offset, values in sorted(self._log.items()):
            if len(values) > 1:
                yield self._found("inconsistent-offsets", f"{offset} holds {sorted(values)}")

    def _offsets(self) -> Mapping[str, list[int]]:
        offsets: dict[str, list[int]] = {}
        for offset, values in sorted(self._log.items()):
            for value in values:
                offsets.setdefault(value, []).append(offset)
        return offsets

    def _duplicates(self) -> Iterator[Anomaly]:
        for value, offsets in sorted(self._offsets().items()):
            sent = self._history.sent.get(value)
            if len(offsets) > 1 and (sent is None or sent.validated):
                yield self._found("duplicate", f"{value} at {offsets}")
            if sent is None:
                yield self._found("never-sent", f"{value} at {offsets}")

    def _lost_and_unseen(self) -> Iterator[Anomaly]:
        ever = set(_values(self._polled)) | set(_values(self._final))
        last = set(_values(self._final))
        offsets = self._offsets()
        bound = max((offsets[value][0] for value in ever), default=-1)
        for sent in self._sent:
            if not (sent.validated and sent.is_acknowledged):
                continue
            if sent.value not in ever and sent.offset <= bound:
                yield self._found("lost-write", f"{sent.value}, acknowledged at {sent.offset}")
            if sent.value not in last:
                yield self._found("unseen", f"{sent.value}, acknowledged at {sent.offset}")

    def _vanished(self) -> Iterator[Anomaly]:
        """Whatever one consumer saw was committed, so everybody sees it from then on."""
        last = {record for polled in self._final for record in polled.records}
        for polled in self._polled:
            for offset, value in polled.records:
                if (offset, value) not in last:
                    yield self._found("vanished", f"{value} at {offset}, polled by {polled.consumer}")

    def _orders_of_polls(self) -> Iterator[Anomaly]:
        for polled in (*self._polled, *self._final):
            yield from self._neighbours(f"int-{{}} of {polled.consumer}", [o for o, _ in polled.records])
        for consumer in self._history.assigned:
            offsets = [o for polled in self._polled if polled.consumer == consumer for o, _ in polled.records]
            yield from self._neighbours(f"{{}} of {consumer}", offsets)

    def _neighbours(self, kind: str, offsets: list[int]) -> Iterator[Anomaly]:
        for before, after in pairwise(offsets):
            step = self._index[after] - self._index[before]
            if step != 1:
                name = kind.format("poll-skip" if step > 1 else "nonmonotonic-poll")
                yield self._found(name, f"{after} after {before}")

    def _order_of_sends(self) -> Iterator[Anomaly]:
        offsets = self._offsets()
        by_producer: dict[str, list[tuple[int, int]]] = {}
        for sent in self._sent:
            if sent.validated and sent.value in offsets:
                place = offsets[sent.value][0]
                by_producer.setdefault(sent.producer, []).append((sent.number, place))
        for producer, places in sorted(by_producer.items()):
            for (number, offset), (later, later_offset) in pairwise(sorted(places)):
                if later_offset <= offset:
                    detail = f"{producer}: {later} at {later_offset}, but {number} at {offset}"
                    yield self._found("nonmonotonic-send", detail)

    def _unseen_by_groups(self) -> Iterator[Anomaly]:
        for group, members in sorted(self._history.groups.items()):
            seen = set(_values(polled for polled in self._polled if polled.consumer in members))
            for sent in self._sent:
                if sent.validated and sent.is_acknowledged and sent.value not in seen:
                    yield self._found(f"unseen by group {group}", f"{sent.value} at {sent.offset}")


def _values(polls: Iterable[Polled]) -> Iterator[str]:
    for polled in polls:
        for _, value in polled.records:
            yield value
