import pytest
from glasslog.broker.controller_finder import Backoff, ControllerFinder
from glasslog.common.addresses import Voter
from glasslog.common.errors import ConfigError
from glasslog.common.ids import NO_NODE, NodeId
from hypothesis import given
from hypothesis import strategies as st

VOTERS = tuple(Voter(node_id=n, address=f"c{n}:9093") for n in (1, 2, 3))


def test_without_voters_there_is_nobody_to_ask() -> None:
    with pytest.raises(ConfigError, match=r"controller\.quorum\.voters"):
        ControllerFinder(())


def test_brokers_start_with_different_voters() -> None:
    assert ControllerFinder(VOTERS, first=4).candidate == VOTERS[1]


def test_failures_pass_the_turn_on() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_failure(VOTERS[0])
    finder.on_failure(VOTERS[1])
    assert finder.candidate == VOTERS[2]


def test_a_failure_of_somebody_else_changes_nothing() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(3), epoch=1)
    finder.on_failure(VOTERS[0])
    assert finder.leader_id == 3


def test_a_hint_of_an_older_epoch_is_ignored() -> None:
    finder = ControllerFinder(VOTERS)
    assert finder.on_leader(leader_id=NodeId(2), epoch=5)
    assert not finder.on_leader(leader_id=NodeId(3), epoch=4)
    assert finder.candidate == VOTERS[1]


def test_who_does_not_know_the_leader_does_not_unlearn_it() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(2), epoch=5)
    finder.on_leader(leader_id=NO_NODE, epoch=5)
    assert finder.leader_id == 2


def test_a_newer_epoch_without_a_leader_unlearns_the_old_one() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(2), epoch=5)
    finder.on_leader(leader_id=NO_NODE, epoch=6)
    assert finder.leader_id == NO_NODE


def test_a_leader_without_an_address_is_no_leader() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(9), epoch=6)
    assert finder.leader_id == NO_NODE
    assert finder.candidate == VOTERS[0]


def test_a_dead_leader_may_be_hinted_again() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(2), epoch=5)
    finder.on_failure(VOTERS[1])
    assert finder.leader_id == NO_NODE
    assert finder.on_leader(leader_id=NodeId(2), epoch=5)


def test_who_answers_as_the_leader_is_the_leader() -> None:
    finder = ControllerFinder(VOTERS)
    assert finder.on_success(VOTERS[0])
    assert finder.leader_id == 1
    assert not finder.on_success(VOTERS[1])


@given(
    st.lists(
        st.tuples(st.sampled_from(["leader", "failure", "success"]), st.integers(-1, 4), st.integers(0, 5))
    )
)
def test_there_is_always_a_candidate_and_a_known_leader_is_it(steps: list[tuple[str, int, int]]) -> None:
    finder = ControllerFinder(VOTERS)
    for what, node_id, epoch in steps:
        if what == "leader":
            finder.on_leader(leader_id=NodeId(node_id), epoch=epoch)
        else:
            voter = VOTERS[node_id % 3]
            finder.on_failure(voter) if what == "failure" else finder.on_success(voter)
        assert finder.candidate in VOTERS
        assert finder.leader_id in (NO_NODE, finder.candidate.node_id)


def test_backoff_pauses_after_each_round_and_grows_to_its_bound() -> None:
    backoff = Backoff(voters=2, first_ms=50, last_ms=150)
    assert [backoff.next_bound_ms() for _ in range(8)] == [0, 50, 0, 100, 0, 150, 0, 150]
    backoff.reset()
    assert [backoff.next_bound_ms() for _ in range(2)] == [0, 50]


def test_a_hint_with_an_address_names_a_controller_that_settings_do_not_know() -> None:
    """Voters come and go; a broker that knew only its settings would lose the quorum in the end."""
    finder = ControllerFinder(VOTERS)
    assert finder.on_leader(leader_id=NodeId(7), epoch=4, address="c7:9093")
    assert finder.candidate == Voter(node_id=7, address="c7:9093")


def test_a_voter_that_moved_is_asked_where_it_is_now() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_leader(leader_id=NodeId(2), epoch=4, address="elsewhere:9093")
    assert finder.candidate == Voter(node_id=2, address="elsewhere:9093")
    assert len(finder.voters) == 3


def test_controllers_are_not_remembered_without_bound() -> None:
    finder = ControllerFinder(VOTERS)
    for epoch in range(1, 1_000):
        finder.on_leader(leader_id=NodeId(100 + epoch), epoch=epoch, address=f"c{epoch}:9093")
    assert finder.candidate.node_id == 1_099
    assert len(finder.voters) == 100


def test_voters_of_the_log_come_before_those_of_the_settings() -> None:
    """A broker whose settings named one voter of three lost the quorum for good when that one died."""
    finder = ControllerFinder(VOTERS[:1])
    finder.on_leader(leader_id=NodeId(1), epoch=4)
    finder.on_voters([*VOTERS, Voter(node_id=9, address="")])
    assert finder.leader_id == 1
    assert finder.candidate == VOTERS[0]
    finder.on_failure(VOTERS[0])
    assert finder.candidate == VOTERS[1]
    assert finder.voters == VOTERS


def test_a_leader_that_votes_no_more_is_followed_until_it_fails() -> None:
    finder = ControllerFinder((Voter(node_id=-2, address="c2:9093"),))
    finder.on_leader(leader_id=NodeId(1), epoch=4, address="c1:9093")
    finder.on_voters(VOTERS[1:])
    assert finder.leader_id == 1
    assert finder.candidate.address == "c1:9093"
    finder.on_voters(VOTERS[1:])
    finder.on_failure(finder.candidate)
    assert finder.candidate in VOTERS[1:]


def test_a_voter_that_moved_is_named_once() -> None:
    finder = ControllerFinder(VOTERS)
    finder.on_voters([Voter(node_id=1, address="elsewhere:1"), *VOTERS[1:]])
    assert [voter.address for voter in finder.voters] == ["elsewhere:1", "c2:9093", "c3:9093"]
