"""The hand-written Fetch against golden bytes, kafka-python's codec, itself, and hostile bytes."""

import pytest
from glasslog.broker.kafka.codec import MalformedFrame, Reader, unsigned_varint
from glasslog.broker.kafka.fetch import (
    VERSION,
    FetchAnswer,
    FetchCall,
    PartitionAnswer,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.requests import AbortedRange, DivergingEpoch
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, Offset, TopicId
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.replication.kafka_oracle import FETCH_REQUEST, FETCH_RESPONSE

TOPIC = TopicId(bytes(range(16)))
TEXT_OF_TOPIC = "00010203-0405-0607-0809-0a0b0c0d0e0f"
OTHER = TopicId(bytes(range(16, 32)))


def reader(data: bytes) -> Reader:
    return Reader(memoryview(data))


def call() -> FetchCall:
    return FetchCall(
        replica_id=NodeId(2),
        broker_epoch=BrokerEpoch(77),
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=10_485_760,
        session_id=5,
        session_epoch=6,
        asks={(TOPIC, 0): PartitionAsk(42, 1_048_576, 3, 2, 7), (OTHER, 9): PartitionAsk(0, 1, -1, -1, 0)},
        forgotten=[(TOPIC, 1), (TOPIC, 2)],
        rack="r1",
    )


def answer() -> FetchAnswer:
    return FetchAnswer(
        ErrorCode.NONE,
        5,
        [
            PartitionAnswer((TOPIC, 0), 0, 43, 43, 7, records=b"records"),
            PartitionAnswer(
                (TOPIC, 1), 0, 9, 9, 0, DivergingEpoch(epoch=LeaderEpoch(2), end_offset=Offset(8))
            ),
            PartitionAnswer((OTHER, 2), 6, leader_id=3, leader_epoch=4),
        ],
    )


def encoded(response: FetchAnswer) -> bytes:
    return b"".join(encode_response(response))


def test_a_request_has_kafkas_bytes() -> None:
    small = FetchCall(
        replica_id=NodeId(2),
        broker_epoch=BrokerEpoch(77),
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=1024,
        session_id=5,
        session_epoch=6,
        asks={(TOPIC, 1): PartitionAsk(42, 512, 3, 2, 7)},
    )
    assert encode_request(small) == bytes.fromhex(
        "000001f4"
        "00000001"
        "00000400"
        "00"
        "00000005"
        "00000006"
        "02"
        "000102030405060708090a0b0c0d0e0f"
        "02"
        "00000001"
        "00000003"
        "000000000000002a"
        "00000002"
        "0000000000000007"
        "00000200"
        "00"
        "00"
        "01"
        "01"
        "01"
        "01"
        "0d"
        "00000002"
        "000000000000004d"
        "00"
    )


def test_a_response_has_kafkas_bytes() -> None:
    small = FetchAnswer(ErrorCode.NONE, 5, [PartitionAnswer((TOPIC, 1), 0, 43, 43, 7, records=b"abc")])
    assert encoded(small) == bytes.fromhex(
        "00000000"
        "0000"
        "00000005"
        "02"
        "000102030405060708090a0b0c0d0e0f"
        "02"
        "00000001"
        "0000"
        "000000000000002b"
        "000000000000002b"
        "0000000000000007"
        "00"
        "ffffffff"
        "04"
        "616263"
        "00"
        "00"
        "00"
    )


@pytest.mark.parametrize("version", [4, 11, VERSION])
def test_consumers_of_committed_records_are_told_what_was_aborted(version: int) -> None:
    aborted = (AbortedRange(producer_id=7, first_offset=40), AbortedRange(producer_id=9, first_offset=41))
    key = (TOPIC, 1) if version >= VERSION else ("t", 1)
    answered = PartitionAnswer(key, 0, 43, 42, 7, records=b"abc", aborted_transactions=aborted)
    data = b"".join(map(bytes, encode_response(FetchAnswer(ErrorCode.NONE, 5, [answered]), version)))
    decoded = str(FETCH_RESPONSE.decode(data, version=version).to_dict())
    for each in aborted:
        assert f"'producer_id': {each.producer_id}, 'first_offset': {each.first_offset}" in decoded
    if version == VERSION:
        assert decode_response(reader(data)).partitions[0].records == b"abc"


def test_requests_and_responses_survive_the_wire() -> None:
    assert decode_request(reader(encode_request(call()))) == call()
    decoded = decode_response(reader(encoded(answer())))
    assert [each._replace(records=bytes(each.records)) for each in decoded.partitions] == answer().partitions
    assert decoded[:2] == answer()[:2]


def test_kafka_python_reads_and_writes_the_same() -> None:
    """An independent implementation decodes our bytes to the same fields, and encodes those to our bytes."""
    request = FETCH_REQUEST.decode(encode_request(call()), version=VERSION)
    fields = request.to_dict()
    assert fields["replica_state"] == {"replica_id": 2, "replica_epoch": 77}
    assert (fields["session_id"], fields["session_epoch"], fields["rack_id"]) == (5, 6, "r1")
    assert fields["forgotten_topics_data"] == [{"topic_id": TEXT_OF_TOPIC, "partitions": [1, 2]}]
    assert bytes(request.encode()) == encode_request(call())
    response = FETCH_RESPONSE.decode(encoded(answer()), version=VERSION)
    text = str(response.to_dict())
    assert "'diverging_epoch': {'epoch': 2, 'end_offset': 8}" in text
    assert "'current_leader': {'leader_id': 3, 'leader_epoch': 4}" in text
    assert bytes(response.encode()) == encoded(answer())


def test_records_are_not_copied_into_the_answer() -> None:
    records = memoryview(bytearray(1000))
    response = FetchAnswer(ErrorCode.NONE, 0, [PartitionAnswer((TOPIC, 0), 0, records=records)])
    assert any(part is records for part in encode_response(response))


@pytest.mark.parametrize("direction", ["request", "response"])
def test_every_truncation_is_a_clear_error(direction: str) -> None:
    whole = encode_request(call()) if direction == "request" else encoded(answer())
    decode = decode_request if direction == "request" else decode_response
    for length in range(len(whole)):
        with pytest.raises(MalformedFrame):
            decode(reader(whole[:length]))


@given(st.binary(max_size=200))
def test_noise_is_a_clear_error(data: bytes) -> None:
    for decode in (decode_request, decode_response):
        try:
            decode(reader(data))
        except MalformedFrame:
            continue


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_decoded_or_refused(position: int, value: int) -> None:
    for whole, decode in ((encode_request(call()), decode_request), (encoded(answer()), decode_response)):
        changed = bytearray(whole)
        changed[position % len(changed)] = value
        try:
            decode(reader(bytes(changed)))
        except MalformedFrame:
            continue


def test_an_array_of_billions_allocates_nothing() -> None:
    head = encode_request(call())[:21]
    with pytest.raises(MalformedFrame, match="can not fit"):
        decode_request(reader(head + unsigned_varint(2**32 - 1) + bytes(100)))


def test_tagged_fields_of_newer_versions_are_passed_over() -> None:
    data = encode_request(call())[:-1]
    # Three tagged fields instead of one: those of this version, and two that it does not know.
    at = data.rindex(b"\x01\x01\x0d")
    newer = data[:at] + b"\x03" + data[at + 1 :] + b"\x00" + b"\x05\x02ab" + b"\x63\x00"
    assert decode_request(reader(newer)) == call()
