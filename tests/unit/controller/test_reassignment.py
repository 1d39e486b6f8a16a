"""Partitions move to other brokers: begun, given another target, cancelled, ended by the ISR."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.events import describe
from glasslog.controller.requests import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    Reassignment,
    ReassignmentOutcome,
)
from glasslog.metadata.image_records import image_of, image_records
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.controller.controller_bench import CLUSTER, Bench


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3, 4, 5, 6)
    result.create_on("t", (1, 2, 3))
    return result


def asked(replicas: tuple[int, ...] | None, topic: str = "t", partition: int = 0) -> Reassignment:
    target = None if replicas is None else tuple(map(NodeId, replicas))
    return Reassignment(topic=topic, partition=partition, replicas=target)


def ask(bench: Bench, *each: Reassignment, keep_factor: bool = False) -> tuple[ReassignmentOutcome, ...]:
    request = AlterPartitionReassignmentsRequest(reassignments=each, keep_replication_factor=keep_factor)
    return bench.ask(request, AlterPartitionReassignmentsResponse).outcomes


def move(bench: Bench, *replicas: int) -> None:
    (outcome,) = ask(bench, asked(replicas))
    assert outcome.error_code is ErrorCode.NONE, outcome.error_message


def cancel(bench: Bench) -> ErrorCode:
    return ask(bench, asked(None))[0].error_code


def sets(bench: Bench) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    state = bench.partition("t")
    return state.replicas, state.adding_replicas, state.removing_replicas


# --- the usual way ---


def test_a_move_adds_first_and_removes_when_the_new_ones_are_in_sync(bench: Bench) -> None:
    move(bench, 4, 5, 6)
    assert sets(bench) == ((4, 5, 6, 1, 2, 3), (4, 5, 6), (1, 2, 3))
    assert (bench.partition("t").leader, bench.partition("t").isr) == (1, (1, 2, 3))
    assert bench.alter("t", (1, 2, 3, 4)).error_code is ErrorCode.NONE
    assert bench.alter("t", (1, 2, 3, 4, 5)).error_code is ErrorCode.NONE
    assert bench.partition("t").leader_epoch == 0
    last = bench.alter("t", (1, 2, 3, 4, 5, 6))
    assert last.error_code is ErrorCode.NEW_LEADER_ELECTED
    state = bench.partition("t")
    assert sets(bench) == ((4, 5, 6), (), ())
    assert (state.isr, state.leader, state.leader_epoch) == ((4, 5, 6), 4, 1)


def test_the_leader_stays_where_it_is_one_of_those_that_stay(bench: Bench) -> None:
    move(bench, 4, 1)
    bench.alter("t", (1, 2, 3, 4))
    state = bench.partition("t")
    assert (state.replicas, state.isr, state.leader) == ((4, 1), (4, 1), 1)


def test_old_replicas_stay_as_long_as_one_of_the_new_is_not_in_sync(bench: Bench) -> None:
    move(bench, 1, 2, 4)
    bench.alter("t", (1, 3))
    bench.alter("t", (1, 3, 4))
    assert sets(bench) == ((1, 2, 4, 3), (4,), (3,))
    bench.alter("t", (1, 2, 3, 4))
    assert sets(bench) == ((1, 2, 4), (), ())


def test_another_order_is_there_at_once_and_moves_no_leadership(bench: Bench) -> None:
    move(bench, 3, 1, 2)
    state = bench.partition("t")
    assert (state.replicas, state.is_moving, state.leader, state.leader_epoch) == ((3, 1, 2), False, 1, 0)


def test_fewer_replicas_are_there_at_once_when_those_that_stay_are_in_sync(bench: Bench) -> None:
    move(bench, 2, 3)
    state = bench.partition("t")
    assert (state.replicas, state.isr, state.leader, state.is_moving) == ((2, 3), (2, 3), 2, False)


def test_fewer_replicas_wait_for_those_that_stay(bench: Bench) -> None:
    bench.alter("t", (1, 2))
    move(bench, 2, 3)
    assert sets(bench) == ((2, 3, 1), (), (1,))
    bench.alter("t", (1, 2, 3))
    assert sets(bench) == ((2, 3), (), ())


def test_more_replicas_end_without_another_leader_epoch(bench: Bench) -> None:
    """Nobody goes, so whoever waits on the leader need not be sent away."""
    move(bench, 1, 2, 3, 4)
    assert bench.alter("t", (1, 2, 3, 4)).error_code is ErrorCode.NONE
    state = bench.partition("t")
    assert (state.replicas, state.is_moving, state.leader_epoch) == ((1, 2, 3, 4), False, 0)


def test_to_where_it_is_already_is_no_move(bench: Bench) -> None:
    length = len(bench.log)
    move(bench, 1, 2, 3)
    assert len(bench.log) == length


# --- another target, and back ---


def test_another_target_replaces_the_first_and_cancelling_returns_to_the_start(bench: Bench) -> None:
    move(bench, 4, 5)
    move(bench, 6, 1)
    assert sets(bench) == ((6, 1, 2, 3), (6,), (2, 3))
    assert cancel(bench) is ErrorCode.NONE
    assert sets(bench) == ((1, 2, 3), (), ())


def test_what_the_first_target_had_in_sync_goes_with_the_old_ones(bench: Bench) -> None:
    """Were it dropped at once, the last one that has everything could be."""
    move(bench, 4, 5)
    bench.alter("t", (1, 4))
    bench.fence(1)
    assert (bench.partition("t").leader, bench.partition("t").isr) == (4, (4,))
    move(bench, 6)
    assert sets(bench) == ((6, 4, 1, 2, 3), (6, 4), (4, 1, 2, 3))
    assert bench.partition("t").leader == 4
    assert bench.alter("t", (4, 6)).error_code is ErrorCode.NEW_LEADER_ELECTED
    assert sets(bench) == ((6,), (), ())
    assert bench.partition("t").leader == 6


def test_to_move_to_where_it_came_from_is_to_go_back(bench: Bench) -> None:
    move(bench, 4, 5, 6)
    bench.alter("t", (1, 2, 3, 4))
    move(bench, 1, 2, 3)
    assert sets(bench) == ((1, 2, 3), (), ())
    assert bench.partition("t").isr == (1, 2, 3)


def test_cancelling_takes_new_replicas_out_of_isr_and_lead(bench: Bench) -> None:
    move(bench, 4, 5)
    bench.alter("t", (1, 2, 4))
    bench.fence(1)
    assert bench.partition("t").leader == 4
    assert cancel(bench) is ErrorCode.NONE
    state = bench.partition("t")
    assert (state.replicas, state.isr, state.leader) == ((1, 2, 3), (2,), 2)


def test_cancelling_is_refused_where_only_new_replicas_have_everything(bench: Bench) -> None:
    move(bench, 4, 5)
    bench.alter("t", (1, 4))
    bench.fence(1)
    before = bench.partition("t")
    (outcome,) = ask(bench, asked(None))
    assert outcome.error_code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "none of them is in sync" in outcome.error_message
    assert bench.partition("t") == before


def test_cancelling_may_lose_records_where_the_topic_says_so() -> None:
    bench = Bench(ControllerSettings(cluster_id=CLUSTER, unclean_leader_election_enable=True))
    bench.start(1, 2, 3, 4, 5)
    bench.create_on("t", (1, 2, 3))
    move(bench, 4, 5)
    bench.alter("t", (1, 4))
    bench.fence(1)
    assert cancel(bench) is ErrorCode.NONE
    state = bench.partition("t")
    assert (state.replicas, state.isr, state.leader) == ((1, 2, 3), (2,), 2)


# --- what happens meanwhile ---


def test_whoever_dies_during_a_move_only_delays_it(bench: Bench) -> None:
    move(bench, 4, 5)
    bench.alter("t", (1, 2, 3, 4))
    bench.fence(1, 4)
    state = bench.partition("t")
    assert (state.leader, state.isr, state.is_moving) == (2, (2, 3), True)
    for broker_id in (1, 4):
        bench.register(broker_id)
        bench.open_session(broker_id)
        bench.heartbeat(broker_id)
    bench.alter("t", (2, 3, 4))
    bench.alter("t", (2, 3, 4, 5))
    assert sets(bench) == ((4, 5), (), ())


def test_an_unclean_election_prefers_who_was_there_before_the_move() -> None:
    """One that is being added may hold nothing yet, though it comes first in the assignment."""
    bench = Bench(ControllerSettings(cluster_id=CLUSTER, unclean_leader_election_enable=True))
    bench.start(1, 2, 3, 4)
    bench.create_on("t", (1, 2))
    move(bench, 4, 3)
    bench.alter("t", (1,))
    bench.fence(1)
    assert bench.partition("t").leader == 2


def test_a_move_is_over_when_its_only_target_was_elected_uncleanly() -> None:
    bench = Bench(ControllerSettings(cluster_id=CLUSTER, unclean_leader_election_enable=True))
    bench.start(1, 2)
    bench.create_on("t", (1,))
    move(bench, 2)
    bench.fence(1)
    state = bench.partition("t")
    assert (state.replicas, state.isr, state.leader, state.is_moving) == ((2,), (2,), 2, False)


def test_a_topic_can_be_deleted_while_it_moves(bench: Bench) -> None:
    move(bench, 4, 5)
    assert not bench.ask(DeleteTopicsRequest(names=("t",)), DeleteTopicsResponse).topics[0].error_code
    assert ask(bench, asked(None))[0].error_code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_snapshot_keeps_a_move(bench: Bench) -> None:
    move(bench, 4, 5)
    image = bench.image
    assert image_of(image_records(image), offset=image.offset, epoch=image.epoch) == image


def test_a_broker_that_leaves_and_comes_back_finds_another_leader_epoch(bench: Bench) -> None:
    """Broker 3 is removed and added again before the leader looks at the metadata once. Its log is new and
    empty by then; a leader that kept what it knew of the old one would take it into the ISR, with nothing."""
    move(bench, 1, 2)
    assert bench.partition("t").leader_epoch == 1
    move(bench, 1, 2, 3)
    assert bench.partition("t").leader_epoch == 1
    assert bench.partition("t").isr == (1, 2)


def test_new_replicas_are_placed_where_a_broker_has_no_choice() -> None:
    bench = Bench()
    for broker_id in (1, 2, 3):
        bench.register(broker_id, log_dir_ids=(bytes([broker_id]) * 16,))
        bench.open_session(broker_id)
        bench.heartbeat(broker_id)
    bench.create_on("t", (1, 2))
    move(bench, 3, 2)
    state = bench.partition("t")
    assert [state.directory_of(node)[0] for node in state.replicas] == [3, 2, 1]
    bench.alter("t", (1, 2, 3))
    state = bench.partition("t")
    assert state.directories == (b"\3" * 16, b"\2" * 16)


def test_a_failed_directory_during_a_move_leaves_the_move_alone() -> None:
    bench = Bench()
    for broker_id in (1, 2, 3):
        bench.register(broker_id, log_dir_ids=(bytes([broker_id]) * 16, bytes([broker_id + 9]) * 16))
        bench.open_session(broker_id)
        bench.heartbeat(broker_id)
    bench.create_on("t", (1, 2))
    move(bench, 3, 2)
    bench.heartbeat(1, offline_log_dirs=(b"\1" * 16,))
    assert bench.partition("t").is_moving


# --- refusals ---


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        (asked((1,), topic="u"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no partition u-0"),
        (asked((1,), partition=1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no partition t-1"),
        (asked((1,), partition=-1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no partition t--1"),
        (asked(()), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "no broker"),
        (asked((1, 1)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "more than once"),
        (asked((1, 9)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not registered: [9]"),
        (asked((-1,)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not registered: [-1]"),
        (asked(None), ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "not being moved"),
    ],
)
def test_what_can_not_be_is_refused_beside_what_can(
    bench: Bench, wrong: Reassignment, error: ErrorCode, sentence: str
) -> None:
    bench.create_on("other", (1, 2))
    refused, done = ask(bench, wrong, asked((2, 3), topic="other"))
    assert refused.error_code is error
    assert sentence in refused.error_message
    assert done.error_code is ErrorCode.NONE
    assert sets(bench) == ((1, 2, 3), (), ())
    assert bench.partition("other").target_replicas == (2, 3)


def test_one_partition_named_twice_is_refused_whole(bench: Bench) -> None:
    outcomes = ask(bench, asked((4, 5)), asked(None))
    assert [each.error_code for each in outcomes] == [ErrorCode.INVALID_REQUEST] * 2
    assert not bench.partition("t").is_moving


def test_another_replication_factor_can_be_ruled_out(bench: Bench) -> None:
    assert ask(bench, asked((1, 2)), keep_factor=True)[0].error_code is ErrorCode.INVALID_REPLICATION_FACTOR
    assert ask(bench, asked((1, 2, 4)), keep_factor=True)[0].error_code is ErrorCode.NONE
    assert ask(bench, asked((4, 5, 6)), keep_factor=True)[0].error_code is ErrorCode.NONE


def test_the_log_says_where_a_partition_goes(bench: Bench) -> None:
    images = [bench.image]
    move(bench, 4, 1)
    images.append(bench.image)
    bench.alter("t", (1, 2, 3, 4))
    images.append(bench.image)
    assert [*describe(images[0], images[1], bench.log[-2:-1])] == [
        "t-0: moving {1,2,3} -> {4,1}, ISR {1,2,3}, leader 1 (epoch 0)"
    ]
    assert [*describe(images[1], images[2], bench.log[-1:])] == [
        "t-0: now on {4,1}, ISR {4,1}, leader 1 (epoch 1)"
    ]


# --- any order of events ---

BROKERS = (1, 2, 3, 4, 5)
targets = st.lists(st.sampled_from(BROKERS), min_size=1, max_size=4, unique=True).map(tuple)


class Moves(RuleBasedStateMachine):
    """Moves, cancels, ISR changes, deaths and returns in any order."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.bench.start(*BROKERS)
        self.bench.create_on("t", (1, 2, 3))
        self.before = self.bench.partition("t")
        self.in_sync: tuple[int, ...] = ()

    @rule(goal=st.none() | targets)
    def reassign(self, goal: tuple[int, ...] | None) -> None:
        was = self.bench.partition("t")
        (outcome,) = ask(self.bench, asked(goal))
        now = self.bench.partition("t")
        if outcome.error_code is not ErrorCode.NONE:
            assert goal is None
            assert now == was
        elif goal is None:
            assert now.replicas == was.original_replicas
            assert not now.is_moving
        else:
            assert now.target_replicas == goal
            if now.is_moving:
                assert sorted(now.original_replicas) == sorted(was.original_replicas)

    @rule(data=st.data())
    def leader_proposes(self, data: st.DataObject) -> None:
        state = self.bench.partition("t")
        if not state.has_leader:
            return
        active = [node for node in state.replicas if self.bench.image.brokers[node].active]
        others = st.lists(st.sampled_from(active), unique=True)
        isr = tuple(sorted({state.leader, *data.draw(others)}))
        self.in_sync = isr
        self.bench.alter("t", isr)

    @rule(broker=st.sampled_from(BROKERS))
    def die(self, broker: int) -> None:
        self.bench.fence(broker)

    @rule(broker=st.sampled_from(BROKERS))
    def come_back(self, broker: int) -> None:
        if self.bench.image.brokers[NodeId(broker)].fenced:
            self.bench.open_session(broker)
            self.bench.heartbeat(broker)

    @invariant()
    def sets_are_whole(self) -> None:
        state = self.bench.partition("t")
        assert len(set(state.replicas)) == len(state.replicas)
        assert state.isr or state.elr
        for members in (state.isr, state.elr, state.adding_replicas, state.removing_replicas):
            assert set(members) <= set(state.replicas)
        assert state.original_replicas
        assert state.target_replicas

    @invariant()
    def the_leader_is_an_active_member_of_the_isr(self) -> None:
        state = self.bench.partition("t")
        if state.leader != NO_NODE:
            assert state.leader in state.isr
            assert all(self.bench.image.brokers[member].active for member in state.isr)

    @invariant()
    def a_move_ends_as_soon_as_it_can(self) -> None:
        state = self.bench.partition("t")
        assert not state.is_moving or not set(state.target_replicas) <= set(state.isr)

    @invariant()
    def nobody_leads_who_was_not_in_sync(self) -> None:
        """Without unclean elections what was acknowledged by a whole ISR is at every next leader."""
        before, now = self.before, self.bench.partition("t")
        if now.leader != before.leader and now.leader != NO_NODE:
            assert now.leader in (*before.isr, *before.elr, *self.in_sync)
        if any(node not in now.replicas for node in before.replicas):
            assert now.leader_epoch > before.leader_epoch
        self.before, self.in_sync = now, ()


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
