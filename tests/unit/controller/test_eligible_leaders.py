"""Eligible leader replicas (KIP-966): who becomes one, who stays one, and who leads when the ISR is empty."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

import pytest
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, Offset
from glasslog.controller.admin_requests import (
    AlterConfigsRequest,
    AlterConfigsResponse,
    ConfigEdit,
    ConfigOperation,
    ResourceEdits,
)
from glasslog.controller.decision import ControllerSettings
from glasslog.metadata.image import PartitionImage
from glasslog.metadata.records import FeatureLevel, ResourceType
from glasslog.metadata.wire import decode_record, encode_record
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.controller.controller_bench import CLUSTER, Bench

TWO = {"min.insync.replicas": "2"}


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2, 3), configs=TWO)
    return result


def sets(bench: Bench) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Leader, ISR, ELR."""
    found = bench.partition("t")
    return found.leader, found.isr, found.elr


def restart(bench: Bench, broker_id: int, *, clean: bool) -> None:
    """The process is new; ``clean``: its former life ended in order."""
    previous = bench.epoch(broker_id) if clean else BrokerEpoch(-1)
    bench.now_ms += 60_000
    bench.register(broker_id, previous_broker_epoch=previous)
    bench.open_session(broker_id)
    bench.heartbeat(broker_id)


def set_on(bench: Bench, kind: ResourceType, name: str, key: str, value: str) -> None:
    edit = ConfigEdit(key=key, operation=ConfigOperation.SET, value=value)
    resource = ResourceEdits(resource_type=kind, name=name, edits=(edit,))
    (result,) = bench.ask(AlterConfigsRequest(resources=(resource,)), AlterConfigsResponse).resources
    assert not result.error_code, result.error_message


# --- who becomes one ---


def test_leaving_an_isr_that_stays_large_enough_makes_nobody_eligible(bench: Bench) -> None:
    bench.alter("t", (1, 3))
    assert sets(bench) == (1, (1, 3), ())


def test_whoever_leaves_when_the_isr_becomes_too_small_is_eligible(bench: Bench) -> None:
    bench.alter("t", (1, 3))
    outcome = bench.alter("t", (1,))
    assert outcome.elr == (3,)
    assert sets(bench) == (1, (1,), (3,))
    bench.fence(3)
    assert sets(bench) == (1, (1,), (3,))


def test_an_isr_that_is_large_enough_again_leaves_nobody_eligible(bench: Bench) -> None:
    bench.alter("t", (1,))
    assert sets(bench) == (1, (1,), (2, 3))
    assert bench.alter("t", (1, 2)).elr == ()
    assert sets(bench) == (1, (1, 2), ())


def test_a_setting_above_the_number_of_replicas_means_all_of_them(bench: Bench) -> None:
    bench.create_on("few", (1, 2), configs={"min.insync.replicas": "3"})
    assert bench.partition("few").elr == ()
    bench.fence(2)
    assert (bench.partition("few").isr, bench.partition("few").elr) == ((1,), (2,))


def test_every_brokers_setting_counts_where_the_topic_has_none(bench: Bench) -> None:
    bench.create_on("plain", (1, 2, 3))
    set_on(bench, ResourceType.BROKER, "", "min.insync.replicas", "3")
    bench.fence(3)
    assert (bench.partition("plain").isr, bench.partition("plain").elr) == ((1, 2), (3,))


def test_the_controllers_own_setting_counts_last() -> None:
    bench = Bench(settings=ControllerSettings(cluster_id=CLUSTER, min_insync_replicas=2))
    bench.start(1, 2)
    bench.create_on("t", (1, 2))
    bench.fence(2)
    assert sets(bench) == (1, (1,), (2,))


# --- who leads ---


def test_an_eligible_replica_leads_when_the_isr_is_empty(bench: Bench) -> None:
    """The last replica in sync was lost; whoever had left just before had every acknowledged record."""
    bench.alter("t", (1, 3))
    bench.alter("t", (1,))
    bench.fence(1)
    assert sets(bench) == (3, (3,), (1,))
    assert bench.partition("t").leader_epoch == 1


def test_one_that_is_eligible_is_elected_when_it_is_back(bench: Bench) -> None:
    bench.alter("t", (1,))
    bench.fence(1, 2, 3)
    assert sets(bench) == (NO_NODE, (), (1, 2, 3))
    assert bench.partition("t").last_known_leader == 1
    bench.open_session(3)
    bench.heartbeat(3)
    assert sets(bench) == (3, (3,), (1, 2))
    assert bench.partition("t").last_known_leader == NO_NODE


def test_where_one_is_enough_nobody_stays_eligible_beside_a_new_leader(bench: Bench) -> None:
    """It commits alone at once: an eligible replica could be elected without that."""
    bench.create_on("one", (1, 2, 3))
    bench.fence(1, 2, 3)
    assert bench.partition("one").elr == (1, 2, 3)
    bench.open_session(2)
    bench.heartbeat(2)
    assert (bench.partition("one").isr, bench.partition("one").elr) == ((2,), ())


def test_an_unclean_stop_ends_eligibility(bench: Bench) -> None:
    bench.alter("t", (1, 3))
    bench.fence(3)
    assert sets(bench) == (1, (1,), (3,))
    restart(bench, 3, clean=False)
    assert sets(bench) == (1, (1,), ())
    bench.fence(1)
    assert sets(bench) == (NO_NODE, (), (1,))


def test_a_clean_stop_does_not(bench: Bench) -> None:
    bench.alter("t", (1, 3))
    bench.fence(3)
    restart(bench, 3, clean=True)
    assert sets(bench) == (1, (1,), (3,))
    bench.fence(1)
    assert sets(bench) == (3, (3,), (1,))


def test_a_marker_of_an_older_life_is_no_clean_stop(bench: Bench) -> None:
    """The directory was restored from before: its marker names a registration that is not the last one."""
    bench.alter("t", (1, 3))
    older = bench.epoch(3)
    restart(bench, 3, clean=True)
    bench.fence(3)
    bench.now_ms += 60_000
    bench.register(3, previous_broker_epoch=older)
    assert sets(bench) == (1, (1,), ())


def test_the_last_replica_that_lost_its_tail_does_not_lead_before_those_who_have_everything(
    bench: Bench,
) -> None:
    """The ISR had shrunk to one, which then lost what it had not synced, and led again all the same."""
    bench.alter("t", (1,))
    bench.fence(1, 2, 3)
    restart(bench, 1, clean=False)
    assert sets(bench) == (NO_NODE, (), (2, 3))
    bench.open_session(2)
    bench.heartbeat(2)
    assert sets(bench) == (2, (2,), (3,))


def test_with_nobody_eligible_left_the_last_known_leader_leads_again(bench: Bench) -> None:
    bench.fence(1, 2, 3)
    assert bench.partition("t").last_known_leader == 1
    for broker_id in (2, 1):
        restart(bench, broker_id, clean=False)
        assert not bench.partition("t").has_leader
    # The last one that could have had everything turns out not to: now the likeliest leads.
    restart(bench, 3, clean=False)
    assert sets(bench) == (1, (1,), ())


def test_a_topic_that_may_lose_records_does_not_wait(bench: Bench) -> None:
    bench.alter("t", (1,))
    bench.alter("t", (1, 2))
    bench.fence(1, 2)
    assert sets(bench) == (NO_NODE, (), (1, 2))
    set_on(bench, ResourceType.TOPIC, "t", "unclean.leader.election.enable", "true")
    assert sets(bench) == (3, (3,), ())


def test_an_orderly_stop_of_everything_keeps_everybody_eligible(bench: Bench) -> None:
    for broker_id in (1, 2, 3):
        for _ in range(2):
            bench.heartbeat(broker_id, want_shut_down=True)
        bench.lose_session(broker_id)
    assert sets(bench) == (NO_NODE, (), (2, 3))
    restart(bench, 1, clean=True)
    assert not bench.partition("t").has_leader
    restart(bench, 2, clean=True)
    assert sets(bench) == (2, (2,), (3,))


# --- settings and levels change ---


def test_a_lower_setting_ends_the_eligibility_of_those_who_will_lack_records(bench: Bench) -> None:
    """The leader commits alone from then on, and an eligible replica could be elected without that."""
    bench.alter("t", (1,))
    assert sets(bench) == (1, (1,), (2, 3))
    set_on(bench, ResourceType.TOPIC, "t", "min.insync.replicas", "1")
    assert sets(bench) == (1, (1,), ())


def test_a_lower_setting_takes_nobody_from_a_partition_that_waits_for_them(bench: Bench) -> None:
    bench.alter("t", (1,))
    bench.fence(1, 2, 3)
    set_on(bench, ResourceType.TOPIC, "t", "min.insync.replicas", "1")
    assert sets(bench) == (NO_NODE, (), (1, 2, 3))


def level(bench: Bench, to: int) -> None:
    record = FeatureLevel(name="eligible.leader.replicas.version", level=to)
    assert decode_record(encode_record(record)) == record
    replayed = bench.state.replay(Offset(bench.image.offset + 1), [record])
    bench.state.adopt(replayed, bench.now_ms)
    bench.log.append(record)
    bench.commit()


def test_at_level_0_the_last_isr_stays(bench: Bench) -> None:
    level(bench, 0)
    bench.alter("t", (1,))
    assert sets(bench) == (1, (1,), ())
    bench.fence(1)
    assert sets(bench) == (NO_NODE, (1,), ())
    restart(bench, 1, clean=False)
    assert sets(bench) == (1, (1,), ())


def test_going_back_to_level_0_forgets_nobody(bench: Bench) -> None:
    bench.alter("t", (1, 3))
    bench.fence(1, 3)
    assert sets(bench) == (NO_NODE, (), (1, 3))
    level(bench, 0)
    bench.open_session(3)
    bench.heartbeat(3)
    assert sets(bench) == (3, (3,), ())


def test_a_partition_of_level_0_is_not_stuck_at_level_1(bench: Bench) -> None:
    level(bench, 0)
    bench.alter("t", (1,))
    bench.fence(1)
    level(bench, 1)
    restart(bench, 1, clean=False)
    assert sets(bench) == (1, (1,), ())


# --- whatever happens ---


class Lives(RuleBasedStateMachine):
    """Brokers die, lose unsynced records or not, and return, while a model keeps everybody's log.

    Whoever is elected has every acknowledged record, unless nobody was left who surely had.
    """

    @initialize(least=st.integers(1, 3))
    def begin(self, least: int) -> None:
        self.bench = Bench()
        self.bench.start(1, 2, 3)
        self.bench.create_on("t", (1, 2, 3), configs={"min.insync.replicas": str(least)})
        self.least = least
        self.logs: dict[int, tuple[int, ...]] = {1: (), 2: (), 3: ()}
        self.committed: tuple[int, ...] = ()
        self.written = 0

    def now(self) -> PartitionImage:
        return self.bench.partition("t")

    def is_active(self, broker_id: int) -> bool:
        return self.bench.image.brokers[NodeId(broker_id)].active

    @precondition(lambda self: self.now().has_leader)
    @rule()
    def write(self) -> None:
        """The leader appends, those in sync follow; acknowledged where enough are."""
        state = self.now()
        self.written += 1
        log = (*self.logs[state.leader], self.written)
        self.logs.update(dict.fromkeys(state.isr, log))
        if len(state.isr) >= self.least and not state.elr:
            self.committed = log

    @precondition(lambda self: self.now().has_leader)
    @rule()
    def write_without_followers(self) -> None:
        """The leader alone has it, so that nobody is told that it is kept."""
        self.written += 1
        self.logs[self.now().leader] += (self.written,)

    @precondition(lambda self: self.now().has_leader)
    @rule(members=st.sets(st.sampled_from((1, 2, 3))))
    def propose(self, members: set[int]) -> None:
        """Who is let in has caught up before."""
        state = self.now()
        isr = {int(state.leader), *filter(self.is_active, members)}
        self.logs.update(dict.fromkeys(isr - {*state.isr}, self.logs[state.leader]))
        self.bench.alter("t", tuple(sorted(isr)))
        assert self.now().leader == state.leader

    @rule(who=st.sets(st.sampled_from((1, 2, 3)), min_size=1))
    def die(self, who: set[int]) -> None:
        with self.elections():
            self.bench.fence(*sorted(filter(self.is_active, who)))

    @rule(broker_id=st.sampled_from((1, 2, 3)))
    def unfence(self, broker_id: int) -> None:
        self.bench.open_session(broker_id)
        with self.elections():
            self.bench.heartbeat(broker_id)

    @rule(broker_id=st.sampled_from((1, 2, 3)))
    def stop_in_order(self, broker_id: int) -> None:
        with self.elections():
            self.bench.fence(*filter(self.is_active, (broker_id,)))
        with self.elections():
            restart(self.bench, broker_id, clean=True)

    @rule(broker_id=st.sampled_from((1, 2, 3)), kept=st.integers(0, 5))
    def crash(self, broker_id: int, kept: int) -> None:
        with self.elections():
            self.bench.fence(*filter(self.is_active, (broker_id,)))
        self.logs[broker_id] = self.logs[broker_id][:kept]
        with self.elections(lost=broker_id):
            restart(self.bench, broker_id, clean=False)

    @contextmanager
    def elections(self, lost: int = NO_NODE) -> Iterator[None]:
        """Whoever leads afterwards is one of those who may; ``lost`` is not any more."""
        before = self.now()
        yield
        after = self.now()
        if after.leader in (before.leader, NO_NODE):
            return
        sure = {*before.isr, *before.elr} - {lost}
        if sure:
            assert after.leader in sure
        else:
            assert after.leader in (before.last_known_leader, lost)
            self.committed = tuple(takewhile(self.committed.__contains__, self.logs[after.leader]))

    @invariant()
    def who_leads_and_who_may_has_everything(self) -> None:
        state = self.now()
        for broker_id in (*state.isr, *state.elr):
            assert self.logs[broker_id][: len(self.committed)] == self.committed, (broker_id, state)

    @invariant()
    def the_sets_fit(self) -> None:
        state = self.now()
        assert not {*state.isr} & {*state.elr}
        assert not state.elr or len(state.isr) < self.least
        assert state.has_leader == bool(state.isr)
        assert state.has_leader != (state.last_known_leader != NO_NODE)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
