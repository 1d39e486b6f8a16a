"""AlterConfigs and DescribeConfigs of ``glasslog.v1.Broker``. Refuses to know where settings are from."""

from glasslog.broker.config_admin import ConfigAdmin, ConfigEdit, ResourceEdits
from glasslog.broker.config_view import ConfigEntry, ConfigView
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2


class ConfigHandlers:
    """See the module."""

    def __init__(self, admin: ConfigAdmin, configs: ConfigView) -> None:
        self._admin = admin
        self._configs = configs

    async def alter_configs(
        self, message: controller_pb2.AlterConfigsRequest, peer: Peer
    ) -> controller_pb2.AlterConfigsResponse:
        outcomes = await self._admin.alter(
            [_edits(resource) for resource in message.resources],
            timeout_ms=message.timeout_ms,
            validate_only=message.validate_only,
        )
        return controller_pb2.AlterConfigsResponse(
            resources=[
                controller_pb2.AlterConfigsResponse.Resource(
                    type=each.resource_type,
                    name=each.name,
                    error_code=each.error,
                    error_message=each.error_message,
                )
                for each in outcomes
            ]
        )

    async def describe_configs(
        self, message: pb.DescribeConfigsRequest, peer: Peer
    ) -> pb.DescribeConfigsResponse:
        try:
            found = self._configs.of_resource(message.type, message.name)
        except GlasslogError as error:
            return pb.DescribeConfigsResponse(error_code=error.code, error_message=str(error))
        wanted = frozenset(message.keys)
        return pb.DescribeConfigsResponse(
            entries=[_entry(each) for each in found if not wanted or each.name in wanted]
        )


def _edits(resource: controller_pb2.AlterConfigsRequest.Resource) -> ResourceEdits:
    return ResourceEdits(
        resource_type=resource.type,
        name=resource.name,
        edits=tuple(
            ConfigEdit(
                key=each.key,
                operation=each.operation,
                value=each.value if each.HasField("value") else None,
            )
            for each in resource.changes
        ),
        replace_all=resource.replace_all,
    )


def _entry(each: ConfigEntry) -> pb.DescribeConfigsResponse.Entry:
    return pb.DescribeConfigsResponse.Entry(
        name=each.name,
        value=each.value,
        source=each.source,
        read_only=each.read_only,
        documentation=each.documentation,
        synonyms=[
            pb.DescribeConfigsResponse.Synonym(name=other.name, value=other.value, source=other.source)
            for other in each.synonyms
        ],
    )
