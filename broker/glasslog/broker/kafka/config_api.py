"""DescribeConfigs of the Kafka listener. Refuses to know where settings are from.

Source: Kafka's ``ConfigHelper.handleDescribeConfigsRequest``.
"""

from collections.abc import Sequence

from glasslog.broker.config_view import ConfigEntry, ConfigView
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import configs as wire
from glasslog.broker.kafka.serving import Caller, at_once
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.common.topic_names import name_problem
from glasslog.metadata.records import ResourceType


class ConfigApis:
    """See the module. ``node_id`` is this broker: only it can tell its own settings."""

    def __init__(self, metadata: MetadataView, configs: ConfigView, *, node_id: NodeId) -> None:
        self._metadata = metadata
        self._configs = configs
        self._node_id = node_id

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (at_once(wire.DESCRIBE_CONFIGS, self.describe),)

    def describe(self, request: wire.DescribeConfigsRequest, caller: Caller) -> wire.DescribeConfigsResponse:
        return wire.DescribeConfigsResponse(
            results=tuple(self._result(resource, request) for resource in request.resources)
        )

    def _result(
        self, resource: wire.DescribeConfigsResource, request: wire.DescribeConfigsRequest
    ) -> wire.DescribeConfigsResult:
        found = self._entries(resource.resource_type, resource.resource_name)
        if isinstance(found, tuple):
            error, message = found
            return wire.DescribeConfigsResult(
                error_code=error,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        wanted = resource.configuration_keys
        return wire.DescribeConfigsResult(
            error_message=None,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            configs=tuple(_entry(each, request) for each in found if wanted is None or each.name in wanted),
        )

    def _entries(self, kind: int, name: str) -> list[ConfigEntry] | tuple[ErrorCode, str]:
        if kind == ResourceType.TOPIC:
            if (problem := name_problem(name)) is not None and problem:
                return ErrorCode.INVALID_TOPIC_EXCEPTION, problem
            if self._metadata.image.topic(name) is None:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name!r} does not exist"
            return list(self._configs.of_topic(name))
        if kind == ResourceType.BROKER:
            if not name:
                # What was set for every broker: nothing can be.
                return []
            if name != str(self._node_id):
                return ErrorCode.INVALID_REQUEST, f"broker {name!r} is not {self._node_id}, which was asked"
            return list(self._configs.of_broker())
        return ErrorCode.INVALID_REQUEST, f"resource type {kind} has no settings here; allowed: 2, 4"


def _entry(each: ConfigEntry, request: wire.DescribeConfigsRequest) -> wire.DescribeConfigsResourceResult:
    return wire.DescribeConfigsResourceResult(
        name=each.name,
        value=each.value,
        read_only=each.read_only,
        config_source=each.source,
        synonyms=tuple(
            wire.DescribeConfigsSynonym(name=other.name, value=other.value, source=other.source)
            for other in (each.synonyms if request.include_synonyms else ())
        ),
        config_type=each.value_type,
        documentation=each.documentation if request.include_documentation else None,
    )
