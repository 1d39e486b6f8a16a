"""Writes a history as lines of JSON, as it happens or at once. ``docs/checker.md`` has the format.

Refuses to know files, clocks, and what is right.
"""

import json
from collections.abc import Callable, Iterable

from glasslog.checker.operations import (
    UNKNOWN_OFFSET,
    Acks,
    Fault,
    History,
    Operation,
    Poll,
    Send,
    Step,
    Subscription,
    Transfer,
)
from glasslog.checker.reading import VERSION, Fields, Json


class HistoryWriter:
    """Turns what happens into lines, each ended by a newline, handed to ``write`` as they come.

    Operations are numbered in the order in which they start, by ``begin`` or by the caller, and handed in
    when they have ended, at the latest before ``end``; one that never ended is handed in as ``info``.
    """

    def __init__(self, write: Callable[[str], object], *, name: str = "") -> None:
        self._write = write
        self._count = 0
        self._put({"type": "history", "version": VERSION, "name": name})

    def begin(self) -> int:
        """The index of an operation that starts now."""
        self._count += 1
        return self._count - 1

    def operation(self, operation: Operation) -> None:
        self._count = max(self._count, operation.index + 1)
        match operation:
            case Transfer():
                self._put(_transfer_fields(operation))
            case Subscription():
                self._put(_subscription_fields(operation))

    def fault(self, fault: Fault) -> None:
        self._put({"type": "fault", "name": fault.name, "start_ms": fault.start_ms, "end_ms": fault.end_ms})

    def replicas(self, key: str, nodes: Iterable[str]) -> None:
        self._put({"type": "replicas", "key": key, "nodes": list(nodes)})

    def end(self, *, drained: Iterable[str], groups: Iterable[str] = ()) -> None:
        """Only after the final drain has read all of ``drained``."""
        fields: Fields = {"type": "end", "operations": self._count, "drained": list(drained)}
        if named := list(groups):
            fields["groups"] = list(named)
        self._put(fields)

    def _put(self, fields: Fields) -> None:
        self._write(json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n")


def write_history(history: History, write: Callable[[str], object]) -> None:
    """A whole history at once."""
    writer = HistoryWriter(write, name=history.name)
    for key, nodes in sorted(history.replicas.items()):
        writer.replicas(key, nodes)
    for operation in history.operations:
        writer.operation(operation)
    for fault in history.faults:
        writer.fault(fault)
    if history.end is not None:
        writer.end(drained=history.end.drained, groups=history.end.groups)


def _transfer_fields(transfer: Transfer) -> Fields:
    kinds = {type(step) for step in transfer.steps}
    name = "transaction" if transfer.is_transaction else "poll" if kinds == {Poll} else "send"
    fields = _common_fields(name, transfer)
    fields["steps"] = [_step_json(step) for step in transfer.steps]
    if transfer.acks is not Acks.ALL:
        fields["acks"] = str(transfer.acks)
    if not transfer.is_idempotent:
        fields["idempotent"] = False
    if transfer.rebalanced:
        fields["rebalanced"] = [*sorted(transfer.rebalanced)]
    if transfer.is_drain:
        fields["drain"] = True
    if transfer.group:
        fields["group"] = transfer.group
    return fields


def _subscription_fields(subscription: Subscription) -> Fields:
    fields = _common_fields("subscribe" if subscription.is_group else "assign", subscription)
    fields["keys"] = list(subscription.keys)
    if subscription.seeks:
        fields["seeks"] = True
    return fields


def _common_fields(name: str, operation: Operation) -> Fields:
    fields: Fields = {
        "type": name,
        "index": operation.index,
        "process": operation.process,
        "outcome": str(operation.outcome),
        "start_ms": operation.start_ms,
        "end_ms": operation.end_ms,
    }
    if operation.error:
        fields["error"] = operation.error
    return fields


def _step_json(step: Step) -> Json:
    match step:
        case Send(key, value, offset):
            return ["send", key, value] if offset == UNKNOWN_OFFSET else ["send", key, value, offset]
        case Poll(records):
            return [
                "poll",
                {key: [[offset, value] for offset, value in each] for key, each in records.items()},
            ]
