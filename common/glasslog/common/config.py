"""Settings as typed, documented, validated values: one table from which parsing, help and docs are made.

A settings class is a frozen dataclass whose fields are declared with ``setting(...)``; names, defaults and
meanings are Kafka's. This module knows types and ranges; it refuses to know where the text came from
(``config_sources``) and what a setting does.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from glasslog.common.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
C = TypeVar("C", bound="DataclassInstance")
_MISSING: Any = MISSING

INT_MAX = 2**31 - 1
"""Kafka's upper bound of a setting of type INT."""
LONG_MAX = 2**63 - 1
"""Kafka's upper bound of a setting of type LONG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one key means. ``minimum``/``maximum`` are inclusive; ``choices`` are the only texts allowed."""

    key: str
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    validate: Callable[[Any], str | None] | None = None


def setting(
    key: str,
    doc: str,
    *,
    default: Any = _MISSING,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    validate: Callable[[Any], str | None] | None = None,
) -> Any:
    """A dataclass field that carries its ``Setting``. ``validate`` returns what is wrong, or ``None``."""
    about = Setting(key=key, doc=doc, minimum=minimum, maximum=maximum, choices=choices, validate=validate)
    return field(default=default, metadata={"setting": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One row of ``--describe-config``. ``default`` is ``None`` for a key that must be given."""

    setting: Setting
    name: str
    type_name: str
    default: str | None


def describe(cls: type[C]) -> tuple[Described, ...]:
    """Every setting of a settings class, in the order of its declaration."""
    return tuple(
        Described(
            setting=_about(item),
            name=item.name,
            type_name=_type_name(kind),
            default=None if item.default is MISSING else to_text(item.default),
        )
        for item, kind in _table(cls).values()
    )


def parse(cls: type[C], values: Mapping[str, str], *, where: str = "configuration") -> C:
    """A settings object from texts by key. Raises ``ConfigError`` naming key, value and what is allowed."""
    known = _table(cls)
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown setting {key!r}{_did_you_mean(key, known)}")
    arguments: dict[str, Any] = {}
    for key, (item, kind) in known.items():
        if key in values:
            arguments[item.name] = parse_value(_about(item), kind, values[key], where=where)
        elif item.default is MISSING:
            raise ConfigError(f"{where}: setting {key!r} is missing: {_about(item).doc}")
    return cls(**arguments)


@cache
def _table(cls: "type[DataclassInstance]") -> Mapping[str, "tuple[Field[Any], Any]"]:
    """Field and type by key. Kept: type hints are texts, and turning them into types takes a millisecond."""
    hints = get_type_hints(cls)
    return {_about(item).key: (item, hints[item.name]) for item in fields(cls)}


def parse_value(about: Setting, kind: Any, text: str, *, where: str) -> Any:
    """One value from its text, checked against its setting."""
    try:
        value = _convert(kind, text.strip())
    except ValueError as error:
        raise ConfigError(f"{where}: {about.key}={text!r} is not {_article(_type_name(kind))}") from error
    problem = _problem(about, value)
    if problem:
        raise ConfigError(f"{where}: {about.key}={text!r} is out of range: {problem}")
    return value


def to_text(value: object) -> str:
    """A value as it would be written in a properties file."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(to_text(item) for item in value)
        case None:
            return ""
        case _:
            return str(value)


def _about(item: "Field[Any]") -> Setting:
    about = item.metadata["setting"]
    assert isinstance(about, Setting)
    return about


_TYPE_NAMES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


def _convert(kind: Any, text: str) -> Any:
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return tuple(_convert(inner, part.strip()) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    if kind is int or kind is float:
        return kind(text)
    return text


def _problem(about: Setting, value: Any) -> str | None:
    if about.choices:
        chosen = value if isinstance(value, tuple) else (value,)
        if not chosen or any(item not in about.choices for item in chosen):
            return f"allowed: {', '.join(about.choices)}"
    if about.minimum is not None and value < about.minimum:
        return f"at least {_number(about.minimum)}"
    if about.maximum is not None and value > about.maximum:
        return f"at most {_number(about.maximum)}"
    return about.validate(value) if about.validate else None


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _type_name(kind: Any) -> str:
    return "list" if get_origin(kind) is tuple else _TYPE_NAMES.get(kind, "string")


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _did_you_mean(key: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
