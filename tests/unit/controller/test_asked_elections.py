"""Elections that somebody asks for: what they change, and with which code and words they are refused."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE
from glasslog.controller.admin_requests import ElectionType, ElectLeadersRequest, ElectLeadersResponse

from tests.unit.controller.controller_bench import Bench

PREFERRED, UNCLEAN = ElectionType


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2), (2, 1))
    return result


def elect(bench: Bench, kind: int, *partitions: tuple[str, int]) -> ElectLeadersResponse:
    request = ElectLeadersRequest(election_type=kind, partitions=partitions or None)
    return bench.ask(request, ElectLeadersResponse)


def codes(response: ElectLeadersResponse) -> list[tuple[str, int, ErrorCode]]:
    return [(each.topic, each.partition, each.error_code) for each in response.partitions]


def test_a_preferred_leader_that_is_in_sync_again_is_elected(bench: Bench) -> None:
    bench.fence(1)
    bench.open_session(1)
    bench.heartbeat(1)
    bench.alter("t", (1, 2))
    assert bench.partition("t").leader == 2
    answer = elect(bench, PREFERRED, ("t", 0))
    assert codes(answer) == [("t", 0, ErrorCode.NONE)]
    after = bench.partition("t")
    assert (after.leader, after.isr, after.leader_epoch) == (1, (1, 2), 2)


def test_what_can_not_be_elected_says_why(bench: Bench) -> None:
    bench.fence(1)
    asked = [("t", 0), ("t", 1), ("t", 2), ("u", 0), ("t", 0)]
    answer = elect(bench, PREFERRED, *asked)
    assert codes(answer) == [
        ("t", 0, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE),
        ("t", 1, ErrorCode.ELECTION_NOT_NEEDED),
        ("t", 2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("u", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert "broker 1: in sync are [2]" in answer.partitions[0].error_message
    assert "led by its preferred leader, broker 2" in answer.partitions[1].error_message


def test_of_all_partitions_only_those_that_need_it_are_told(bench: Bench) -> None:
    assert codes(elect(bench, PREFERRED)) == []
    bench.fence(1)
    bench.open_session(1)
    bench.heartbeat(1)
    bench.create_on("u", (1, 2))
    assert codes(elect(bench, PREFERRED)) == [("t", 0, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE)]


def test_an_unclean_election_takes_who_is_there(bench: Bench) -> None:
    bench.create_on("lost", (1, 2, 3))
    bench.alter("lost", (1,))
    bench.fence(1)
    assert bench.partition("lost").leader == NO_NODE
    assert codes(elect(bench, UNCLEAN, ("lost", 0), ("t", 1))) == [
        ("lost", 0, ErrorCode.NONE),
        ("t", 1, ErrorCode.ELECTION_NOT_NEEDED),
    ]
    after = bench.partition("lost")
    assert (after.leader, after.isr, after.elr) == (2, (2,), ())
    # The setting is as it was: this was for once.
    assert bench.image.topic_config("lost") == {}


def test_nobody_can_be_elected_where_nobody_is(bench: Bench) -> None:
    bench.fence(1, 2)
    before = bench.image
    answer = elect(bench, UNCLEAN)
    assert codes(answer) == [
        ("t", 0, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE),
        ("t", 1, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE),
    ]
    assert "none of [1, 2] is active" in answer.partitions[0].error_message
    assert bench.image is before


def test_an_unknown_kind_of_election_is_refused_as_a_whole(bench: Bench) -> None:
    answer = elect(bench, 7, ("t", 0))
    assert (answer.error_code, answer.partitions) == (ErrorCode.INVALID_REQUEST, ())
    assert "type 7" in answer.error_message
