"""What both transports, the real one and the in-memory one, must do alike: frames and HTTP."""

import asyncio

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.protocols import (
    FrameConnection,
    FrameHandler,
    HttpAnswer,
    TransportError,
)

from tests.unit.runtime.transports import MAX_FRAME_BYTES, Echo, Net, Recorder, Runner, in_memory

_METHOD = "/test.Service/Method"
_TIMEOUT_MS = 5_000


def test_frames_echo_in_order_whatever_their_size(run_on: Runner) -> None:
    sizes = [0, 1, 3, 4, 5, 4_096, 262_139, 262_140, 262_141, 300_000, MAX_FRAME_BYTES] + [7] * 2_000

    async def body(net: Net) -> None:
        recorder = Recorder()
        connection = await net.dial_frames(await net.serve_frames(Echo), recorder)
        frames = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
        for frame in frames:
            connection.send([frame[:2], memoryview(frame)[2:]])
            await connection.writable()
        await recorder.until_frames(len(frames))
        assert recorder.frames == frames
        connection.close()
        assert await recorder.until_closed() is None

    run_on(body)


def test_both_ends_learn_of_an_orderly_end_after_the_last_frame(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        accepted: list[Echo] = []
        opened = asyncio.Event()

        def accept(connection: FrameConnection) -> FrameHandler:
            accepted.append(Echo(connection))
            opened.set()
            return accepted[0]

        recorder = Recorder()
        connection = await net.dial_frames(await net.serve_frames(accept), recorder)
        for number in range(100):
            connection.send([b"%d" % number])
        connection.close()
        connection.send([b"ignored"])
        with pytest.raises(TransportError, match="closed"):
            await connection.writable()
        assert await recorder.until_closed() is None
        await opened.wait()
        assert await accepted[0].until_closed() is None
        assert len(accepted[0].frames) == 100
        await asyncio.sleep(0.01)
        assert recorder.errors == [None]
        assert accepted[0].errors == [None]

    run_on(body)


def test_a_frame_above_the_limit_closes_the_connection(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        accepted: list[Echo] = []

        def accept(connection: FrameConnection) -> FrameHandler:
            accepted.append(Echo(connection))
            return accepted[0]

        recorder = Recorder()
        address = await net.serve_frames(accept, max_frame_bytes=1_000)
        connection = await net.dial_frames(address, recorder)
        connection.send([b"x" * 1_000])
        connection.send([b"x" * 1_001])
        await recorder.until_closed()
        error = await accepted[0].until_closed()
        assert isinstance(error, TransportError)
        assert "1001 bytes" in str(error)
        assert error.code is ErrorCode.INVALID_REQUEST
        assert [len(frame) for frame in accepted[0].frames] == [1_000]

    run_on(body)


def test_paused_reading_holds_frames_and_loses_none(run_on: Runner) -> None:
    class Stopper(Recorder):
        """Pauses after every frame."""

        connection: FrameConnection

        def on_frame(self, frame: memoryview) -> None:
            super().on_frame(frame)
            self.connection.pause_reading()

    async def body(net: Net) -> None:
        stopper = Stopper()

        def accept(connection: FrameConnection) -> FrameHandler:
            stopper.connection = connection
            return stopper

        connection = await net.dial_frames(await net.serve_frames(accept), Recorder())
        for number in range(20):
            connection.send([b"%d" % number])
        for count in range(1, 21):
            await stopper.until_frames(count)
            await asyncio.sleep(0.002)
            assert len(stopper.frames) == count
            stopper.connection.resume_reading()
        assert stopper.frames == [b"%d" % number for number in range(20)]
        connection.close()

    run_on(body)


def test_writable_waits_for_a_peer_that_does_not_read(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        class Deaf(Recorder):
            pass

        deaf = Deaf()
        held: list[FrameConnection] = []

        def accept(connection: FrameConnection) -> FrameHandler:
            connection.pause_reading()
            held.append(connection)
            return deaf

        recorder = Recorder()
        connection = await net.dial_frames(await net.serve_frames(accept), recorder)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 500:
                connection.send([b"x" * 500_000])
                sent += 1
                await connection.writable()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(), 0.3)
        assert sent < 100
        held[0].resume_reading()
        await connection.writable()
        await deaf.until_frames(sent)
        connection.close()

    run_on(body)


def test_dialling_frames_to_nobody_fails(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        listener = await net.server.listen_frames(f"{net.server_host}:0", Echo, max_frame_bytes=1)
        address = f"{net.server_host}:{listener.port}"
        await listener.close()
        recorder = Recorder()
        with pytest.raises(TransportError, match=address):
            await net.dial_frames(address, recorder)
        assert recorder.errors == []

    run_on(body)


def test_a_failing_frame_handler_closes_its_connection(run_on: Runner) -> None:
    class Failing(Recorder):
        def on_frame(self, frame: memoryview) -> None:
            raise ZeroDivisionError

    async def body(net: Net) -> None:
        failing = Failing()
        recorder = Recorder()
        connection = await net.dial_frames(await net.serve_frames(lambda _: failing), recorder)
        connection.send([b"x"])
        await recorder.until_closed()
        error = await failing.until_closed()
        assert "ZeroDivisionError" in str(error)

    if run_on is in_memory:
        with pytest.raises(ExceptionGroup):
            run_on(body)
    else:
        run_on(body)


def test_closing_a_frame_listener_closes_its_connections(run_on: Runner) -> None:
    async def body(net: Net) -> None:
        listener = await net.server.listen_frames(f"{net.server_host}:0", Echo, max_frame_bytes=10)
        recorder = Recorder()
        connection = await net.dial_frames(f"{net.server_host}:{listener.port}", recorder)
        connection.send([b"x"])
        await recorder.until_frames(1)
        await listener.close(grace_ms=10)
        await recorder.until_closed()
        assert len(recorder.errors) == 1

    run_on(body)


def test_http_listener_has_a_port_and_closes(run_on: Runner) -> None:
    async def answer(path: str) -> HttpAnswer:
        return HttpAnswer(status=200, body=path.encode())

    async def body(net: Net) -> None:
        listener = await net.server.listen_http(f"{net.server_host}:0", answer)
        assert listener.port > 0
        with pytest.raises(OSError, match=str(listener.port)):
            await net.server.listen_http(f"{net.server_host}:{listener.port}", answer)
        await listener.close()

    run_on(body)
