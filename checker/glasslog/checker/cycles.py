"""Operations that depend on each other in a circle: G0 and G1c.

Two graphs.  *Operations*: an edge ``ww`` from the writer of a value to that of the next in the log, ``wr``
from a value's writer to its readers; since Kafka does not isolate writes, circles with ``ww`` are no wonder
here. *Events*: the same dependencies between single sends, polls and commits, with real time (and with it the
order within each process); these happened one after the other, so no honest log has a circle here.
Refuses to know other anomalies.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from glasslog.checker.anomalies import Anomaly, Kind
from glasslog.checker.graph import Graph
from glasslog.checker.logs import KeyLog, Logs
from glasslog.checker.operations import Acks, Outcome, Poll, Send, Transfer

_WW, _WR, _WITHIN, _TIME = "ww", "wr", "within", "time"
_NOT_ISOLATED = "Kafka does not isolate writes"


def check_cycles(logs: Logs) -> Iterator[Anomaly]:
    """One anomaly for each knot of operations or events."""
    told: set[int] = set()
    for anomaly in _Events(logs).check():
        told.update(anomaly.operations)
        yield anomaly
    for anomaly in _Operations(logs).check():
        if told.isdisjoint(anomaly.operations):
            yield anomaly


def _order(log: KeyLog, logs: Logs) -> list[tuple[Transfer, Send]]:
    """The writers of a log in its order, of those that must have committed; a doubled value counts once."""
    found = dict.fromkeys(log.by_index)
    writers = [log.writers[value] for value in found if value in log.writers]
    return [writer for writer in writers if logs.must_have_committed(*writer)]


class _Operations:
    """Nodes are transfers, by their place among them."""

    def __init__(self, logs: Logs) -> None:
        self._transfers = logs.transfers
        self._graph = Graph(len(logs.transfers))
        self._place = {transfer.index: place for place, transfer in enumerate(logs.transfers)}
        for _, log in logs:
            order = _order(log, logs)
            for (before, _), (after, _) in pairwise(order):
                self._link(before, after, _WW)
        for reader in logs.transfers:
            for poll in reader.polls():
                for key, records in poll.records.items():
                    self._link_reader(reader, records, logs.of(key))

    def _link_reader(self, reader: Transfer, records: Sequence[tuple[int, str]], log: KeyLog) -> None:
        for _, value in records:
            if value in log.writers:
                self._link(log.writers[value][0], reader, _WR)

    def _link(self, source: Transfer, target: Transfer, label: str) -> None:
        if source is not target:
            self._graph.link(self._place[source.index], self._place[target.index], label)

    def check(self) -> Iterator[Anomaly]:
        for knot in self._graph.knots():
            cycle = self._graph.cycle(knot, label=_WR)
            kind = Kind.INFORMATION_CYCLE if cycle else Kind.DIRTY_WRITE_CYCLE
            cycle = cycle or self._graph.cycle(knot, label=_WW)
            yield _found(kind, [self._transfers[node] for node in cycle], allowed=_NOT_ISOLATED)


class _Events:
    """Each transfer is its steps, between a node where it begins and one where it ends or commits.

    Between operations time is a line of its own: an operation leads to the moment of its end, each moment to
    the next, and a moment to the operations that began after it.  That keeps the edges few.
    """

    def __init__(self, logs: Logs) -> None:
        self._graph = Graph()
        self._transfer_of: list[Transfer | None] = []
        self._begins: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._sent: dict[tuple[str, str], int] = {}
        self._visible: dict[tuple[str, str], int] = {}
        self._polled: list[tuple[int, Poll]] = []
        for transfer in logs.transfers:
            self._add(transfer)
        for key, log in logs:
            order = [self._sent[key, send.value] for _, send in _order(log, logs)]
            for before, after in pairwise(order):
                self._graph.link(before, after, _WW)
        self._link_readers()
        self._link_times(logs.transfers)

    def _node(self, transfer: Transfer | None) -> int:
        self._transfer_of.append(transfer)
        return self._graph.add()

    def _add(self, transfer: Transfer) -> None:
        """What was sent may arrive any time before the end; what was polled precedes all that follows."""
        is_single = len(transfer.steps) < 2
        begin = after = self._node(transfer)
        end = begin if is_single else self._node(transfer)
        self._begins[transfer.index], self._ends[transfer.index] = begin, end
        for step in transfer.steps:
            node = begin if is_single else self._node(transfer)
            if node != begin:
                self._graph.link(after, node, _WITHIN)
                self._graph.link(node, end, _WITHIN)
            match step:
                case Send():
                    self._sent[step.key, step.value] = node
                    self._visible[step.key, step.value] = end if transfer.is_transaction else node
                case Poll():
                    self._polled.append((node, step))
                    after = node

    def _link_readers(self) -> None:
        for node, poll in self._polled:
            for key, records in poll.records.items():
                for _, value in records:
                    writer = self._visible.get((key, value))
                    if writer is not None and writer != node:
                        self._graph.link(writer, node, _WR)

    def _link_times(self, transfers: Sequence[Transfer]) -> None:
        done = [each for each in transfers if _is_over(each)]
        moments = sorted({each.end_ms for each in done})
        nodes = [self._node(None) for _ in moments]
        for before, after in pairwise(nodes):
            self._graph.link(before, after, _TIME)
        node_at = dict(zip(moments, nodes, strict=True))
        for each in done:
            self._graph.link(self._ends[each.index], node_at[each.end_ms], _TIME)
        for each in transfers:
            place = bisect_left(moments, each.start_ms)
            if place:
                self._graph.link(nodes[place - 1], self._begins[each.index], _TIME)

    def check(self) -> Iterator[Anomaly]:
        for knot in self._graph.knots():
            cycle = self._graph.cycle(knot, label=_WR)
            if cycle:
                yield _found(Kind.INFORMATION_CYCLE, self._transfers_of(cycle), allowed="")
            elif cycle := self._graph.cycle(knot, label=_WW):
                yield _found(Kind.DIRTY_WRITE_CYCLE, self._transfers_of(cycle), allowed=_NOT_ISOLATED)

    def _transfers_of(self, cycle: Sequence[int]) -> list[Transfer]:
        """Each once, in the cycle's order."""
        found = [self._transfer_of[node] for node in cycle]
        return list({each.index: each for each in found if each is not None}.values())


def _is_over(transfer: Transfer) -> bool:
    """Whether all that it did had happened by its end; what no quorum acknowledged may be appended later."""
    return transfer.outcome is not Outcome.INFO and (transfer.acks is Acks.ALL or not transfer.sends())


def _found(kind: Kind, cycle: Sequence[Transfer], *, allowed: str) -> Anomaly:
    steps = [_step(before, after) for before, after in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True)]
    return Anomaly(
        kind=kind,
        key="",
        detail="; ".join(steps),
        values=tuple(dict.fromkeys(send.value for each in cycle for send in each.sends())),
        operations=tuple(each.index for each in cycle),
        allowed=allowed,
    )


def _step(before: Transfer, after: Transfer) -> str:
    """Why one operation of a cycle precedes the next, in words."""
    names = f"operation {before.index} of {before.process}", f"operation {after.index} of {after.process}"
    sent = {(send.key, send.value) for send in before.sends()}
    for poll in after.polls():
        for key, records in poll.records.items():
            for _, value in records:
                if (key, value) in sent:
                    return f"{names[0]} sent {value}, which {names[1]} read"
    if before.outcome is not Outcome.INFO and before.end_ms < after.start_ms:
        return f"{names[0]} ended before {names[1]} began"
    return f"{names[0]} is before {names[1]} in the log"
