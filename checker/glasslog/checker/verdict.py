"""The answer: is the history complete, and what is wrong with it.

Puts the checks together and adds to each finding what was going on: replicas and faults.  Refuses to know
files and how an answer is shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from glasslog.checker.anomalies import Anomaly
from glasslog.checker.cycles import check_cycles
from glasslog.checker.logs import Logs
from glasslog.checker.operations import Fault, History, Operation, Outcome, Transfer
from glasslog.checker.orders import check_orders
from glasslog.checker.values import check_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``is_good`` only if the history was ``complete`` and has no anomaly that is not allowed.

    ``missing`` says what makes it incomplete. ``allowed`` are findings that the promises bear.
    """

    operations: int
    outcomes: Mapping[str, int]
    sent: int
    read: int
    missing: tuple[str, ...]
    anomalies: tuple[Anomaly, ...]
    allowed: tuple[Anomaly, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing

    @property
    def is_good(self) -> bool:
        return self.is_complete and not self.anomalies

    def counts(self) -> Mapping[str, int]:
        """How many anomalies of each kind."""
        return dict(sorted(Counter(str(anomaly.kind) for anomaly in self.anomalies).items()))


def check(history: History) -> Verdict:
    """Look for every anomaly, also in an incomplete history."""
    logs = Logs(history)
    annotate = _Circumstances(history).add_to
    found = [annotate(each) for each in (*check_values(logs), *check_orders(logs), *check_cycles(logs))]
    outcomes = Counter(str(each.outcome) for each in history.operations)
    return Verdict(
        operations=len(history.operations),
        outcomes={str(outcome): outcomes[str(outcome)] for outcome in Outcome},
        sent=sum(len(transfer.sends()) for transfer in logs.transfers),
        read=sum(
            len(records)
            for transfer in logs.transfers
            for poll in transfer.polls()
            for records in poll.records.values()
        ),
        missing=tuple(_missing(history, logs)),
        anomalies=tuple(each for each in found if not each.allowed),
        allowed=tuple(each for each in found if each.allowed),
    )


def _missing(history: History, logs: Logs) -> Iterator[str]:
    """What a history must have before nothing found means nothing wrong."""
    end = history.end
    if end is None:
        yield "it has no end: the recording broke off"
        return
    indices = {operation.index for operation in history.operations}
    absent = [index for index in range(end.operations) if index not in indices]
    if absent:
        named = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        yield f"{len(absent)} of its {end.operations} operations are not there: {named}"
    sent = {send.key: None for transfer in logs.transfers for send in transfer.sends()}
    for key in sorted(sent):
        if key not in end.drained:
            yield f"{key} was written, and not drained in the end"
    drained = any(isinstance(each, Transfer) and each.is_drain for each in history.operations)
    if sent and end.drained and not drained:
        yield "it says that it was drained, but has no poll of a drain"


class _Circumstances:
    """What is known around an anomaly."""

    def __init__(self, history: History) -> None:
        self._replicas = history.replicas
        self._operations = {operation.index: operation for operation in history.operations}
        self._faults = sorted(history.faults, key=lambda fault: (fault.start_ms, fault.name))

    def add_to(self, anomaly: Anomaly) -> Anomaly:
        operations = [self._operations[index] for index in anomaly.operations]
        return replace(
            anomaly,
            replicas=self._replicas.get(anomaly.key, ()),
            faults=tuple(dict.fromkeys(fault.name for fault in self._active(operations))),
        )

    def _active(self, operations: Sequence[Operation]) -> list[Fault]:
        """Those that overlap one of the operations; else the last that began before the end of them."""
        if not operations:
            return []
        spans = [(each.start_ms, each.end_ms) for each in operations]
        active = [
            fault
            for fault in self._faults
            if any(fault.start_ms <= end and fault.end_ms >= start for start, end in spans)
        ]
        last = max(end for _, end in spans)
        return active or [fault for fault in self._faults if fault.start_ms <= last][-1:]
