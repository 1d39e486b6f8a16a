"""Scenario files: what they mean, and that a malformed one is refused with file, line and reason."""

from contextlib import suppress

import pytest
from glasslog.chaos.scenario.model import After, At, Every, FaultKind, Scenario
from glasslog.chaos.scenario.reading import read_scenario
from glasslog.chaos.scenario.shipped import find_scenario, shipped_names
from glasslog.chaos.scenario.yaml_fields import ScenarioError
from hypothesis import given
from hypothesis import strategies as st

HEAD = """\
name: sample
description: A sample.
duration: 30s
topics: [{name: orders}, {name: log-0, partitions: 1}]
"""


def read(steps: str, head: str = HEAD) -> Scenario:
    return read_scenario(f"{head}{steps}", "sample.yaml")


def test_a_file_becomes_a_scenario() -> None:
    scenario = read(
        """\
seed: 7
cluster: {brokers: 4, controllers: 1, racks: 2}
producers:
  - {topic: log-0, acks: 1, rate: 50, count: 2}
consumers:
  - {group: readers, members: 3}
recovery: 1m
steps:
  - {at: 1500ms, kill: leader of orders-1, for: 2s}
  - {after: 1s, partition: follower of log-0, others: all controllers}
  - {every: 5s, from: 10s, times: 2, one of: [{latency: any broker, by: 200ms}, {slow: rack b, share: 0.5}]}
"""
    )
    assert (scenario.seed, scenario.duration_ms, scenario.recovery_ms) == (7, 30_000, 60_000)
    assert (scenario.cluster.brokers, scenario.cluster.controllers, scenario.cluster.racks) == (4, 1, 2)
    (producers,) = scenario.producers
    assert (producers.topic, producers.acks, producers.is_idempotent) == ("log-0", "1", False)
    assert [str(fault) for step in scenario.steps for fault in step.faults] == [
        "kill leader of orders-1",
        "partition follower of log-0 from all controllers",
        "latency any broker by 200 ms",
        "slow rack b",
    ]
    assert [step.when for step in scenario.steps] == [
        At(ms=1500),
        After(ms=1000),
        Every(ms=5000, from_ms=10_000, times=2),
    ]
    assert [step.duration_ms for step in scenario.steps] == [2000, 0, 0]
    assert scenario.kinds == (FaultKind.KILL, FaultKind.SLOW, FaultKind.PARTITION, FaultKind.LATENCY)


@pytest.mark.parametrize(
    ("steps", "line", "reason"),
    [
        ("steps: [{at: 1s, kill: leader of orders-1, fro: 2s}]", 5, "has no field 'fro'"),
        ("steps:\n- at: 1s\n  kil: any broker", 6, "exactly one fault"),
        ("steps:\n- at: 1s\n  kill: king of orders", 7, "is no target"),
        ("steps:\n- at: 1s\n  kill: leader of order-1", 7, "no topic or partition of this scenario"),
        ("steps:\n- at: 1s\n  kill: leader of log-1", 7, "no topic or partition"),
        ("steps:\n- at: 1 hour\n  kill: any broker", 6, "must be a time"),
        ("steps:\n- kill: any broker", 6, "one of `at:`, `after:` and `every:`"),
        ("steps:\n- {at: 1s, every: 2s, kill: any broker}", 6, "one of `at:`"),
        ("steps:\n- {at: 1s, kill: any broker, pause: any broker}", 6, "exactly one fault"),
        ("steps:\n- {at: 1s, latency: any broker}", 6, "needs `by:`"),
        ("steps:\n- {at: 1s, slow: any broker, share: 1}", 6, "between 0 and 1"),
        (
            "steps:\n- {at: 1s, kill: any broker}\n- {at: 40s, kill: any broker}",
            7,
            "when the scenario is over",
        ),
        ("steps:\n- {at: 1s, kill: leader of orders-99}", 6, "orders has partitions 0 to"),
        ("steps:\n- {at: 1s, partition: any broker, others: followers of orders-99}", 6, "and no 99"),
        ("steps:\n- {every: 1ms, kill: any broker}", 6, "at least 10ms"),
        ("steps: kill", 5, "must be a list"),
        ("", 1, "needs `steps:`"),
        ("steps: []\nproducers: [{acks: some}]", 6, "one of all, 1, 0"),
        ("steps: []\nproducers: [{acks: 1, idempotent: true}]", 6, "needs acks: all"),
        ("steps: []\nconsumers: [{group: g}, {group: g}]", 6, "the same group"),
        ("steps: []\nsteps: []", 6, "has 'steps' twice"),
        ("steps: []\nseed: -1", 6, "whole number"),
        ("steps: []\ncluster: 3", 6, "must have fields"),
        ("steps: [", 5, "not YAML"),
        ("steps: []\nseed: !!python/object/apply:os.getcwd []", 6, "must be a text"),
    ],
)
def test_a_malformed_file_is_refused_with_line_and_reason(steps: str, line: int, reason: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(steps)
    assert str(caught.value).startswith(f"sample.yaml:{line}: "), caught.value
    assert reason in str(caught.value)


@given(st.text(max_size=60), st.sampled_from([HEAD, ""]))
def test_whatever_a_file_holds_it_is_a_scenario_or_refused(text: str, head: str) -> None:
    with suppress(ScenarioError):
        assert read(text, head).name == "sample"


def test_every_shipped_scenario_is_sound_and_explains_itself() -> None:
    assert "leader-kill" in shipped_names()
    for name in shipped_names():
        scenario = find_scenario(name)
        assert scenario.name == name
        assert scenario.steps


def test_an_unknown_name_tells_what_there_is() -> None:
    with pytest.raises(ScenarioError, match=r"no scenario of ours; there are .*leader-kill"):
        find_scenario("leader-kil")
