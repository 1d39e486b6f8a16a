"""Elections: who leads when brokers leave and return, and what becomes of the ISR."""

import pytest
from glasslog.common.ids import NO_NODE
from glasslog.controller.requests import NewTopic

from tests.unit.controller.controller_bench import Bench

UNCLEAN = {"unclean.leader.election.enable": "true"}


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    return result


def test_a_fenced_leader_is_followed_by_the_first_of_the_isr_in_the_order_of_the_assignment(
    bench: Bench,
) -> None:
    bench.create_on("t", (2, 3, 1))
    assert bench.fence(2) == (2,)
    after = bench.partition("t")
    assert (after.leader, after.isr, after.leader_epoch, after.partition_epoch) == (3, (3, 1), 1, 1)


def test_a_fenced_follower_leaves_the_isr_without_a_new_term_for_the_leader(bench: Bench) -> None:
    bench.create_on("t", (1, 2, 3))
    bench.fence(3)
    after = bench.partition("t")
    assert (after.leader, after.isr, after.leader_epoch, after.partition_epoch) == (1, (1, 2), 0, 1)


def test_only_members_of_the_isr_are_elected(bench: Bench) -> None:
    bench.create_on("t", (1, 2, 3))
    assert bench.alter("t", (1, 3)).error_code == 0
    bench.fence(1)
    assert (bench.partition("t").leader, bench.partition("t").isr) == (3, (3,))


def test_the_last_member_of_the_isr_leads_again_when_it_is_back(bench: Bench) -> None:
    bench.create_on("t", (1, 2))
    bench.fence(2)
    bench.fence(1)
    orphan = bench.partition("t")
    assert (orphan.leader, orphan.isr, orphan.elr, orphan.leader_epoch) == (NO_NODE, (), (1,), 1)

    assert not bench.heartbeat(2).is_fenced
    assert not bench.partition("t").has_leader, "broker 2 may lack acknowledged records"

    assert not bench.heartbeat(1).is_fenced
    found = bench.partition("t")
    assert (found.leader, found.isr, found.elr, found.leader_epoch) == (1, (1,), (), 2)


def test_two_brokers_that_die_together_do_not_inherit_from_each_other(bench: Bench) -> None:
    bench.create_on("t", (1, 2, 3), (2, 1, 3))
    bench.fence(1, 2)
    assert [bench.partition("t", index).leader for index in (0, 1)] == [3, 3]
    assert [bench.partition("t", index).leader_epoch for index in (0, 1)] == [1, 1]


def test_who_is_still_away_does_not_count_as_in_sync_with_the_leader_that_is_back(bench: Bench) -> None:
    """Both replicas died together and stayed in the ISR, when there was no ELR for them.

    The first one back led with the dead one in its ISR, and nothing was acknowledged until that had been
    silent for the whole replica.lag.time.max.ms.
    """
    bench.create_on("t", (1, 2))
    bench.fence(1, 2)
    orphan = bench.partition("t")
    assert (orphan.leader, orphan.isr, orphan.elr) == (NO_NODE, (), (1, 2))
    bench.heartbeat(2)
    assert (bench.partition("t").leader, bench.partition("t").isr) == (2, (2,))


def test_leaderships_stay_where_they_went_when_a_broker_returns(bench: Bench) -> None:
    bench.create_on("t", (1, 2))
    bench.fence(1)
    bench.heartbeat(1)
    assert (bench.partition("t").leader, bench.partition("t").isr) == (2, (2,))


def test_unclean_election_happens_only_where_the_topic_allows_it(bench: Bench) -> None:
    bench.create_on("safe", (1, 2))
    bench.create_on("unsafe", (1, 2), configs=UNCLEAN)
    for name in ("safe", "unsafe"):
        assert bench.alter(name, (1,)).error_code == 0
    bench.fence(1)
    assert not bench.partition("safe").has_leader
    assert (bench.partition("unsafe").leader, bench.partition("unsafe").isr) == (2, (2,))


def test_a_partition_recovers_from_an_unclean_election_by_its_leaders_first_isr_change(bench: Bench) -> None:
    """Until then its metadata says that the leader may lack acknowledged records (KIP-704)."""
    bench.create_on("t", (1, 2, 3), configs=UNCLEAN)
    bench.alter("t", (1,))
    assert not bench.partition("t").recovering
    bench.fence(1)
    found = bench.partition("t")
    assert (found.leader, found.isr, found.recovering) == (2, (2,), True)
    # The next one is elected uncleanly as well.
    bench.fence(2)
    found = bench.partition("t")
    assert (found.leader, found.isr, found.recovering) == (3, (3,), True)
    bench.open_session(1)
    bench.heartbeat(1)
    assert bench.alter("t", (3, 1)).error_code == 0
    assert not bench.partition("t").recovering


def test_each_partition_of_a_topic_fares_as_it_is_placed(bench: Bench) -> None:
    """What is decided for one goes for all that are placed alike, and only for these."""
    bench.create_on("t", (1, 2), (2, 1), (1, 2), (1, 3), (2, 3), (1, 2))
    bench.create_on("unsafe", (1, 2), configs=UNCLEAN)
    bench.alter("t", (1,), 2)
    bench.alter("unsafe", (1,))
    bench.fence(1)
    placed = [bench.partition("t", number) for number in range(6)]
    assert [each.partition for each in placed] == [*range(6)]
    assert [(each.leader, each.isr) for each in placed] == [
        (2, (2,)),
        (2, (2,)),
        (NO_NODE, ()),
        (3, (3,)),
        (2, (2, 3)),
        (2, (2,)),
    ]
    assert bench.partition("unsafe").leader == 2


def test_a_clean_election_needs_no_recovery(bench: Bench) -> None:
    bench.create_on("t", (1, 2, 3), configs=UNCLEAN)
    bench.fence(1)
    assert (bench.partition("t").leader, bench.partition("t").recovering) == (2, False)


def test_a_returning_replica_is_elected_uncleanly_where_nobody_else_is_left(bench: Bench) -> None:
    bench.create_on("unsafe", (1, 2), configs=UNCLEAN)
    bench.fence(2)
    bench.fence(1)
    assert bench.partition("unsafe").elr == (1,)
    bench.heartbeat(2)
    assert (bench.partition("unsafe").leader, bench.partition("unsafe").isr) == (2, (2,))


def test_a_topic_created_while_a_replica_is_fenced_starts_without_it_in_the_isr(bench: Bench) -> None:
    bench.fence(1)
    bench.create_on("t", (1, 2, 3))
    created = bench.partition("t")
    assert (created.leader, created.isr, created.replicas) == (2, (2, 3), (1, 2, 3))


def test_new_topics_go_to_active_brokers(bench: Bench) -> None:
    bench.fence(3)
    assert bench.create("t", partitions=4, replication_factor=2).error_code == 0
    assert all(set(bench.partition("t", index).replicas) == {1, 2} for index in range(4))
    assert isinstance(bench.new_topic("x"), NewTopic)
