"""The production transport's own matters: hostile bytes, message limits, HTTP, health and reflection."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

import grpc.aio
import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.production.start import run
from glasslog.common.runtime.production.transport import SystemTransport
from glasslog.common.runtime.protocols import (
    FrameConnection,
    HttpAnswer,
    Peer,
    Runtime,
    Services,
    TransportError,
)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.unit.runtime.transports import Echo, Recorder

T = TypeVar("T")
_METHOD = "/test.Service/Method"
_PATIENCE_S = 10


def _run(body: Callable[[Runtime], Coroutine[object, object, T]]) -> T:
    async def main(runtime: Runtime) -> T:
        async with asyncio.timeout(_PATIENCE_S):
            return await body(runtime)

    return run(main)


async def _echo(request: bytes, peer: Peer) -> bytes:
    return request


# --- frames -----------------------------------------------------------------------------------------------


_TLS_HELLO = int.from_bytes(b"\x16\x03\x01\x02", "big")


@pytest.mark.parametrize("declared", [-1, -(2**31), 1_001, 2**31 - 1, _TLS_HELLO])
def test_a_hostile_length_closes_the_connection_before_any_buffering(declared: int) -> None:
    async def body(runtime: Runtime) -> None:
        accepted: list[Echo] = []

        def accept(connection: object) -> Echo:
            accepted.append(Echo(connection))  # type: ignore[arg-type]  # only its errors count here
            return accepted[-1]

        listener = await runtime.transport.listen_frames("127.0.0.1:0", accept, max_frame_bytes=1_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(struct.pack(">i", declared))
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        error = await accepted[0].until_closed()
        assert isinstance(error, TransportError)
        assert f"declares {declared} bytes" in str(error)
        assert error.code is ErrorCode.INVALID_REQUEST
        writer.close()
        await listener.close()

    _run(body)


@pytest.mark.parametrize(
    ("greeting", "named"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2, as gRPC clients speak it: is it meant for a GRPC"),
        (b"GET / HTTP/1.1\r\n\r\n", "begin HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "begin TLS, which is not spoken here"),
    ],
)
def test_another_protocol_is_called_by_its_name(greeting: bytes, named: str) -> None:
    """Whoever gave a gRPC client the Kafka port found a frame of 1,347,569,952 bytes in the broker's log."""

    async def body(runtime: Runtime) -> None:
        accepted: list[Echo] = []

        def accept(connection: object) -> Echo:
            accepted.append(Echo(connection))  # type: ignore[arg-type]  # only its errors count here
            return accepted[-1]

        listener = await runtime.transport.listen_frames("127.0.0.1:0", accept, max_frame_bytes=100_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(greeting)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert named in str(await accepted[0].until_closed())
        writer.close()
        await listener.close()

    _run(body)


def test_frames_arrive_whole_however_the_bytes_are_cut() -> None:
    async def body(runtime: Runtime) -> None:
        frames = [b"", b"a", b"bc" * 10, b"", b"d" * 100]
        wire = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
        listener = await runtime.transport.listen_frames("127.0.0.1:0", Echo, max_frame_bytes=1_000)
        for step in (1, 2, 3, 5, 50):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            for start in range(0, len(wire), step):
                writer.write(wire[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
            assert await reader.readexactly(len(wire)) == wire
            writer.close()
            await writer.wait_closed()
        await listener.close()

    _run(body)


def test_answers_to_frames_of_one_read_keep_their_order() -> None:
    """Small ones are gathered until the read is handled: no large one and no close may overtake them."""

    class Closing:
        def __init__(self, connection: FrameConnection) -> None:
            self._connection = connection

        def on_frame(self, frame: memoryview) -> None:
            if bytes(frame) == b"end":
                self._connection.close()
            else:
                self._connection.send((bytes(frame) * int(bytes(frame)),))

        def on_closed(self, error: Exception | None) -> None: ...

    async def body(runtime: Runtime) -> None:
        listener = await runtime.transport.listen_frames("127.0.0.1:0", Closing, max_frame_bytes=1_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        asked = [b"1", b"2", b"9000", b"3", b"8000", b"4"]
        writer.write(b"".join(struct.pack(">i", len(each)) + each for each in [*asked, b"end"]))
        for each in asked:
            (size_bytes,) = struct.unpack(">i", await reader.readexactly(4))
            assert await reader.readexactly(size_bytes) == each * int(each)
        assert await reader.read() == b""
        writer.close()
        await listener.close()

    _run(body)


def test_hanging_up_in_the_middle_of_a_frame_is_an_error() -> None:
    async def body(runtime: Runtime) -> None:
        recorder = Recorder()
        listener = await runtime.transport.listen_frames(
            "127.0.0.1:0", lambda _: recorder, max_frame_bytes=1_000
        )
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(struct.pack(">i", 10) + b"half")
        writer.close()
        error = await recorder.until_closed()
        assert "middle of a frame" in str(error)
        await listener.close()

    _run(body)


def test_a_large_declared_length_takes_memory_only_as_bytes_arrive() -> None:
    async def body(runtime: Runtime) -> None:
        protocols: list[object] = []

        def accept(connection: object) -> Recorder:
            protocols.append(connection)
            return Recorder()

        listener = await runtime.transport.listen_frames("127.0.0.1:0", accept, max_frame_bytes=1 << 30)
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(struct.pack(">i", 1 << 30) + b"x" * 1_000)
        await writer.drain()
        while not protocols or not getattr(protocols[0], "_partial", b""):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        assert len(getattr(protocols[0], "_partial")) <= 1 << 20  # noqa: B009 - mypy sees an object
        writer.close()
        await listener.close()

    _run(body)


def test_dialling_frames_gives_up_in_time() -> None:
    """A server whose backlog is full accepts nobody: the connection hangs rather than fails."""

    async def body(runtime: Runtime) -> None:
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for filler in (first, second):
                filler.setblocking(False)
                assert filler.connect_ex(full.getsockname()) == errno.EINPROGRESS
            with pytest.raises(TransportError, match="timed out") as caught:
                await runtime.transport.dial_frames(
                    f"127.0.0.1:{full.getsockname()[1]}", Recorder(), timeout_ms=100, max_frame_bytes=1
                )
            assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT

    _run(body)


# --- gRPC -------------------------------------------------------------------------------------------------


def test_a_message_above_the_limit_is_refused() -> None:
    async def body(runtime: Runtime) -> None:
        small = SystemTransport(max_message_bytes=1 << 20)
        listener = await small.listen("127.0.0.1:0", Services(unary={_METHOD: _echo}))
        channel = small.dial(f"127.0.0.1:{listener.port}")
        with pytest.raises(TransportError) as caught:
            await channel.unary(_METHOD, b"x" * (2 << 20), timeout_ms=5_000)
        assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
        assert await channel.unary(_METHOD, b"x", timeout_ms=5_000) == b"x"
        await channel.close()
        await listener.close()

    _run(body)


def test_a_stream_without_a_connection_can_be_closed() -> None:
    """A broker's session stream was moved away from a dead controller while it was still connecting.

    gRPC left the writer of the cancelled call waiting for ever, ``close`` waited for it, and the broker
    never opened a session at the new controller: it was fenced for good, and could not be stopped either.
    """

    async def main(runtime: Runtime) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            channel = runtime.transport.dial(f"127.0.0.1:{silent.getsockname()[1]}")
            stream = channel.stream("/test.Service/Method")
            sending = asyncio.create_task(stream.send(b"hello"))
            for _ in range(20):  # until the writer waits inside gRPC
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await stream.close()
            with pytest.raises(TransportError):
                await sending
            await channel.close()

    run(main)


def test_health_and_reflection_are_served_for_named_services() -> None:
    async def body(runtime: Runtime) -> None:
        name = "grpc.health.v1.Health"
        listener = await runtime.transport.listen("127.0.0.1:0", Services(names=["test.Service"]))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[
                health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            ] = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            for service in ("", "test.Service"):
                answer = await check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflect: grpc.aio.StreamStreamMultiCallable[
                reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
            ] = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            reflection = reflect()
            await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            listed = await reflection.read()
            assert isinstance(listed, reflection_pb2.ServerReflectionResponse)
            names = [each.name for each in listed.list_services_response.service]
            assert "test.Service" in names
            assert name in names
            reflection.cancel()
        await listener.close()

    _run(body)


# --- HTTP -------------------------------------------------------------------------------------------------


async def _answer(path: str) -> HttpAnswer:
    match path:
        case "/readyz":
            return HttpAnswer(status=200, body=b"ready\n")
        case "/broken":
            raise ZeroDivisionError
        case _:
            return HttpAnswer(status=404, body=b"not found\n")


def _ask(request: bytes) -> bytes:
    async def body(runtime: Runtime) -> bytes:
        listener = await runtime.transport.listen_http("127.0.0.1:0", _answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        await listener.close()
        return answer

    return _run(body)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /readyz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", b"500"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello TLS\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000, b"431"),
    ],
)
def test_http_answers_once_and_closes(request_bytes: bytes, status: bytes) -> None:
    answer = _ask(request_bytes)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"connection: close" in head.lower()
    assert rest == b"ready\n" or status != b"200"


def test_a_head_request_gets_no_body() -> None:
    answer = _ask(b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


# --- the rest of the runtime ------------------------------------------------------------------------------


def test_clock_random_and_blocking() -> None:
    async def body(runtime: Runtime) -> None:
        assert runtime.clock.wall_ms() > 1_700_000_000_000
        before_ms = runtime.clock.now_ms()
        assert await runtime.blocking(lambda: 6 * 7) == 42
        with pytest.raises(ZeroDivisionError):
            await runtime.blocking(lambda: 1 // 0)
        assert runtime.clock.now_ms() >= before_ms
        assert len(runtime.random.uuid()) == 16
        assert runtime.random.uuid() != runtime.random.uuid()
        assert 0 <= runtime.random.randrange(3) < 3
        assert 1.0 <= runtime.random.uniform(1.0, 2.0) <= 2.0

    _run(body)
