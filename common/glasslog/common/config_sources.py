"""Where settings come from: a properties file, ``GLASSLOG_*`` in the environment, ``--set``; the last wins.

This module knows texts by key; it refuses to know what a key means (``config``).
"""

from collections.abc import Iterable, Mapping

from glasslog.common.errors import ConfigError

ENVIRONMENT_PREFIX = "GLASSLOG_"


def parse_properties(text: str, *, where: str) -> dict[str, str]:
    """``key=value`` (or ``key: value``) lines; ``#`` and ``!`` start comments; a key may stand once.

    Raises ``ConfigError`` naming the file and the line.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        key, value = _split(stripped, f"{where}:{number}")
        if key in values:
            raise ConfigError(f"{where}:{number}: {key!r} is set twice")
        values[key] = value
    return values


def _split(line: str, where: str) -> tuple[str, str]:
    ends = [position for position in (line.find("="), line.find(":")) if position > 0]
    if not ends:
        raise ConfigError(f"{where}: {line!r} is not key=value")
    end = min(ends)
    return line[:end].strip(), line[end + 1 :].strip()


def parse_assignments(texts: Iterable[str], *, where: str = "--set") -> dict[str, str]:
    """``key=value`` arguments of the command line."""
    values: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"{where}: {text!r} is not key=value")
        values[key.strip()] = value.strip()
    return values


def from_environment(environment: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """The settings among ``keys`` that the environment gives: ``node.id`` as ``GLASSLOG_NODE_ID``.

    Other variables with the prefix belong to the command line and are left alone.
    """
    names = {ENVIRONMENT_PREFIX + key.upper().replace(".", "_"): key for key in keys}
    return {names[name]: value for name, value in environment.items() if name in names}


def to_properties(values: Mapping[str, str]) -> str:
    """A properties file with one line a key, in the order given."""
    return "".join(f"{key}={value}\n" for key, value in values.items())
