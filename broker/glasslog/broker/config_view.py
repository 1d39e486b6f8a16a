"""The settings of topics and brokers as an administrator sees them: values, their sources, meanings.

Answers from the metadata and from this node's own settings; refuses to know wires and to change anything.
Source: Kafka's ``ConfigHelper`` and ``DescribeConfigsResponse.ConfigSource``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.config import Described, describe, to_text
from glasslog.common.node_config import NodeConfig
from glasslog.common.topic_config import TopicConfig, broker_field_of, topic_config


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
    """See the module. ``config`` is this node's own."""

    def __init__(self, metadata: MetadataView, config: NodeConfig) -> None:
        self._metadata = metadata
        self._config = config
        self._own = {row.name: row for row in describe(NodeConfig)}

    def of_topic(self, name: str) -> Sequence[ConfigEntry]:
        """Every setting of a topic, defaults included."""
        overrides = self._metadata.image.topic_config(name)
        effective = topic_config(self._config, overrides)
        return [self._topic_entry(row, overrides, effective) for row in describe(TopicConfig)]

    def _topic_entry(
        self, row: Described, overrides: Mapping[str, str], effective: TopicConfig
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
            # Worked out from several settings of the node.
            value = to_text(getattr(self._config, field))
            source = Source.DEFAULT if value == row.default else Source.NODE_FILE
            synonyms.append(Synonym(name=key, value=value, source=source))
        return ConfigEntry(
            name=key,
            value=to_text(getattr(effective, row.name)),
            source=synonyms[0].source,
            value_type=_value_type(row),
            documentation=row.setting.doc,
            synonyms=tuple(synonyms),
            read_only=False,
        )

    def of_broker(self) -> Sequence[ConfigEntry]:
        """Every setting of this broker. None can be changed while it runs."""
        return [self._broker_entry(row) for row in self._own.values()]

    def _broker_entry(self, row: Described) -> ConfigEntry:
        synonyms = self._broker_synonyms(row)
        return ConfigEntry(
            name=row.setting.key,
            value=synonyms[0].value,
            source=synonyms[0].source,
            value_type=_value_type(row),
            documentation=row.setting.doc,
            synonyms=tuple(synonyms),
            read_only=True,
        )

    def _broker_synonyms(self, row: Described) -> list[Synonym]:
        key = row.setting.key
        value = to_text(getattr(self._config, row.name))
        synonyms = []
        if value != row.default:
            synonyms.append(Synonym(name=key, value=value, source=Source.NODE_FILE))
        if row.default is not None:
            synonyms.append(Synonym(name=key, value=row.default, source=Source.DEFAULT))
        return synonyms


def _value_type(row: Described) -> ValueType:
    return _TYPES.get(row.type_name, ValueType.LIST)
