"""A node's calls to the other voters: each becomes a response or a failure in the inbox.

A call that fails for the connection, not for time, is reported as refused: the peer's process is likely dead,
and the core need not wait the whole fetch timeout.  This module refuses to know why anything is asked.
"""

import asyncio
import logging

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Channel, Transport, TransportError
from glasslog.controller.raft import wire
from glasslog.controller.raft.inbox import Inbox
from glasslog.controller.raft.messages import (
    EndQuorumEpochRequest,
    Message,
    RequestFailed,
    ResponseReceived,
    Send,
)

_LOGGER = logging.getLogger(__name__)


class Peers:
    """Channels to the other voters, and the tasks that wait for their answers (in ``calls``)."""

    def __init__(
        self,
        transport: Transport,
        *,
        inbox: Inbox,
        calls: asyncio.TaskGroup,
    ) -> None:
        self._transport = transport
        self._inbox = inbox
        self._calls = calls
        self._channels: dict[str, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._farewells: set[asyncio.Task[None]] = set()

    def send(self, send: Send) -> None:
        """Start a call; its end is posted to the inbox."""
        name = f"{type(send.request).__name__} to {send.to}"
        task = self._calls.create_task(self._call(send), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if isinstance(send.request, EndQuorumEpochRequest):
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)

    async def stop(self, *, grace_ms: int) -> None:
        """Wait up to ``grace_ms`` for the farewells (EndQuorumEpoch) to arrive, then drop all calls."""
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=grace_ms / 1_000)
        for task in list(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """Close all channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _call(self, send: Send) -> None:
        self._inbox.post(await self._outcome(send))

    async def _outcome(self, send: Send) -> Message:
        if not send.address:
            return RequestFailed(sender=send.to, correlation_id=send.correlation_id, refused=False)
        method, data = wire.encode_request(send.request)
        try:
            answer = await self._channel(send.address).unary(method, data, timeout_ms=send.timeout_ms)
            response = wire.decode_response(send.request, answer)
        except GlasslogError as error:
            _LOGGER.debug("%s to voter %d failed: %s", method, send.to, error)
            refused = isinstance(error, TransportError) and error.code is ErrorCode.NETWORK_EXCEPTION
            return RequestFailed(sender=send.to, correlation_id=send.correlation_id, refused=refused)
        return ResponseReceived(sender=send.to, correlation_id=send.correlation_id, response=response)

    def _channel(self, address: str) -> Channel:
        """Few addresses are ever voters', so channels are kept."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._transport.dial(address)
        return channel
