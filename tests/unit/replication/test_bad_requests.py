"""Requests that are wrong, by Kafka's listener and by gRPC: each gets Kafka's code and leaves no trace."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest
from glasslog.broker.grpc.data import DataHandlers
from glasslog.broker.kafka.codec import Reader, compact_string, unsigned_varint
from glasslog.broker.kafka.fetch import API_KEY as FETCH
from glasslog.broker.kafka.fetch import VERSION as FETCH_VERSION
from glasslog.broker.kafka.fetch import FetchAnswer, FetchCall, decode_response, encode_request
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.produce import API_KEY as PRODUCE
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_BROKER_EPOCH, NO_NODE, BrokerEpoch, NodeId, TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.records import encode_batch
from glasslog.v1 import broker_pb2 as pb

from tests.unit.kafka.kafka_messages import by_kio
from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, batch
from tests.unit.replication.test_kafka_listener import Client

MAX_MESSAGE_BYTES = 300
_PRODUCE_VERSION = 9
_ANSWERED_WITHIN_S = 1.0
_RECORD = (1_000, None, b"value", ())


def changed(records: bytes, position: int, byte: int) -> bytes:
    return records[:position] + bytes([byte]) + records[position + 1 :]


SOUND = bytes(batch("a"))


class Produced(NamedTuple):
    """What is sent, and the code that it gets."""

    name: str
    records: bytes
    code: ErrorCode
    topic: str = "t"
    partition: int = 0
    broker: int = 1
    acks: int = -1


PRODUCED = (
    Produced("corrupt batch", changed(SOUND, len(SOUND) - 1, 7), ErrorCode.CORRUPT_MESSAGE),
    Produced("torn batch", SOUND[:-3], ErrorCode.CORRUPT_MESSAGE),
    Produced("oversize batch", bytes(batch("a" * MAX_MESSAGE_BYTES)), ErrorCode.MESSAGE_TOO_LARGE),
    Produced("wrong magic", changed(SOUND, 16, 1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
    Produced("control batch", bytes(encode_batch([_RECORD], control=True)), ErrorCode.INVALID_RECORD),
    Produced(
        "transaction",
        bytes(encode_batch([_RECORD], transactional=True, producer_id=5, producer_epoch=0, base_sequence=0)),
        ErrorCode.INVALID_TXN_STATE,
    ),
    Produced("unknown topic", SOUND, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic="nobody's"),
    Produced("unknown partition", SOUND, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, partition=7),
    Produced("not the leader", SOUND, ErrorCode.NOT_LEADER_OR_FOLLOWER, broker=2),
    Produced("senseless acks", SOUND, ErrorCode.INVALID_REQUIRED_ACKS, acks=2),
)


class Fetched(NamedTuple):
    """What is asked for, and the code that it gets; of ``t-0`` by its leader in epoch 1 otherwise."""

    name: str
    code: ErrorCode
    offset: int = 0
    leader_epoch: int = -1
    topic_id: TopicId = TOPIC_ID
    partition: int = 0
    broker: int = 1


FETCHED = (
    Fetched("older leader epoch", ErrorCode.FENCED_LEADER_EPOCH, leader_epoch=0),
    Fetched("leader epoch to come", ErrorCode.UNKNOWN_LEADER_EPOCH, leader_epoch=7),
    Fetched("unknown topic", ErrorCode.UNKNOWN_TOPIC_ID, topic_id=TopicId(b"of-nobody-at-all")),
    Fetched("unknown partition", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, partition=7),
    Fetched("not the leader", ErrorCode.NOT_LEADER_OR_FOLLOWER, broker=2),
    Fetched("offset above the end", ErrorCode.OFFSET_OUT_OF_RANGE, offset=1),
    Fetched("offset below the start", ErrorCode.OFFSET_OUT_OF_RANGE, offset=-1),
)


def names(rows: tuple[Produced, ...] | tuple[Fetched, ...]) -> Iterator[str]:
    return (row.name for row in rows)


def play(story: Callable[[ReplicaCluster], Awaitable[None]]) -> None:
    """On three replicas in leader epoch 1; nothing must be in any of their logs afterwards."""

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        for node_id in (1, 2, 3):
            await cluster.start(node_id)
        cluster.create(replicas=(1, 2, 3), max_message_bytes=str(MAX_MESSAGE_BYTES))
        cluster.elect(1, (1, 2, 3))
        await story(cluster)
        await asyncio.sleep(_ANSWERED_WITHIN_S)
        assert [cluster.log_bytes(node_id) for node_id in (1, 2, 3)] == [b"", b"", b""]
        # It goes on as if nothing had been.
        assert (await cluster.produced(1, batch("good"))).error is ErrorCode.NONE
        await cluster.stop_all()
        assert cluster.fatal == []

    run_virtual(main, timeout_ms=60_000)


async def asked(cluster: ReplicaCluster, broker: int, api: int, version: int, body: bytes) -> bytes:
    """The answer to one request of the Kafka listener, after its header."""
    client = Client()
    transport = cluster.world.runtime("client").transport
    connection = await transport.dial_frames(
        f"b{broker}:9092", client, timeout_ms=1_000, max_frame_bytes=1 << 20
    )
    connection.send((encode_request_header(api, version, correlation_id=1, client_id="test"), body))
    await asyncio.sleep(_ANSWERED_WITHIN_S)
    connection.close()
    (frame,) = client.frames
    return frame[5:]


async def fetched(cluster: ReplicaCluster, broker: int, call: FetchCall) -> FetchAnswer:
    body = await asked(cluster, broker, FETCH, FETCH_VERSION, encode_request(call))
    return decode_response(Reader(memoryview(body)))


def call(row: Fetched, *, replica: int = NO_NODE, broker_epoch: int = NO_BROKER_EPOCH) -> FetchCall:
    return FetchCall(
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=1 << 20,
        session_id=0,
        session_epoch=-1,
        replica_id=NodeId(replica),
        broker_epoch=BrokerEpoch(broker_epoch),
        asks={(row.topic_id, row.partition): PartitionAsk(row.offset, 1 << 20, row.leader_epoch, -1, 0)},
    )


@pytest.mark.parametrize("row", PRODUCED, ids=names(PRODUCED))
def test_a_bad_kafka_produce(row: Produced) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        body = b"\0" + struct.pack(">hi", row.acks, 1_000) + b"\2" + compact_string(row.topic) + b"\2"
        body += struct.pack(">i", row.partition) + unsigned_varint(len(row.records) + 1) + row.records
        data = await asked(cluster, row.broker, PRODUCE, _PRODUCE_VERSION, body + bytes(3))
        (values, _) = by_kio(PRODUCE, "response", _PRODUCE_VERSION)(data)
        assert isinstance(values, list)
        assert values[0][0][1][0][1] == row.code

    play(story)


@pytest.mark.parametrize("row", PRODUCED, ids=names(PRODUCED))
def test_a_bad_produce_by_grpc(row: Produced) -> None:
    """Transactions were taken once, and held back every reader of committed records for ever."""

    async def story(cluster: ReplicaCluster) -> None:
        message = pb.ProduceRequest(correlation_id=1, acks=row.acks, timeout_ms=1_000)
        message.partitions.add(topic=row.topic, partition=row.partition, records=row.records)
        answer = await handlers(cluster, row.broker).produce(message, unmuted)
        assert answer is not None
        (partition,) = answer.partitions
        assert partition.error_code == row.code
        assert partition.error_message

    play(story)


@pytest.mark.parametrize("row", FETCHED, ids=names(FETCHED))
def test_a_bad_kafka_fetch(row: Fetched) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        (partition,) = (await fetched(cluster, row.broker, call(row))).partitions
        assert partition.error == row.code
        assert not partition.records

    play(story)


@pytest.mark.parametrize("row", FETCHED, ids=names(FETCHED))
def test_a_bad_fetch_by_grpc(row: Fetched) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        message = pb.FetchRequest(correlation_id=1, max_bytes=1 << 20)
        message.partitions.add(
            topic="t" if row.topic_id == TOPIC_ID else "nobody's",
            partition=row.partition,
            fetch_offset=row.offset,
            current_leader_epoch=row.leader_epoch,
            max_bytes=1 << 20,
        )
        (partition,) = (await handlers(cluster, row.broker).fetch(message, unmuted)).partitions
        by_name = {ErrorCode.UNKNOWN_TOPIC_ID: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert partition.error_code == by_name.get(row.code, row.code)

    play(story)


@pytest.mark.parametrize(
    ("replica", "broker_epoch", "code"),
    [(2, 0, ErrorCode.STALE_BROKER_EPOCH), (9, 1, ErrorCode.BROKER_ID_NOT_REGISTERED)],
)
def test_a_fetch_of_no_replica_that_is(replica: int, broker_epoch: int, code: ErrorCode) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        sound = Fetched("sound", ErrorCode.NONE)
        answer = await fetched(cluster, 1, call(sound, replica=replica, broker_epoch=broker_epoch))
        assert answer.error is code

    play(story)


def test_what_is_bad_does_not_take_the_rest_of_a_grpc_request_along() -> None:
    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7))
        await cluster.start(1)
        cluster.create(replicas=(1,), partitions=3)
        bad = next(row for row in PRODUCED if row.name == "transaction")
        message = pb.ProduceRequest(correlation_id=1, acks=1, timeout_ms=1_000)
        for number, records in enumerate((SOUND, bad.records, SOUND)):
            message.partitions.add(topic="t", partition=number, records=records)
        answer = await handlers(cluster, 1).produce(message, unmuted)
        assert answer is not None
        assert [(each.partition, each.error_code) for each in answer.partitions] == [
            (0, 0),
            (1, bad.code),
            (2, 0),
        ]
        await cluster.stop_all()

    run_virtual(main, timeout_ms=60_000)


def handlers(cluster: ReplicaCluster, broker: int) -> DataHandlers:
    manager = cluster.nodes[broker].manager
    return DataHandlers(manager, quotas=manager.quotas, fetch_max_bytes=1 << 20)


def unmuted(delay_ms: int) -> None:
    raise AssertionError(f"held back for {delay_ms} ms")
