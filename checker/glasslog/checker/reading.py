"""Reads a history from lines of JSON, and says which line is wrong; ``docs/checker.md`` has the format.

Refuses to know files, and to judge what it reads.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from glasslog.checker.operations import (
    Acks,
    End,
    Fault,
    History,
    Operation,
    Outcome,
    Poll,
    Send,
    Step,
    Subscription,
    Transfer,
)

VERSION = 1
MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused before it is parsed."""

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Fields = dict[str, Json]

_TRANSFERS = ("send", "poll", "transaction")
_SUBSCRIPTIONS = ("assign", "subscribe")
_COMMON = frozenset({"type", "index", "process", "outcome", "start_ms", "end_ms", "error"})
_ALLOWED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(_TRANSFERS, _COMMON | {"steps", "acks", "idempotent", "rebalanced", "drain", "group"}),
    **dict.fromkeys(_SUBSCRIPTIONS, _COMMON | {"keys", "seeks"}),
    "history": frozenset({"type", "version", "name"}),
    "fault": frozenset({"type", "name", "start_ms", "end_ms"}),
    "replicas": frozenset({"type", "key", "nodes"}),
    "end": frozenset({"type", "operations", "drained", "groups"}),
}


class HistoryError(ValueError):
    """A line that is no part of a history. The text is one line that says where and why."""


def read_history(lines: Iterable[bytes]) -> History:
    """Read a whole history, complete or not. Raises ``HistoryError``."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        try:
            reader.take(line)
        except HistoryError as error:
            raise HistoryError(f"line {number}: {error}") from None
    if not reader.has_header:
        raise HistoryError('it is empty; a history starts with {"type":"history","version":1}')
    reader.history.operations.sort(key=lambda operation: operation.index)
    return reader.history


class _Reader:
    """A history while its lines come in."""

    def __init__(self) -> None:
        self.history = History()
        self.has_header = False
        self._indices: set[int] = set()
        self._values: dict[tuple[str, str], int] = {}

    def take(self, line: bytes) -> None:
        fields = _Line(_parsed(line))
        if not self.has_header:
            self.history.name = _header(fields)
            self.has_header = True
            return
        if self.history.end is not None:
            raise HistoryError(f"a line of type {fields.type!r} after the end")
        match fields.type:
            case "send" | "poll" | "transaction":
                transfer = fields.transfer()
                self._note(transfer)
                self._note_values(transfer)
            case "assign" | "subscribe":
                self._note(fields.subscription())
            case "fault":
                self.history.faults.append(fields.fault())
            case "replicas":
                self.history.replicas[fields.text("key")] = fields.texts("nodes")
            case "end":
                self._end(fields)
            case "history":
                raise HistoryError("a second header")

    def _note(self, operation: Operation) -> None:
        if operation.index in self._indices:
            raise HistoryError(f"operation {operation.index} is there twice")
        self._indices.add(operation.index)
        self.history.operations.append(operation)

    def _note_values(self, transfer: Transfer) -> None:
        for send in transfer.sends():
            other = self._values.get((send.key, send.value))
            if other is not None:
                raise HistoryError(
                    f"{send.value!r} is sent to {send.key} by operation {other} and operation "
                    f"{transfer.index}; values are unique"
                )
            self._values[send.key, send.value] = transfer.index

    def _end(self, fields: "_Line") -> None:
        count = fields.whole("operations")
        beyond = sorted(index for index in self._indices if index >= count)
        if beyond:
            raise HistoryError(f"the end counts {count} operations, but there is an operation {beyond[0]}")
        self.history.end = End(
            operations=count,
            drained=fields.texts("drained"),
            groups=fields.texts("groups") if fields.has("groups") else (),
        )


def _parsed(line: bytes) -> Fields:
    if len(line) > MAX_LINE_BYTES:
        raise HistoryError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        value: Json = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise HistoryError(f"no JSON: {reason}") from None
    if not isinstance(value, dict):
        raise HistoryError(f"a {_kind(value)} instead of an object")
    return value


def _header(fields: "_Line") -> str:
    if fields.type != "history":
        raise HistoryError(f"a line of type {fields.type!r} before the header")
    version = fields.whole("version")
    if version != VERSION:
        raise HistoryError(f"version {version} of the format; this is version {VERSION}")
    return fields.text("name") if fields.has("name") else ""


class _Line:
    """One object's fields, each taken with its type checked. Raises ``HistoryError``."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.type = self.text("type")
        allowed = _ALLOWED.get(self.type)
        if allowed is None:
            raise HistoryError(f"type {self.type!r} is none of {', '.join(_ALLOWED)}")
        for name in fields:
            if name not in allowed:
                raise HistoryError(f"unknown field {name!r} of {self.type!r}")

    def has(self, name: str) -> bool:
        return name in self._fields

    def text(self, name: str) -> str:
        value = self._need(name)
        if not isinstance(value, str):
            raise _wrong(name, value, "a string")
        return value

    def whole(self, name: str) -> int:
        value = self._need(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _wrong(name, value, "a whole number from 0")
        return value

    def number(self, name: str) -> float:
        value = self._need(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < float("inf"):
            raise _wrong(name, value, "a number")
        return value

    def truth(self, name: str, *, default: bool) -> bool:
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        found: list[str] = []
        for value in self._list(name):
            if not isinstance(value, str):
                raise _wrong(name, value, "a list of strings")
            found.append(value)
        return tuple(found)

    def transfer(self) -> Transfer:
        start_ms, end_ms = self._span()
        return Transfer(
            index=self.whole("index"),
            process=self.text("process"),
            outcome=self._outcome(),
            start_ms=start_ms,
            end_ms=end_ms,
            steps=tuple(self._step(value) for value in self._list("steps")),
            is_transaction=self.type == "transaction",
            acks=self._acks() if self.has("acks") else Acks.ALL,
            is_idempotent=self.truth("idempotent", default=True),
            rebalanced=frozenset(self.texts("rebalanced")) if self.has("rebalanced") else frozenset(),
            is_drain=self.truth("drain", default=False),
            group=self.text("group") if self.has("group") else "",
            error=self.text("error") if self.has("error") else "",
        )

    def subscription(self) -> Subscription:
        start_ms, end_ms = self._span()
        return Subscription(
            index=self.whole("index"),
            process=self.text("process"),
            outcome=self._outcome(),
            start_ms=start_ms,
            end_ms=end_ms,
            keys=self.texts("keys"),
            is_group=self.type == "subscribe",
            seeks=self.truth("seeks", default=False),
            error=self.text("error") if self.has("error") else "",
        )

    def fault(self) -> Fault:
        start_ms, end_ms = self._span()
        return Fault(name=self.text("name"), start_ms=start_ms, end_ms=end_ms)

    def _need(self, name: str) -> Json:
        if name not in self._fields:
            of = f" of {self._fields['type']!r}" if name != "type" else ""
            raise HistoryError(f"field {name!r}{of} is missing")
        return self._fields[name]

    def _list(self, name: str) -> list[Json]:
        value = self._need(name)
        if not isinstance(value, list):
            raise _wrong(name, value, "a list")
        return value

    def _span(self) -> tuple[float, float]:
        start_ms, end_ms = self.number("start_ms"), self.number("end_ms")
        if end_ms < start_ms:
            raise HistoryError(f"end_ms {end_ms} is before start_ms {start_ms}")
        return start_ms, end_ms

    def _outcome(self) -> Outcome:
        value = self.text("outcome")
        if value not in _OUTCOMES:
            raise _wrong("outcome", value, f"one of {', '.join(_OUTCOMES)}")
        return _OUTCOMES[value]

    def _acks(self) -> Acks:
        value = self.text("acks")
        if value not in _ACKS:
            raise _wrong("acks", value, f"one of {', '.join(_ACKS)}")
        return _ACKS[value]

    def _step(self, value: Json) -> Step:
        match value:
            case ["send", str(key), str(sent)] if self.type != "poll":
                return Send(key, sent)
            case ["send", str(key), str(sent), int(offset)] if self.type != "poll" and offset >= 0:
                return Send(key, sent, offset)
            case ["poll", dict(records)] if self.type != "send":
                return Poll({key: _records(key, value) for key, value in records.items()})
            case _:
                shape = (
                    '["send",KEY,VALUE] or ["send",KEY,VALUE,OFFSET] or ["poll",{KEY:[[OFFSET,VALUE],...]}]'
                )
                raise HistoryError(f"a step of {self.type!r} is {_short(value)}; it must be {shape}")


_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
_ACKS = {str(acks): acks for acks in Acks}


def _records(key: str, value: Json) -> tuple[tuple[int, str], ...]:
    found: list[tuple[int, str]] = []
    for record in value if isinstance(value, list) else [value]:
        match record:
            case [int(offset), str(polled)] if offset >= 0:
                found.append((offset, polled))
            case _:
                raise HistoryError(
                    f"a record polled from {key!r} is {_short(record)}; it must be [OFFSET,VALUE]"
                )
    return tuple(found)


def _wrong(name: str, value: Json, wanted: str) -> HistoryError:
    return HistoryError(f"field {name!r} is {_short(value)}; it must be {wanted}")


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: Json) -> str:
    match value:
        case list():
            return "list"
        case str():
            return "string"
        case None:
            return "null"
        case _:
            return "number"
