"""UnregisterBroker of ``glasslog.v1.Broker``. Refuses to know who decides."""

from glasslog.broker.broker_admin import BrokerAdmin
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import controller_pb2


class BrokerAdminHandlers:
    """See the module."""

    def __init__(self, admin: BrokerAdmin) -> None:
        self._admin = admin

    async def unregister(
        self, message: controller_pb2.UnregisterBrokerRequest, peer: Peer
    ) -> controller_pb2.UnregisterBrokerResponse:
        try:
            await self._admin.unregister(
                NodeId(message.broker_id), force=message.force, timeout_ms=message.timeout_ms
            )
        except GlasslogError as error:
            return controller_pb2.UnregisterBrokerResponse(error_code=error.code, error_message=str(error))
        return controller_pb2.UnregisterBrokerResponse()
