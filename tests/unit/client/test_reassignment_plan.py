"""Plans are rack-aware, even, small and always the same."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pytest
from glasslog.client.reassignment_plan import Assignment, Move, balanced, drained
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from hypothesis import given
from hypothesis import strategies as st


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Partitions, the brokers to be used, and their racks."""

    current: Assignment
    racks: Mapping[NodeId, str]


def assignment(*replicas: tuple[int, ...]) -> Assignment:
    return {TopicPartition("t", number): tuple(map(NodeId, each)) for number, each in enumerate(replicas)}


def brokers(*racks: str) -> Mapping[NodeId, str]:
    return {NodeId(number): rack for number, rack in enumerate(racks, 1)}


def after(current: Assignment, moves: Iterable[Move]) -> Assignment:
    return {**current, **{move.partition: move.after for move in moves}}


def replicas_per_broker(planned: Assignment, racks: Mapping[NodeId, str]) -> list[int]:
    counts = Counter(node for replicas in planned.values() for node in replicas)
    return [counts[node] for node in racks]


def leaders_per_broker(planned: Assignment, racks: Mapping[NodeId, str]) -> list[int]:
    counts = Counter(replicas[0] for replicas in planned.values())
    return [counts[node] for node in racks]


def rack_shares(replicas: tuple[NodeId, ...], racks: Mapping[NodeId, str]) -> list[int]:
    counts = Counter(racks[node] for node in replicas)
    return [counts[rack] for rack in sorted(set(racks.values()))]


@st.composite
def clusters(draw: st.DrawFn, *, equal_racks: bool, one_factor: bool, most_gone: int = 2) -> Cluster:
    rack_count = draw(st.integers(1, 4))
    if equal_racks:
        sizes = [draw(st.integers(1, 3))] * rack_count
    else:
        sizes = draw(st.lists(st.integers(1, 3), min_size=rack_count, max_size=rack_count))
    names = [f"r{rack}" for rack, size in enumerate(sizes) for _ in range(size)]
    racks = {NodeId(number): rack for number, rack in enumerate(names, 1)}
    gone = [NodeId(100 + number) for number in range(draw(st.integers(0, most_gone)))]
    everybody = [*racks, *gone]
    factor = draw(st.integers(1, min(4, len(racks))))
    factors = st.just(factor) if one_factor else st.integers(1, factor)
    current = {}
    for number in range(draw(st.integers(0, 25))):
        order = draw(st.permutations(everybody))
        current[TopicPartition("t", number)] = tuple(order[: draw(factors)])
    return Cluster(current=current, racks=racks)


any_cluster = clusters(equal_racks=False, one_factor=False)
equal_cluster = clusters(equal_racks=True, one_factor=True)


@given(cluster=any_cluster)
def test_every_partition_keeps_its_factor_on_usable_brokers_and_fair_racks(cluster: Cluster) -> None:
    planned = after(cluster.current, balanced(cluster.current, cluster.racks))
    sizes = Counter(cluster.racks.values())
    for name, replicas in planned.items():
        assert len(set(replicas)) == len(cluster.current[name]) == len(replicas)
        assert all(node in cluster.racks for node in replicas)
        shares = dict(zip(sorted(sizes), rack_shares(replicas, cluster.racks), strict=True))
        for rack, share in shares.items():
            assert share + 1 >= max(shares.values()) or share == sizes[rack]


@given(cluster=equal_cluster)
def test_equal_brokers_differ_by_one_replica_and_one_leader_at_most(cluster: Cluster) -> None:
    planned = after(cluster.current, balanced(cluster.current, cluster.racks))
    for counts in (
        replicas_per_broker(planned, cluster.racks),
        leaders_per_broker(planned, cluster.racks),
    ):
        assert max(counts) - min(counts) <= 1


@given(cluster=any_cluster)
def test_what_was_planned_needs_no_other_plan(cluster: Cluster) -> None:
    planned = after(cluster.current, balanced(cluster.current, cluster.racks))
    assert balanced(planned, cluster.racks) == ()


@given(cluster=any_cluster, data=st.data())
def test_the_order_of_what_is_given_does_not_matter(cluster: Cluster, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(cluster.current.items()))))
    racks = dict(data.draw(st.permutations(list(cluster.racks.items()))))
    assert balanced(shuffled, racks) == balanced(cluster.current, cluster.racks)


@given(cluster=clusters(equal_racks=True, one_factor=False, most_gone=0))
def test_without_racks_no_plan_could_copy_less(cluster: Cluster) -> None:
    """Whoever has too many must give those away, and whoever has too few must get them."""
    racks = dict.fromkeys(cluster.racks, "")
    moves = balanced(cluster.current, racks)
    counts = replicas_per_broker(cluster.current, racks)
    total = sum(len(replicas) for replicas in cluster.current.values())
    low, high = total // len(racks), -(-total // len(racks))
    too_many = sum(max(0, count - high) for count in counts)
    too_few = sum(max(0, low - count) for count in counts)
    assert sum(len(move.added) for move in moves) == max(too_many, too_few)


@given(cluster=any_cluster)
def test_draining_moves_nothing_that_may_stay(cluster: Cluster) -> None:
    leaving = NodeId(100)
    moves = drained(cluster.current, cluster.racks, leaving=leaving)
    touched = {move.partition for move in moves}
    for name, replicas in cluster.current.items():
        assert (name in touched) == (leaving in replicas)
    for move in moves:
        assert move.removed == (leaving,)
        assert len(set(move.after)) == len(move.before)
        assert all(node in cluster.racks for node in move.added)
        if move.before[0] != leaving:
            assert move.after[0] == move.before[0]


def test_draining_fills_the_emptiest_on_another_rack() -> None:
    current = assignment((1, 2), (1, 3), (3, 1), (2, 4), (3, 2))
    moves = drained(current, brokers("a", "b", "c", "c", "c"), leaving=NodeId(1))
    assert {str(move.partition): move.after for move in moves} == {
        "t-0": (5, 2),
        "t-1": (2, 3),
        "t-2": (3, 2),
    }


def test_draining_is_refused_where_a_partition_is_everywhere_already() -> None:
    with pytest.raises(GlasslogError, match="t-0 has 3 replicas and only 2 brokers"):
        drained(assignment((1, 2, 3)), brokers("a", "b", "c"), leaving=NodeId(3))


def test_a_new_broker_gets_its_share_and_nobody_else_anything() -> None:
    current = assignment(*((1, 2, 3), (2, 3, 1), (3, 1, 2)) * 4)
    moves = balanced(current, brokers("a", "b", "c", "d"))
    planned = after(current, moves)
    assert replicas_per_broker(planned, brokers("a", "b", "c", "d")) == [9, 9, 9, 9]
    assert {node for move in moves for node in move.added} == {4}
    assert leaders_per_broker(planned, brokers("a", "b", "c", "d")) == [3, 3, 3, 3]


def test_replicas_that_share_a_rack_part() -> None:
    current = assignment((1, 2), (3, 4))
    moves = balanced(current, brokers("a", "a", "b", "b"))
    for replicas in after(current, moves).values():
        assert rack_shares(replicas, brokers("a", "a", "b", "b")) == [1, 1]


def test_where_no_replica_can_go_directly_a_chain_is_found() -> None:
    """Broker 1 has three and broker 3 has one, but all that 1 has is on 3's rack already."""
    racks = brokers("a", "b", "b")
    current = assignment((1,), (1,), (1,), (1,), (2,), (2,), (3,), (3,))
    assert sorted(replicas_per_broker(after(current, balanced(current, racks)), racks)) == [2, 3, 3]


def test_leaders_alone_move_without_copies() -> None:
    current = assignment((1, 2), (1, 2), (1, 2), (1, 2))
    moves = balanced(current, brokers("", ""))
    assert [move.after for move in moves] == [(2, 1), (2, 1)]
    assert all(not move.added and not move.removed for move in moves)


def test_more_replicas_than_brokers_is_refused() -> None:
    with pytest.raises(GlasslogError, match="t-0 has 3 replicas and only 2 brokers") as refused:
        balanced(assignment((1, 2, 3)), brokers("a", "b"))
    assert refused.value.code is ErrorCode.INVALID_REPLICATION_FACTOR
