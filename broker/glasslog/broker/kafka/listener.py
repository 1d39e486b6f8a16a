"""The Kafka listener: accepts framed connections and serves the APIs it is given.

This module knows which APIs there are and says so (ApiVersions); it refuses to know what they do.  Serving
another API means handing in one more ``Api``.
Source: Kafka's ``ApiVersionsResponse.json`` (KIP-35, KIP-511).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

from glasslog.broker.kafka.codec import INT16, INT32, unsigned_varint
from glasslog.broker.kafka.connection import (
    MAX_IN_FLIGHT_REQUESTS,
    UNLIMITED,
    Api,
    KafkaConnection,
    RequestCall,
    RequestQuotas,
)
from glasslog.common.errors import ErrorCode, InvariantViolation
from glasslog.common.runtime.protocols import FrameConnection, FrameHandler, Listener, Transport

_LOGGER = logging.getLogger(__name__)

API_VERSIONS_KEY = 18
API_VERSIONS_MAX = 4
_API_VERSIONS_FLEXIBLE = 3
_RANGE = Struct(">hhh")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What clients may take. ``max_connections_per_address`` counts by the peer's host; times are in ms."""

    max_connections: int = 10_000
    max_connections_per_address: int = 0x7FFF_FFFF
    max_idle_ms: int = 600_000
    max_in_flight: int = MAX_IN_FLIGHT_REQUESTS


class OpenConnections:
    """How many there are over all listeners of a broker, and from where."""

    def __init__(self) -> None:
        self.count = 0
        self.by_address: Counter[str] = Counter()

    def add(self, address: str) -> None:
        self.count += 1
        self.by_address[address] += 1

    def remove(self, address: str) -> None:
        self.count -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


class Complaints:
    """Lines about clients, for the log: a hostile one must not fill it."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._window_ends_ms = 0
        self._told = 0

    def __call__(self, text: str) -> None:
        now_ms = self._now_ms()
        if now_ms >= self._window_ends_ms:
            if self._told > COMPLAINTS_PER_WINDOW:
                _LOGGER.warning("%d more complaints about clients", self._told - COMPLAINTS_PER_WINDOW)
            self._window_ends_ms, self._told = now_ms + _COMPLAINT_WINDOW_MS, 0
        self._told += 1
        if self._told <= COMPLAINTS_PER_WINDOW:
            _LOGGER.warning("%s", text)


COMPLAINTS_PER_WINDOW = 20
_COMPLAINT_WINDOW_MS = 10_000


def _log_fatal(error: InvariantViolation) -> None:
    _LOGGER.critical("a request met a broken invariant: %s", error)


DEFAULT_LIMITS = ListenerLimits()


def _no_tags(version: int) -> bytes:
    return b"\0"


class KafkaListener:
    """Serves ``apis`` and ApiVersions. ``max_request_bytes`` bounds one frame, ``limits`` everything else.

    ``name`` is what the settings call it; listeners of one broker share ``open_connections``.
    ``on_fatal`` is told of a broken invariant met while serving: it must stop the node.
    ``feature_tags`` are the tagged fields of ApiVersions, by its version.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        apis: Sequence[Api],
        max_request_bytes: int,
        name: str = "KAFKA",
        limits: ListenerLimits = DEFAULT_LIMITS,
        open_connections: OpenConnections | None = None,
        now_ms: Callable[[], int] = lambda: 0,
        on_fatal: Callable[[InvariantViolation], None] = _log_fatal,
        feature_tags: Callable[[int], bytes] = _no_tags,
        quotas: RequestQuotas = UNLIMITED,
    ) -> None:
        self._quotas = quotas
        self._transport = transport
        self._feature_tags = feature_tags
        self._max_request_bytes = max_request_bytes
        self._name = name
        self._limits = limits
        self._open = OpenConnections() if open_connections is None else open_connections
        self._complain = Complaints(now_ms)
        self._on_fatal = on_fatal
        self._sweeper: asyncio.Task[None] | None = None
        versions = Api(
            key=API_VERSIONS_KEY,
            name="ApiVersions",
            min_version=0,
            max_version=API_VERSIONS_MAX,
            flexible_from=_API_VERSIONS_FLEXIBLE,
            handle=self._answer_versions,
        )
        self._apis = {api.key: api for api in (*apis, versions)}
        self._connections: dict[KafkaConnection, None] = {}
        self._listener: Listener | None = None

    async def start(self, address: str) -> int:
        """Listen on ``host:port``; returns the port. Raises ``OSError``."""
        self._listener = await self._transport.listen_frames(
            address, self.accept, max_frame_bytes=self._max_request_bytes
        )
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="idle Kafka connections")
        return self._listener.port

    async def close(self) -> None:
        """Stop accepting and close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
        for connection in list(self._connections):
            connection.close()

    def accept(self, connection: FrameConnection) -> FrameHandler:
        """A client has connected."""
        handler = KafkaConnection(
            connection,
            apis=self._apis,
            refuse_version=self._refuse_version,
            on_end=self._forget,
            on_fatal=self._on_fatal,
            complain=self._complain,
            max_in_flight=self._limits.max_in_flight,
            listener=self._name,
            quotas=self._quotas,
        )
        address, limits = handler.address, self._limits
        if self._open.count >= limits.max_connections:
            handler.refuse(f"max.connections={limits.max_connections} are open already")
        elif self._open.by_address[address] >= limits.max_connections_per_address:
            handler.refuse(
                f"max.connections.per.ip={limits.max_connections_per_address} of {address} are open already"
            )
        else:
            self._connections[handler] = None
            self._open.add(address)
        return handler

    def _forget(self, connection: KafkaConnection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._open.remove(connection.address)

    async def _sweep(self) -> None:
        """Close what has asked nothing for the whole of two looks; no clock is read for each request."""
        while True:
            await asyncio.sleep(self._limits.max_idle_ms / 1000)
            for connection in list(self._connections):
                if not connection.is_used and not connection.waits:
                    connection.close()
                connection.is_used = False

    # --- ApiVersions ---

    def _refuse_version(self, call: RequestCall) -> bool:
        """A version of ApiVersions that is too new is answered in version 0, which every client reads."""
        if call.header.api_key != API_VERSIONS_KEY:
            return False
        body = INT16.pack(ErrorCode.UNSUPPORTED_VERSION) + self._plain_ranges()
        call.respond((body,), has_flexible_header=False)
        return True

    def _answer_versions(self, call: RequestCall) -> None:
        version = call.header.api_version
        body = bytearray(INT16.pack(ErrorCode.NONE))
        if version < _API_VERSIONS_FLEXIBLE:
            body += self._plain_ranges()
            body += INT32.pack(0) if version >= 1 else b""
        else:
            body += unsigned_varint(len(self._apis) + 1)
            for api in self._ranges():
                body += api + b"\0"
            body += INT32.pack(0) + self._feature_tags(version)
        # Its response header is of version 0 whatever the request: clients ask before they know anything.
        call.respond((bytes(body),), has_flexible_header=False)

    def _plain_ranges(self) -> bytes:
        return INT32.pack(len(self._apis)) + b"".join(self._ranges())

    def _ranges(self) -> list[bytes]:
        apis = sorted(self._apis.values(), key=lambda api: api.key)
        return [_RANGE.pack(api.key, api.min_version, api.max_version) for api in apis]
