"""YAML whose every value knows its line, asked for by type.

Refuses to know what the fields of a scenario are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

import yaml

_UNITS_MS = {"": 1000, "ms": 1, "s": 1000, "m": 60_000}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|)")
_LONGEST_MS = 24 * 60 * 60_000


class ScenarioError(Exception):
    """A scenario that can not be read; the text names file, line and reason."""


@dataclass(frozen=True, slots=True)
class Value:
    """A node of the document, with where it comes from."""

    node: yaml.Node
    where: str

    def fail(self, reason: str) -> NoReturn:
        raise ScenarioError(f"{self.where}:{self.line}: {reason}")

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def fields(self, what: str) -> "Fields":
        if not isinstance(self.node, yaml.MappingNode):
            self.fail(f"{what} must have fields, as in `name: value`")
        return Fields(self, what)

    def items(self, what: str) -> list["Value"]:
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail(f"{what} must be a list, each entry after a `-`")
        return [Value(node, self.where) for node in self.node.value]

    def text(self, what: str) -> str:
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            self.fail(f"{what} must be a text")
        return str(self.node.value)

    def number(self, what: str, *, minimum: int, maximum: int) -> int:
        text = self.text(what)
        if not re.fullmatch(r"\d{1,18}", text) or not minimum <= int(text) <= maximum:
            self.fail(f"{what} is {text!r}, and must be a whole number from {minimum} to {maximum}")
        return int(text)

    def share(self, what: str) -> float:
        text = self.text(what)
        if not re.fullmatch(r"0\.\d{1,3}", text) or float(text) == 0:
            self.fail(f"{what} is {text!r}, and must be between 0 and 1, as in 0.9")
        return float(text)

    def flag(self, what: str) -> bool:
        text = self.text(what)
        if text not in ("true", "false"):
            self.fail(f"{what} is {text!r}, and must be true or false")
        return text == "true"

    def choice(self, what: str, choices: Sequence[str]) -> str:
        text = self.text(what)
        if text not in choices:
            self.fail(f"{what} is {text!r}, and must be one of {', '.join(choices)}{_near(text, choices)}")
        return text

    def duration_ms(self, what: str) -> int:
        text = self.text(what)
        found = _DURATION.fullmatch(text)
        length_ms = round(float(found[1]) * _UNITS_MS[found[2]]) if found else -1
        if not 0 <= length_ms <= _LONGEST_MS:
            self.fail(f"{what} is {text!r}, and must be a time up to a day, as in 500ms, 10s or 2m")
        return length_ms


class Fields:
    """A mapping whose fields are taken one by one; what is left over in the end is an error."""

    def __init__(self, value: Value, what: str) -> None:
        self.value = value
        self._what = what
        self._fields: dict[str, tuple[Value, Value]] = {}
        for key_node, node in value.node.value:
            key = Value(key_node, value.where)
            name = key.text(f"a field of {what}")
            if name in self._fields:
                key.fail(f"{what} has {name!r} twice")
            self._fields[name] = key, Value(node, value.where)
        self._known: list[str] = []

    def fail(self, reason: str) -> NoReturn:
        self.value.fail(reason)

    def find(self, name: str) -> Value | None:
        """The field, if it is there."""
        self._known.append(name)
        found = self._fields.pop(name, None)
        return None if found is None else found[1]

    def need(self, name: str) -> Value:
        """The field. Raises ``ScenarioError`` when it is missing."""
        found = self.find(name)
        if found is None:
            self.fail(f"{self._what} needs `{name}:`{self._instead(name)}")
        return found

    def rest(self) -> list[tuple[str, Value]]:
        """All that was not taken yet."""
        taken = [(name, value) for name, (_, value) in self._fields.items()]
        self._fields.clear()
        return taken

    def end(self) -> None:
        """Nothing else may be there."""
        for name, (key, _) in self._fields.items():
            known = ", ".join(self._known)
            key.fail(f"{self._what} has no field {name!r}{_near(name, self._known)}; there are {known}")

    def _instead(self, name: str) -> str:
        near = get_close_matches(name, list(self._fields), 1)
        return f", and has {near[0]!r}" if near else ""


def _near(text: str, choices: Sequence[str]) -> str:
    near = get_close_matches(text, choices, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def parse_yaml(text: str, where: str) -> Value:
    """The document's root. Raises ``ScenarioError`` for what is no YAML, or nothing."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else int(mark.line) + 1
        raise ScenarioError(f"{where}:{line}: not YAML: {error.problem or error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise ScenarioError(f"{where}:1: not YAML: {reason}") from None
    if node is None:
        raise ScenarioError(f"{where}:1: the file is empty")
    return Value(node, where)
