"""Serving unary calls and streams of bytes with gRPC.

Refuses to know what the bytes mean: no serializer is ever set.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import unquote

import grpc
import grpc.aio
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.production.grpc_errors import abort
from glasslog.common.runtime.production.sockets import check_bindable
from glasslog.common.runtime.protocols import Peer, Services, StreamHandler, TransportError, UnaryHandler

Context = grpc.aio.ServicerContext[bytes, bytes]

_LOGGER = logging.getLogger(__name__)


class GrpcListener:
    """See ``protocols.Listener``."""

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        self._server = server
        self._port = port

    @property
    def port(self) -> int:
        return self._port

    async def close(self, *, grace_ms: int = 0) -> None:
        await self._server.stop(grace_ms / 1_000 if grace_ms > 0 else None)


async def listen(address: str, services: Services, options: Sequence[tuple[str, int]]) -> GrpcListener:
    """Start a server. ``OSError`` when the address can not be had."""
    await check_bindable(address)
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Router(services),))
    if services.names:
        await _add_standard_services(server, services.names)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        # The probe could bind a moment ago, so somebody else was faster.
        raise OSError(errno.EADDRINUSE, f"can not listen on {address}: {error}") from None
    await server.start()
    return GrpcListener(server, port)


class ServerStream:
    """See ``protocols.Stream``: the serving end of one call."""

    def __init__(self, context: Context, method: str) -> None:
        self._context = context
        self._method = method
        self._closed = False

    async def send(self, message: bytes) -> None:
        if self._closed:
            raise TransportError(f"{self._method}: the stream is closed")
        try:
            await self._context.write(message)
        except (
            grpc.RpcError,
            asyncio.InvalidStateError,
            grpc.aio.UsageError,
            grpc.aio.InternalError,
        ) as error:
            raise TransportError(f"{self._method}: the client is gone ({error})") from None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        message = await self._context.read()
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        return message

    async def close(self) -> None:
        """Nothing more is sent; gRPC tells the client when the handler returns."""
        self._closed = True


class _Router(grpc.GenericRpcHandler):
    """Finds the handler of a method."""

    def __init__(self, services: Services) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.unary_unary_rpc_method_handler(_unary(method, handler))
            for method, handler in services.unary.items()
        }
        for method, stream_handler in services.streams.items():
            self._handlers[method] = grpc.stream_stream_rpc_method_handler(_stream(method, stream_handler))

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return self._handlers.get(handler_call_details.method)


def _unary(method: str, handler: UnaryHandler) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def serve(request: bytes, context: Context) -> bytes:
        try:
            return await handler(request, _peer(context))
        except Exception as error:
            await abort(context, _presentable(error, method))
            raise

    return serve


def _stream(method: str, handler: StreamHandler) -> Callable[[object, Context], Awaitable[None]]:
    async def serve(_: object, context: Context) -> None:
        try:
            await handler(ServerStream(context, method), _peer(context))
        except Exception as error:
            await abort(context, _presentable(error, method))
            raise

    return serve


def _presentable(error: Exception, method: str) -> GlasslogError:
    """Errors raised on purpose as they are; the rest goes to the log, and the caller learns its kind."""
    if isinstance(error, GlasslogError):
        return error
    _LOGGER.error("%s failed", method, exc_info=error)
    return GlasslogError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{method} failed with {type(error).__name__}")


def _peer(context: Context) -> Peer:
    """gRPC names peers ``ipv4:127.0.0.1:1234`` and ``ipv6:%5B::1%5D:1234``."""
    family, _, address = unquote(context.peer()).partition(":")
    return Peer(address if family in ("ipv4", "ipv6") else unquote(context.peer()))


async def _add_standard_services(server: grpc.aio.Server, names: Sequence[str]) -> None:
    """Health and reflection, imported only where they are wanted: they cost memory."""
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in names:
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
