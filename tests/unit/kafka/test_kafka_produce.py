"""What of a Produce request the Kafka listener refuses before anything is appended, and what it answers."""

import asyncio
import struct

import pytest
from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.listener import KafkaListener
from glasslog.broker.kafka.produce import API_KEY, MAX_VERSION
from glasslog.broker.kafka.produce_api import ProduceApi
from glasslog.broker.produce_path import OnProduced, ProducePath
from glasslog.broker.requests import ProducePartitionResult, ProduceRequest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import memory_runtime
from glasslog.log.records import encode_batch
from glasslog.metadata.image import EMPTY_IMAGE

from tests.unit.kafka.kafka_messages import by_kio
from tests.unit.kafka.test_kafka_data_codecs import kafka_python
from tests.unit.kafka.test_kafka_limits import Client
from tests.unit.quotas.client_limits import quotas

ADDRESS = "localhost:9092"
RECORD = (1_700_000_000_000, None, b"value", ())


class Path(ProducePath):
    """Appends nothing and answers with ``outcome``."""

    def __init__(self, outcome: ErrorCode = ErrorCode.NONE) -> None:
        self.asked: list[ProduceRequest] = []
        self.appended: list[bytes] = []
        self._outcome = outcome

    def start(self, request: ProduceRequest, on_done: OnProduced, *, origin_is_client: bool = True) -> None:
        self.asked.append(request)
        self.appended += [bytes(each.records) for each in request.partitions]
        results = (
            ProducePartitionResult(partition=each.partition, error=self._outcome, base_offset=Offset(5))
            for each in request.partitions
        )
        on_done(tuple(results))


class Keeper(Client):
    """Keeps its last answer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = b""
        self.was_closed = False
        """By the broker, before this end did it."""

    def on_frame(self, frame: memoryview) -> None:
        super().on_frame(frame)
        self.last = bytes(frame)


def produced(
    path: Path, version: int, *records: bytes, acks: int = -1, transactional_id: str | None = None
) -> Keeper:
    """What a client sees that sends one request, each of ``records`` to a partition."""
    codec = kafka_python("producer", "ProduceRequest")
    topic = codec.TopicProduceData
    partitions = [topic.PartitionProduceData(index=index, records=each) for index, each in enumerate(records)]
    message = codec(
        transactional_id=transactional_id,
        acks=acks,
        timeout_ms=1_000,
        topic_data=[topic(name="t", partition_data=partitions)],
        version=version,
    )
    head = encode_request_header(API_KEY, version, correlation_id=1, client_id="test")
    frame = (head if version >= 9 else head[:-1]) + bytes(message.encode())
    client = Keeper()

    async def main() -> None:
        runtime = memory_runtime()
        apis: tuple[Api, ...] = (ProduceApi(path, lambda: EMPTY_IMAGE, quotas()).api(),)
        listener = KafkaListener(transport=runtime.transport, apis=apis, max_request_bytes=1 << 20)
        await listener.start(ADDRESS)
        connection = await runtime.transport.dial_frames(
            ADDRESS, client, timeout_ms=1_000, max_frame_bytes=1 << 20
        )
        connection.send((frame,))
        await asyncio.sleep(0.1)
        client.was_closed = client.is_closed
        connection.close()
        await listener.close()

    run_virtual(main, timeout_ms=60_000)
    return client


def error_of(client: Keeper, version: int) -> object:
    """Of the only partition."""
    body = client.last[5 if version >= 9 else 4 :]
    if version < 3:
        # What kio does not know any more: topics, name, partitions, partition, error.
        reader = Reader(memoryview(body))
        assert (reader.int32(), reader.string(), reader.int32(), reader.int32()) == (1, "t", 1, 0)
        return reader.int16()
    (values, _) = by_kio(API_KEY, "response", version)(body)
    assert isinstance(values, list)
    return values[0][0][1][0][1]


BATCH = bytes(encode_batch([RECORD]))
TRANSACTIONAL = BATCH[:22] + bytes([BATCH[22] | 0x10]) + BATCH[23:]


@pytest.mark.parametrize("version", range(3, MAX_VERSION + 1))
def test_what_is_sound_is_produced(version: int) -> None:
    path = Path()
    assert error_of(produced(path, version, BATCH), version) == 0
    assert len(path.asked) == 1


@pytest.mark.parametrize("version", [0, 1, 2])
def test_versions_of_old_record_formats_are_refused_in_their_own_layout(version: int) -> None:
    path = Path()
    client = produced(path, version, BATCH)
    assert error_of(client, version) == ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
    assert path.asked == []


def test_records_of_an_old_format_are_refused() -> None:
    path = Path()
    old = struct.pack(">qiib", 0, 14, 0, 1) + bytes(9)
    assert error_of(produced(path, 9, old), 9) == ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
    assert path.appended == []


def test_a_transaction_that_nobody_would_decide_is_not_begun() -> None:
    """Its first record would have held back every reader of committed records for ever."""
    path = Path()
    assert error_of(produced(path, 9, TRANSACTIONAL), 9) == ErrorCode.INVALID_TXN_STATE
    assert path.appended == []


@pytest.mark.parametrize("records", [b"", BATCH[:22], BATCH + BATCH, BATCH + TRANSACTIONAL, BATCH + b"x"])
def test_a_partition_brings_one_batch(records: bytes) -> None:
    """Several were appended, where Kafka has refused them since 0.11."""
    path = Path()
    assert error_of(produced(path, 9, records), 9) == ErrorCode.INVALID_RECORD
    assert path.appended == []


@pytest.mark.parametrize(
    ("version", "outcome"), [(6, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE), (7, ErrorCode.NONE)]
)
def test_zstd_came_with_version_7(version: int, outcome: ErrorCode) -> None:
    zstd = BATCH[:22] + b"\x04" + BATCH[23:]
    assert error_of(produced(Path(), version, zstd), version) == outcome


def test_what_is_unsound_does_not_take_the_rest_of_its_request_along() -> None:
    """One partition's old records had all partitions of the request refused."""
    path = Path()
    client = produced(path, 9, BATCH + BATCH, BATCH, TRANSACTIONAL)
    (values, _) = by_kio(API_KEY, "response", 9)(client.last[5:])
    assert isinstance(values, list)
    codes = [partition[:2] for partition in values[0][0][1]]
    assert codes == [[0, ErrorCode.INVALID_RECORD], [1, 0], [2, ErrorCode.INVALID_TXN_STATE]]
    assert path.appended == [BATCH]


def test_a_transactional_id_is_refused() -> None:
    path = Path()
    client = produced(path, 9, BATCH, transactional_id="mine")
    assert error_of(client, 9) == ErrorCode.INVALID_TXN_STATE
    assert path.asked == []


def test_acks_0_has_no_answer_and_a_failure_closes_the_connection() -> None:
    client = produced(Path(), 9, BATCH, acks=0)
    assert (client.answers, client.was_closed) == (0, False)
    client = produced(Path(ErrorCode.NOT_LEADER_OR_FOLLOWER), 9, BATCH, acks=0)
    assert (client.answers, client.was_closed) == (0, True)
