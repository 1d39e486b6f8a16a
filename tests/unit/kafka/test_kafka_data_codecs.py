"""Produce and Fetch by hand in every version, against kafka-python and kio."""

import importlib
import warnings
from typing import Any

import pytest
from glasslog.broker.kafka import fetch, produce
from glasslog.broker.kafka.codec import MalformedFrame, Reader
from glasslog.broker.kafka.node_addresses import NodeAddress
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.broker.requests import DivergingEpoch, ProducePartitionResult
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import LeaderEpoch, NodeId, Offset, TopicId, TopicPartition

from tests.unit.kafka.kafka_messages import by_kio

TOPIC = TopicId(bytes(range(16)))
TEXT_OF_TOPIC = "00010203-0405-0607-0809-0a0b0c0d0e0f"
NODES = (NodeAddress(3, "host", 9092, "rack"), NodeAddress(4, "other", 1, ""))


def kafka_python(module: str, name: str) -> Any:
    with warnings.catch_warnings():
        # It reads its schemas through an interface of Python's that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(importlib.import_module(f"kafka.protocol.{module}"), name)


def reader(data: bytes) -> Reader:
    return Reader(memoryview(data))


# --- Produce ----------------------------------------------------------------------------------------------


def produce_request(version: int, codec: Any) -> bytes:
    topic = codec.TopicProduceData
    partition = topic.PartitionProduceData
    some = [partition(index=2, records=b"some"), partition(index=0, records=None)]
    message = codec(
        transactional_id=None,
        acks=-1,
        timeout_ms=1500,
        topic_data=[
            topic(name="t", partition_data=some),
            topic(name="u", partition_data=[partition(index=7, records=b"x" * 300)]),
        ],
        version=version,
    )
    return bytes(message.encode())


@pytest.mark.parametrize("version", range(produce.MIN_VERSION, produce.MAX_VERSION + 1))
def test_produce_requests_of_another_codec_are_read(version: int) -> None:
    data = produce_request(version, kafka_python("producer", "ProduceRequest"))
    call = produce.decode_request(reader(data), version)
    assert call.transactional_id is None
    assert (call.request.acks, call.request.timeout_ms) == (-1, 1500)
    assert [(each.partition, bytes(each.records)) for each in call.request.partitions] == [
        (TopicPartition("t", 2), b"some"),
        (TopicPartition("t", 0), b""),
        (TopicPartition("u", 7), b"x" * 300),
    ]
    for length in range(len(data)):
        with pytest.raises(MalformedFrame):
            produce.decode_request(reader(data[:length]), version)


@pytest.mark.parametrize("version", range(3, produce.MAX_VERSION + 1))
def test_produce_answers_are_read_by_another_codec(version: int) -> None:
    results = [
        ProducePartitionResult(
            partition=TopicPartition("t", 1), base_offset=Offset(42), log_start_offset=Offset(7)
        ),
        ProducePartitionResult(
            partition=TopicPartition("t", 0),
            error=ErrorCode.NOT_LEADER_OR_FOLLOWER,
            error_message="elsewhere",
            current_leader_id=NodeId(3),
            current_leader_epoch=LeaderEpoch(9),
        ),
        ProducePartitionResult(partition=TopicPartition("u", 5)),
    ]
    data = bytes(produce.encode_response(results, NODES, version))
    read, again = by_kio(produce.API_KEY, "response", version)(data)
    assert again == data
    text = str(read)
    assert "42" in text
    assert ("elsewhere" in text) == (version >= 8)
    assert ("'host'" in text) == (version >= 10)
    assert "[0, 6, -1" in text


def test_a_long_text_of_an_error_is_cut() -> None:
    """A topic's name of 32,767 bytes came back in a text that no 16-bit length can hold."""
    result = ProducePartitionResult(
        partition=TopicPartition("t", 0),
        error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        error_message="x" * 40_000,
    )
    for version in (8, 9):
        assert len(produce.encode_response([result], (), version)) < 2_000


# --- Fetch ------------------------------------------------------------------------------------------------


def fetch_request(version: int, codec: Any) -> bytes:
    topic = codec.FetchTopic
    name = {"topic_id": TEXT_OF_TOPIC} if version >= 13 else {"topic": "t"}
    asks = [
        topic.FetchPartition(
            partition=index,
            current_leader_epoch=3,
            fetch_offset=42 + index,
            last_fetched_epoch=2,
            log_start_offset=7,
            partition_max_bytes=1024,
        )
        for index in (0, 5)
    ]
    message = codec(
        replica_id=-1,
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=9999,
        isolation_level=1,
        session_id=12,
        session_epoch=3,
        topics=[topic(partitions=asks, **name)],
        forgotten_topics_data=[codec.ForgottenTopic(partitions=[8, 9], **name)],
        rack_id="r1",
        version=version,
    )
    return bytes(message.encode())


@pytest.mark.parametrize("version", range(fetch.MIN_VERSION, fetch.MAX_VERSION + 1))
def test_fetch_requests_of_another_codec_are_read(version: int) -> None:
    data = fetch_request(version, kafka_python("consumer.fetch", "FetchRequest"))
    topic: TopicId | str = TOPIC if version >= 13 else "t"
    call = fetch.decode_request(reader(data), version)
    epoch, last = (3 if version >= 9 else -1), (2 if version >= 12 else -1)
    start = 7 if version >= 5 else -1
    assert call.asks == {
        (topic, index): PartitionAsk(42 + index, 1024, epoch, last, start) for index in (0, 5)
    }
    assert (call.max_wait_ms, call.min_bytes, call.max_bytes, call.isolation_level) == (500, 1, 9999, 1)
    assert (call.session_id, call.session_epoch) == ((12, 3) if version >= 7 else (0, -1))
    assert call.forgotten == ([(topic, 8), (topic, 9)] if version >= 7 else [])
    assert call.rack == ("r1" if version >= 11 else "")
    for length in range(len(data)):
        with pytest.raises(MalformedFrame):
            fetch.decode_request(reader(data[:length]), version)


@pytest.mark.parametrize("version", range(fetch.MIN_VERSION, fetch.MAX_VERSION + 1))
def test_fetch_answers_are_read_by_another_codec(version: int) -> None:
    topic: TopicId | str = TOPIC if version >= 13 else "t"
    keys: list[PartitionKey] = [(topic, index) for index in range(3)]
    answer = fetch.FetchAnswer(
        ErrorCode.NONE,
        5,
        [
            fetch.PartitionAnswer(keys[0], 0, 43, 42, 7, records=b"records"),
            fetch.PartitionAnswer(
                keys[1], 0, 9, 9, 0, DivergingEpoch(epoch=LeaderEpoch(2), end_offset=Offset(8))
            ),
            fetch.PartitionAnswer(keys[2], 6, leader_id=3, leader_epoch=4, preferred_read_replica=2),
        ],
        nodes=NODES,
    )
    data = b"".join(fetch.encode_response(answer, version))
    decoded = kafka_python("consumer.fetch", "FetchResponse").decode(data, version=version)
    assert bytes(decoded.encode()) == data
    fields = decoded.to_dict()
    partitions = fields["responses"][0]["partitions"]
    assert [each["partition_index"] for each in partitions] == [0, 1, 2]
    assert [each["error_code"] for each in partitions] == [0, 0, 6]
    assert [each["high_watermark"] for each in partitions] == [43, 9, -1]
    assert [each["last_stable_offset"] for each in partitions] == [42, 9, -1]
    assert decoded.responses[0].partitions[0].records == b"records"
    if version >= 5:
        assert [each["log_start_offset"] for each in partitions] == [7, 0, -1]
    if version >= 7:
        assert fields["session_id"] == 5
    if version >= 11:
        assert partitions[2]["preferred_read_replica"] == 2
    if version >= 12:
        assert partitions[1]["diverging_epoch"]["end_offset"] == 8
        assert partitions[2]["current_leader"]["leader_id"] == 3
    if version >= 16:
        assert [node["host"] for node in fields["node_endpoints"]] == ["host", "other"]
