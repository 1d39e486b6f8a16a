"""DescribeConfigs of ``glasslog.v1.Broker``. Refuses to know where settings are from."""

from glasslog.broker.config_view import ConfigEntry, ConfigView
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class ConfigHandlers:
    """See the module."""

    def __init__(self, configs: ConfigView) -> None:
        self._configs = configs

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
