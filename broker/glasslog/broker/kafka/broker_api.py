"""UnregisterBroker of the Kafka listener (KIP-631). Refuses to know who decides."""

from collections.abc import Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import brokers as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.common.errors import GlasslogError
from glasslog.v1 import controller_pb2 as pb


class BrokerApis:
    """See the module. Kafka's clients can not force it."""

    def __init__(self, changes: ClusterChanges) -> None:
        self._changes = changes

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (in_a_task(wire.UNREGISTER_BROKER, self.unregister),)

    async def unregister(
        self, request: wire.UnregisterBrokerRequest, caller: Caller
    ) -> wire.UnregisterBrokerResponse:
        try:
            answer = await self._changes.unregister_broker(
                pb.UnregisterBrokerRequest(broker_id=request.broker_id)
            )
        except GlasslogError as error:
            return wire.UnregisterBrokerResponse(error_code=error.code, error_message=str(error))
        return wire.UnregisterBrokerResponse(
            error_code=answer.error_code, error_message=answer.error_message or None
        )
