"""A node's settings from file, environment and command line, and the table of all there are.

Refuses to know what settings do.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from glasslog.common.config import Described, describe, parse
from glasslog.common.config_sources import from_environment, parse_assignments, parse_properties
from glasslog.common.dynamic_config import DYNAMIC_SETTINGS
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig

_ANY_NODE: Mapping[str, str] = {"node.id": "0", "process.roles": "broker"}
"""The keys without a default, for checking a source that need not have them."""


def load(file: Path | None, *, environment: Mapping[str, str], assignments: Iterable[str]) -> NodeConfig:
    """File < environment < ``--set``. Raises ``ConfigError`` naming source, key, and what is wrong."""
    keys = [row.setting.key for row in describe(NodeConfig)]
    sources = {
        str(file): parse_properties(_read(file), where=str(file)) if file else {},
        "environment": from_environment(environment, keys),
        "--set": parse_assignments(assignments),
    }
    values: dict[str, str] = {}
    for name, given in sources.items():
        parse(NodeConfig, {**_ANY_NODE, **given}, where=name)
        values |= given
    return parse(NodeConfig, values, where=str(file) if file else "settings")


def as_text() -> str:
    """Every setting for a person to read."""
    return "\n".join(_paragraph(row) for row in describe(NodeConfig))


def as_json() -> str:
    """Every setting for a program to read."""
    return json.dumps([_fields(row) for row in describe(NodeConfig)], indent=2) + "\n"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--config {file} can not be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file} is not UTF-8 text") from error


def _paragraph(row: Described) -> str:
    default = "must be given" if row.default is None else f"default {row.default or '(empty)'}"
    allowed = _allowed(row)
    facts = f"{row.type_name}, {default}" + (f", {allowed}" if allowed else "")
    scope = DYNAMIC_SETTINGS.get(row.setting.key)
    if scope is not None:
        facts += f"; `glasslog config set` changes it while brokers run, on {scope.value}"
    return f"{row.setting.key}\n    {row.setting.doc}\n    ({facts})\n"


def _allowed(row: Described) -> str:
    about = row.setting
    if about.choices:
        return "one of " + ", ".join(about.choices)
    parts = []
    if about.minimum is not None:
        parts.append(f"at least {about.minimum:.0f}")
    if about.maximum is not None:
        parts.append(f"at most {about.maximum:.0f}")
    return ", ".join(parts)


def _fields(row: Described) -> dict[str, object]:
    about = row.setting
    scope = DYNAMIC_SETTINGS.get(about.key)
    return {
        "key": about.key,
        "type": row.type_name,
        "default": row.default,
        "minimum": about.minimum,
        "maximum": about.maximum,
        "choices": list(about.choices),
        "doc": about.doc,
        "dynamic": None if scope is None else scope.value,
    }
