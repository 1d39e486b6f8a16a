"""AlterPartition: guarded by leader, leader epoch, partition epoch and every member's broker epoch."""

from dataclasses import replace

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId
from glasslog.controller.requests import AlterPartitionRequest, AlterPartitionResponse, IsrProposal

from tests.unit.controller.controller_bench import Bench


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2, 3))
    return result


def current_proposal(bench: Bench, *isr: int) -> IsrProposal:
    state = bench.partition("t")
    return IsrProposal(
        topic_id=state.topic_id,
        partition=0,
        leader_epoch=state.leader_epoch,
        partition_epoch=state.partition_epoch,
        new_isr=tuple(map(NodeId, isr)),
        new_isr_broker_epochs=tuple(bench.epoch(each) for each in isr),
    )


def test_shrink_and_expand_bump_the_partition_epoch_only(bench: Bench) -> None:
    shrunk = bench.alter("t", (1, 3))
    assert (shrunk.error_code, shrunk.isr, shrunk.partition_epoch, shrunk.leader_epoch) == (0, (1, 3), 1, 0)
    grown = bench.alter("t", (3, 2, 1))
    assert (grown.error_code, grown.isr, grown.partition_epoch) == (0, (1, 2, 3), 2)
    state = bench.partition("t")
    assert (state.isr, state.partition_epoch, state.leader_epoch) == ((1, 2, 3), 2, 0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"topic_id": TopicId(bytes(16))}, ErrorCode.UNKNOWN_TOPIC_ID),
        ({"partition": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition": -1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"leader_epoch": LeaderEpoch(9)}, ErrorCode.NOT_CONTROLLER),
        ({"partition_epoch": PartitionEpoch(9)}, ErrorCode.NOT_CONTROLLER),
        ({"leader_epoch": LeaderEpoch(-1)}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"partition_epoch": PartitionEpoch(-1)}, ErrorCode.INVALID_UPDATE_VERSION),
        ({"new_isr": (NodeId(2), NodeId(3))}, ErrorCode.INVALID_REQUEST),
        ({"new_isr": (NodeId(1), NodeId(1))}, ErrorCode.INVALID_REQUEST),
        ({"new_isr": (NodeId(1), NodeId(4))}, ErrorCode.INVALID_REQUEST),
        ({"new_isr": ()}, ErrorCode.INVALID_REQUEST),
        ({"new_isr_broker_epochs": ()}, ErrorCode.INVALID_REQUEST),
        ({"new_isr_broker_epochs": (BrokerEpoch(0), BrokerEpoch(77))}, ErrorCode.INELIGIBLE_REPLICA),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_trace(
    bench: Bench, changes: dict[str, object], error: ErrorCode
) -> None:
    before, length = bench.partition("t"), len(bench.log)
    assert bench.alter("t", (1, 2), **changes).error_code is error
    assert bench.partition("t") == before
    assert len(bench.log) == length


def test_only_the_leader_may_propose(bench: Bench) -> None:
    outcome = bench.propose(NodeId(2), current_proposal(bench, 1, 2))
    assert outcome.error_code is ErrorCode.INVALID_REQUEST


def test_a_leader_that_was_replaced_is_told_so(bench: Bench) -> None:
    stale = current_proposal(bench, 1, 2)
    bench.fence(1)
    bench.heartbeat(1)
    assert bench.propose(NodeId(1), stale).error_code is ErrorCode.FENCED_LEADER_EPOCH


def test_a_stale_incarnation_of_the_leader_is_refused_as_a_whole(bench: Bench) -> None:
    request = AlterPartitionRequest(
        broker_id=NodeId(1), broker_epoch=BrokerEpoch(9_999), partitions=(current_proposal(bench, 1),)
    )
    response = bench.ask(request, AlterPartitionResponse)
    assert (response.error_code, response.partitions) == (ErrorCode.STALE_BROKER_EPOCH, ())


def test_the_same_partition_twice_in_one_request_is_decided_once(bench: Bench) -> None:
    request = AlterPartitionRequest(
        broker_id=NodeId(1),
        broker_epoch=bench.epoch(1),
        partitions=(current_proposal(bench, 1, 2), current_proposal(bench, 1, 3)),
    )
    outcomes = bench.ask(request, AlterPartitionResponse).partitions
    assert [each.error_code for each in outcomes] == [ErrorCode.NONE, ErrorCode.INVALID_REQUEST]
    assert bench.partition("t").isr == (1, 2)


def test_a_request_whose_answer_was_lost_is_accepted_again_without_a_record(bench: Bench) -> None:
    proposal = current_proposal(bench, 1, 2)
    first = bench.propose(NodeId(1), proposal)
    length = len(bench.log)
    assert bench.propose(NodeId(1), proposal) == first
    assert len(bench.log) == length


def test_fenced_and_stopping_brokers_are_not_eligible(bench: Bench) -> None:
    bench.alter("t", (1,))
    bench.fence(2)
    assert bench.alter("t", (1, 2)).error_code is ErrorCode.INELIGIBLE_REPLICA
    bench.create_on("led", (3, 1))
    bench.heartbeat(3, want_shut_down=True)
    assert bench.alter("t", (1, 3)).error_code is ErrorCode.INELIGIBLE_REPLICA


def test_an_empty_disk_does_not_return_through_a_delayed_isr_change(bench: Bench) -> None:
    """KIP-903: the leader saw broker 3 caught up and proposed it; before the proposal arrived the broker
    was restarted
    with an empty disk and unfenced. Taking it in would make a replica without the records eligible to
    lead."""
    bench.alter("t", (1, 2))
    delayed = current_proposal(bench, 1, 2, 3)
    bench.lose_session(3)
    assert bench.register(3).error_code == 0
    bench.open_session(3)
    assert not bench.heartbeat(3).is_fenced

    fresh_epoch = replace(delayed, partition_epoch=bench.partition("t").partition_epoch)
    assert bench.propose(NodeId(1), fresh_epoch).error_code is ErrorCode.INELIGIBLE_REPLICA
    assert bench.partition("t").isr == (1, 2)
