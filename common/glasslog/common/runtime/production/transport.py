"""The real transport: gRPC for calls and streams, TCP for frames, HTTP for probes.

Refuses to know what travels.
"""

from collections.abc import Sequence

from glasslog.common.runtime.addresses import split_address
from glasslog.common.runtime.production.frames import ReceiveBuffer, dial_frames, listen_frames
from glasslog.common.runtime.production.grpc_client import GrpcChannel
from glasslog.common.runtime.production.grpc_server import listen as listen_grpc
from glasslog.common.runtime.production.http import HttpListener
from glasslog.common.runtime.protocols import (
    Channel,
    FrameAcceptor,
    FrameConnection,
    FrameHandler,
    HttpHandler,
    Listener,
    Services,
)

DEFAULT_MAX_MESSAGE_BYTES = 104_857_600
"""Kafka's ``socket.request.max.bytes``."""

_ENVELOPE_BYTES = 64 << 10
"""Room for what wraps a payload of the largest size."""

_LOOKAHEAD_BYTES = 4 << 20
"""What a peer may have sent on a stream that nobody has read: 80 MB/s over 50 ms."""

_MAX_FRAME_BYTES = 1 << 20
"""Of HTTP/2; its least is 16 KB, of which a fetch's answer would need a thousand."""

_KEEPALIVE_MS = 10_000
_KEEPALIVE_TIMEOUT_MS = 5_000


class SystemTransport:
    """See ``protocols.Transport``. A gRPC message above ``max_message_bytes`` is refused early."""

    def __init__(self, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        both = (
            ("grpc.max_receive_message_length", max_message_bytes + _ENVELOPE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # Nearly every message on a quiet connection would be followed by a ping and its answer, to learn
            # how much the connection holds: a third of what a heartbeat costs. What streams carry is known.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
            ("grpc.http2.max_frame_size", _MAX_FRAME_BYTES),
        )
        self._client_options: Sequence[tuple[str, int]] = (
            *both,
            # The speed of a failover hangs on how soon a returned server is tried again.
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
            # This one also bounds a single attempt: a busy server needs more than a moment to shake hands.
            ("grpc.min_reconnect_backoff_ms", 1_000),
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
        )
        self._server_options: Sequence[tuple[str, int]] = (
            *both,
            # A second server on a taken port must fail, not share it.
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
            ("grpc.http2.max_ping_strikes", 0),
        )
        self._receive_buffer = ReceiveBuffer()

    def dial(self, address: str) -> Channel:
        split_address(address)
        return GrpcChannel(address, self._client_options)

    async def listen(self, address: str, services: Services) -> Listener:
        return await listen_grpc(address, services, self._server_options)

    async def dial_frames(
        self, address: str, handler: FrameHandler, *, timeout_ms: int, max_frame_bytes: int
    ) -> FrameConnection:
        return await dial_frames(
            address, handler, self._receive_buffer, timeout_ms=timeout_ms, max_frame_bytes=max_frame_bytes
        )

    async def listen_frames(self, address: str, accept: FrameAcceptor, *, max_frame_bytes: int) -> Listener:
        return await listen_frames(address, accept, self._receive_buffer, max_frame_bytes=max_frame_bytes)

    async def listen_http(self, address: str, handler: HttpHandler) -> Listener:
        listener = HttpListener(handler)
        await listener.start(address)
        return listener
