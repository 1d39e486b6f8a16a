"""UnregisterBroker of the Kafka listener (KIP-631). Refuses to know who decides."""

from collections.abc import Sequence

from glasslog.broker.broker_admin import BrokerAdmin
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import brokers as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId


class BrokerApis:
    """See the module. Kafka's clients can not force it."""

    def __init__(self, admin: BrokerAdmin) -> None:
        self._admin = admin

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (in_a_task(wire.UNREGISTER_BROKER, self.unregister),)

    async def unregister(
        self, request: wire.UnregisterBrokerRequest, caller: Caller
    ) -> wire.UnregisterBrokerResponse:
        try:
            await self._admin.unregister(NodeId(request.broker_id), force=False, timeout_ms=0)
        except GlasslogError as error:
            return wire.UnregisterBrokerResponse(error_code=error.code, error_message=str(error))
        return wire.UnregisterBrokerResponse()
