"""Which directory holds a replica, and what is decided when one is gone (KIP-858)."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, Offset, TopicId
from glasslog.controller.requests import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    DirectoryAssignment,
)
from glasslog.metadata.records import UNASSIGNED_DIRECTORY, PartitionChange

from tests.unit.controller.controller_bench import Bench

D1, D2, NEW = (bytes([number]) * 16 for number in (1, 2, 3))


def start(bench: Bench, broker_id: int, *directories: bytes) -> None:
    assert bench.register(broker_id, log_dir_ids=directories).error_code is ErrorCode.NONE
    bench.open_session(broker_id)
    assert not bench.heartbeat(broker_id).is_fenced


@pytest.fixture
def bench() -> Bench:
    """Brokers 1 and 2 have two directories each, broker 3 has one."""
    result = Bench()
    start(result, 1, D1, D2)
    start(result, 2, D1, D2)
    start(result, 3, D1)
    result.create_on("t", (1, 2, 3))
    return result


def assign(bench: Bench, broker_id: int, directory_id: bytes, topic: str = "t") -> ErrorCode:
    return ask(bench, broker_id, (bench.partition(topic).topic_id, directory_id))[0]


def ask(bench: Bench, broker_id: int, *placed: tuple[TopicId, bytes]) -> list[ErrorCode]:
    request = AssignReplicasToDirsRequest(
        broker_id=NodeId(broker_id),
        broker_epoch=bench.epoch(broker_id),
        assignments=tuple(
            DirectoryAssignment(topic_id=topic_id, partition=0, directory_id=directory_id)
            for topic_id, directory_id in placed
        ),
    )
    response = bench.ask(request, AssignReplicasToDirsResponse)
    assert response.error_code is ErrorCode.NONE
    return [outcome.error_code for outcome in response.outcomes]


def test_a_broker_with_one_directory_need_not_say_so(bench: Bench) -> None:
    assert bench.partition("t").directories == (UNASSIGNED_DIRECTORY, UNASSIGNED_DIRECTORY, D1)


def test_an_assignment_is_recorded_once(bench: Bench) -> None:
    assert assign(bench, 1, D2) is ErrorCode.NONE
    state, records = bench.partition("t"), len(bench.log)
    assert state.directories == (D2, UNASSIGNED_DIRECTORY, D1)
    assert (state.leader, state.isr, state.leader_epoch) == (1, (1, 2, 3), 0)
    assert assign(bench, 1, D2) is ErrorCode.NONE
    assert len(bench.log) == records


def test_what_can_not_be_assigned(bench: Bench) -> None:
    bench.create_on("u", (1, 2))
    known, other = bench.partition("t").topic_id, bench.partition("u").topic_id
    placed = [(known, D1), (known, D2), (TopicId(bytes(16)), D1), (other, D1)]
    assert ask(bench, 3, *placed) == [
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ]
    assert ask(bench, 1, (other, b"short")) == [ErrorCode.INVALID_REQUEST]
    stale = AssignReplicasToDirsRequest(broker_id=NodeId(1), broker_epoch=BrokerEpoch(999), assignments=())
    assert bench.ask(stale, AssignReplicasToDirsResponse).error_code is ErrorCode.STALE_BROKER_EPOCH


def test_a_failed_directory_moves_the_leaderships_in_it_and_no_others(bench: Bench) -> None:
    bench.create_on("u", (1, 2, 3))
    assign(bench, 1, D1, "t")
    assign(bench, 1, D2, "u")
    answer = bench.heartbeat(1, offline_log_dirs=(D1, NEW))
    assert not answer.is_fenced
    moved, kept = bench.partition("t"), bench.partition("u")
    assert (moved.leader, moved.isr, moved.leader_epoch) == (2, (2, 3), 1)
    assert (kept.leader, kept.isr, kept.leader_epoch) == (1, (1, 2, 3), 0)
    assert bench.image.brokers[NodeId(1)].log_dir_ids == (D2,)
    records = len(bench.log)
    bench.heartbeat(1, offline_log_dirs=(D1,))
    assert len(bench.log) == records


def test_a_replica_in_a_failed_directory_does_not_enter_the_isr(bench: Bench) -> None:
    """A leader's proposal was under way when the directory failed: the ISR had a member that was gone."""
    assign(bench, 1, D1)
    bench.heartbeat(1, offline_log_dirs=(D1,))
    assert bench.alter("t", (1, 2, 3)).error_code is ErrorCode.INELIGIBLE_REPLICA
    assert assign(bench, 1, D2) is ErrorCode.NONE
    assert bench.alter("t", (1, 2, 3)).error_code is ErrorCode.NONE


def test_nobody_leads_from_a_failed_directory(bench: Bench) -> None:
    bench.create_on("alone", (1,))
    assign(bench, 1, D1, "alone")
    bench.heartbeat(1, offline_log_dirs=(D1,))
    state = bench.partition("alone")
    assert (state.leader, state.isr, state.elr, state.last_known_leader) == (NO_NODE, (), (), 1)
    bench.fence(1)
    bench.open_session(1)
    bench.heartbeat(1)
    assert bench.partition("alone").leader == NO_NODE


def come_back(bench: Bench, broker_id: int, *directories: bytes) -> None:
    bench.fence(broker_id)
    bench.now_ms += 60_000
    start(bench, broker_id, *directories)


def test_the_last_replica_of_a_lost_directory_does_not_come_back_empty(bench: Bench) -> None:
    """The disk was replaced: an empty log would have led, and every acknowledged record was gone."""
    bench.create_on("alone", (3,))
    come_back(bench, 3, NEW)
    assert bench.partition("alone").leader == NO_NODE
    assert assign(bench, 3, NEW, "alone") is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
    assert (bench.partition("alone").leader, bench.partition("alone").directories) == (NO_NODE, (D1,))
    come_back(bench, 3, D1)
    assert bench.partition("alone").leader == 3


def test_it_does_where_the_topic_elects_uncleanly() -> None:
    bench = Bench()
    start(bench, 3, D1)
    bench.create_on("alone", (3,), configs={"unclean.leader.election.enable": "true"})
    come_back(bench, 3, NEW)
    assert assign(bench, 3, NEW, "alone") is ErrorCode.NONE
    assert (bench.partition("alone").leader, bench.partition("alone").directories) == (3, (NEW,))


def test_a_replaced_replica_is_out_of_the_isr_when_others_have_what_it_had(bench: Bench) -> None:
    assign(bench, 1, D1)
    bench.heartbeat(1, offline_log_dirs=(D1,))
    bench.fence(2, 3)
    assert assign(bench, 1, D2) is ErrorCode.NONE
    assert (bench.partition("t").leader, bench.partition("t").directories[0]) == (NO_NODE, D2)
    assert NodeId(1) not in bench.partition("t").isr


def test_replicas_that_stay_keep_their_directories(bench: Bench) -> None:
    assign(bench, 1, D2)
    state = bench.partition("t")
    change = PartitionChange(topic_id=state.topic_id, partition=0, replicas=(NodeId(3), NodeId(1)))
    replayed = bench.state.replay(Offset(bench.image.offset + 1), [change])
    after = replayed.image.partition("t", 0)
    assert after is not None
    assert after.directories == (D1, D2)
