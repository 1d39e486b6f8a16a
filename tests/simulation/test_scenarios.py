"""Every scenario passes; every switch is caught within its seeds, by a check and not by a crash."""

import pytest
from glasslog.simulator.request import Request
from glasslog.simulator.run import run
from glasslog.simulator.scenarios.catalog import SCENARIOS
from glasslog.simulator.switches.catalog import SWITCHES
from glasslog.simulator.switches.switch import patched


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_passes(name: str) -> None:
    for seed in range(3):
        outcome = run(Request(seed=seed, scenario=SCENARIOS[name]))
        assert not outcome.failure, f"seed {seed}: {outcome.failure}"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_caught_and_without_it_the_same_seeds_pass(name: str) -> None:
    switch = SWITCHES[name]
    scenario = SCENARIOS[switch.scenario] if switch.scenario else None
    caught = []
    for seed in range(switch.seeds):
        plain = run(Request(seed=seed, scenario=scenario))
        assert not plain.failure, f"seed {seed}: {plain.failure}"
        caught.append(run(Request(seed=seed, scenario=scenario, switch=switch)))
    failed = [outcome for outcome in caught if outcome.failure]
    assert failed, f"{name} went unnoticed in {switch.seeds} seeds"
    crashed = [outcome.failure for outcome in failed if outcome.check == "error"]
    assert not crashed


class Owner:
    def method(self) -> str:
        return "as it is"


def test_a_switch_replaces_something_only_for_its_length() -> None:
    with patched(Owner, "method", lambda self: "as it was"):
        assert Owner().method() == "as it was"
    assert Owner().method() == "as it is"


def test_a_switch_whose_code_has_gone_is_noticed() -> None:
    with pytest.raises(AttributeError, match="renamed"), patched(Owner, "renamed", None):
        pass
