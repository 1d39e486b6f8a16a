"""The part of ``glasslog.v1.Controller`` that administrators ask for, through a broker.

One handler per method: parse, submit, encode.  Refuses to know what is decided.
"""

from collections.abc import Mapping

from glasslog.common.runtime.protocols import Peer, UnaryHandler
from glasslog.controller import admin_wire
from glasslog.controller.admin_requests import AlterConfigsResponse
from glasslog.controller.driver import Controller
from glasslog.controller.wire import parse
from glasslog.v1 import controller_pb2 as pb


class AdminService:
    """See the module."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def handlers(self) -> Mapping[str, UnaryHandler]:
        """By method."""
        return {"AlterConfigs": self._alter_configs}

    async def _alter_configs(self, data: bytes, peer: Peer) -> bytes:
        message = parse(pb.AlterConfigsRequest, data)
        request = admin_wire.alter_configs(message)
        response = await self._controller.submit(request, AlterConfigsResponse, timeout_ms=message.timeout_ms)
        return admin_wire.configs_altered(response).SerializeToString()
