"""Every partition of a subscribed topic belongs to exactly one member that asked for it."""

import contextlib

import pytest
from glasslog.client.assignors.members import Member
from glasslog.client.assignors.ranges import RangeAssignor
from glasslog.client.assignors.registry import assignors_named
from glasslog.client.consumer_protocol import (
    Held,
    Subscription,
    decode_assignment,
    decode_held,
    decode_subscription,
    encode_assignment,
    encode_held,
    encode_subscription,
)
from glasslog.common.errors import ConfigError, GlasslogError
from glasslog.common.ids import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

topics = st.sampled_from(["alpha", "beta", "gamma"])
memberships = st.dictionaries(
    st.integers(0, 8).map(lambda n: f"m-{n}"), st.sets(topics, min_size=1), min_size=1
)
counts = st.dictionaries(topics, st.integers(1, 12))


@given(memberships, counts)
def test_range_gives_every_partition_to_one_interested_member(
    wanted: dict[str, set[str]], partition_counts: dict[str, int]
) -> None:
    members = [Member(member_id=name, topics=tuple(sorted(each))) for name, each in wanted.items()]
    assigned = RangeAssignor().assign(members, partition_counts)
    given_out = [partition for partitions in assigned.values() for partition in partitions]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == {
        TopicPartition(topic, number)
        for topic, count in partition_counts.items()
        if any(topic in each for each in wanted.values())
        for number in range(count)
    }
    for name, partitions in assigned.items():
        assert {partition.topic for partition in partitions} <= wanted[name]
    for topic in partition_counts:
        sizes = [
            sum(partition.topic == topic for partition in assigned[name])
            for name in wanted
            if topic in wanted[name]
        ]
        assert not sizes or max(sizes) - min(sizes) <= 1


def test_range_is_contiguous_and_static_members_come_first() -> None:
    members = [
        Member(member_id="a", topics=("t",)),
        Member(member_id="z", topics=("t",), group_instance_id="one"),
    ]
    assigned = RangeAssignor().assign(members, {"t": 5})
    assert [partition.partition for partition in assigned["z"]] == [0, 1, 2]
    assert [partition.partition for partition in assigned["a"]] == [3, 4]


def test_an_unknown_assignor_is_named() -> None:
    with pytest.raises(ConfigError, match="'rainge': there are cooperative-sticky, range"):
        assignors_named(["rainge"])


partitions = st.lists(
    st.builds(TopicPartition, st.text(min_size=1, max_size=5), st.integers(0, 99)), unique=True
)


@given(st.lists(st.text(max_size=5), unique=True), partitions)
def test_a_subscription_survives_the_wire(names: list[str], owned: list[TopicPartition]) -> None:
    data = encode_subscription(Subscription(topics=tuple(names), owned=tuple(owned), user_data=b"u"))
    read = decode_subscription(data)
    assert (sorted(read.topics), set(read.owned), read.user_data) == (sorted(names), set(owned), b"u")


@given(partitions)
def test_an_assignment_survives_the_wire(given_out: list[TopicPartition]) -> None:
    assert set(decode_assignment(encode_assignment(given_out))) == set(given_out)


OWNED = b"\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01"
FOREIGN = {
    # As kafka-python writes them; versions 2 and 3 append a generation and a rack.
    0: b"\x00\x00\x00\x00\x00\x02\x00\x01a\x00\x01b\x00\x00\x00\x01u",
    1: b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x01b\x00\x00\x00\x01u" + OWNED,
    3: b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x01b\x00\x00\x00\x01u" + OWNED + b"\xff" * 6,
}


@pytest.mark.parametrize("version", FOREIGN)
def test_subscriptions_of_other_clients_are_understood(version: int) -> None:
    owned = (TopicPartition("t", 0), TopicPartition("t", 1)) if version else ()
    expected = Subscription(topics=("a", "b"), owned=owned, user_data=b"u")
    assert decode_subscription(FOREIGN[version]) == expected
    if version == 3:
        assert encode_subscription(expected) == FOREIGN[3]


def test_a_rack_and_a_generation_are_told() -> None:
    told = Subscription(topics=("a",), generation_id=7, rack="rack-b")
    assert decode_subscription(encode_subscription(told)) == told


def test_what_a_sticky_member_had_is_told_as_kafka_does() -> None:
    held = Held(partitions=(TopicPartition("t", 0), TopicPartition("t", 1)), generation_id=5)
    assert encode_held(held) == OWNED + b"\x00\x00\x00\x05"
    assert decode_held(encode_held(held)) == held
    assert decode_held(OWNED) == Held(partitions=held.partitions)
    assert decode_held(b"") == Held()


def test_no_bytes_are_no_partitions() -> None:
    assert decode_assignment(b"") == ()


@given(st.binary(max_size=40))
def test_nonsense_is_refused_cleanly(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment, decode_held):
        with contextlib.suppress(GlasslogError):
            decode(data)


def test_a_lying_length_is_refused() -> None:
    with pytest.raises(GlasslogError, match="makes no sense: an array of 2147483647 elements"):
        decode_subscription(b"\x00\x01\x7f\xff\xff\xff")
