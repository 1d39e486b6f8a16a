"""Has brokers forgotten on behalf of clients, through the active controller.

Refuses to know which may be: the controller checks that.
"""

import asyncio

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.metadata_wait import Deadline
from glasslog.broker.wire_errors import raise_for
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Clock
from glasslog.v1 import controller_pb2 as pb

_UNREGISTER = CONTROLLER_SERVICE + "UnregisterBroker"


class BrokerAdmin:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def unregister(self, broker_id: NodeId, *, force: bool, timeout_ms: int) -> None:
        """Returns when this broker's own metadata shows it.

        Raises BROKER_ID_NOT_REGISTERED, INVALID_REQUEST for one that is still needed.
        """
        deadline = Deadline(self._clock, timeout_ms)
        request = pb.UnregisterBrokerRequest(broker_id=broker_id, force=force, timeout_ms=deadline.left_ms)
        answer = await self._controllers.call(
            _UNREGISTER, request, pb.UnregisterBrokerResponse, timeout_ms=request.timeout_ms
        )
        raise_for(answer.error_code, answer.error_message)
        try:
            async with asyncio.timeout(deadline.left_ms / 1_000):
                await self._metadata.wait_for(lambda image: broker_id not in image.brokers)
        except TimeoutError:
            # It is decided; that this broker is slow to see it is no failure of the request.
            return
