"""A transport that dials other addresses than it is told: the way to a peer then leads through a proxy.

It is the one place where a node differs that is broken on purpose: what nodes tell each other, and what is in
the metadata log, stays as it is.  Refuses to know who is at either address.
"""

from collections.abc import Mapping
from dataclasses import replace

from glasslog.common.runtime.protocols import (
    Channel,
    FrameAcceptor,
    FrameConnection,
    FrameHandler,
    HttpHandler,
    Listener,
    Runtime,
    Services,
    Transport,
)


class DetouringTransport:
    """A ``Transport``. ``detours``: where to dial, by where one is told to; others are dialled as told."""

    def __init__(self, transport: Transport, detours: Mapping[str, str]) -> None:
        self._transport = transport
        self._detours = detours

    def _way(self, address: str) -> str:
        return self._detours.get(address, address)

    def dial(self, address: str) -> Channel:
        return self._transport.dial(self._way(address))

    async def dial_frames(
        self, address: str, handler: FrameHandler, *, timeout_ms: int, max_frame_bytes: int
    ) -> FrameConnection:
        return await self._transport.dial_frames(
            self._way(address), handler, timeout_ms=timeout_ms, max_frame_bytes=max_frame_bytes
        )

    async def listen(self, address: str, services: Services) -> Listener:
        return await self._transport.listen(address, services)

    async def listen_frames(self, address: str, accept: FrameAcceptor, *, max_frame_bytes: int) -> Listener:
        return await self._transport.listen_frames(address, accept, max_frame_bytes=max_frame_bytes)

    async def listen_http(self, address: str, handler: HttpHandler) -> Listener:
        return await self._transport.listen_http(address, handler)


def with_detours(runtime: Runtime, detours: Mapping[str, str]) -> Runtime:
    """The same world, in which these detours are taken."""
    return replace(runtime, transport=DetouringTransport(runtime.transport, detours)) if detours else runtime
