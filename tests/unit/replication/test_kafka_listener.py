"""The Kafka listener: what it says it serves, in which order it answers, what it bears from clients."""

import asyncio
from collections.abc import Awaitable, Callable

from glasslog.broker.kafka.codec import INT32, Reader
from glasslog.broker.kafka.connection import MAX_IN_FLIGHT_REQUESTS, Api, RequestCall
from glasslog.broker.kafka.fetch import (
    API_KEY,
    VERSION,
    FetchAnswer,
    FetchCall,
    PartitionAnswer,
    decode_response,
    encode_request,
)
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.listener import KafkaListener
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld, memory_runtime
from glasslog.common.runtime.protocols import Buffer, FrameConnection

from tests.unit.replication.kafka_oracle import API_VERSIONS_RESPONSE
from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, batch, until

ADDRESS = "localhost:9092"


class Client:
    """Keeps the frames it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_closed = False

    def on_frame(self, frame: memoryview) -> None:
        self.frames.append(bytes(frame))

    def on_closed(self, error: Exception | None) -> None:
        self.is_closed = True

    def numbers(self) -> list[int]:
        return [INT32.unpack_from(frame)[0] for frame in self.frames]


class Waiting:
    """An API whose requests wait until they are hurried."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []
        self.calls: list[RequestCall] = []

    def handle(self, call: RequestCall) -> None:
        self.calls.append(call)
        call.hurry = lambda: call.respond((b"hurried",), has_flexible_header=False)
        call.cancel = lambda: self.cancelled.append(call.header.correlation_id)


def api(key: int, handle: Callable[[RequestCall], None]) -> Api:
    return Api(key=key, name="Test", min_version=0, max_version=1, flexible_from=1, handle=handle)


def header(key: int, version: int, number: int) -> bytes:
    return encode_request_header(key, version, correlation_id=number, client_id="test")


def talk(story: Callable[[FrameConnection, Client], Awaitable[None]], *apis: Api) -> None:
    async def main() -> None:
        runtime = memory_runtime()
        listener = KafkaListener(transport=runtime.transport, apis=apis, max_request_bytes=1 << 20)
        await listener.start(ADDRESS)
        client = Client()
        connection = await runtime.transport.dial_frames(
            ADDRESS, client, timeout_ms=1_000, max_frame_bytes=1 << 20
        )
        await story(connection, client)
        connection.close()
        await listener.close()

    run_virtual(main, timeout_ms=60_000)


def test_api_versions_tells_what_is_served() -> None:
    async def story(connection: FrameConnection, client: Client) -> None:
        for version in (0, 2, 3, 4):
            connection.send((header(18, version, version),))
        await asyncio.sleep(0.1)
        assert client.numbers() == [0, 2, 3, 4]
        for version, frame in zip((0, 2, 3, 4), client.frames, strict=True):
            answer = API_VERSIONS_RESPONSE.decode(frame[4:], version=version).to_dict()
            assert (answer["error_code"], answer["api_keys"]) == (
                0,
                [
                    {"api_key": 7, "min_version": 0, "max_version": 1},
                    {"api_key": 18, "min_version": 0, "max_version": 4},
                ],
            )

    talk(story, api(7, lambda call: None))


def test_a_version_of_api_versions_from_the_future_is_answered_in_version_0() -> None:
    async def story(connection: FrameConnection, client: Client) -> None:
        connection.send((header(18, 99, 1),))
        await asyncio.sleep(0.1)
        answer = API_VERSIONS_RESPONSE.decode(client.frames[0][4:], version=0).to_dict()
        assert answer == {
            "error_code": ErrorCode.UNSUPPORTED_VERSION,
            "api_keys": [{"api_key": 18, "min_version": 0, "max_version": 4}],
        }

    talk(story)


def test_what_is_not_served_closes_the_connection() -> None:
    for frame in (header(3, 0, 1), header(7, 9, 1), b"\x00", b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):

        async def story(connection: FrameConnection, client: Client, frame: bytes = frame) -> None:
            connection.send((frame,))
            await asyncio.sleep(0.1)
            assert client.is_closed
            assert client.frames == []

        talk(story, api(7, lambda call: None))


def test_answers_keep_the_order_of_requests() -> None:
    waiting = Waiting()

    def at_once(call: RequestCall) -> None:
        call.respond((b"now",), has_flexible_header=False)

    async def story(connection: FrameConnection, client: Client) -> None:
        connection.send((header(7, 0, 1),))
        await asyncio.sleep(0.1)
        assert client.frames == []
        connection.send((header(8, 0, 2),))
        await asyncio.sleep(0.1)
        assert client.numbers() == [1, 2]
        assert client.frames[0].endswith(b"hurried")

    talk(story, api(7, waiting.handle), api(8, at_once))


def test_an_answer_out_of_turn_waits_for_its_turn() -> None:
    calls: list[RequestCall] = []

    async def story(connection: FrameConnection, client: Client) -> None:
        for number in range(3):
            connection.send((header(7, 0, number),))
        await asyncio.sleep(0.1)
        for number in (2, 0, 1):
            calls[number].respond((b"x",), has_flexible_header=True)
        calls[1].respond((b"again",), has_flexible_header=True)
        await asyncio.sleep(0.1)
        assert client.numbers() == [0, 1, 2]

    talk(story, api(7, calls.append))


def test_a_client_that_leaves_cancels_what_waits() -> None:
    waiting = Waiting()

    async def story(connection: FrameConnection, client: Client) -> None:
        connection.send((header(7, 0, 1),))
        await asyncio.sleep(0.1)
        connection.close()
        await asyncio.sleep(0.1)
        assert waiting.cancelled == [1]

    talk(story, api(7, waiting.handle))


def test_requests_in_flight_are_bounded() -> None:
    calls: list[RequestCall] = []

    async def story(connection: FrameConnection, client: Client) -> None:
        for number in range(2 * MAX_IN_FLIGHT_REQUESTS):
            connection.send((header(7, 0, number),))
        await asyncio.sleep(0.1)
        assert len(calls) == MAX_IN_FLIGHT_REQUESTS
        for call in calls:
            call.respond((), has_flexible_header=False)
        await asyncio.sleep(0.1)
        assert len(calls) == 2 * MAX_IN_FLIGHT_REQUESTS

    talk(story, api(7, calls.append))


def test_a_client_that_reads_nothing_gets_no_more_answers() -> None:
    """Answers of a megabyte to a client that does not read: memory must not grow with its requests."""
    calls: list[RequestCall] = []
    megabyte: list[Buffer] = [bytes(1 << 20)]

    def handle(call: RequestCall) -> None:
        calls.append(call)
        call.respond(megabyte, has_flexible_header=False)

    async def main() -> None:
        world = MemoryWorld()
        runtime = world.runtime("server")
        listener = KafkaListener(
            transport=runtime.transport, apis=[api(7, handle)], max_request_bytes=1 << 20
        )
        await listener.start("server:9092")
        client = Client()
        connection = await world.runtime("client").transport.dial_frames(
            "server:9092", client, timeout_ms=1_000, max_frame_bytes=1 << 24
        )
        connection.pause_reading()
        for number in range(50):
            connection.send((header(7, 0, number),))
        await asyncio.sleep(1)
        assert len(calls) < 10
        connection.resume_reading()
        await asyncio.sleep(1)
        assert len(calls) == len(client.frames) == 50
        await listener.close()

    run_virtual(main, timeout_ms=60_000)


# --- Fetch ------------------------------------------------------------------------------------------------


def fetch_call(
    *,
    replica_id: int = NO_NODE,
    broker_epoch: int = -1,
    topic_id: TopicId = TOPIC_ID,
    session_id: int = 0,
    session_epoch: int = 0,
    max_wait_ms: int = 0,
    offset: int = 0,
) -> FetchCall:
    return FetchCall(
        replica_id=NodeId(replica_id),
        broker_epoch=BrokerEpoch(broker_epoch),
        max_wait_ms=max_wait_ms,
        min_bytes=1,
        max_bytes=1 << 20,
        session_id=session_id,
        session_epoch=session_epoch,
        asks={(topic_id, 0): PartitionAsk(offset, 1 << 20, -1, -1, 0)},
    )


class FetchClient(Client):
    """Speaks Fetch with one broker of a cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.connection: FrameConnection | None = None

    async def connect(self, cluster: ReplicaCluster, address: str) -> "FetchClient":
        runtime = cluster.world.runtime("outside")
        self.connection = await runtime.transport.dial_frames(
            address, self, timeout_ms=1_000, max_frame_bytes=1 << 24
        )
        return self

    def send(self, call: FetchCall) -> None:
        assert self.connection is not None
        self.number += 1
        self.connection.send((header(API_KEY, VERSION, self.number), encode_request(call)))

    def answers(self) -> list[FetchAnswer]:
        found = []
        for frame in self.frames:
            reader = Reader(memoryview(frame))
            reader.int32()
            reader.skip_tagged_fields()
            found.append(decode_response(reader))
        return found

    async def ask(self, call: FetchCall) -> FetchAnswer:
        count = len(self.frames)
        self.send(call)
        await until(lambda: len(self.frames) > count)
        return self.answers()[-1]


def only(answer: FetchAnswer) -> PartitionAnswer:
    (partition,) = answer.partitions
    return partition


def with_broker(story: Callable[[ReplicaCluster, FetchClient], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld())
        await cluster.start(1)
        cluster.create(replicas=(1,))
        await cluster.produced(1, batch("a"))
        await story(cluster, await FetchClient().connect(cluster, "b1:9092"))
        await cluster.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_a_consumer_may_fetch_by_topic_id() -> None:
    async def story(cluster: ReplicaCluster, client: FetchClient) -> None:
        answer = only(await client.ask(fetch_call()))
        assert (answer.error, answer.high_watermark) == (ErrorCode.NONE, 1)
        assert bytes(answer.records) == cluster.log_bytes(1)
        unknown = only(await client.ask(fetch_call(topic_id=TopicId(bytes(16)))))
        assert unknown.error == ErrorCode.UNKNOWN_TOPIC_ID

    with_broker(story)


def test_only_registered_brokers_in_their_newest_incarnation_fetch_as_replicas() -> None:
    async def story(cluster: ReplicaCluster, client: FetchClient) -> None:
        stranger = await client.ask(fetch_call(replica_id=9, broker_epoch=1))
        assert stranger.error is ErrorCode.BROKER_ID_NOT_REGISTERED
        await cluster.start(2)
        epoch = cluster.nodes[2].broker_epoch
        stale = await client.ask(fetch_call(replica_id=2, broker_epoch=epoch - 1))
        assert stale.error is ErrorCode.STALE_BROKER_EPOCH
        no_replica = only(await client.ask(fetch_call(replica_id=2, broker_epoch=epoch)))
        assert no_replica.error == ErrorCode.UNKNOWN_LEADER_EPOCH
        assert cluster.leader_state(1).followers == {}

    with_broker(story)


def test_an_incremental_answer_tells_only_news() -> None:
    async def story(cluster: ReplicaCluster, client: FetchClient) -> None:
        first = await client.ask(fetch_call(offset=1))
        assert first.session_id > 0
        assert only(first).high_watermark == 1
        second = await client.ask(fetch_call(session_id=first.session_id, session_epoch=1, offset=1))
        assert (second.session_id, second.partitions) == (first.session_id, [])
        wrong = await client.ask(fetch_call(session_id=first.session_id, session_epoch=9))
        assert wrong.error is ErrorCode.INVALID_FETCH_SESSION_EPOCH
        client.send(fetch_call(session_id=first.session_id, session_epoch=2, offset=1, max_wait_ms=60_000))
        await asyncio.sleep(0.05)
        await cluster.produced(1, batch("b"))
        await asyncio.sleep(0.05)
        assert only(client.answers()[-1]).high_watermark == 2

    with_broker(story)


def test_a_second_request_ends_the_wait_of_the_first() -> None:
    async def story(cluster: ReplicaCluster, client: FetchClient) -> None:
        first = await client.ask(fetch_call(offset=1))
        for epoch in (1, 2):
            client.send(
                fetch_call(session_id=first.session_id, session_epoch=epoch, offset=1, max_wait_ms=60_000)
            )
        await asyncio.sleep(0.05)
        assert client.numbers() == [1, 2]
        assert client.answers()[-1].partitions == []
        await cluster.produced(1, batch("b"))
        await asyncio.sleep(0.05)
        assert client.numbers() == [1, 2, 3]
        assert len(only(client.answers()[-1]).records) > 0

    with_broker(story)
