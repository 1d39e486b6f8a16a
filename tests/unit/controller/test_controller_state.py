"""The core as a state machine: what it decides replays to the same image everywhere, and its rules hold."""

from functools import partial

import pytest
from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.events import MAX_PARTITION_LINES, count_unclean_elections, describe
from glasslog.controller.requests import DeleteTopicsRequest, DeleteTopicsResponse
from glasslog.controller.state import ControllerState
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import PartitionChange
from glasslog.metadata.wire import decode_record, encode_record
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.controller.controller_bench import CLUSTER, Bench

brokers = st.integers(1, 4)
topics = st.sampled_from(["a", "b", "c"])


class ControllerMachine(RuleBasedStateMachine):
    """Random operations on one controller; a standby replays the bytes of its log, some of it late."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(auto_commit=False)
        self.standby = ControllerState(ControllerSettings(cluster_id=CLUSTER))
        self.replayed = 0

    @rule(broker=brokers, rack=st.sampled_from(["x", "y"]))
    def register(self, broker: int, rack: str) -> None:
        self.bench.register(broker, rack=rack)

    @rule(broker=brokers)
    def open_session(self, broker: int) -> None:
        if NodeId(broker) in self.bench.image.brokers:
            self.bench.open_session(broker)

    @rule(broker=brokers)
    def lose_session(self, broker: int) -> None:
        if NodeId(broker) in self.bench.image.brokers:
            self.bench.lose_session(broker)

    @rule(broker=brokers, fence=st.booleans(), shut_down=st.booleans())
    def heartbeat(self, broker: int, fence: bool, shut_down: bool) -> None:
        if NodeId(broker) in self.bench.image.brokers:
            self.bench.heartbeat(broker, want_fence=fence, want_shut_down=shut_down and fence)

    @rule(passed_ms=st.sampled_from([1, 150, 2_000, 9_000]))
    def let_time_pass(self, passed_ms: int) -> None:
        self.bench.now_ms += passed_ms
        self.bench.fence_expired()
        assert not self.bench.state.active.heartbeats.expired(self.bench.now_ms)

    @rule(name=topics, partitions=st.integers(1, 4), factor=st.integers(1, 3), unclean=st.booleans())
    def create(self, name: str, partitions: int, factor: int, unclean: bool) -> None:
        configs = {"unclean.leader.election.enable": str(unclean).lower()}
        self.bench.create(name, partitions=partitions, replication_factor=factor, configs=configs)

    @rule(name=topics)
    def delete(self, name: str) -> None:
        self.bench.ask(DeleteTopicsRequest(names=(name,)), DeleteTopicsResponse)

    @rule(name=topics, members=st.sets(brokers, max_size=3))
    def alter(self, name: str, members: set[int]) -> None:
        partition = self.bench.image.partition(name, 0)
        if partition is None or not partition.has_leader:
            return
        isr = tuple(sorted(members | {partition.leader}))
        outcome = self.bench.alter(name, isr)
        if outcome.error_code == 0:
            now = self.bench.partition(name)
            assert set(now.isr) == set(isr) == set(outcome.isr)
            assert now.partition_epoch == outcome.partition_epoch

    @rule()
    def commit(self) -> None:
        self.bench.commit()
        self._let_the_standby_follow()

    @precondition(lambda self: self.bench.committed == len(self.bench.log))
    @rule()
    def fail_over(self) -> None:
        """Another controller takes over where the log ends: nothing of the volatile state survives."""
        self._let_the_standby_follow()
        self.bench.state.stand_by(1, NO_NODE)
        self.bench.state.activate(1, self.bench.now_ms)

    def _let_the_standby_follow(self) -> None:
        data = [encode_record(record) for record in self.bench.log[self.replayed :]]
        if data:
            read = partial(tuple, map(decode_record, data))
            self.standby.commit(Offset(self.replayed), 1, len(data), read)
            self.replayed = len(self.bench.log)

    @invariant()
    def replay_gives_the_same_image(self) -> None:
        if self.replayed == len(self.bench.log):
            assert self.standby.committed == self.bench.image
        if self.bench.committed == len(self.bench.log):
            assert self.bench.state.committed == self.bench.image

    @invariant()
    def the_rules_hold(self) -> None:
        assert_sound(self.bench.image)

    def teardown(self) -> None:
        self._let_the_standby_follow()
        assert self.standby.committed == self.bench.image


def assert_sound(image: MetadataImage) -> None:
    for topic in image.topics.values():
        for partition in topic.partitions:
            where = f"{partition.topic}-{partition.partition}"
            assert {*partition.isr, *partition.elr} <= set(partition.replicas), where
            assert not {*partition.isr} & {*partition.elr}, where
            assert not partition.recovering or len(partition.isr) <= 1, where
            members = [image.brokers[member] for member in partition.isr]
            if partition.has_leader:
                assert partition.leader in partition.isr, where
                assert image.brokers[partition.leader].active, where
                assert all(member.active for member in members), where
            else:
                # Nobody who has everything may be there and not lead, and nobody is forgotten who led.
                assert not members, where
                could = (*partition.elr, *(() if partition.elr else (partition.last_known_leader,)))
                assert could, where
                assert NO_NODE not in could, where
                assert not any(image.brokers[node].active for node in could), f"{where} could have a leader"


ControllerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestControllerMachine = ControllerMachine.TestCase


def test_uncommitted_decisions_are_forgotten_with_the_leadership() -> None:
    bench = Bench(auto_commit=False)
    bench.start(1)
    bench.commit()
    bench.create("t", partitions=1, replication_factor=1)
    assert bench.image.topic("t") is not None
    bench.state.stand_by(2, NodeId(7))
    assert bench.state.committed.topic("t") is None
    with pytest.raises(InvariantViolation, match="not active"):
        _ = bench.state.active
    bench.state.activate(3, bench.now_ms)
    assert bench.image.topic("t") is None


def test_later_decisions_see_earlier_ones_before_they_are_committed() -> None:
    bench = Bench(auto_commit=False)
    bench.start(1)
    bench.create("t", partitions=1, replication_factor=1)
    assert bench.create("t").error_code == 36


# --- what people read ---


def lines_of(bench: Bench, before: MetadataImage, since: int) -> list[str]:
    return list(describe(before, bench.image, bench.log[since:]))


def test_lines_explain_a_change_of_leader() -> None:
    bench = Bench()
    bench.start(1, 2, 3)
    bench.create_on("t", (2, 1, 3), (1, 2, 3))
    before, since = bench.image, len(bench.log)
    bench.fence(2)
    assert lines_of(bench, before, since) == [
        "t-0: leader 2 -> 1 (epoch 1), ISR {1,3}",
        "t-1: ISR {1,2,3} -> {1,3}, leader 1",
        "broker 2 fenced",
    ]


def test_lines_name_what_comes_and_goes() -> None:
    bench = Bench()
    empty = bench.image
    bench.register(1, rack="east")
    bench.open_session(1)
    bench.heartbeat(1)
    bench.create("t", partitions=2, replication_factor=1)
    assert lines_of(bench, empty, 0) == [
        "broker 1 registered (epoch 0, rack east)",
        "broker 1 active",
        "topic t created with 2 partitions, replication factor 1",
    ]
    before, since = bench.image, len(bench.log)
    bench.heartbeat(1, want_shut_down=True)
    bench.ask(DeleteTopicsRequest(names=("t",)), DeleteTopicsResponse)
    assert lines_of(bench, before, since)[-2:] == [
        "broker 1 is shutting down; its leaderships move away",
        "topic t deleted",
    ]


def test_an_unclean_election_is_called_so() -> None:
    bench = Bench()
    bench.start(1, 2)
    bench.create_on("t", (1, 2), configs={"unclean.leader.election.enable": "true"})
    bench.alter("t", (1,))
    before, since = bench.image, len(bench.log)
    bench.fence(1)
    assert lines_of(bench, before, since)[0] == (
        "t-0: leader 1 -> 2 (epoch 1), ISR {2}; "
        "UNCLEAN: what ISR {1} acknowledged and broker 2 does not have is lost"
    )
    assert count_unclean_elections(before, bench.image, bench.log[since:]) == 1
    assert count_unclean_elections(bench.image, bench.image, bench.log[since:]) == 0


def test_thousands_of_leaderships_do_not_make_thousands_of_lines() -> None:
    bench = Bench()
    bench.start(1, 2)
    bench.create_on("t", *[(1, 2)] * 500)
    before, since = bench.image, len(bench.log)
    bench.fence(1)
    assert sum(isinstance(record, PartitionChange) for record in bench.log[since:]) == 500
    lines = lines_of(bench, before, since)
    assert len(lines) == MAX_PARTITION_LINES + 2
    assert lines[-1] == f"and {500 - MAX_PARTITION_LINES} more partitions likewise"
