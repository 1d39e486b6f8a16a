"""``--property KEY=VALUE``: the client's options as texts, under Kafka's dotted names or ours.

Refuses to know what an option does; its type and bounds are in the table of the client's options.
"""

from collections.abc import Iterable
from typing import TypeVar, get_type_hints

from glasslog.client.cli.errors import UsageError
from glasslog.client.options import ClientOptions
from glasslog.common.config import describe, parse_value
from glasslog.common.config_sources import parse_assignments

Options = TypeVar("Options", bound=ClientOptions)
_NOT_HERE = frozenset({"bootstrap_servers", "group_id"})
"""Given to the command in other ways."""


def parse_properties(options: type[Options], texts: Iterable[str]) -> dict[str, object]:
    """Keyword arguments for the client. ``UsageError``: unknown key; ``ConfigError``: bad value."""
    rows = {row.name: row.setting for row in describe(options) if row.name not in _NOT_HERE}
    hints = get_type_hints(options)
    found: dict[str, object] = {}
    for key, text in parse_assignments(texts, where="--property").items():
        name = key.replace(".", "_")
        if name not in rows:
            raise UsageError(
                f"--property {key}: there is no such option; there are {', '.join(sorted(rows))}"
            )
        found[name] = parse_value(rows[name], hints[name], text, where="--property")
    return found
