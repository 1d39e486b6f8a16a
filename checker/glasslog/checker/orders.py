"""Anomalies of order: what one consumer read, and what one producer sent, one after the other.

Distances are counted in indices, the dense ranks of offsets that hold something.  Refuses to know what
different processes did to each other.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from glasslog.checker.anomalies import Anomaly, Kind, indices
from glasslog.checker.logs import KeyLog, Logs
from glasslog.checker.operations import Operation, Outcome, Send, Subscription, Transfer

_INTERLEAVED = "Kafka does not isolate writes"
_REBALANCED = "its group may have moved the partition"
_AT_LEAST_ONCE = "its producer was not idempotent"

Records = Sequence[tuple[int, str]]


def check_orders(logs: Logs) -> Iterator[Anomaly]:
    """Process by process, in the order in which each began its operations."""
    by_process: dict[str, list[Operation]] = {}
    for operation in sorted(logs.history.operations, key=lambda each: each.index):
        by_process.setdefault(operation.process, []).append(operation)
    for process in sorted(by_process):
        yield from _Reader(process, logs).check(by_process[process])
        yield from _Writer(process, logs).check(by_process[process])


def _records(transfer: Transfer) -> dict[str, list[tuple[int, str]]]:
    """All that an operation read of each key, one poll after the other."""
    read: dict[str, list[tuple[int, str]]] = {}
    for poll in transfer.polls():
        for key, records in poll.records.items():
            read.setdefault(key, []).extend(records)
    return read


class _Reader:
    """Where one process stands in each partition: the last record of its previous ok poll there."""

    def __init__(self, process: str, logs: Logs) -> None:
        self._process = process
        self._logs = logs
        self._last: dict[str, tuple[int, str, Transfer]] = {}
        self._is_in_group = False

    def check(self, operations: Sequence[Operation]) -> Iterator[Anomaly]:
        for operation in operations:
            match operation:
                case Subscription():
                    self._subscribe(operation)
                case Transfer():
                    yield from self._read(operation)

    def _subscribe(self, subscription: Subscription) -> None:
        if subscription.outcome is Outcome.FAIL:
            return
        self._is_in_group = subscription.is_group
        retained = () if subscription.seeks else subscription.keys
        self._last = {key: self._last[key] for key in retained if key in self._last}

    def _read(self, transfer: Transfer) -> Iterator[Anomaly]:
        for key in transfer.rebalanced:
            self._last.pop(key, None)
        for key, records in _records(transfer).items():
            if not records:
                continue
            log = self._logs.of(key)
            if key in self._last:
                offset, value, before = self._last[key]
                yield from self._between(key, log, ((offset, value), records[0]), (before, transfer))
            if key not in transfer.rebalanced:
                yield from self._within(key, log, records, transfer)
            if transfer.outcome is Outcome.OK:
                self._last[key] = (*records[-1], transfer)

    def _between(
        self, key: str, log: KeyLog, pair: Records, transfers: tuple[Transfer, Transfer]
    ) -> Iterator[Anomaly]:
        kind = _kind(log, pair, skip=Kind.POLL_SKIP, back=Kind.NONMONOTONIC_POLL)
        if kind is not None:
            allowed = _REBALANCED if self._is_in_group or transfers[1].group else ""
            yield self._found(kind, key, log, pair, transfers, allowed)

    def _within(self, key: str, log: KeyLog, records: Records, transfer: Transfer) -> Iterator[Anomaly]:
        for pair in pairwise(records):
            kind = _kind(log, pair, skip=Kind.INT_POLL_SKIP, back=Kind.INT_NONMONOTONIC_POLL)
            if kind is not None:
                yield self._found(kind, key, log, pair, (transfer,), "")

    def _found(
        self,
        kind: Kind,
        key: str,
        log: KeyLog,
        pair: Records,
        transfers: Sequence[Transfer],
        allowed: str,
    ) -> Anomaly:
        (before, first), (after, second) = pair
        skipped = log.by_index[log.index_of[before] + 1 : log.index_of[after]]
        what = f"{second} at offset {after} right after {first} at {before}"
        without = f", leaving out {_some(skipped)}" if skipped else ""
        return Anomaly(
            kind=kind,
            key=key,
            detail=f"{self._process} read {what}{without}",
            values=(first, second, *skipped[:10]),
            offsets=(before, after),
            operations=indices(transfers),
            allowed=allowed,
        )


def _kind(log: KeyLog, pair: Records, *, skip: Kind, back: Kind) -> Kind | None:
    (before, _), (after, _) = pair
    step = log.index_of[after] - log.index_of[before]
    if step > 1:
        return skip
    return back if step < 1 else None


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return ", ".join(values[:3]) + more


class _Writer:
    """The last place of one producer in each partition, as far as it is known."""

    def __init__(self, process: str, logs: Logs) -> None:
        self._process = process
        self._logs = logs
        self._last: dict[str, tuple[int, Send, Transfer]] = {}

    def check(self, operations: Sequence[Operation]) -> Iterator[Anomaly]:
        for operation in operations:
            if isinstance(operation, Transfer) and operation.outcome is not Outcome.FAIL:
                inside: dict[str, tuple[int, Send]] = {}
                for send in operation.sends():
                    yield from self._send(operation, send, inside)

    def _send(self, transfer: Transfer, send: Send, inside: dict[str, tuple[int, Send]]) -> Iterator[Anomaly]:
        index = self._logs.of(send.key).first_index(send.value)
        if index is None:
            return
        allowed = "" if transfer.is_idempotent else _AT_LEAST_ONCE
        if send.key in inside:
            before, previous = inside[send.key]
            yield from self._inside(transfer, (previous, send), index - before, allowed)
        elif send.key in self._last:
            before, previous, earlier = self._last[send.key]
            if index - before < 1:
                pair = (previous, send)
                yield self._found(Kind.NONMONOTONIC_SEND, pair, (earlier, transfer), allowed)
        inside[send.key] = (index, send)
        self._last[send.key] = (index, send, transfer)

    def _inside(
        self, transfer: Transfer, pair: tuple[Send, Send], step: int, allowed: str
    ) -> Iterator[Anomaly]:
        if step < 1:
            yield self._found(Kind.INT_NONMONOTONIC_SEND, pair, (transfer,), allowed)
        elif step > 1:
            yield self._found(Kind.INT_SEND_SKIP, pair, (transfer,), _INTERLEAVED)

    def _found(
        self, kind: Kind, pair: tuple[Send, Send], transfers: Sequence[Transfer], allowed: str
    ) -> Anomaly:
        first, second = pair
        log = self._logs.of(first.key)
        before, after = log.offsets_of[first.value][0], log.offsets_of[second.value][0]
        what = f"{first.value}, then {second.value}"
        return Anomaly(
            kind=kind,
            key=first.key,
            detail=f"{self._process} sent {what}: they are at offsets {before} and {after}",
            values=(first.value, second.value),
            offsets=(before, after),
            operations=indices(transfers),
            allowed=allowed,
        )
