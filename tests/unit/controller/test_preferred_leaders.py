"""Leaderships return to the first of their replicas when enough have gone astray."""

from dataclasses import replace

from glasslog.common.ids import NodeId
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.preferred_leaders import MAX_ELECTIONS_PER_ROUND
from glasslog.controller.requests import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    Reassignment,
    RebalanceLeadersRequest,
    RebalanceLeadersResponse,
)

from tests.unit.controller.controller_bench import CLUSTER, Bench

SETTINGS = ControllerSettings(cluster_id=CLUSTER)


def bench(*assignment: tuple[int, ...], percentage: int = 10) -> Bench:
    result = Bench(replace(SETTINGS, leader_imbalance_per_broker_percentage=percentage))
    result.start(1, 2, 3)
    result.create_on("t", *assignment)
    return result


def look(on: Bench) -> RebalanceLeadersResponse:
    return on.ask(RebalanceLeadersRequest(), RebalanceLeadersResponse)


def leaders(on: Bench) -> list[int]:
    topic = on.image.topic("t")
    assert topic is not None
    return [partition.leader for partition in topic.partitions]


def astray(on: Bench, *, is_back_in_sync: bool = True) -> None:
    """Broker 1 was away: others lead what it led."""
    on.fence(1)
    on.heartbeat(1)
    topic = on.image.topic("t")
    assert topic is not None
    for partition in topic.partitions if is_back_in_sync else ():
        if 1 in partition.replicas:
            on.alter("t", tuple(sorted(partition.replicas)), partition.partition)


def test_leaders_return_to_a_broker_that_is_back_in_sync() -> None:
    on = bench((1, 2, 3))
    astray(on)
    before = on.partition("t")
    assert before.leader == 2
    assert look(on) == RebalanceLeadersResponse(elected=1, has_more=False)
    after = on.partition("t")
    assert (after.leader, after.leader_epoch, after.isr) == (1, before.leader_epoch + 1, before.isr)
    assert look(on).elected == 0


def test_one_that_is_not_in_sync_waits() -> None:
    on = bench((1, 2, 3))
    astray(on, is_back_in_sync=False)
    assert look(on).elected == 0
    assert leaders(on) == [2]


def test_few_that_are_astray_stay_there() -> None:
    """Every tenth is nothing to disturb clients for; more than that is."""
    on = bench(*((1, 2),) * 10, percentage=10)
    astray(on)
    on.state.settings = replace(on.settings, leader_imbalance_per_broker_percentage=100)
    assert look(on).elected == 0
    on.state.settings = replace(on.settings, leader_imbalance_per_broker_percentage=99)
    assert look(on).elected == 10


def test_nothing_moves_while_a_broker_is_shut_down_in_order() -> None:
    on = bench((1, 2, 3), (3, 2, 1))
    astray(on)
    on.heartbeat(3, want_shut_down=True)
    assert on.image.brokers[NodeId(3)].in_controlled_shutdown
    assert look(on).elected == 0
    on.heartbeat(3, want_shut_down=True)
    assert on.image.brokers[NodeId(3)].fenced
    assert look(on).elected == 1


def test_a_partition_that_is_being_moved_is_left_alone() -> None:
    on = bench((2, 3))
    target = Reassignment(topic="t", partition=0, replicas=(NodeId(1), NodeId(3)))
    on.ask(AlterPartitionReassignmentsRequest(reassignments=(target,)), AlterPartitionReassignmentsResponse)
    on.fence(3)
    on.alter("t", (1, 2))
    assert on.partition("t").is_moving
    assert look(on).elected == 0


def test_very_many_return_in_several_rounds() -> None:
    count = MAX_ELECTIONS_PER_ROUND + 1
    on = bench(*((1, 2),) * count, percentage=0)
    astray(on)
    assert look(on) == RebalanceLeadersResponse(elected=MAX_ELECTIONS_PER_ROUND, has_more=True)
    assert look(on) == RebalanceLeadersResponse(elected=1, has_more=False)
    assert set(leaders(on)) == {1}
