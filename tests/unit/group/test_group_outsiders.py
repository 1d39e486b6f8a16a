"""Who is no member, of a group that is gone, has no name or has nobody: answers that a comparison with a real
Kafka found to be others than Kafka's."""

import pytest
from glasslog.broker.group.types import JoinResponse, LeavingMember, MemberIdentity
from glasslog.common.errors import ErrorCode

from tests.unit.group.test_group_core import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_group_whose_member_has_not_come_back_with_its_id_can_be_deleted(bench: Bench) -> None:
    """It had a name for somebody and no members, and was called non-empty until the name expired."""
    waiter = bench.join("", new_member_id="a")
    assert bench.answer(waiter, JoinResponse).error is ErrorCode.MEMBER_ID_REQUIRED
    deletion = bench.waiter()
    bench.shard.delete_group("g", deletion)
    bench.drain()
    assert bench.answer(deletion, ErrorCode) is ErrorCode.NONE
    assert bench.answer(bench.join("a"), JoinResponse).error is ErrorCode.UNKNOWN_MEMBER_ID


def test_an_instance_that_the_group_does_not_know_is_no_member(bench: Bench) -> None:
    """A member that named an instance of nobody's was taken for the dynamic member that it also named."""
    generation = bench.stable("a")
    named = MemberIdentity(group_id="g", generation_id=generation, member_id="a", group_instance_id="fixed")
    assert bench.shard.heartbeat(named, bench.now) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat("a", generation) is ErrorCode.NONE


def test_who_commits_for_a_group_that_has_emptied_is_no_member(bench: Bench) -> None:
    generation = bench.stable("a")
    bench.shard.leave("g", (LeavingMember(member_id="a"),), bench.now)
    bench.drain()
    assert bench.commit_outcome(bench.commit("a", generation, 7)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.commit_outcome(bench.commit("", -1, 7)) is ErrorCode.NONE


def test_who_commits_for_a_group_that_never_was_has_no_generation(bench: Bench) -> None:
    assert bench.commit_outcome(bench.commit("a", 3, 7)) is ErrorCode.ILLEGAL_GENERATION
