"""Placement: distinct racks first, evenness where it is possible, the same result for the same seed."""

from collections import Counter

import pytest
from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import NodeId
from glasslog.controller.placement import place
from hypothesis import given
from hypothesis import strategies as st

Placement = tuple[tuple[NodeId, ...], ...]


def brokers(*racks: tuple[str, int]) -> dict[NodeId, str]:
    """``(rack, how many brokers)`` each."""
    names = [rack for rack, count in racks for _ in range(count)]
    return {NodeId(index + 1): rack for index, rack in enumerate(names)}


equal_racks = st.builds(
    lambda racks, each: brokers(*((f"r{index}", each) for index in range(racks))),
    st.integers(1, 5),
    st.integers(1, 4),
)
any_racks = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(
    lambda sizes: brokers(*((f"r{index}", size) for index, size in enumerate(sizes)))
)


def spread(counts: Counter[NodeId], racks: dict[NodeId, str]) -> int:
    values = [counts[broker] for broker in racks]
    return max(values) - min(values)


def replicas_of(placement: Placement) -> Counter[NodeId]:
    return Counter(broker for replicas in placement for broker in replicas)


def leaders_of(placement: Placement) -> Counter[NodeId]:
    return Counter(replicas[0] for replicas in placement)


@given(any_racks, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_replicas_are_on_distinct_brokers_and_on_as_many_racks_as_possible(
    racks: dict[NodeId, str], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    placement = place(racks, partitions=partitions, replication_factor=factor, seed=seed)
    assert len(placement) == partitions
    for replicas in placement:
        assert len(replicas) == len(set(replicas)) == factor
        assert len({racks[broker] for broker in replicas}) == min(factor, len(set(racks.values())))
    assert placement == place(racks, partitions=partitions, replication_factor=factor, seed=seed)


@given(equal_racks, st.integers(1, 80), st.integers(0, 2**31), st.data())
def test_equal_racks_share_leaders_and_replicas_evenly(
    racks: dict[NodeId, str], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    placement = place(racks, partitions=partitions, replication_factor=factor, seed=seed)
    assert spread(replicas_of(placement), racks) <= 1
    assert spread(leaders_of(placement), racks) <= 1


@given(any_racks, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_within_a_rack_replicas_are_shared_evenly(
    racks: dict[NodeId, str], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    counts = replicas_of(place(racks, partitions=partitions, replication_factor=factor, seed=seed))
    for rack in sorted(set(racks.values())):
        assert spread(counts, {broker: name for broker, name in racks.items() if name == rack}) <= 1


@given(any_racks, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_racks_take_equal_shares_of_a_partition_unless_too_small(
    racks: dict[NodeId, str], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    sizes = Counter(racks.values())
    for replicas in place(racks, partitions=partitions, replication_factor=factor, seed=seed):
        shares = Counter(racks[broker] for broker in replicas)
        most = max(shares.values())
        assert all(shares[rack] >= min(most - 1, size) for rack, size in sizes.items())


def test_a_failed_brokers_leaderships_go_to_several_others() -> None:
    racks = brokers(("a", 1), ("b", 1), ("c", 1))
    placement = place(racks, partitions=6, replication_factor=3, seed=0)
    for broker in racks:
        heirs = {replicas[1] for replicas in placement if replicas[0] == broker}
        assert len(heirs) == 2


def test_seeds_start_at_different_brokers() -> None:
    racks = brokers(("a", 2), ("b", 2), ("c", 2))
    first = {place(racks, partitions=1, replication_factor=3, seed=seed)[0][0] for seed in range(6)}
    assert first == set(racks)


def test_more_replicas_than_brokers_is_a_bug_of_the_caller() -> None:
    with pytest.raises(InvariantViolation, match="4 replicas on 3 brokers"):
        place(brokers(("a", 3)), partitions=1, replication_factor=4, seed=0)


@given(any_racks, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_with_fewer_racks_than_replicas_their_shares_differ_by_one_unless_a_rack_is_too_small(
    racks: dict[NodeId, str], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    sizes = Counter(racks.values())
    for replicas in place(racks, partitions=partitions, replication_factor=factor, seed=seed):
        shares = Counter(racks[broker] for broker in replicas)
        most = max(shares.values())
        assert all(shares[rack] + 1 >= most or shares[rack] == size for rack, size in sizes.items())
