"""The settings of topics and brokers as an administrator sees them: values, their sources, meanings.

Answers from the metadata and from this node's own settings; refuses to know wires and to change anything.
Source: Kafka's ``ConfigHelper`` and ``DescribeConfigsResponse.ConfigSource``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.config import Described, describe, to_text
from glasslog.common.dynamic_config import DYNAMIC_SETTINGS, with_overrides
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.node_config import NodeConfig
from glasslog.common.topic_config import TopicConfig, broker_field_of, topic_config
from glasslog.common.topic_names import name_problem
from glasslog.metadata.records import ResourceType


class Source(IntEnum):
    """Where a value is from, with Kafka's numbers."""

    TOPIC = 1
    BROKER = 2
    EVERY_BROKER = 3
    NODE_FILE = 4
    DEFAULT = 5


class ValueType(IntEnum):
    """What a value is, with Kafka's numbers."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


_TYPES: Mapping[str, ValueType] = {
    "boolean": ValueType.BOOLEAN,
    "integer": ValueType.LONG,
    "number": ValueType.DOUBLE,
    "string": ValueType.STRING,
}


_FINEST: Mapping[str, str] = {
    "segment.ms": "log.roll.ms",
    "segment.jitter.ms": "log.roll.jitter.ms",
    "flush.ms": "log.flush.interval.ms",
    "retention.ms": "log.retention.ms",
}
"""Which setting of a broker, made while it runs, decides a topic's default that several of them make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synonym:
    """A setting that would hold if the ones before it were not made."""

    name: str
    value: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """One setting of a resource; ``synonyms`` begins with the one that holds."""

    name: str
    value: str
    source: Source
    value_type: ValueType
    documentation: str
    synonyms: tuple[Synonym, ...]
    read_only: bool


class ConfigView:
    """See the module. ``config`` is what this node was started with."""

    def __init__(self, metadata: MetadataView, config: NodeConfig) -> None:
        self._metadata = metadata
        self._config = config
        self._node_id = NodeId(config.node_id)
        self._own = {row.name: row for row in describe(NodeConfig)}

    def of_resource(self, kind: int, name: str) -> Sequence[ConfigEntry]:
        """The settings of a topic, of this broker, or with an empty name those made on every broker.

        Raises ``GlasslogError``: INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST.
        """
        if kind == ResourceType.TOPIC:
            if (problem := name_problem(name)) is not None and problem:
                raise GlasslogError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
            if self._metadata.image.topic(name) is None:
                raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name!r} does not exist")
            return self.of_topic(name)
        if kind != ResourceType.BROKER:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"resource type {kind} has no settings here; allowed: 2, 4"
            )
        if not name:
            return self.of_every_broker()
        if name != str(self._node_id):
            # Only a broker itself can tell what it was started with.
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"broker {name!r} is not {self._node_id}, which was asked"
            )
        return self.of_broker()

    def of_topic(self, name: str) -> Sequence[ConfigEntry]:
        """Every setting of a topic, defaults included."""
        overrides = self._metadata.image.topic_config(name)
        node = self._present()
        effective = topic_config(node, overrides)
        return [self._topic_entry(row, overrides, effective, node) for row in describe(TopicConfig)]

    def _present(self) -> NodeConfig:
        """The node's settings with what was changed while it runs."""
        image = self._metadata.image
        return with_overrides(self._config, image.broker_config(None), image.broker_config(self._node_id))

    def _topic_entry(
        self, row: Described, overrides: Mapping[str, str], effective: TopicConfig, node: NodeConfig
    ) -> ConfigEntry:
        key = row.setting.key
        synonyms = []
        if key in overrides:
            synonyms.append(Synonym(name=key, value=overrides[key], source=Source.TOPIC))
        field = broker_field_of(key)
        if field is None:
            synonyms.append(Synonym(name=key, value=row.default or "", source=Source.DEFAULT))
        elif field in self._own:
            synonyms += self._broker_synonyms(self._own[field])
        else:
            synonyms += self._worked_out(row, field, node)
        return ConfigEntry(
            name=key,
            value=to_text(getattr(effective, row.name)),
            source=synonyms[0].source,
            value_type=_value_type(row),
            documentation=row.setting.doc,
            synonyms=tuple(synonyms),
            read_only=False,
        )

    def _worked_out(self, row: Described, field: str, node: NodeConfig) -> list[Synonym]:
        """A default that follows from several settings of the node; the finest of them is the dynamic one."""
        value = to_text(getattr(node, field))
        dynamic = self._dynamic_synonyms(_FINEST[row.setting.key])
        if dynamic:
            return dynamic
        source = Source.DEFAULT if value == row.default else Source.NODE_FILE
        return [Synonym(name=row.setting.key, value=value, source=source)]

    def of_broker(self) -> Sequence[ConfigEntry]:
        """Every setting of this broker."""
        return [self._broker_entry(row) for row in self._own.values()]

    def of_every_broker(self) -> Sequence[ConfigEntry]:
        """What was set on every broker while they run."""
        made = self._metadata.image.broker_config(None)
        by_key = {row.setting.key: row for row in self._own.values()}
        return [
            ConfigEntry(
                name=key,
                value=value,
                source=Source.EVERY_BROKER,
                value_type=_value_type(by_key[key]),
                documentation=by_key[key].setting.doc,
                synonyms=(Synonym(name=key, value=value, source=Source.EVERY_BROKER),),
                read_only=False,
            )
            for key, value in sorted(made.items())
            if key in by_key
        ]

    def _broker_entry(self, row: Described) -> ConfigEntry:
        synonyms = self._broker_synonyms(row)
        return ConfigEntry(
            name=row.setting.key,
            value=synonyms[0].value,
            source=synonyms[0].source,
            value_type=_value_type(row),
            documentation=row.setting.doc,
            synonyms=tuple(synonyms),
            read_only=row.setting.key not in DYNAMIC_SETTINGS,
        )

    def _broker_synonyms(self, row: Described) -> list[Synonym]:
        key = row.setting.key
        value = to_text(getattr(self._config, row.name))
        synonyms = self._dynamic_synonyms(key)
        if value != row.default:
            synonyms.append(Synonym(name=key, value=value, source=Source.NODE_FILE))
        if row.default is not None:
            synonyms.append(Synonym(name=key, value=row.default, source=Source.DEFAULT))
        return synonyms

    def _dynamic_synonyms(self, key: str) -> list[Synonym]:
        image = self._metadata.image
        made = (
            (Source.BROKER, image.broker_config(self._node_id)),
            (Source.EVERY_BROKER, image.broker_config(None)),
        )
        return [
            Synonym(name=key, value=values[key], source=source) for source, values in made if key in values
        ]


def _value_type(row: Described) -> ValueType:
    return _TYPES.get(row.type_name, ValueType.LIST)
