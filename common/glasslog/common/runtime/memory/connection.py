"""What in-memory streams and framed connections share: two ends, two ordered wires, opening, breaking.

Refuses to know what the payloads mean and how an end hands them to its user.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.addresses import join_address
from glasslog.common.runtime.memory.network import Host, MemoryNetwork, Wire
from glasslog.common.runtime.protocols import TransportError


@dataclass(frozen=True, slots=True)
class Opening:
    """The client's first item."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The server's first item."""


@dataclass(frozen=True, slots=True)
class Data:
    """One message or frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes; ``error`` is what a stream's handler raised."""

    error: GlasslogError | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client wants nothing more of a stream."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The other end died or refused."""

    why: str
    code: ErrorCode = ErrorCode.NETWORK_EXCEPTION


Item = Opening | Opened | Data | Ended | Cancelled | Broken


class Window:
    """Bounds what an end has sent and the other end has not yet consumed."""

    def __init__(self, *, messages: int, size_bytes: int) -> None:
        self._messages_left = messages
        self._bytes_left = size_bytes
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        return self._messages_left > 0 and self._bytes_left > 0

    def sent(self, size_bytes: int) -> None:
        self._messages_left -= 1
        self._bytes_left -= size_bytes

    def consumed(self, size_bytes: int) -> None:
        self._messages_left += 1
        self._bytes_left += size_bytes
        if self.is_open:
            self.wake_all()

    async def opening(self) -> None:
        """Wait for a change; the caller looks again."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def wake_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class End(Protocol):
    """One end of a connection, as the connection drives it."""

    @property
    def window(self) -> Window: ...

    def receive(self, item: Item) -> None: ...

    def fail(self, error: TransportError) -> None:
        """Broken for a reason found at this end; idempotent."""
        ...


class Connection:
    """Joins a client's end with the server's end that the listening endpoint makes when it accepts."""

    def __init__(self, network: MemoryNetwork, client: Host, server: Host, port: int) -> None:
        self._network = network
        self.client = client
        self.server = server
        self._port = port
        self.server_address = join_address(server.name, port)
        self.client_address = join_address(client.name, client.take_ephemeral_port())
        self.to_server: Wire[Item] = Wire(network, client.name, server.name, self._at_server)
        self.to_client: Wire[Item] = Wire(network, server.name, client.name, self._at_client)
        self._client_end: End | None = None
        self._server_end: End | None = None
        self._connect_timer: asyncio.TimerHandle | None = None

    def open(self, client_end: End) -> None:
        """Start connecting; the client's end fails when nobody answers in time."""
        self._client_end = client_end
        self._network.add_connection(self)
        self.to_server.send(Opening())
        self._connect_timer = asyncio.get_running_loop().call_later(
            self._network.connect_timeout_ms / 1_000, self._on_connect_timeout
        )

    def accept(self, server_end: End) -> None:
        """The endpoint took the connection."""
        self._server_end = server_end
        self.to_client.send(Opened())

    def refuse(self, why: str, code: ErrorCode = ErrorCode.NETWORK_EXCEPTION) -> None:
        self.to_client.send(Broken(why, code))

    def blocked_since(self) -> float | None:
        there = self._network.blocked_since(self.client.name, self.server.name)
        back = self._network.blocked_since(self.server.name, self.client.name)
        return min((since for since in (there, back) if since is not None), default=None)

    def sever(self, why: str) -> None:
        self._fail_both(TransportError(f"connection to {self.server_address} broke: {why}"))

    def client_done(self) -> None:
        """The client's end takes no part any more."""
        self._client_end = None
        self._cancel_connect_timer()
        self._maybe_forget()

    def server_done(self) -> None:
        """The server's end takes no part any more."""
        self._server_end = None
        self._maybe_forget()

    def consumed_by_client(self, size_bytes: int) -> None:
        """The client's user took a message of that size: the server may send more."""
        if self._server_end is not None:
            self._server_end.window.consumed(size_bytes)

    def consumed_by_server(self, size_bytes: int) -> None:
        """The server's user took a message of that size: the client may send more."""
        if self._client_end is not None:
            self._client_end.window.consumed(size_bytes)

    def _fail_both(self, error: TransportError) -> None:
        self.to_server.cut_off()
        self.to_client.cut_off()
        self._network.remove_connection(self)
        for end in (self._client_end, self._server_end):
            if end is not None:
                end.fail(error)

    def _maybe_forget(self) -> None:
        if self._client_end is None and self._server_end is None:
            self._network.remove_connection(self)

    def _cancel_connect_timer(self) -> None:
        if self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None

    def _on_connect_timeout(self) -> None:
        self._connect_timer = None
        timeout_ms = self._network.connect_timeout_ms
        text = f"connection to {self.server_address} timed out after {timeout_ms} ms"
        self._fail_both(TransportError(text, ErrorCode.REQUEST_TIMED_OUT))

    def _at_server(self, item: Item) -> None:
        if isinstance(item, Opening):
            endpoint = self.server.endpoints.get(self._port)
            if endpoint is None:
                self.refuse("connection refused")
            else:
                endpoint.arrive(self)
        elif self._server_end is not None:
            self._server_end.receive(item)

    def _at_client(self, item: Item) -> None:
        if self._connect_timer is not None:
            self._cancel_connect_timer()
        if self._client_end is not None:
            self._client_end.receive(item)
