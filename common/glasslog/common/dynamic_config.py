"""Which settings of a broker may be changed while it runs, and a broker's settings with such changes.

This module knows the list and the order of precedence: what is set on one broker, what is set on every
broker, what the node was started with.  It refuses to know where changes are kept and who makes them.
Source: Kafka's ``DynamicBrokerConfig`` (KIP-226), whose settings of the log are dynamic here too.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, get_type_hints

from glasslog.common.config import Described, describe, parse_value
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig

_log = logging.getLogger(__name__)


class Scope(Enum):
    """On what a dynamic setting may be set."""

    ANY = "one broker, or every broker"
    EVERY_BROKER = "every broker"
    """The controllers act on it, for which one broker's opinion would mean nothing."""


_OF_ANY_BROKER = (
    "message.max.bytes",
    "compression.type",
    "log.message.timestamp.type",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.after.max.ms",
    "log.segment.bytes",
    "log.roll.ms",
    "log.roll.jitter.ms",
    "log.index.size.max.bytes",
    "log.index.interval.bytes",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.retention.ms",
    "log.retention.bytes",
    "log.segment.delete.delay.ms",
    "log.cleanup.policy",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.backoff.ms",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
)

DYNAMIC_SETTINGS: Mapping[str, Scope] = {
    "min.insync.replicas": Scope.EVERY_BROKER,
    "unclean.leader.election.enable": Scope.EVERY_BROKER,
    **dict.fromkeys(_OF_ANY_BROKER, Scope.ANY),
}
"""By key. All others need a restart of the node."""

_ROWS: Mapping[str, Described] = {row.setting.key: row for row in describe(NodeConfig)}
_TYPES = get_type_hints(NodeConfig)


def check_broker_overrides(overrides: Mapping[str, str], *, is_every_broker: bool) -> None:
    """Raise ``ConfigError`` for the first setting that is unknown, not dynamic, or out of range."""
    for key, text in overrides.items():
        if key not in _ROWS:
            raise ConfigError(f"broker: unknown setting {key!r}")
        scope = DYNAMIC_SETTINGS.get(key)
        if scope is None:
            raise ConfigError(f"broker: {key!r} is read-only: it changes with a restart of the broker")
        if scope is Scope.EVERY_BROKER and not is_every_broker:
            raise ConfigError(f"broker: {key!r} can not differ between brokers: set it on every broker")
        _value(key, text)


def with_overrides(
    config: NodeConfig, every_broker: Mapping[str, str], this_broker: Mapping[str, str]
) -> NodeConfig:
    """``config`` as these changes leave it. One that this node can not read is left out, and logged."""
    values: dict[str, Any] = {}
    for key, text in {**every_broker, **this_broker}.items():
        try:
            check_broker_overrides({key: text}, is_every_broker=key not in this_broker)
        except ConfigError as error:
            _log.warning("a dynamic setting has no effect: %s", error)
        else:
            values[_ROWS[key].name] = _value(key, text)
    return replace(config, **values) if values else config


def list_default(key: str) -> str | None:
    """The default of a broker's setting that holds several values; ``None`` for any other setting."""
    row = _ROWS.get(key)
    return (row.default or "") if row is not None and row.type_name == "list" else None


def _value(key: str, text: str) -> Any:
    row = _ROWS[key]
    return parse_value(row.setting, _TYPES[row.name], text, where="broker")
