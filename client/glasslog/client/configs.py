"""Settings of topics and brokers as ``Admin`` reads and changes them.

Refuses to know which settings there are, and how a command prints them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from glasslog.client.admin_base import AdminBase, no_error
from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.v1.broker_pb2 import DescribeConfigsRequest, DescribeConfigsResponse
from glasslog.v1.controller_pb2 import AlterConfigsRequest, AlterConfigsResponse


class ResourceType(IntEnum):
    """What a setting is set on, with Kafka's numbers."""

    TOPIC = 2
    BROKER = 4


class ConfigResource(NamedTuple):
    """A topic by name, a broker by id; broker ``""`` stands for every broker."""

    type: ResourceType
    name: str

    def __str__(self) -> str:
        if self.type is ResourceType.TOPIC:
            return f"topic {self.name!r}"
        return f"broker {self.name}" if self.name else "every broker"


class ConfigSource(IntEnum):
    """Where a value is from, with Kafka's numbers."""

    TOPIC = 1
    BROKER = 2
    EVERY_BROKER = 3
    NODE_FILE = 4
    DEFAULT = 5


class ConfigOperation(IntEnum):
    """What to do with a setting, with Kafka's numbers; the last two are for lists."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEdit:
    """One edit of one setting; ``value`` is nothing to ``DELETE``, which returns to the default."""

    key: str
    operation: ConfigOperation = ConfigOperation.SET
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSynonym:
    """What would hold if the ones before it were not set."""

    key: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValue:
    """A setting as it holds, and what else is set for it; the first synonym is the one that holds."""

    key: str
    value: str
    source: ConfigSource
    read_only: bool
    documentation: str
    synonyms: tuple[ConfigSynonym, ...]


class ConfigAdmin(AdminBase):
    """What ``Admin`` does with settings."""

    async def alter_configs(
        self, edits: Mapping[ConfigResource, Sequence[ConfigEdit]], *, validate_only: bool = False
    ) -> None:
        """Change settings of topics and brokers; each resource whole or not at all. They act at once.

        Raises the first refusal: UNKNOWN_TOPIC_OR_PARTITION, BROKER_ID_NOT_REGISTERED, INVALID_CONFIG for a
        topic's and INVALID_REQUEST for a broker's setting; the other resources are changed.
        """
        request = AlterConfigsRequest(
            resources=[_to_wire(resource, changes) for resource, changes in edits.items()],
            validate_only=validate_only,
            timeout_ms=self._options.request_timeout_ms,
        )
        response = await self._ask_any("AlterConfigs", request, AlterConfigsResponse, no_error)
        for result in response.resources:
            code = error_of(result.error_code)
            if code is not ErrorCode.NONE:
                resource = ConfigResource(ResourceType(result.type), result.name)
                raise GlasslogError(code, f"{resource}: {result.error_message or code.name}")

    async def describe_configs(self, resource: ConfigResource, keys: Iterable[str] = ()) -> list[ConfigValue]:
        """The settings of a topic or broker, these or all; of broker ``""`` what was set on every broker.

        Raises UNKNOWN_TOPIC_OR_PARTITION, BROKER_NOT_AVAILABLE.
        """
        request = DescribeConfigsRequest(type=resource.type, name=resource.name, keys=list(keys))
        if resource.type is ResourceType.BROKER and resource.name.isdecimal():
            # Only a broker itself knows what it was started with.
            response = await self._ask_broker(
                int(resource.name), "DescribeConfigs", request, DescribeConfigsResponse
            )
        else:
            response = await self._ask_any("DescribeConfigs", request, DescribeConfigsResponse, no_error)
        code = error_of(response.error_code)
        if code is not ErrorCode.NONE:
            raise GlasslogError(code, response.error_message or f"{resource}: {code.name}")
        return [_value_of(entry) for entry in response.entries]


def _to_wire(resource: ConfigResource, edits: Iterable[ConfigEdit]) -> AlterConfigsRequest.Resource:
    return AlterConfigsRequest.Resource(
        type=resource.type,
        name=resource.name,
        changes=[
            AlterConfigsRequest.Change(
                key=edit.key,
                operation=AlterConfigsRequest.Operation.ValueType(edit.operation),
                value=None if edit.operation is ConfigOperation.DELETE else edit.value,
            )
            for edit in edits
        ],
    )


def _value_of(entry: DescribeConfigsResponse.Entry) -> ConfigValue:
    return ConfigValue(
        key=entry.name,
        value=entry.value,
        source=ConfigSource(entry.source),
        read_only=entry.read_only,
        documentation=entry.documentation,
        synonyms=tuple(
            ConfigSynonym(key=each.name, value=each.value, source=ConfigSource(each.source))
            for each in entry.synonyms
        ),
    )
