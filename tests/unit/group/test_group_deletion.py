"""Groups and committed offsets are forgotten, unless somebody uses them; what foreign clients join with."""

import struct

import pytest
from glasslog.broker.group.subscriptions import subscribed_topics
from glasslog.broker.group.types import NOTHING_COMMITTED, JoinResponse, LeavingMember
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition

from tests.unit.group.test_group_core import P0, P1, Bench, replayed


def subscription(*topics: str) -> bytes:
    """A consumer's protocol metadata."""
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 1, len(topics)) + names + struct.pack(">i", -1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def delete(bench: Bench, group_id: str = "g") -> ErrorCode:
    waiter = bench.waiter()
    bench.shard.delete_group(group_id, waiter)
    bench.drain()
    return bench.answer(waiter, ErrorCode)


def delete_offsets(bench: Bench, *partitions: TopicPartition) -> object:
    waiter = bench.waiter()
    bench.shard.delete_offsets("g", partitions, waiter)
    bench.drain()
    return bench.answers[waiter]


def test_a_group_without_members_goes_with_its_offsets_for_the_next_coordinator_too(bench: Bench) -> None:
    generation = bench.stable("a")
    bench.commit("a", generation, 7)
    assert delete(bench) is ErrorCode.NON_EMPTY_GROUP
    bench.shard.leave("g", (LeavingMember(member_id="a"),), bench.now)
    bench.drain()
    assert delete(bench) is ErrorCode.NONE
    for shard in (bench.shard, replayed(bench).shard):
        assert shard.group_ids() == ()
        assert shard.committed("g", P0) == NOTHING_COMMITTED
    assert delete(bench) is ErrorCode.GROUP_ID_NOT_FOUND
    assert delete(bench, "") is ErrorCode.GROUP_ID_NOT_FOUND


def test_offsets_without_a_group_are_a_group_to_delete(bench: Bench) -> None:
    bench.commit("", -1, 7)
    assert delete(bench) is ErrorCode.NONE
    assert bench.shard.group_ids() == ()


def test_who_joins_while_a_deletion_is_stored_is_not_forgotten(bench: Bench) -> None:
    generation = bench.stable("a")
    bench.shard.leave("g", (LeavingMember(member_id="a"),), bench.now)
    bench.drain()
    bench.hold = True
    waiter = bench.waiter()
    bench.shard.delete_group("g", waiter)
    bench.drain()
    joined = bench.newcomer("b")
    bench.hold = False
    bench.drain()
    assert bench.answer(waiter, ErrorCode) is ErrorCode.NONE
    assert bench.answer(joined, JoinResponse).generation_id > generation
    assert bench.shard.group_ids() == ("g",)


def test_a_deletion_that_can_not_be_stored_changes_nothing(bench: Bench) -> None:
    bench.commit("", -1, 7)
    bench.hold = True
    waiter = bench.waiter()
    bench.shard.delete_group("g", waiter)
    bench.drain()
    bench.store(ErrorCode.NOT_COORDINATOR)
    bench.drain()
    assert bench.answer(waiter, ErrorCode) is ErrorCode.NOT_COORDINATOR
    assert bench.shard.committed("g", P0).offset == 7


def test_offsets_of_topics_that_a_member_reads_stay(bench: Bench) -> None:
    bench.commit("", -1, 7)
    metadata = (("range", subscription("t")),)
    first = bench.join("", new_member_id="a", protocols=metadata)
    assert bench.answer(first, JoinResponse).error is ErrorCode.MEMBER_ID_REQUIRED
    bench.join("a", protocols=metadata)
    other = TopicPartition("u", 0)
    assert delete_offsets(bench, P0, other) == (
        (P0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),
        (other, ErrorCode.NONE),
    )
    assert bench.shard.committed("g", P0).offset == 7
    bench.shard.leave("g", (LeavingMember(member_id="a"),), bench.now)
    bench.drain()
    assert delete_offsets(bench, P0, P1) == ((P0, ErrorCode.NONE), (P1, ErrorCode.NONE))
    assert bench.shard.committed("g", P0) == NOTHING_COMMITTED


def test_offsets_of_members_that_are_no_consumers_stay(bench: Bench) -> None:
    first = bench.join("", new_member_id="a", protocol_type="connect")
    assert bench.answer(first, JoinResponse).error is ErrorCode.MEMBER_ID_REQUIRED
    bench.join("a", protocol_type="connect")
    assert delete_offsets(bench, P0) is ErrorCode.NON_EMPTY_GROUP
    assert delete_offsets(Bench(), P0) is ErrorCode.GROUP_ID_NOT_FOUND


def test_a_client_of_old_joins_at_once(bench: Bench) -> None:
    """Before version 4 of JoinGroup a newcomer did not expect to be sent back for its id (KIP-394)."""
    joined = bench.answer(bench.join("", new_member_id="given", must_return=False), JoinResponse)
    assert (joined.error, joined.member_id, joined.generation_id) == (ErrorCode.NONE, "given", 1)


def test_a_subscription_is_read_and_anything_else_is_not() -> None:
    assert subscribed_topics(subscription("a", "bc")) == frozenset({"a", "bc"})
    assert subscribed_topics(subscription()) == frozenset()
    for garbage in (
        b"",
        b"\0",
        subscription("abc")[:9],
        struct.pack(">hih", 0, 1, -5),
        b"\0\0\0\0\0\1\0\1\xff",
    ):
        assert subscribed_topics(garbage) is None
