"""Every message in every version: random ones are read and written by two independent codecs as by ours."""

import random
from contextlib import suppress

import pytest
from glasslog.broker.kafka.codec import INT32, MAX_ITEMS_PER_FRAME, MalformedFrame, Reader
from glasslog.broker.kafka.layout import Encoded
from glasslog.broker.kafka.messages import metadata

from tests.unit.kafka.kafka_messages import (
    LAYOUTS,
    UNKNOWN_TO_KAFKA_PYTHON,
    by_kafka_python,
    by_kio,
    ours,
    random_message,
    versions,
)

ALL = list(versions())
ROUNDS = 4


def sample(name: str, side: str, version: int, chance: random.Random) -> tuple[object, bytes]:
    layout = LAYOUTS[name]
    message = random_message(getattr(layout, side), version, chance)
    encode = layout.encode_request if side == "request" else layout.encode_response
    return message, bytes(encode(message, version))


@pytest.mark.parametrize(("name", "side", "version"), ALL, ids=lambda value: str(value))
def test_both_judges_read_what_we_write_and_we_read_it_back(name: str, side: str, version: int) -> None:
    chance = random.Random(f"{name} {side} {version}")
    layout = LAYOUTS[name]
    decode = layout.decode_request if side == "request" else layout.decode_response
    kio = by_kio(layout.key, side, version)
    kafka_python = bytes if name in UNKNOWN_TO_KAFKA_PYTHON else by_kafka_python(name, side, version)
    for _ in range(ROUNDS):
        message, data = sample(name, side, version, chance)
        assert decode(Reader(memoryview(data)), version) == message
        values, encoded = kio(data)
        assert values == ours(message, version)
        assert encoded == data
        assert kafka_python(data) == data


def test_every_api_of_the_list_is_there() -> None:
    assert len(LAYOUTS) >= 24
    assert len({layout.key for layout in LAYOUTS.values()}) == len(LAYOUTS)


@pytest.mark.parametrize(("name", "side", "version"), ALL, ids=lambda value: str(value))
def test_a_message_cut_or_changed_anywhere_is_read_or_refused(name: str, side: str, version: int) -> None:
    chance = random.Random(f"{name} {side} {version} damage")
    layout = LAYOUTS[name]
    decode = layout.decode_request if side == "request" else layout.decode_response
    _, data = sample(name, side, version, chance)
    for _ in range(60):
        damaged = bytearray(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.5 else data)
        for _ in range(chance.randrange(1, 4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        with suppress(MalformedFrame):
            decode(Reader(memoryview(damaged)), version)


def test_an_array_of_billions_is_refused_before_it_is_made() -> None:
    frame = memoryview(INT32.pack(0x7FFF_FFFF) + bytes(64))
    with pytest.raises(MalformedFrame, match="can not fit"):
        metadata.METADATA.decode_request(Reader(frame), 0)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(MalformedFrame, match="can not fit"):
        metadata.METADATA.decode_request(Reader(memoryview(INT32.pack(-7) + bytes(64))), 1)


def test_many_small_items_are_refused_though_they_fit() -> None:
    """A request of 100 MB could hold fifty million empty names, each an object of fifty bytes."""
    frame = memoryview(INT32.pack(MAX_ITEMS_PER_FRAME + 1) + bytes(2 * MAX_ITEMS_PER_FRAME + 16))
    with pytest.raises(MalformedFrame, match="more than"):
        metadata.METADATA.decode_request(Reader(frame), 0)


def test_null_where_it_may_not_be_is_refused() -> None:
    with pytest.raises(MalformedFrame, match="null"):
        metadata.METADATA.decode_request(Reader(memoryview(INT32.pack(-1))), 0)


def test_bytes_after_a_request_are_passed_over() -> None:
    """librdkafka 2.16 asks for all topics in version 13 with three bytes too many; Kafka does not mind."""
    body = bytes.fromhex("00000000010000")
    request = metadata.METADATA.decode_request(Reader(memoryview(body)), 13)
    assert request == metadata.MetadataRequest(topics=None, allow_auto_topic_creation=False)


def test_what_is_encoded_already_is_taken_as_it_is() -> None:
    topic = metadata.MetadataResponseTopic(name="t", topic_id=bytes(range(16)))
    plain = metadata.METADATA.encode_response(metadata.MetadataResponse(topics=(topic,)), 12)
    whole = metadata.METADATA.encode_response(metadata.MetadataResponse(), 12)
    head = bytes(whole).index(b"\1\0", 8)
    only = Encoded(bytes(plain)[head + 1 : -1])
    again = metadata.METADATA.encode_response(metadata.MetadataResponse(topics=(only,)), 12)
    assert again == plain
