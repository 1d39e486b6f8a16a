"""Produce requests whose beginning was met before are decoded as any other, whatever follows."""

from collections.abc import Callable

import pytest
from glasslog.broker.kafka import produce
from glasslog.broker.kafka.codec import MalformedFrame, Reader
from glasslog.broker.kafka.produce import ProduceCall
from glasslog.broker.kafka.usual_produce import MAX_BEGINNINGS, UsualRequests
from glasslog.common.ids import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kafka.test_kafka_data_codecs import kafka_python

VERSIONS = range(produce.MIN_VERSION, produce.MAX_VERSION + 1)


def request(
    version: int,
    *partitions: tuple[str, int, bytes | None],
    acks: int = -1,
    transactional_id: str | None = None,
) -> bytes:
    codec = kafka_python("producer", "ProduceRequest")
    topic = codec.TopicProduceData
    message = codec(
        transactional_id=transactional_id if version >= 3 else None,
        acks=acks,
        timeout_ms=1500,
        topic_data=[
            topic(name=name, partition_data=[topic.PartitionProduceData(index=index, records=records)])
            for name, index, records in partitions
        ],
        version=version,
    )
    return bytes(message.encode())


def decoded(usual: UsualRequests, version: int, data: bytes) -> ProduceCall | str:
    """With records as bytes, or why there is nothing."""
    return outcome(lambda: usual.decode(Reader(memoryview(data)), version))


def plainly(version: int, data: bytes) -> ProduceCall | str:
    return outcome(lambda: produce.decode_request(Reader(memoryview(data)), version))


def outcome(decode: Callable[[], ProduceCall]) -> ProduceCall | str:
    try:
        call = decode()
    except MalformedFrame as error:
        return str(error)
    request = call.request
    partitions = tuple(each._replace(records=bytes(each.records)) for each in request.partitions)
    return call._replace(request=request._replace(partitions=partitions))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_beginning_that_is_known_is_not_decoded_again(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = UsualRequests()
    first = request(version, ("orders", 3, b"x" * 300))
    assert decoded(usual, version, first) == plainly(version, first)
    again = request(version, ("orders", 3, b"y" * 70_000))
    expected = plainly(version, again)
    if version >= produce.SERVED_FROM:
        monkeypatch.setattr("glasslog.broker.kafka.usual_produce.decode_request", None)
    assert decoded(usual, version, again) == expected


@given(
    version=st.sampled_from(VERSIONS),
    records=st.lists(st.none() | st.binary(max_size=300), min_size=1, max_size=3),
    name=st.sampled_from(["orders", "o", "x" * 126, "x" * 127, "x" * 128, "x" * 249, ""]),
    transactional_id=st.none() | st.sampled_from(["", "me"]),
    changed=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 40),
    more=st.binary(max_size=4),
)
def test_whatever_comes_is_decoded_as_if_nothing_was_known(
    version: int,
    records: list[bytes | None],
    name: str,
    transactional_id: str | None,
    changed: list[tuple[int, int]],
    cut: int,
    more: bytes,
) -> None:
    usual = UsualRequests()
    known = request(version, (name, 3, b"known"))
    assert decoded(usual, version, known) == plainly(version, known)
    partitions = [(name, 3 + number, each) for number, each in enumerate(records)]
    made = bytearray(request(version, *partitions, transactional_id=transactional_id))
    for position, value in changed:
        if position < len(made):
            made[position] = value
    for data in (bytes(made), bytes(made[: len(made) - cut]), bytes(made) + more):
        for _ in range(2):
            assert decoded(usual, version, data) == plainly(version, data)


def test_so_much_is_remembered_and_no_more() -> None:
    usual = UsualRequests()
    for number in range(MAX_BEGINNINGS + 10):
        data = request(9, ("t", number, b"v"))
        call = usual.decode(Reader(memoryview(data)), 9)
        assert call.request.partitions[0].partition == TopicPartition("t", number)
    assert len(usual._flexible) == 10
