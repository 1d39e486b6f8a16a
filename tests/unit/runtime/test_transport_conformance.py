"""What both transports, the real one and the in-memory one, must do alike: calls, listeners, streams."""

import asyncio
import errno
from contextlib import suppress

import pytest
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import (
    Peer,
    Services,
    Stream,
    TransportError,
)

from tests.unit.runtime.transports import Echo, Net, Runner

_METHOD = "/test.Service/Method"
_TIMEOUT_MS = 5_000


async def _echo(request: bytes, peer: Peer) -> bytes:
    return request


async def _collect(stream: Stream, received: list[bytes]) -> None:
    async for message in stream:
        received.append(message)  # noqa: PERF401 - what came before an error counts


async def _echo_stream(stream: Stream, peer: Peer) -> None:
    async for message in stream:
        await stream.send(message)


# --- unary ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [b"", b"hello", b"x" * (6 << 20)], ids=["empty", "small", "6 MiB"])
def test_unary_round_trip(run_on: Runner, request_bytes: bytes) -> None:
    async def body(net: Net) -> bytes:
        channel = net.dial(await net.serve(Services(unary={_METHOD: _echo})))
        return await channel.unary(_METHOD, request_bytes, timeout_ms=_TIMEOUT_MS)

    assert run_on(body) == request_bytes


def test_a_handler_sees_who_calls(run_on: Runner) -> None:
    async def who(request: bytes, peer: Peer) -> bytes:
        return peer.address.encode()

    async def body(net: Net) -> str:
        channel = net.dial(await net.serve(Services(unary={_METHOD: who})))
        return (await channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS)).decode()

    host, _, port = run_on(body).rpartition(":")
    assert host in ("127.0.0.1", "client")
    assert int(port) > 0


@pytest.mark.parametrize("code", [ErrorCode.NOT_CONTROLLER, ErrorCode.INVALID_REQUEST])
def test_a_handlers_error_travels_with_code_and_text(run_on: Runner, code: ErrorCode) -> None:
    async def fail(request: bytes, peer: Peer) -> bytes:
        raise GlasslogError(code, "because ü of\nthis")

    async def body(net: Net) -> None:
        channel = net.dial(await net.serve(Services(unary={_METHOD: fail})))
        with pytest.raises(GlasslogError, match="because ü of\nthis") as caught:
            await channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS)
        assert caught.value.code is code
        assert not isinstance(caught.value, TransportError)

    run_on(body)


def test_an_unexpected_error_is_unknown_to_the_caller_and_logged(
    run_on: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: bytes, peer: Peer) -> bytes:
        raise ZeroDivisionError("a secret detail")

    async def body(net: Net) -> None:
        channel = net.dial(await net.serve(Services(unary={_METHOD: fail})))
        with pytest.raises(GlasslogError, match="failed with ZeroDivisionError") as caught:
            await channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS)
        assert caught.value.code is ErrorCode.UNKNOWN_SERVER_ERROR

    run_on(body)
    assert "a secret detail" in caplog.text


def test_a_late_answer_is_a_timeout_and_cancels_the_handler(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        cancelled = asyncio.Event()

        async def hang(request: bytes, peer: Peer) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return b""

        channel = net.dial(await net.serve(Services(unary={_METHOD: hang})))
        with pytest.raises(TransportError, match="timed out") as caught:
            await channel.unary(_METHOD, b"", timeout_ms=100)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
        await cancelled.wait()

    run_on(body)


def test_a_cancelled_caller_cancels_the_handler(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(request: bytes, peer: Peer) -> bytes:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return b""

        channel = net.dial(await net.serve(Services(unary={_METHOD: hang})))
        call = asyncio.create_task(channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await cancelled.wait()

    run_on(body)


def test_nobody_listening_fails_fast_and_heals(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        listener = await net.server.listen(f"{net.server_host}:0", Services(unary={_METHOD: _echo}))
        address = f"{net.server_host}:{listener.port}"
        channel = net.dial(address)
        assert await channel.unary(_METHOD, b"1", timeout_ms=_TIMEOUT_MS) == b"1"
        await listener.close()
        with pytest.raises(TransportError, match=address):
            await channel.unary(_METHOD, b"2", timeout_ms=60_000)
        again = await net.server.listen(address, Services(unary={_METHOD: _echo}))
        net.later(again.close)
        while True:
            with suppress(TransportError):
                assert await channel.unary(_METHOD, b"3", timeout_ms=_TIMEOUT_MS) == b"3"
                break
            await asyncio.sleep(0.02)

    run_on(body)


def test_an_unknown_method_is_refused(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        channel = net.dial(await net.serve(Services(unary={_METHOD: _echo})))
        with pytest.raises(TransportError) as caught:
            await channel.unary("/test.Service/Missing", b"", timeout_ms=_TIMEOUT_MS)
        assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION

    run_on(body)


def test_closing_a_channel_fails_its_calls(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        started = asyncio.Event()

        async def hang(request: bytes, peer: Peer) -> bytes:
            started.set()
            await asyncio.Event().wait()
            return b""

        channel = net.client.dial(await net.serve(Services(unary={_METHOD: hang})))
        call = asyncio.create_task(channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS))
        await started.wait()
        await channel.close()
        with pytest.raises(TransportError, match="closed"):
            await call
        with pytest.raises(TransportError, match="closed"):
            await channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS)
        with pytest.raises(TransportError, match="closed"):
            channel.stream(_METHOD)

    run_on(body)


# --- listening --------------------------------------------------------------------------------------------


def test_a_taken_port_is_an_os_error_that_names_it(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        address = await net.serve(Services(unary={_METHOD: _echo}))
        with pytest.raises(OSError, match=address) as caught:
            await net.server.listen(address, Services())
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=address) as caught:
            await net.server.listen_frames(address, Echo, max_frame_bytes=1)
        assert caught.value.errno == errno.EADDRINUSE

    run_on(body)


def test_a_foreign_host_is_not_available(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1:0") as caught:
            await net.server.listen("192.0.2.1:0", Services())
        assert caught.value.errno == errno.EADDRNOTAVAIL

    run_on(body)


@pytest.mark.parametrize("address", ["nonsense", "host:", ":1", "host:port", "host:70000", "::1:80"])
def test_a_malformed_address_is_a_config_error(run_on: Runner, address: str) -> None:
    async def body(net: Net) -> None:
        with pytest.raises(ConfigError, match="address"):
            net.client.dial(address)
        with pytest.raises(ConfigError, match="address"):
            await net.server.listen(address, Services())

    run_on(body)


def test_a_closing_listener_lets_calls_end_within_the_grace(run_on: Runner) -> None:
    async def body(net: Net) -> bytes:
        started, finish = asyncio.Event(), asyncio.Event()

        async def slow(request: bytes, peer: Peer) -> bytes:
            started.set()
            await finish.wait()
            return b"done"

        listener = await net.server.listen(f"{net.server_host}:0", Services(unary={_METHOD: slow}))
        channel = net.dial(f"{net.server_host}:{listener.port}")
        call = asyncio.create_task(channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS))
        await started.wait()
        closing = asyncio.create_task(listener.close(grace_ms=4_000))
        await asyncio.sleep(0.01)
        finish.set()
        await closing
        return await call

    assert run_on(body) == b"done"


def test_a_closing_listener_cuts_what_outlasts_the_grace(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        started = asyncio.Event()

        async def hang(request: bytes, peer: Peer) -> bytes:
            started.set()
            await asyncio.Event().wait()
            return b""

        listener = await net.server.listen(f"{net.server_host}:0", Services(unary={_METHOD: hang}))
        channel = net.dial(f"{net.server_host}:{listener.port}")
        call = asyncio.create_task(channel.unary(_METHOD, b"", timeout_ms=_TIMEOUT_MS))
        await started.wait()
        await listener.close(grace_ms=20)
        with pytest.raises(TransportError):
            await call

    run_on(body)


# --- streams ----------------------------------------------------------------------------------------------


def test_a_stream_echoes_in_order(run_on: Runner) -> None:
    async def body(net: Net) -> list[bytes]:
        channel = net.dial(await net.serve(Services(streams={_METHOD: _echo_stream})))
        stream = channel.stream(_METHOD)
        messages = [b"%d" % number for number in range(200)]

        async def send_all() -> None:
            for message in messages:
                await stream.send(message)

        async with asyncio.TaskGroup() as group:
            group.create_task(send_all())
            answers = stream.__aiter__()
            received = [await anext(answers) for _ in messages]
        await stream.close()
        await stream.close()
        assert received == messages
        return received

    assert len(run_on(body)) == 200


def test_an_empty_message_is_a_message(run_on: Runner) -> None:
    async def body(net: Net) -> bytes:
        stream = net.dial(await net.serve(Services(streams={_METHOD: _echo_stream}))).stream(_METHOD)
        await stream.send(b"")
        return await anext(aiter(stream))

    assert run_on(body) == b""


def test_the_stream_ends_when_the_handler_returns(run_on: Runner) -> None:
    async def body(net: Net) -> list[bytes]:
        async def three(stream: Stream, peer: Peer) -> None:
            for number in range(3):
                await stream.send(b"%d" % number)

        stream = net.dial(await net.serve(Services(streams={_METHOD: three}))).stream(_METHOD)
        received = [message async for message in stream]
        with pytest.raises(TransportError):
            await stream.send(b"too late")
        return received

    assert run_on(body) == [b"0", b"1", b"2"]


def test_a_stream_handlers_error_travels_after_its_messages(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        async def fail(stream: Stream, peer: Peer) -> None:
            await stream.send(b"first")
            raise GlasslogError(ErrorCode.FENCED_LEADER_EPOCH, "too old")

        stream = net.dial(await net.serve(Services(streams={_METHOD: fail}))).stream(_METHOD)
        received: list[bytes] = []
        with pytest.raises(GlasslogError, match="too old") as caught:
            await _collect(stream, received)
        assert caught.value.code is ErrorCode.FENCED_LEADER_EPOCH
        assert received == [b"first"]

    run_on(body)


def test_an_unexpected_stream_error_is_unknown_to_the_caller(
    run_on: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(net: Net) -> None:
        async def fail(stream: Stream, peer: Peer) -> None:
            raise ZeroDivisionError("a secret detail")

        stream = net.dial(await net.serve(Services(streams={_METHOD: fail}))).stream(_METHOD)
        with pytest.raises(GlasslogError, match="failed with ZeroDivisionError") as caught:
            await anext(aiter(stream))
        assert caught.value.code is ErrorCode.UNKNOWN_SERVER_ERROR

    run_on(body)
    assert "a secret detail" in caplog.text


def test_a_stream_to_nobody_breaks(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        listener = await net.server.listen(f"{net.server_host}:0", Services())
        await listener.close()
        stream = net.dial(f"{net.server_host}:{listener.port}").stream(_METHOD)
        with pytest.raises(TransportError):
            await anext(aiter(stream))
        with pytest.raises(TransportError):
            await stream.send(b"x")

    run_on(body)


def test_closing_the_client_end_cancels_the_handler(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        gone = asyncio.Event()

        async def serve(stream: Stream, peer: Peer) -> None:
            try:
                await stream.send(b"hello")
                await asyncio.Event().wait()
            finally:
                gone.set()

        stream = net.dial(await net.serve(Services(streams={_METHOD: serve}))).stream(_METHOD)
        answers = aiter(stream)
        assert await anext(answers) == b"hello"
        await stream.close()
        await gone.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(answers)
        with pytest.raises(TransportError, match="closed"):
            await stream.send(b"x")

    run_on(body)


def test_a_cancelled_read_loses_nothing(run_on: Runner) -> None:
    async def body(net: Net) -> bytes:
        stream = net.dial(await net.serve(Services(streams={_METHOD: _echo_stream}))).stream(_METHOD)
        answers = aiter(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(answers)
        await stream.send(b"later")
        return await anext(answers)

    assert run_on(body) == b"later"


def test_a_sender_waits_for_a_slow_reader(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        read_on = asyncio.Event()
        counted = asyncio.Event()
        total = 64

        async def slow(stream: Stream, peer: Peer) -> None:
            await read_on.wait()
            count = 0
            async for _ in stream:
                count += 1
                if count == total:
                    counted.set()

        stream = net.dial(await net.serve(Services(streams={_METHOD: slow}))).stream(_METHOD)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for _ in range(total):
                await stream.send(b"x" * (1 << 20))
                sent += 1

        sending = asyncio.create_task(send_all())
        await asyncio.sleep(0.3)
        assert sent < total // 2
        read_on.set()
        await sending
        await counted.wait()
        await stream.close()

    run_on(body)
