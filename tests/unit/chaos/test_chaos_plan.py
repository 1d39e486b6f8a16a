"""The plan of a run, and whom it hits: both follow from file, seed and view alone."""

from random import Random

import pytest
from glasslog.chaos.scenario.mix import mix
from glasslog.chaos.scenario.model import FaultKind, Scenario
from glasslog.chaos.scenario.reading import read_scenario
from glasslog.chaos.scenario.targets import ClusterView, Node, Placed, parse_target, resolve
from glasslog.chaos.scenario.timetable import timetable
from glasslog.common.ids import TopicPartition

TOPICS = ("orders", "log-0")
NODES = (
    *(Node(name=f"broker-{n}", node_id=n, role="broker", rack=f"rack-{'abc'[n - 1]}") for n in (1, 2, 3)),
    *(Node(name=f"controller-{n}", node_id=100 + n, role="controller") for n in (1, 2, 3)),
)
VIEW = ClusterView(
    nodes=NODES,
    partitions={
        TopicPartition("orders", 0): Placed(leader=2, replicas=(1, 2, 3), isr=(2, 3)),
        TopicPartition("orders", 1): Placed(leader=-1, replicas=(1, 2, 3), isr=(3,)),
        TopicPartition("log-0", 0): Placed(leader=1, replicas=(1, 3), isr=(1, 3)),
    },
    controller=102,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leader of orders-0", ("broker-2",)),
        ("leader of orders", ("broker-2",)),
        ("leader of orders-1", ()),
        ("leader of log-0", ("broker-1",)),
        ("followers of orders-0", ("broker-1", "broker-3")),
        ("follower of log-0-0", ("broker-3",)),
        ("active controller", ("controller-2",)),
        ("broker 3", ("broker-3",)),
        ("controller-1", ("controller-1",)),
        ("broker 9", ()),
        ("rack b", ("broker-2",)),
        ("rack rack-c", ("broker-3",)),
        ("all brokers", ("broker-1", "broker-2", "broker-3")),
        ("all controllers", ("controller-1", "controller-2", "controller-3")),
    ],
)
def test_a_role_is_looked_up_in_the_view(text: str, expected: tuple[str, ...]) -> None:
    assert resolve(parse_target(text, TOPICS), VIEW, Random(1)) == expected


@pytest.mark.parametrize(
    ("text", "count", "of"),
    [
        ("any broker", 1, "broker"),
        ("any controller", 1, "controller"),
        ("any node", 1, ""),
        ("standby controller", 1, "controller"),
        ("follower of orders-0", 1, "broker"),
        ("majority of controllers", 2, "controller"),
        ("minority of controllers", 1, "controller"),
    ],
)
def test_who_is_drawn_differs_with_the_seed_and_only_with_it(text: str, count: int, of: str) -> None:
    target = parse_target(text, TOPICS)
    drawn = [resolve(target, VIEW, Random(seed)) for seed in range(40)]
    assert drawn == [resolve(target, VIEW, Random(seed)) for seed in range(40)]
    assert len(set(drawn)) > 1
    assert all(len(set(names)) == count and all(name.startswith(of) for name in names) for names in drawn)


def test_a_standby_controller_does_not_lead() -> None:
    standby = parse_target("standby controller", TOPICS)
    assert all(resolve(standby, VIEW, Random(seed)) != ("controller-2",) for seed in range(20))


def planned(steps: str, seed: int = 1) -> list[tuple[int, int, FaultKind]]:
    return [(due.at_ms, due.end_ms, due.fault.kind) for due in timetable(scenario(steps), seed, Random)]


def scenario(steps: str) -> Scenario:
    head = "{name: s, description: d, duration: 20s, topics: [{name: orders}], steps: "
    return read_scenario(head + steps + "}", "s.yaml")


def test_steps_follow_each_other_in_time() -> None:
    steps = """[{at: 2s, kill: any broker, for: 3s}, {after: 1s, restart: all brokers},
        {after: 500ms, pause: any node}, {every: 8s, from: 3s, times: 2, stop: any broker, for: 1s}]"""
    assert planned(steps) == [
        (2000, 5000, FaultKind.KILL),
        (3000, 4000, FaultKind.STOP),
        (6000, 6000, FaultKind.RESTART),
        (6500, 20_000, FaultKind.PAUSE),
        (11_000, 12_000, FaultKind.STOP),
    ]


def test_a_fault_ends_with_the_scenario_at_the_latest() -> None:
    assert planned("[{every: 9s, kill: any broker, for: 5s}]") == [
        (9000, 14_000, FaultKind.KILL),
        (18_000, 20_000, FaultKind.KILL),
    ]


def test_one_of_several_faults_is_drawn_by_the_seed() -> None:
    steps = "[{every: 1s, one of: [{kill: any broker}, {pause: any broker}]}]"
    plans = {seed: planned(steps, seed) for seed in range(10)}
    assert plans == {seed: planned(steps, seed) for seed in range(10)}
    assert {kind for plan in plans.values() for _, _, kind in plan} == {FaultKind.KILL, FaultKind.PAUSE}
    assert len({tuple(plan) for plan in plans.values()}) > 5


def test_one_step_more_shifts_no_draw_of_another() -> None:
    steps = "[{every: 1s, one of: [{kill: any broker}, {pause: any broker}]}%s]"
    before = planned(steps % "")
    after = planned(steps % ",\n {at: 500ms, stop: any broker}")
    assert [each for each in after if each[2] is not FaultKind.STOP] == before


def test_the_mix_does_every_kind_that_it_is_given() -> None:
    kinds = (FaultKind.KILL, FaultKind.PAUSE)
    made = mix(kinds=kinds, duration_ms=60_000, every_ms=2_000, seed=3, rate=100, brokers=3)
    plan = timetable(made, 3, Random)
    assert len(plan) == 30
    assert {due.fault.kind for due in plan} == set(kinds)
    assert all(due.end_ms - due.at_ms == 800 for due in plan[:-1])
    assert len({str(due.fault.target) for due in plan}) == 4
