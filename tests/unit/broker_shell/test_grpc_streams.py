import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.grpc.data import DataHandlers
from glasslog.broker.grpc.serving import BROKER_SERVICE, stream
from glasslog.broker.requests import (
    Consumer,
    FetchPartitionResult,
    FetchRequest,
    IsolationLevel,
    ProducePartitionResult,
    ProduceRequest,
)
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import LeaderEpoch, NodeId, Offset, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Services, Stream, TransportError
from glasslog.v1 import broker_pb2 as pb

from tests.unit.quotas.client_limits import quotas

MAX_IN_FLIGHT = 4


class FakeReplicas:
    """Appends at once, acknowledges when told; fetches end when told."""

    def __init__(self) -> None:
        self.appended: list[bytes] = []
        self.produced: list[ProduceRequest] = []
        self.fetched: list[FetchRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.in_flight = 0
        self.most_in_flight = 0
        self.dropped = 0

    async def produce(self, request: ProduceRequest) -> tuple[ProducePartitionResult, ...]:
        self.produced.append(request)
        self.appended += [bytes(each.records) for each in request.partitions]
        await self._wait()
        return tuple(
            ProducePartitionResult(partition=each.partition, base_offset=Offset(len(self.appended) - 1))
            for each in request.partitions
        )

    async def fetch(self, request: FetchRequest) -> tuple[FetchPartitionResult, ...]:
        self.fetched.append(request)
        await self._wait()
        return tuple(
            FetchPartitionResult(
                partition=each.partition, records=memoryview(b"batch"), high_watermark=Offset(7)
            )
            for each in request.partitions
        )

    async def _wait(self) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        finally:
            self.in_flight -= 1


class Client:
    """One end of a stream, with its replies collected."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def produce(
        self, correlation_id: int, *, records: bytes = b"x", acks: int = -1, topic: str = "t"
    ) -> None:
        message = pb.ProduceRequest(correlation_id=correlation_id, acks=acks, timeout_ms=1_000)
        message.partitions.add(topic=topic, partition=0, records=records)
        await self.stream.send(message.SerializeToString())

    async def fetch(self, correlation_id: int) -> None:
        message = pb.FetchRequest(
            correlation_id=correlation_id, max_wait_ms=500, min_bytes=1, max_bytes=1 << 30
        )
        message.partitions.add(
            topic="t", partition=0, fetch_offset=3, current_leader_epoch=-1, max_bytes=1 << 20
        )
        await self.stream.send(message.SerializeToString())

    async def produced(self, count: int) -> list[pb.ProduceResponse]:
        return [pb.ProduceResponse.FromString(data) for data in await self._take(count)]

    async def fetched(self, count: int) -> list[pb.FetchResponse]:
        return [pb.FetchResponse.FromString(data) for data in await self._take(count)]

    async def _take(self, count: int) -> list[bytes]:
        answers = aiter(self.stream)
        async with asyncio.timeout(5):
            return [await anext(answers) for _ in range(count)]


def unmuted(delay_ms: int) -> None:
    raise AssertionError(f"held back for {delay_ms} ms")


Scenario = Callable[[FakeReplicas, Client], Awaitable[None]]


def serve(name: str, scenario: Scenario) -> list[InvariantViolation]:
    """Run ``scenario`` against a broker's stream ``name``; returns what was reported as fatal."""
    fatal: list[InvariantViolation] = []

    async def main() -> None:
        world = MemoryWorld()
        replicas = FakeReplicas()
        handlers = DataHandlers(replicas, quotas=quotas(), fetch_max_bytes=1 << 20)
        services = Services(
            streams={
                BROKER_SERVICE + "Produce": stream(
                    pb.ProduceRequest, handlers.produce, fatal.append, max_in_flight=MAX_IN_FLIGHT
                ),
                BROKER_SERVICE + "Fetch": stream(
                    pb.FetchRequest, handlers.fetch, fatal.append, max_in_flight=MAX_IN_FLIGHT
                ),
            }
        )
        await world.runtime("b1").transport.listen("b1:9192", services)
        channel = world.runtime("client").transport.dial("b1:9192")
        await scenario(replicas, Client(channel.stream(BROKER_SERVICE + name)))

    run_virtual(main)
    return fatal


def test_requests_of_one_stream_are_appended_in_their_order() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        for number in range(20):
            await client.produce(number, records=b"%d" % number)
        answers = await client.produced(20)
        assert replicas.appended == [b"%d" % number for number in range(20)]
        assert [answer.correlation_id for answer in answers] == list(range(20))
        assert answers[3].partitions[0].error_code == 0

    serve("Produce", scenario)


def test_what_is_unanswered_is_bounded() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        replicas.gate.clear()
        for number in range(10):
            await client.produce(number)
        await asyncio.sleep(1)
        assert len(replicas.produced) == MAX_IN_FLIGHT
        replicas.gate.set()
        await client.produced(10)
        assert replicas.most_in_flight == MAX_IN_FLIGHT

    serve("Produce", scenario)


def test_a_late_answer_does_not_hold_up_others() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        replicas.gate.clear()
        await client.produce(1)
        await asyncio.sleep(0.1)
        late, replicas.gate = replicas.gate, asyncio.Event()
        replicas.gate.set()
        await client.produce(2)
        assert [answer.correlation_id for answer in await client.produced(1)] == [2]
        late.set()
        assert [answer.correlation_id for answer in await client.produced(1)] == [1]

    serve("Produce", scenario)


def test_without_acks_there_is_no_answer() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        await client.produce(1, acks=0)
        await client.produce(2, acks=1)
        assert [answer.correlation_id for answer in await client.produced(1)] == [2]
        assert len(replicas.appended) == 2

    serve("Produce", scenario)


def test_closing_ones_side_waits_for_the_answers() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        await client.produce(1)
        await client.produce(2)
        assert len(await client.produced(2)) == 2

    serve("Produce", scenario)


def test_pending_fetches_go_when_the_client_goes() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        replicas.gate.clear()
        await client.fetch(1)
        await client.fetch(2)
        await asyncio.sleep(0.1)
        assert replicas.in_flight == 2
        await client.stream.close()
        await asyncio.sleep(0.1)
        assert (replicas.in_flight, replicas.dropped) == (0, 2)

    serve("Fetch", scenario)


def test_a_fetch_carries_its_values_and_its_caps() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        await client.fetch(5)
        (answer,) = await client.fetched(1)
        assert answer.correlation_id == 5
        partition = answer.partitions[0]
        assert (partition.records, partition.high_watermark) == (b"batch", 7)
        (request,) = replicas.fetched
        assert request.max_bytes == 1 << 20, "one answer is capped by the broker's own setting"
        assert request.reader == Consumer(isolation_level=IsolationLevel.READ_UNCOMMITTED)
        assert request.partitions[0].partition == TopicPartition("t", 0)

    serve("Fetch", scenario)


def test_who_is_not_the_leader_says_who_is() -> None:
    async def main() -> None:
        class Elsewhere(FakeReplicas):
            async def produce(self, request: ProduceRequest) -> tuple[ProducePartitionResult, ...]:
                return (
                    ProducePartitionResult(
                        partition=request.partitions[0].partition,
                        error=ErrorCode.NOT_LEADER_OR_FOLLOWER,
                        current_leader_id=NodeId(3),
                        current_leader_epoch=LeaderEpoch(9),
                    ),
                )

        message = pb.ProduceRequest(acks=1)
        message.partitions.add(topic="t", partition=0, records=b"x")
        answer = await DataHandlers(Elsewhere(), quotas=quotas(), fetch_max_bytes=1).produce(message, unmuted)
        assert answer is not None
        partition = answer.partitions[0]
        assert (partition.current_leader_id, partition.current_leader_epoch) == (3, 9)
        assert partition.base_offset == -1

    run_virtual(main)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"acks": 2}, ErrorCode.INVALID_REQUIRED_ACKS),
        ({"timeout_ms": -1}, ErrorCode.INVALID_REQUEST),
        (
            {"partitions": [pb.ProduceRequest.Partition(topic="t"), pb.ProduceRequest.Partition(topic="t")]},
            ErrorCode.INVALID_REQUEST,
        ),
    ],
)
def test_bad_produce_requests_are_refused_partition_by_partition(
    change: dict[str, object], code: ErrorCode
) -> None:
    async def main() -> None:
        replicas = FakeReplicas()
        message = pb.ProduceRequest(correlation_id=4, acks=1, timeout_ms=1)
        message.partitions.add(topic="t", partition=0)
        changed = pb.ProduceRequest(**change)  # type: ignore[arg-type]  # the table's values fit their fields
        if changed.partitions:
            del message.partitions[:]
        message.MergeFrom(changed)
        answer = await DataHandlers(replicas, quotas=quotas(), fetch_max_bytes=1).produce(message, unmuted)
        assert answer is not None
        assert {partition.error_code for partition in answer.partitions} == {code}
        assert answer.partitions[0].error_message
        assert not replicas.produced

    run_virtual(main)


@pytest.mark.parametrize(
    "message",
    [
        pb.FetchRequest(max_wait_ms=-1),
        pb.FetchRequest(isolation_level=2),
        pb.FetchRequest(partitions=[pb.FetchRequest.Partition(max_bytes=-1)]),
        pb.FetchRequest(partitions=[pb.FetchRequest.Partition(topic="t")] * 2),
        pb.FetchRequest(partitions=[pb.FetchRequest.Partition(partition=n) for n in range(20_001)]),
    ],
)
def test_bad_fetch_requests_are_refused_whole(message: pb.FetchRequest) -> None:
    async def main() -> None:
        answer = await DataHandlers(FakeReplicas(), quotas=quotas(), fetch_max_bytes=1).fetch(
            message, unmuted
        )
        assert answer.error_code == ErrorCode.INVALID_REQUEST

    run_virtual(main)


def test_bytes_that_are_no_message_end_the_stream() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        await client.stream.send(b"\xff\xff\xff")
        with pytest.raises(GlasslogError) as caught:
            await client.produced(1)
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    assert serve("Produce", scenario) == []


def test_an_error_of_the_replicas_is_the_answer() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        replicas.error = GlasslogError(ErrorCode.KAFKA_STORAGE_ERROR, "disk full")
        await client.produce(1)
        (answer,) = await client.produced(1)
        partition = answer.partitions[0]
        assert (partition.error_code, partition.error_message) == (
            ErrorCode.KAFKA_STORAGE_ERROR,
            "disk full",
        )

    serve("Produce", scenario)


def test_a_broken_invariant_is_reported() -> None:
    async def scenario(replicas: FakeReplicas, client: Client) -> None:
        replicas.error = InvariantViolation("the log went backwards")
        await client.produce(1)
        with pytest.raises(GlasslogError, match="backwards"):
            await client.produced(1)

    (fatal,) = serve("Produce", scenario)
    assert str(fatal) == "the log went backwards"


def test_a_broken_stream_is_nobodys_fault() -> None:
    async def main() -> None:
        class Broken:
            async def send(self, message: bytes) -> None:
                raise TransportError("the peer is gone")

            async def __aiter__(self):  # type: ignore[no-untyped-def]  # an async generator of bytes
                yield pb.ProduceRequest(acks=1).SerializeToString()
                raise TransportError("the peer is gone")

            async def close(self) -> None: ...

        from glasslog.common.runtime.protocols import Peer

        handlers = DataHandlers(FakeReplicas(), quotas=quotas(), fetch_max_bytes=1)
        fatal: list[InvariantViolation] = []
        handler = stream(pb.ProduceRequest, handlers.produce, fatal.append, max_in_flight=1)
        await handler(Broken(), Peer("client:1"))
        assert fatal == []

    run_virtual(main)
