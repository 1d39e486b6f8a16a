"""The RPC service ``glasslog.v1.Controller`` over a ``Controller``.

One handler per method: parse, submit, encode. Refuses to know what is decided and how calls arrive.
Refusals of a whole call by a controller that can not decide (NOT_CONTROLLER, REQUEST_TIMED_OUT, bytes that
are no request) are raised; what was decided, refusals included, is in the answer.
"""

import asyncio
from collections.abc import AsyncIterator

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, NodeId
from glasslog.common.runtime.protocols import Peer, Random, Services, Stream
from glasslog.controller import wire
from glasslog.controller.admin_service import AdminService
from glasslog.controller.driver import Controller
from glasslog.controller.requests import (
    AllocateProducerIdsResponse,
    AlterPartitionResponse,
    AssignReplicasToDirsResponse,
    BrokerHeartbeatResponse,
    RegisterBrokerResponse,
)
from glasslog.v1 import controller_pb2 as pb

SERVICE = "glasslog.v1.Controller"
HELLO_TIMEOUT_MS = 10_000
"""A session stream that says nothing for so long is closed."""


class ControllerService:
    """Handlers; ``services`` is what to listen with."""

    def __init__(self, controller: Controller, random: Random) -> None:
        self._controller = controller
        self._random = random

    def services(self) -> Services:
        """By method."""
        unary = {
            "RegisterBroker": self._register_broker,
            "BrokerHeartbeat": self._broker_heartbeat,
            "AlterPartition": self._alter_partition,
            "AssignReplicasToDirs": self._assign_replicas,
            "AllocateProducerIds": self._allocate_producer_ids,
            "DescribeController": self._describe_controller,
            **AdminService(self._controller, self._random).handlers(),
        }
        return Services(
            unary={f"/{SERVICE}/{method}": handler for method, handler in unary.items()},
            streams={f"/{SERVICE}/HoldSession": self._hold_session},
            names=(SERVICE,),
        )

    # --- brokers ---

    async def _register_broker(self, data: bytes, peer: Peer) -> bytes:
        request = wire.register_broker(wire.parse(pb.RegisterBrokerRequest, data))
        response = await self._controller.submit(request, RegisterBrokerResponse)
        return wire.registered(response).SerializeToString()

    async def _broker_heartbeat(self, data: bytes, peer: Peer) -> bytes:
        request = wire.broker_heartbeat(wire.parse(pb.BrokerHeartbeatRequest, data))
        response = await self._controller.submit(request, BrokerHeartbeatResponse)
        return wire.heard(response).SerializeToString()

    async def _alter_partition(self, data: bytes, peer: Peer) -> bytes:
        request = wire.alter_partition(wire.parse(pb.AlterPartitionRequest, data))
        response = await self._controller.submit(request, AlterPartitionResponse)
        return wire.altered(response).SerializeToString()

    async def _assign_replicas(self, data: bytes, peer: Peer) -> bytes:
        request = wire.assign_replicas(wire.parse(pb.AssignReplicasToDirsRequest, data))
        response = await self._controller.submit(request, AssignReplicasToDirsResponse)
        return wire.assigned(response).SerializeToString()

    async def _allocate_producer_ids(self, data: bytes, peer: Peer) -> bytes:
        request = wire.allocate_producer_ids(wire.parse(pb.AllocateProducerIdsRequest, data))
        response = await self._controller.submit(request, AllocateProducerIdsResponse)
        return wire.allocated(response).SerializeToString()

    async def _hold_session(self, stream: Stream, peer: Peer) -> None:
        messages = aiter(stream)
        data = await _first(messages)
        if data is None:
            return
        hello = wire.parse(pb.BrokerSessionHello, data)
        session = self._controller.open_session(NodeId(hello.broker_id), BrokerEpoch(hello.broker_epoch))
        try:
            await stream.send(data)
            await session.hold(_drained(messages))
        finally:
            session.close()

    # --- itself ---

    async def _describe_controller(self, data: bytes, peer: Peer) -> bytes:
        wire.parse(pb.DescribeControllerRequest, data)
        status = self._controller.status()
        return pb.DescribeControllerResponse(
            node_id=status.node_id,
            active_controller_id=status.active_controller_id,
            controller_epoch=status.controller_epoch,
            cluster_id=self._controller.cluster_id,
            metadata_offset=status.metadata_offset,
        ).SerializeToString()


async def _first(messages: AsyncIterator[bytes]) -> bytes | None:
    """The hello, or ``None`` when the stream ends without one."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_MS / 1000):
            return await anext(messages, None)
    except TimeoutError:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"no hello on the session stream within {HELLO_TIMEOUT_MS} ms"
        ) from None


async def _drained(messages: AsyncIterator[bytes]) -> None:
    """Until the broker closes the stream or it breaks; to the controller the two are the same."""
    try:
        async for _ in messages:
            pass
    except GlasslogError:
        return
