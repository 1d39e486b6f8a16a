"""Runs one test body on the in-memory transport or on the real one. Test helpers only."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.production.start import run
from glasslog.common.runtime.protocols import (
    Channel,
    FrameAcceptor,
    FrameConnection,
    FrameHandler,
    Listener,
    Runtime,
    Services,
    Transport,
)

T = TypeVar("T")
PATIENCE_S = 10.0
MAX_FRAME_BYTES = 1 << 20


@dataclass
class Net:
    """Two transports that reach each other, and the clean-up of what a test opens."""

    server: Transport
    client: Transport
    server_host: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def later(self, close: Callable[[], Awaitable[None]]) -> None:
        self.stack.push_async_callback(close)

    async def serve(self, services: Services) -> str:
        """Serve RPC; returns the address to dial."""
        return self._keep(await self.server.listen(f"{self.server_host}:0", services))

    async def serve_frames(self, accept: FrameAcceptor, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> str:
        """Accept frames; returns the address to dial."""
        return self._keep(
            await self.server.listen_frames(f"{self.server_host}:0", accept, max_frame_bytes=max_frame_bytes)
        )

    def dial(self, address: str) -> Channel:
        channel = self.client.dial(address)
        self.later(channel.close)
        return channel

    async def dial_frames(self, address: str, handler: FrameHandler) -> FrameConnection:
        return await self.client.dial_frames(
            address, handler, timeout_ms=2_000, max_frame_bytes=MAX_FRAME_BYTES
        )

    def _keep(self, listener: Listener) -> str:
        self.later(listener.close)
        return f"{self.server_host}:{listener.port}"


class Runner(Protocol):
    """Runs a test's body in one of the two worlds."""

    def __call__(self, body: Callable[[Net], Coroutine[object, object, T]]) -> T: ...


def in_memory(body: Callable[[Net], Coroutine[object, object, T]]) -> T:
    """Run on virtual time, between two hosts."""

    async def main() -> T:
        world = MemoryWorld(seed=1)
        net = Net(world.runtime("server").transport, world.runtime("client").transport, "server")
        async with net.stack:
            return await body(net)

    return run_virtual(main, timeout_ms=120_000)


def on_loopback(body: Callable[[Net], Coroutine[object, object, T]]) -> T:
    """Run on real sockets of 127.0.0.1."""

    async def main(runtime: Runtime) -> T:
        transport = runtime.transport
        net = Net(transport, transport, "127.0.0.1")
        async with net.stack, asyncio.timeout(PATIENCE_S):
            return await body(net)

    return run(main)


class Recorder:
    """A frame handler that keeps what it got."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.errors: list[Exception | None] = []
        self._changed = asyncio.Event()

    def on_frame(self, frame: memoryview) -> None:
        self.frames.append(bytes(frame))
        self._changed.set()

    def on_closed(self, error: Exception | None) -> None:
        self.errors.append(error)
        self._changed.set()

    async def until_frames(self, count: int) -> None:
        await self._until(lambda: len(self.frames) >= count)

    async def until_closed(self) -> Exception | None:
        await self._until(lambda: bool(self.errors))
        return self.errors[0]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class Echo(Recorder):
    """Sends every frame back."""

    def __init__(self, connection: FrameConnection) -> None:
        super().__init__()
        self.connection = connection

    def on_frame(self, frame: memoryview) -> None:
        super().on_frame(frame)
        self.connection.send([bytes(frame)])
