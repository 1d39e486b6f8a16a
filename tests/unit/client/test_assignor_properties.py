"""What every assignor promises, all given once, and what each adds: even, sticky, near, cooperative."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from glasslog.client.assignors.members import Assignment, Assignor, Member, Racks
from glasslog.client.assignors.ranges import RangeAssignor
from glasslog.client.assignors.registry import ASSIGNORS
from glasslog.client.assignors.round_robin import RoundRobinAssignor
from glasslog.client.assignors.sticky import CooperativeStickyAssignor, StickyAssignor
from glasslog.common.ids import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

TOPICS = ["alpha", "beta", "gamma"]
RACKS = ["a", "b", "c"]
ALL = list(ASSIGNORS.values())
STICKY: list[Assignor] = [StickyAssignor(), CooperativeStickyAssignor()]

counts_of_topics = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9), min_size=1)


@st.composite
def members_of_groups(draw: st.DrawFn, *, same: bool = False) -> list[Member]:
    common = draw(st.sets(st.sampled_from(TOPICS), min_size=1)) if same else None
    return [
        Member(
            member_id=f"m-{number}",
            topics=tuple(sorted(common or draw(st.sets(st.sampled_from(TOPICS), min_size=1)))),
            group_instance_id=draw(st.sampled_from(["", "", f"static-{9 - number}"])),
            rack=draw(st.sampled_from(["", *RACKS])),
        )
        for number in range(draw(st.integers(1, 7)))
    ]


@st.composite
def racks_of(draw: st.DrawFn, counts: Mapping[str, int]) -> Racks:
    return {
        TopicPartition(topic, number): tuple(sorted(draw(st.sets(st.sampled_from(RACKS), max_size=3))))
        for topic, count in counts.items()
        for number in range(count)
    }


def everything(members: Sequence[Member], counts: Mapping[str, int]) -> set[TopicPartition]:
    wanted = {topic for member in members for topic in member.topics}
    return {TopicPartition(t, n) for t, count in counts.items() if t in wanted for n in range(count)}


def check_complete(members: Sequence[Member], counts: Mapping[str, int], assigned: Assignment) -> None:
    given_out = [partition for partitions in assigned.values() for partition in partitions]
    assert len(given_out) == len(set(given_out)), "given to two"
    assert set(given_out) == everything(members, counts)
    for member in members:
        assert {partition.topic for partition in assigned[member.member_id]} <= set(member.topics)


def check_even(members: Sequence[Member], assigned: Assignment) -> None:
    for giver in members:
        for taker in members:
            could = [each for each in assigned[giver.member_id] if each.topic in taker.topics]
            difference = len(assigned[giver.member_id]) - len(assigned[taker.member_id])
            assert not could or difference < 2, (giver, taker, assigned)


def owning(members: Sequence[Member], assigned: Assignment, generation_id: int) -> list[Member]:
    return [
        replace(member, owned=assigned[member.member_id], generation_id=generation_id) for member in members
    ]


def near(members: Sequence[Member], assigned: Assignment, racks: Racks) -> int:
    return sum(
        member.rack in racks.get(partition, ())
        for member in members
        for partition in assigned[member.member_id]
    )


@pytest.mark.parametrize("assignor", ALL, ids=lambda each: each.name)
@given(data=st.data(), members=members_of_groups(), counts=counts_of_topics)
def test_every_partition_goes_to_one_member_that_asked_for_it(
    assignor: Assignor, data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    racks = data.draw(racks_of(counts))
    assigned = assignor.assign(members, counts, racks)
    check_complete(members, counts, assigned)
    shuffled = data.draw(st.permutations(members))
    assert assignor.assign(shuffled, counts, racks) == assigned, "the order of joining is of no matter"


@given(data=st.data(), members=members_of_groups(), counts=counts_of_topics)
def test_range_is_even_in_each_topic_with_racks_too(
    data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    assigned = RangeAssignor().assign(members, counts, data.draw(racks_of(counts)))
    for topic in counts:
        sizes = [
            sum(partition.topic == topic for partition in assigned[member.member_id])
            for member in members
            if topic in member.topics
        ]
        assert not sizes or max(sizes) - min(sizes) <= 1


@given(members=members_of_groups(same=True), counts=counts_of_topics)
def test_round_robin_is_even_for_equal_subscriptions(members: list[Member], counts: dict[str, int]) -> None:
    check_even(members, RoundRobinAssignor().assign(members, counts))


@pytest.mark.parametrize("assignor", STICKY, ids=lambda each: each.name)
@given(data=st.data(), members=members_of_groups(), counts=counts_of_topics)
def test_sticky_is_even_and_stays_as_it_is(
    assignor: Assignor, data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    racks = data.draw(racks_of(counts))
    assigned = assignor.assign(members, counts, racks)
    check_even(members, assigned)
    assert assignor.assign(owning(members, assigned, 1), counts, racks) == assigned


@given(data=st.data(), members=members_of_groups(same=True), counts=counts_of_topics)
def test_sticky_moves_no_more_than_it_takes(
    data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    """With equal subscriptions that is known: what the members that stay have above their new share."""
    assignor = StickyAssignor()
    before = owning(members, assignor.assign(members, counts), 1)
    stayed = data.draw(st.lists(st.sampled_from(before), min_size=1, unique_by=lambda each: each.member_id))
    joined = [replace(stayed[0], member_id=f"new-{n}", owned=()) for n in range(data.draw(st.integers(0, 3)))]
    now = [replace(member, group_instance_id="") for member in [*stayed, *joined]]
    assigned = assignor.assign(now, counts)
    check_complete(now, counts, assigned)
    check_even(now, assigned)
    kept = sum(len(set(member.owned) & set(assigned[member.member_id])) for member in now)
    smallest, larger = divmod(sum(map(len, assigned.values())), len(now))
    could_keep = sorted((len(member.owned) for member in now), reverse=True)
    assert kept == sum(min(had, smallest + (at < larger)) for at, had in enumerate(could_keep))


@given(data=st.data(), members=members_of_groups(), counts=counts_of_topics)
def test_cooperative_members_settle_without_owning_twice(
    data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    """In each generation a partition is read by one at most; after two more, all is given out evenly."""
    assignor = CooperativeStickyAssignor()
    assigned = assignor.assign(members, counts)
    stayed = data.draw(st.lists(st.sampled_from(members), min_size=1, unique_by=lambda each: each.member_id))
    joined = [
        replace(member, member_id=f"{member.member_id}-new", group_instance_id="")
        for member in data.draw(members_of_groups())
    ]
    now = [*owning(stayed, assigned, 1), *joined]
    for generation_id in (2, 3):
        assigned = assignor.assign(now, counts)
        for member in now:
            for other in now:
                taken = set(assigned[member.member_id]) - set(member.owned)
                assert other is member or not taken & set(other.owned), "given away while it is still held"
        kept = {member.member_id: set(member.owned) for member in now}
        now = owning(now, assigned, generation_id)
        if all(kept[member.member_id] <= set(member.owned) for member in now):
            break
    check_complete(now, counts, assignor.assign(now, counts))
    check_even(now, assignor.assign(now, counts))


def test_who_claims_what_somebody_newer_has_does_not_get_it() -> None:
    """KIP-792: a member that slept through a generation still tells of partitions it has lost since."""
    partition = TopicPartition("t", 0)
    late = Member(member_id="a", topics=("t",), owned=(partition,), generation_id=3)
    current = Member(member_id="b", topics=("t",), owned=(partition,), generation_id=4)
    assert StickyAssignor().assign([late, current], {"t": 1}) == {"a": (), "b": (partition,)}


def test_a_chain_of_members_evens_out_what_no_single_move_could() -> None:
    """a has three, b two, c one, and a and c share no topic: only by way of b can c get another."""
    a = Member(member_id="a", topics=("x",), owned=tuple(TopicPartition("x", n) for n in range(3)))
    b = Member(member_id="b", topics=("x", "y"), owned=tuple(TopicPartition("y", n) for n in range(2)))
    c = Member(member_id="c", topics=("y",), owned=(TopicPartition("y", 2),))
    assigned = StickyAssignor().assign([a, b, c], {"x": 3, "y": 3})
    assert [len(assigned[name]) for name in "abc"] == [2, 2, 2]


@pytest.mark.parametrize("assignor", [RangeAssignor(), *STICKY], ids=lambda each: each.name)
def test_every_member_reads_on_its_rack_where_that_is_possible(assignor: Assignor) -> None:
    """One replica each, on three racks in turn; two members on each rack."""
    members = [Member(member_id=f"m-{n}", topics=("s", "t"), rack=RACKS[n // 2]) for n in range(6)]
    counts = {"s": 12, "t": 12}
    racks = {TopicPartition(t, n): (RACKS[n % 3],) for t in counts for n in range(12)}
    assigned = assignor.assign(members, counts, racks)
    check_even(members, assigned)
    assert near(members, assigned, racks) == 24
    for name, partitions in assigned.items():
        same = [[each.partition for each in partitions if each.topic == topic] for topic in counts]
        assert assignor.name != "range" or same[0] == same[1], f"{name} is aligned over topics"


@pytest.mark.parametrize("assignor", STICKY, ids=lambda each: each.name)
def test_nearness_comes_before_stickiness(assignor: Assignor) -> None:
    members = [
        Member(member_id="a", topics=("t",), rack="a", owned=(TopicPartition("t", 0),), generation_id=1),
        Member(member_id="b", topics=("t",), rack="b", owned=(TopicPartition("t", 1),), generation_id=1),
    ]
    racks = {TopicPartition("t", 0): ("b",), TopicPartition("t", 1): ("a",)}
    assigned = StickyAssignor().assign(members, {"t": 2}, racks)
    assert assigned == {"a": (TopicPartition("t", 1),), "b": (TopicPartition("t", 0),)}


@given(data=st.data(), members=members_of_groups(), counts=counts_of_topics)
def test_no_exchange_of_two_partitions_would_bring_more_near(
    data: st.DataObject, members: list[Member], counts: dict[str, int]
) -> None:
    racks = data.draw(racks_of(counts))
    if len({tuple(each) for each in racks.values()}) < 2:
        return
    assigned = StickyAssignor().assign(members, counts, racks)
    check_even(members, assigned)
    now = near(members, assigned, racks)
    for one in members:
        for other in members:
            for mine in assigned[one.member_id]:
                for theirs in assigned[other.member_id]:
                    if one is other or theirs.topic not in one.topics or mine.topic not in other.topics:
                        continue
                    changed = (mine, theirs)
                    before = (one.rack in racks[mine]) + (other.rack in racks[theirs])
                    after = (one.rack in racks[theirs]) + (other.rack in racks[mine])
                    assert after <= before, (now, one, other, changed)
