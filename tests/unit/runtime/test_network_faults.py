"""The in-memory network's faults: cuts, pauses, kills, loss, doubling; and that a seed repeats a run."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.transport import MemoryTransport
from glasslog.common.runtime.memory.world import MemoryWorld, memory_runtime
from glasslog.common.runtime.protocols import (
    FrameConnection,
    FrameHandler,
    HttpAnswer,
    Peer,
    Services,
    Stream,
    TransportError,
)

from tests.unit.runtime.transports import Echo, Recorder

_METHOD = "/test.Service/Method"
_ADDRESS = "b:9000"


async def _echo(request: bytes, peer: Peer) -> bytes:
    return request


async def _echo_stream(stream: Stream, peer: Peer) -> None:
    async for message in stream:
        await stream.send(message)


_SERVICES = Services(unary={_METHOD: _echo}, streams={_METHOD: _echo_stream})


def _in_world(body: Callable[[MemoryWorld], Coroutine[object, object, None]], *, seed: int = 1) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=seed)
        await world.runtime("b").transport.listen(_ADDRESS, _SERVICES)
        await body(world)

    run_virtual(main)


async def _call(world: MemoryWorld, *, source: str = "a", timeout_ms: int = 1_000) -> bytes:
    return await world.runtime(source).transport.dial(_ADDRESS).unary(_METHOD, b"x", timeout_ms=timeout_ms)


def test_a_cut_loses_calls_until_healed() -> None:
    async def body(world: MemoryWorld) -> None:
        world.network.partition("a", "b")
        before_ms = world.clock("a").now_ms()
        with pytest.raises(TransportError) as caught:
            await _call(world, timeout_ms=700)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert world.clock("a").now_ms() - before_ms == 700
        assert await _call(world, source="c") == b"x"
        world.network.heal()
        assert await _call(world) == b"x"

    _in_world(body)


def test_a_one_way_cut_serves_the_call_and_loses_the_reply() -> None:
    async def body(world: MemoryWorld) -> None:
        served: list[bytes] = []

        async def record(request: bytes, peer: Peer) -> bytes:
            served.append(request)
            return b""

        await world.runtime("b").transport.listen("b:9001", Services(unary={_METHOD: record}))
        world.network.partition_one_way("b", "a")
        with pytest.raises(TransportError, match="timed out"):
            await world.runtime("a").transport.dial("b:9001").unary(_METHOD, b"1", timeout_ms=100)
        assert served == [b"1"]
        world.network.heal("a", "b")
        world.network.partition_one_way("a", "b")
        with pytest.raises(TransportError, match="timed out"):
            await world.runtime("a").transport.dial("b:9001").unary(_METHOD, b"2", timeout_ms=100)
        assert served == [b"1"]

    _in_world(body)


def test_isolating_a_host_and_healing_it_alone() -> None:
    async def body(world: MemoryWorld) -> None:
        for host in "acd":
            world.runtime(host)
        world.network.isolate("b")
        world.network.partition("c", "d")
        with pytest.raises(TransportError):
            await _call(world)
        world.network.heal("b")
        assert await _call(world) == b"x"
        assert world.network.is_cut("c", "d")

    _in_world(body)


def test_a_stream_stalls_in_a_cut_and_goes_on_after() -> None:
    async def body(world: MemoryWorld) -> None:
        stream = world.runtime("a").transport.dial(_ADDRESS).stream(_METHOD)
        answers = aiter(stream)
        await stream.send(b"1")
        assert await anext(answers) == b"1"
        world.network.partition("a", "b")
        await stream.send(b"2")
        await stream.send(b"3")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(answers), 5)
        world.network.heal()
        assert [await anext(answers), await anext(answers)] == [b"2", b"3"]

    _in_world(body)


def test_a_long_cut_breaks_streams_at_both_ends() -> None:
    async def body(world: MemoryWorld) -> None:
        gone = asyncio.Event()

        async def wait(stream: Stream, peer: Peer) -> None:
            try:
                await stream.send(b"hello")
                await asyncio.Event().wait()
            finally:
                gone.set()

        await world.runtime("b").transport.listen("b:9001", Services(streams={_METHOD: wait}))
        stream = world.runtime("a").transport.dial("b:9001").stream(_METHOD)
        answers = aiter(stream)
        assert await anext(answers) == b"hello"
        world.network.partition("a", "b")
        before_ms = world.clock("a").now_ms()
        with pytest.raises(TransportError, match="does not answer"):
            await anext(answers)
        assert world.clock("a").now_ms() - before_ms == world.network.broken_after_ms
        await gone.wait()

    _in_world(body)


def test_a_healed_cut_does_not_break_streams_later() -> None:
    async def body(world: MemoryWorld) -> None:
        stream = world.runtime("a").transport.dial(_ADDRESS).stream(_METHOD)
        world.network.partition("a", "b")
        await asyncio.sleep(1)
        world.network.heal()
        await asyncio.sleep(1)
        world.network.partition("a", "b")
        await asyncio.sleep(19)
        world.network.heal()
        await stream.send(b"still alive")
        assert await anext(aiter(stream)) == b"still alive"

    _in_world(body)


def test_dialling_into_a_cut_times_out() -> None:
    async def body(world: MemoryWorld) -> None:
        world.network.partition("a", "b")
        transport = world.runtime("a").transport
        with pytest.raises(TransportError, match="timed out") as caught:
            await transport.dial_frames(_ADDRESS, Recorder(), timeout_ms=300, max_frame_bytes=10)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
        with pytest.raises(TransportError, match="timed out"):
            await anext(aiter(transport.dial(_ADDRESS).stream(_METHOD)))

    _in_world(body)


def test_killing_a_host_breaks_everything_after_a_moment() -> None:
    async def body(world: MemoryWorld) -> None:
        cancelled: list[str] = []

        async def hang(request: bytes, peer: Peer) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append("unary")
            return b""

        async def hang_stream(stream: Stream, peer: Peer) -> None:
            try:
                await stream.send(b"hello")
                await asyncio.Event().wait()
            finally:
                cancelled.append("stream")

        server = world.runtime("b").transport
        await server.listen("b:9001", Services(unary={_METHOD: hang}, streams={_METHOD: hang_stream}))
        await server.listen_frames("b:9002", Echo, max_frame_bytes=10)
        client = world.runtime("a").transport
        channel = client.dial("b:9001")
        call = asyncio.create_task(channel.unary(_METHOD, b"", timeout_ms=60_000))
        answers = aiter(channel.stream(_METHOD))
        assert await anext(answers) == b"hello"
        recorder = Recorder()
        await client.dial_frames("b:9002", recorder, timeout_ms=1_000, max_frame_bytes=10)

        before_ms = world.clock("a").now_ms()
        world.kill("b")
        with pytest.raises(TransportError, match="reset"):
            await call
        with pytest.raises(TransportError, match="reset"):
            await anext(answers)
        assert isinstance(await recorder.until_closed(), TransportError)
        assert world.clock("a").now_ms() - before_ms <= 2
        assert sorted(cancelled) == ["stream", "unary"]
        with pytest.raises(TransportError, match="refused"):
            await channel.unary(_METHOD, b"", timeout_ms=60_000)
        with pytest.raises(TransportError, match="dead"):
            await server.listen("b:9003", _SERVICES)
        with pytest.raises(TransportError, match="dead"):
            await server.dial(_ADDRESS).unary(_METHOD, b"", timeout_ms=1_000)

        await world.runtime("b").transport.listen("b:9001", _SERVICES)
        assert await channel.unary(_METHOD, b"back", timeout_ms=1_000) == b"back"

    _in_world(body)


def test_a_killed_client_cancels_its_handlers() -> None:
    async def body(world: MemoryWorld) -> None:
        started, gone = asyncio.Event(), asyncio.Event()

        async def wait(stream: Stream, peer: Peer) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

        await world.runtime("b").transport.listen("b:9001", Services(streams={_METHOD: wait}))
        stream = world.runtime("a").transport.dial("b:9001").stream(_METHOD)
        await started.wait()
        world.kill("a")
        await gone.wait()
        with pytest.raises(TransportError, match="dead"):
            await stream.send(b"from the grave")

    _in_world(body)


def test_a_handler_killed_before_its_first_step_is_forgotten() -> None:
    """A task that is cancelled before it ever ran skips its own clean-up: the host kept it as alive."""

    async def body(world: MemoryWorld) -> None:
        host = world.network.host("b")

        async def never(request: bytes, peer: Peer) -> bytes:
            raise AssertionError("cancelled before this")

        await world.runtime("b").transport.listen("b:9001", Services(unary={_METHOD: never}))
        endpoint = host.endpoints[9001]
        arrive = endpoint.arrive

        def arrive_and_die(knock: object) -> None:
            arrive(knock)  # type: ignore[arg-type]  # whatever knocks
            world.kill("b")

        endpoint.arrive = arrive_and_die  # type: ignore[method-assign]  # a kill at the worst moment
        with pytest.raises(TransportError, match="reset"):
            await world.runtime("a").transport.dial("b:9001").unary(_METHOD, b"", timeout_ms=1_000)
        await asyncio.sleep(1)
        assert not host.residents

    _in_world(body)


def test_a_paused_host_answers_late() -> None:
    async def body(world: MemoryWorld) -> None:
        world.network.pause_host("b")
        call = asyncio.create_task(_call(world, timeout_ms=10_000))
        await asyncio.sleep(5)
        assert not call.done()
        world.network.resume_host("b")
        assert await call == b"x"

    _in_world(body)


def test_nothing_runs_on_a_paused_host_until_it_is_resumed() -> None:
    """Pausing once held a host's traffic only: its timers went on, so a stopped leader kept its lease."""

    async def body(world: MemoryWorld) -> None:
        loop = asyncio.get_running_loop()
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.1)
                ticks.append(loop.time())

        clock = asyncio.create_task(tick(), context=world.network.host("b").context())
        await asyncio.sleep(0.35)
        world.network.pause_host("b")
        paused = loop.time()
        await asyncio.sleep(5)
        assert len(ticks) == 3
        world.network.resume_host("b")
        await asyncio.sleep(0.25)
        assert [round(at - paused, 2) for at in ticks[3:]] == [5.0, 5.1, 5.2]
        clock.cancel()

    _in_world(body)


def test_what_a_paused_host_sets_off_is_held_and_a_kill_ends_the_pause() -> None:
    async def body(world: MemoryWorld) -> None:
        host = world.network.host("b")
        ran: list[str] = []
        loop = asyncio.get_running_loop()
        world.network.pause_host("b")
        host.run(loop.call_soon, ran.append, "soon")
        host.run(loop.call_later, 1, ran.append, "later")
        host.run(loop.call_soon, ran.append, "cancelled").cancel()
        await asyncio.sleep(2)
        assert ran == []
        world.kill("b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(ran) == ["later", "soon"]

    _in_world(body)


def test_lost_requests_time_out_and_doubled_ones_are_served_twice() -> None:
    async def body(world: MemoryWorld) -> None:
        served: list[bytes] = []

        async def record(request: bytes, peer: Peer) -> bytes:
            served.append(request)
            return b""

        await world.runtime("b").transport.listen("b:9001", Services(unary={_METHOD: record}))
        channel = world.runtime("a").transport.dial("b:9001")
        world.network.drop_probability = 0.5
        lost = 0
        for _ in range(100):
            try:
                await channel.unary(_METHOD, b"", timeout_ms=50)
            except TransportError:
                lost += 1
        assert 50 < lost < 95
        assert 30 < len(served) < 70
        world.network.drop_probability = 0.0
        world.network.duplicate_probability = 1.0
        served.clear()
        await channel.unary(_METHOD, b"twice", timeout_ms=50)
        await asyncio.sleep(1)
        assert served == [b"twice", b"twice"]

    _in_world(body)


def test_delays_are_per_direction() -> None:
    async def body(world: MemoryWorld) -> None:
        world.network.set_delay("a", "b", minimum_ms=100)
        world.network.set_delay("b", "a", minimum_ms=10)
        before_ms = world.clock("a").now_ms()
        await _call(world)
        assert world.clock("a").now_ms() - before_ms == 110

    _in_world(body)


def test_a_frame_kept_without_a_copy_is_overwritten() -> None:
    """A handler that keeps the memory of a frame works by luck in production: here it shows."""

    class Keeper(Recorder):
        kept: memoryview

        def on_frame(self, frame: memoryview) -> None:
            super().on_frame(frame)
            self.kept = frame[1:]

    async def body(world: MemoryWorld) -> None:
        keeper = Keeper()
        await world.runtime("b").transport.listen_frames("b:9001", lambda _: keeper, max_frame_bytes=10)
        connection = await world.runtime("a").transport.dial_frames(
            "b:9001", Recorder(), timeout_ms=1_000, max_frame_bytes=10
        )
        connection.send([b"data"])
        await keeper.until_frames(1)
        assert bytes(keeper.kept) != b"ata"

    _in_world(body)


def test_http_in_memory() -> None:
    async def answer(path: str) -> HttpAnswer:
        return HttpAnswer(status=200, body=path.encode())

    async def body(world: MemoryWorld) -> None:
        await world.runtime("b").transport.listen_http("b:9644", answer)
        transport = MemoryTransport(world.network, "a")
        assert (await transport.http_get("b:9644", "/readyz")).body == b"/readyz"
        with pytest.raises(TransportError):
            await transport.http_get("b:1", "/")

    _in_world(body)


def test_power_loss_reaches_the_disk() -> None:
    async def body(world: MemoryWorld) -> None:
        runtime = world.runtime("a")
        runtime.files.make_dirs("/data")
        runtime.files.sync_dir("/")
        file = runtime.files.open("/data/log", create=True)
        file.pwrite(b"x", 0)
        world.kill("a", power_loss="none")
        assert world.runtime("a").files.list("/data") == []

    _in_world(body)


def test_one_runtime_alone_reaches_itself() -> None:
    async def main() -> bytes:
        runtime = memory_runtime()
        await runtime.transport.listen("127.0.0.1:9092", _SERVICES)
        blocked = await runtime.blocking(lambda: b"blocking works")
        assert blocked == b"blocking works"
        return await runtime.transport.dial("localhost:9092").unary(_METHOD, b"me", timeout_ms=100)

    assert run_virtual(main) == b"me"


def _trace(seed: int) -> list[tuple[int, str, bytes]]:
    """A little chaos: what was received where and when."""
    trace: list[tuple[int, str, bytes]] = []

    async def main() -> None:
        world = MemoryWorld(seed=seed)
        world.network.drop_probability = 0.1
        clock = world.clock("any")

        def accept(connection: FrameConnection) -> FrameHandler:
            class Tracer(Echo):
                def on_frame(self, frame: memoryview) -> None:
                    trace.append((clock.now_ms(), "frame", bytes(frame)))

            return Tracer(connection)

        async def serve(request: bytes, peer: Peer) -> bytes:
            trace.append((clock.now_ms(), peer.address, request))
            return request

        server = world.runtime("b").transport
        await server.listen(_ADDRESS, Services(unary={_METHOD: serve}))
        await server.listen_frames("b:9001", accept, max_frame_bytes=100)

        async def client(name: str) -> None:
            runtime = world.runtime(name)
            channel = runtime.transport.dial(_ADDRESS)
            frames = await runtime.transport.dial_frames(
                "b:9001", Recorder(), timeout_ms=1_000, max_frame_bytes=100
            )
            for number in range(20):
                frames.send([name.encode(), b"%d" % number])
                try:
                    await channel.unary(_METHOD, b"%d" % number, timeout_ms=20)
                except TransportError:
                    trace.append((clock.now_ms(), name, b"lost"))
                await asyncio.sleep(runtime.random.uniform(0, 0.01))

        async with asyncio.TaskGroup() as group:
            for name in ("c1", "c2", "c3"):
                group.create_task(client(name))
            await asyncio.sleep(0.05)
            world.network.partition("c1", "b")
            await asyncio.sleep(0.05)
            world.network.heal()
        await asyncio.sleep(1)

    run_virtual(main)
    return trace


def test_a_seed_repeats_a_run_exactly() -> None:
    assert _trace(3) == _trace(3)
    assert _trace(3) != _trace(4)
