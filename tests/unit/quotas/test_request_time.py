"""Clients that make a broker work more than their share: told so in the answer, and read from later."""

import asyncio

from glasslog.broker.client_quotas import ClientQuotas
from glasslog.broker.counters import ReplicationCounters
from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.listener import KafkaListener
from glasslog.broker.kafka.messages.quotas import (
    DESCRIBE_CLIENT_QUOTAS,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)
from glasslog.broker.kafka.serving import Caller, at_once
from glasslog.common.runtime.memory.basics import MemoryClock
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.metadata.image import MetadataImage

ADDRESS = "broker:9092"
WORK_MS = 600


class WorkingClock(MemoryClock):
    """Shows how long requests were worked on, while virtual time stands still."""

    worked_ns = 0

    def monotonic_ns(self) -> int:
        return self.worked_ns


class Client:
    """Notes the throttle times it is told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def on_frame(self, frame: memoryview) -> None:
        reader = Reader(frame)
        reader.int32()
        reader.skip_tagged_fields()
        answer = DESCRIBE_CLIENT_QUOTAS.decode_response(reader, 1)
        self.told.append((round(asyncio.get_running_loop().time() * 1_000), answer.throttle_time_ms))

    def on_closed(self, error: Exception | None) -> None: ...


def ask(client_id: str) -> bytes:
    header = encode_request_header(48, 1, correlation_id=1, client_id=client_id)
    return header + bytes(DESCRIBE_CLIENT_QUOTAS.encode_request(DescribeClientQuotasRequest(), 1))


def test_work_beyond_the_share_mutes_the_connection_for_a_window_at_most() -> None:
    async def main() -> None:
        world, clock, client = MemoryWorld(seed=1), WorkingClock(), Client()
        image = MetadataImage(quotas={(("client-id", "heavy"),): {"request_percentage": 10.0}})
        quotas = ClientQuotas(clock=clock, image=lambda: image, counters=ReplicationCounters())

        def answer(request: DescribeClientQuotasRequest, caller: Caller) -> DescribeClientQuotasResponse:
            clock.worked_ns += WORK_MS * 1_000_000
            return DescribeClientQuotasResponse(entries=())

        listener = KafkaListener(
            transport=world.runtime("broker").transport,
            apis=(at_once(DESCRIBE_CLIENT_QUOTAS, answer),),
            max_request_bytes=1_000,
            quotas=quotas,
        )
        await listener.start(ADDRESS)
        connection = await world.runtime("client").transport.dial_frames(
            ADDRESS, client, timeout_ms=1_000, max_frame_bytes=1_000
        )
        # A tenth of a processor for ten seconds is one second: less than two requests of 600 ms.
        for _ in range(3):
            connection.send((ask("heavy"),))
            await asyncio.sleep(0.2)
        connection.send((ask("light"),))
        await asyncio.sleep(5)
        (_, first), (second_ms, second), (third_ms, third), (light_ms, light) = client.told
        assert (first, second, third, light) == (0, 1_000, 1_000, 0)
        assert third_ms - second_ms >= 990, "nothing was read meanwhile"
        assert light_ms - third_ms >= 990, "they share a connection"
        connection.close()
        await listener.close()

    run_virtual(main)
