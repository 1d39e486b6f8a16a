"""What a client may take of the Kafka listener: connections, idle time, requests in flight, log lines."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.kafka.connection import Api, RequestCall
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.listener import COMPLAINTS_PER_WINDOW, KafkaListener, ListenerLimits
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import FrameConnection

ADDRESS = "broker:9092"


class Client:
    """Counts its answers."""

    def __init__(self) -> None:
        self.answers = 0
        self.is_closed = False

    def on_frame(self, frame: memoryview) -> None:
        self.answers += 1

    def on_closed(self, error: Exception | None) -> None:
        self.is_closed = True


Dial = Callable[[str], Awaitable[tuple[FrameConnection, Client]]]
Story = Callable[[Dial], Awaitable[None]]


def talk(story: Story, limits: ListenerLimits, *apis: Api) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        runtime = world.runtime("broker")
        listener = KafkaListener(
            transport=runtime.transport,
            apis=apis,
            max_request_bytes=1 << 20,
            limits=limits,
            now_ms=runtime.clock.now_ms,
        )
        await listener.start(ADDRESS)

        async def dial(host: str) -> tuple[FrameConnection, Client]:
            client = Client()
            transport = world.runtime(host).transport
            return (
                await transport.dial_frames(ADDRESS, client, timeout_ms=1_000, max_frame_bytes=1 << 20),
                client,
            )

        await story(dial)
        await listener.close()

    run_virtual(main, timeout_ms=10_000_000)


def ask(connection: FrameConnection, key: int = 18, number: int = 1) -> None:
    connection.send((encode_request_header(key, 0, correlation_id=number, client_id="test"),))


async def answered(connection: FrameConnection, client: Client) -> bool:
    before = client.answers
    ask(connection)
    await asyncio.sleep(0.1)
    return client.answers > before


def test_connections_are_bounded_and_one_that_ends_makes_room() -> None:
    async def story(dial: Dial) -> None:
        first, second = await dial("a"), await dial("b")
        _, refused = await dial("c")
        await asyncio.sleep(0.1)
        assert refused.is_closed
        assert await answered(*first)
        assert await answered(*second)
        first[0].close()
        await asyncio.sleep(0.1)
        assert await answered(*await dial("c"))

    talk(story, ListenerLimits(max_connections=2))


def test_connections_of_one_address_are_bounded() -> None:
    async def story(dial: Dial) -> None:
        first = await dial("a")
        _, refused = await dial("a")
        await asyncio.sleep(0.1)
        assert refused.is_closed
        assert await answered(*await dial("b"))
        first[0].close()
        await asyncio.sleep(0.1)
        assert await answered(*await dial("a"))

    talk(story, ListenerLimits(max_connections_per_address=1))


def test_an_idle_connection_is_closed_and_a_used_or_waiting_one_is_not() -> None:
    async def story(dial: Dial) -> None:
        used, waiting, idle = await dial("a"), await dial("b"), await dial("c")
        ask(waiting[0], key=7)
        for _ in range(8):
            assert await answered(*used)
            await asyncio.sleep(0.5)
        assert idle[1].is_closed
        assert not used[1].is_closed
        assert not waiting[1].is_closed

    never = Api(key=7, name="Never", min_version=0, max_version=0, flexible_from=1, handle=lambda call: None)
    talk(story, ListenerLimits(max_idle_ms=1_000), never)


def test_requests_in_flight_are_bounded_by_the_setting() -> None:
    calls: list[RequestCall] = []

    async def story(dial: Dial) -> None:
        connection, client = await dial("a")
        for number in range(10):
            ask(connection, key=7, number=number)
        await asyncio.sleep(0.1)
        assert len(calls) == 3
        for call in calls:
            call.respond((b"",), has_flexible_header=False)
        await asyncio.sleep(0.1)
        assert client.answers == 3
        assert len(calls) == 6

    api = Api(key=7, name="Slow", min_version=0, max_version=0, flexible_from=1, handle=calls.append)
    talk(story, ListenerLimits(max_in_flight=3), api)


def test_a_hostile_client_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(dial: Dial) -> None:
        for _ in range(COMPLAINTS_PER_WINDOW + 30):
            connection, _ = await dial("a")
            connection.send((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",))
            await asyncio.sleep(0.01)
        await asyncio.sleep(11)
        connection, _ = await dial("a")
        connection.send((b"?",))
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.WARNING):
        talk(story, ListenerLimits())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == COMPLAINTS_PER_WINDOW + 2
    assert "30 more complaints" in lines[-2]
    assert "malformed request" in lines[-1]


def test_a_request_without_an_answer_lets_the_next_ones_answer_through() -> None:
    async def story(dial: Dial) -> None:
        connection, client = await dial("a")
        ask(connection, key=7)
        assert await answered(connection, client)

    def handle(call: RequestCall) -> None:
        call.respond_nothing()

    api = Api(key=7, name="Silent", min_version=0, max_version=0, flexible_from=1, handle=handle)
    talk(story, ListenerLimits(), api)
