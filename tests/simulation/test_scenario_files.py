"""The files of ``glasslog chaos run`` in the simulator: shipped ones, every fault, and the same run again."""

import json
from dataclasses import replace

import pytest
from glasslog.chaos.scenario.model import Scenario
from glasslog.chaos.scenario.reading import read_scenario
from glasslog.chaos.scenario.shipped import find_scenario, shipped_names
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.main import main
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.request import Request
from glasslog.simulator.run import run
from glasslog.simulator.scenario_files import simulated
from glasslog.simulator.switches.catalog import SWITCHES

RATE = 20
NETWORK = """\
name: network
description: Everything that can happen between nodes, one after the other.
duration: 6s
topics: [{name: orders, partitions: 2, configs: {min.insync.replicas: 2}}]
producers: [{rate: 20}]
steps:
  - {at: 500ms, disconnect: leader of orders-0, for: 1s}
  - {after: 300ms, partition: follower of orders-0, others: all brokers, for: 500ms}
  - {after: 300ms, one-way: active controller, for: 700ms}
  - {after: 300ms, latency: any broker, by: 100ms, for: 500ms}
  - {after: 100ms, stop: any broker, for: 500ms}
"""


def lightly(scenario: Scenario) -> Scenario:
    """The same with little load: what is simulated here are the faults."""
    return replace(
        scenario, producers=tuple(replace(producers, rate=RATE) for producers in scenario.producers)
    )


def outcome_of(scenario: Scenario, *, seed: int = 1, lines: list[str] | None = None) -> Outcome:
    request = Request(seed=seed, scenario=simulated(lightly(scenario), scenario.name))
    return run(request, sink=None if lines is None else lines.append)


def faults(lines: list[str]) -> list[str]:
    return [event["text"] for event in map(json.loads, lines) if event["event"] == "chaos"]


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_scenario_passes(name: str) -> None:
    lines: list[str] = []
    outcome = outcome_of(find_scenario(name), lines=lines)
    assert outcome.failure == ""
    assert outcome.acknowledged == outcome.records > 100
    assert not [text for text in faults(lines) if "left out" in text]


def test_every_fault_between_nodes_is_done_and_undone() -> None:
    lines: list[str] = []
    outcome = outcome_of(read_scenario(NETWORK, "network.yaml"), lines=lines)
    assert outcome.failure == ""
    told = faults(lines)
    for kind in ("disconnect", "partition", "one-way", "latency", "stop"):
        assert [text for text in told if text.startswith(f"{kind} ")], told
        assert [text for text in told if text.endswith(f"{kind} is over")], told


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = read_scenario(NETWORK, "network.yaml")
    first, again, other = (outcome_of(scenario, seed=seed).trace_hash for seed in (4, 4, 5))
    assert first == again != other


def test_a_bug_of_the_past_is_found_by_what_clients_saw() -> None:
    """A verdict that can not be bad says nothing: a leader that forgets sequence numbers is caught."""
    text = NETWORK.partition("steps:")[0] + "steps:\n  - {every: 700ms, kill: leader of orders-0, for: 300ms}"
    request = Request(
        seed=2,
        scenario=simulated(read_scenario(text, "kills.yaml"), "kills.yaml"),
        switch=SWITCHES["forgotten-producers"],
    )
    assert run(request).check == "history"


def test_what_the_simulated_network_can_not_do_is_refused() -> None:
    text = NETWORK.replace("latency: any broker, by: 100ms", "reset: any broker")
    with pytest.raises(CommandError, match="reset is of TCP"):
        simulated(read_scenario(text, "network.yaml"), "network.yaml")


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("no-such-file.yaml",), 1, "no file and no scenario of ours"),
        (("leader-kill", "--scenario", "calm"), 2, "two stories"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_in_one_line(
    arguments: tuple[str, ...], status: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--scenario-file", *arguments]) == status
    assert why in capsys.readouterr().err


def test_a_run_can_be_made_again_by_its_command() -> None:
    scenario = simulated(find_scenario("leader-kill"), "leader-kill")
    request = Request(seed=3, scenario=scenario)
    assert request.command() == "glasslog simulate --seed 3 --scenario-file leader-kill"
