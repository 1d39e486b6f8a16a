"""The Kafka listener: accepts framed connections and serves the APIs it is given.

This module knows which APIs there are and says so (ApiVersions); it refuses to know what they do.  Serving
another API means handing in one more ``Api``.
Source: Kafka's ``ApiVersionsResponse.json`` (KIP-35, KIP-511).
"""

import logging
from collections.abc import Callable, Sequence
from struct import Struct

from glasslog.broker.kafka.codec import INT16, INT32, unsigned_varint
from glasslog.broker.kafka.connection import Api, KafkaConnection, RequestCall
from glasslog.common.errors import ErrorCode, InvariantViolation
from glasslog.common.runtime.protocols import FrameConnection, FrameHandler, Listener, Transport

_LOGGER = logging.getLogger(__name__)

API_VERSIONS_KEY = 18
API_VERSIONS_MAX = 4
_API_VERSIONS_FLEXIBLE = 3
_RANGE = Struct(">hhh")
MAX_CONNECTIONS = 10_000
"""Open connections; more are closed at once."""


def _log_fatal(error: InvariantViolation) -> None:
    _LOGGER.critical("a request met a broken invariant: %s", error)


class KafkaListener:
    """Serves ``apis`` and ApiVersions. ``max_request_bytes`` bounds one frame.

    ``on_fatal`` is told of a broken invariant met while serving: it must stop the node.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        apis: Sequence[Api],
        max_request_bytes: int,
        on_fatal: Callable[[InvariantViolation], None] = _log_fatal,
    ) -> None:
        self._transport = transport
        self._max_request_bytes = max_request_bytes
        self._on_fatal = on_fatal
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
        return self._listener.port

    async def close(self) -> None:
        """Stop accepting and close every connection."""
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
        )
        if len(self._connections) >= MAX_CONNECTIONS:
            handler.refuse(f"{MAX_CONNECTIONS} connections are open already")
        else:
            self._connections[handler] = None
        return handler

    def _forget(self, connection: KafkaConnection) -> None:
        self._connections.pop(connection, None)

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
            body += INT32.pack(0) + b"\0"
        # Its response header is of version 0 whatever the request: clients ask before they know anything.
        call.respond((bytes(body),), has_flexible_header=False)

    def _plain_ranges(self) -> bytes:
        return INT32.pack(len(self._apis)) + b"".join(self._ranges())

    def _ranges(self) -> list[bytes]:
        apis = sorted(self._apis.values(), key=lambda api: api.key)
        return [_RANGE.pack(api.key, api.min_version, api.max_version) for api in apis]
