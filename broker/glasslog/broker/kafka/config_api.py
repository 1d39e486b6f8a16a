"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs of the Kafka listener.

Translates to and from the values of settings; refuses to know where they are from and who decides.
Source: Kafka's ``ConfigHelper.handleDescribeConfigsRequest`` and ``ConfigAdminManager``.
"""

from collections.abc import Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.config_view import ConfigEntry, ConfigView
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import configs as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.v1 import controller_pb2 as pb

_KINDS = frozenset((2, 4, 8, 16, 32))
"""Kafka's kinds of resources that have settings: topic, broker, broker's loggers, client metrics, group."""
_SET = pb.AlterConfigsRequest.OPERATION_SET


class ConfigApis:
    """See the module."""

    def __init__(self, changes: ClusterChanges, configs: ConfigView) -> None:
        self._changes = changes
        self._configs = configs

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            at_once(wire.DESCRIBE_CONFIGS, self.describe),
            in_a_task(wire.ALTER_CONFIGS, self.alter),
            in_a_task(wire.INCREMENTAL_ALTER_CONFIGS, self.alter_incrementally),
        )

    # --- reading ---

    def describe(self, request: wire.DescribeConfigsRequest, caller: Caller) -> wire.DescribeConfigsResponse:
        kinds = {resource.resource_type for resource in request.resources}
        if not kinds <= _KINDS:
            return _all_refused(request)
        return wire.DescribeConfigsResponse(
            results=tuple(self._result(resource, request) for resource in request.resources)
        )

    def _result(
        self, resource: wire.DescribeConfigsResource, request: wire.DescribeConfigsRequest
    ) -> wire.DescribeConfigsResult:
        try:
            found = self._configs.of_resource(resource.resource_type, resource.resource_name)
        except GlasslogError as error:
            return wire.DescribeConfigsResult(
                error_code=error.code,
                error_message=str(error),
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

    # --- changing ---

    async def alter(self, request: wire.AlterConfigsRequest, caller: Caller) -> wire.AlterConfigsResponse:
        """The older way: what is not named returns to its default."""
        asked = pb.AlterConfigsRequest(validate_only=request.validate_only)
        for resource in request.resources:
            edited = asked.resources.add(
                type=resource.resource_type, name=resource.resource_name, replace_all=True
            )
            for each in resource.configs:
                edited.changes.add(key=each.name, operation=_SET, value=each.value)
        return wire.AlterConfigsResponse(responses=await self._alter(asked))

    async def alter_incrementally(
        self, request: wire.IncrementalAlterConfigsRequest, caller: Caller
    ) -> wire.IncrementalAlterConfigsResponse:
        asked = pb.AlterConfigsRequest(validate_only=request.validate_only)
        for resource in request.resources:
            edited = asked.resources.add(type=resource.resource_type, name=resource.resource_name)
            for each in resource.configs:
                # Numbers that are no operation travel as they are: the controller refuses them.
                operation = pb.AlterConfigsRequest.Operation.ValueType(each.config_operation)
                edited.changes.add(key=each.name, operation=operation, value=each.value)
        return wire.IncrementalAlterConfigsResponse(responses=await self._alter(asked))

    async def _alter(self, asked: pb.AlterConfigsRequest) -> tuple[wire.AlterConfigsResourceResponse, ...]:
        try:
            answer = await self._changes.alter_configs(asked)
        except GlasslogError as error:
            answer = pb.AlterConfigsResponse()
            for resource in asked.resources:
                answer.resources.add(
                    type=resource.type, name=resource.name, error_code=error.code, error_message=str(error)
                )
        return tuple(
            wire.AlterConfigsResourceResponse(
                error_code=each.error_code,
                error_message=each.error_message or None,
                resource_type=each.type,
                resource_name=each.name,
            )
            for each in answer.resources
        )


def _all_refused(request: wire.DescribeConfigsRequest) -> wire.DescribeConfigsResponse:
    """One resource of a kind that has no settings has the whole request refused, as in Kafka."""
    return wire.DescribeConfigsResponse(
        results=tuple(
            wire.DescribeConfigsResult(
                error_code=ErrorCode.INVALID_REQUEST,
                error_message=f"settings have the kinds of resources {sorted(_KINDS)} only",
                resource_type=each.resource_type,
                resource_name=each.resource_name,
            )
            for each in request.resources
        )
    )


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
