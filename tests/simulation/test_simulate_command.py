"""``glasslog simulate``: what it prints, how it ends, and what it refuses, each in one line."""

import json
import subprocess
from pathlib import Path

import pytest
from glasslog.client.cli.main import main
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.request import Request
from glasslog.simulator.run import run
from glasslog.simulator.shrinking import Shrinking
from glasslog.simulator.switches.catalog import SWITCHES

SCENARIO = "stale-high-watermark"
SWITCH = "truncate-to-high-watermark"


def simulate(*arguments: str) -> int:
    return main(["simulate", *arguments])


def test_a_good_run_says_what_it_was_and_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "1", "--scenario", SCENARIO) == 0
    out = capsys.readouterr().out
    assert "seed 1: passed" in out
    assert "15 of 15 records" in out


def test_a_caught_bug_ends_with_one_and_tells_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "1", "--switch", SWITCH) == 1
    out = capsys.readouterr().out
    assert "seed 1: FAILED" in out
    assert "fault kill" in out
    assert f"glasslog simulate --seed 1 --scenario {SCENARIO} --switch {SWITCH}" in out


def test_a_run_as_json_can_be_replayed_with_the_same_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "1", "--scenario", SCENARIO, "--format", "json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["passed"] is True
    assert main([*first["replay"].split()[1:], "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace_hash"] == first["trace_hash"]


def test_the_trace_holds_every_event(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    assert simulate("--seed", "1", "--scenario", SCENARIO, "--trace", str(path), "--format", "json") == 0
    summary = json.loads(capsys.readouterr().out)
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    counts: dict[str, int] = {}
    for event in events:
        counts[event["event"]] = counts.get(event["event"], 0) + 1
    assert counts == summary["events"]
    assert counts["acknowledged"] == 15
    assert {"append", "replicate", "fetch", "high_watermark", "isr", "quorum", "fsync"} <= counts.keys()
    times = [event["at"] for event in events]
    assert times == sorted(times)


def test_a_switch_can_be_tried_on_the_drawn_mix(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seed", "1", "--switch", SWITCH, "--scenario", "drawn", "--duration", "1"]
    assert simulate(*arguments, "--format", "json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["scenario"], made["switch"]) == (None, SWITCH)
    assert made["replay"] == f"glasslog simulate --seed 1 --scenario drawn --switch {SWITCH} --duration 1"


def test_many_seeds_run_in_processes_and_the_failed_ones_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert simulate("--seeds", "1-3", "--switch", SWITCH, "--jobs", "2") == 1
    out = capsys.readouterr().out
    assert out.count(": FAILED\n") == 3
    assert "3 of 3 FAILED: 1, 2, 3" in out


def test_the_list_names_scenarios_and_switches_with_their_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--list") == 0
    text = capsys.readouterr().out
    assert simulate("--list", "--format", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert SCENARIO in {each["name"] for each in listed["scenarios"]}
    assert SWITCH in {each["name"] for each in listed["switches"]}
    for each in (*listed["scenarios"], *listed["switches"]):
        assert each["name"] in text
        assert each["origin"] in text
        assert each["description"] in text


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--scenario", "nonesuch"], 2, "no scenario is named nonesuch: see `glasslog simulate --list`"),
        (["--switch", "nonesuch"], 2, "no switch is named nonesuch: see `glasslog simulate --list`"),
        (["--seeds", "5-2"], 2, "--seeds 5-2: must be FIRST-LAST"),
        (["--seeds", "one"], 2, "--seeds one: must be FIRST-LAST"),
        (["--seeds", "1-2", "--seed", "3"], 2, "--seeds names the runs already"),
        (["--seeds", "0-99999999"], 2, "at most 1000000 seeds"),
        (["--seed", "-1"], 2, "--seed"),
        (["--duration", "0"], 2, "--duration"),
        (["--skip-faults", "1,x"], 2, "--skip-faults 1,x: must be numbers"),
        (["--seeds", "1-2", "--trace", "x"], 2, "--trace is of one run"),
        (["--seed", "1", "--trace", "no/such/folder/x"], 1, "--trace no/such/folder/x: No such file"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str], status: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*arguments) == status
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_shrinking_keeps_only_what_the_failure_needs() -> None:
    """Here it needs fault 3, at least two seconds, and ten records."""
    good = run(Request(seed=1, faulty_ms=500))

    def pretend(request: Request) -> Outcome:
        records = 400 if request.most_sends is None else request.most_sends
        fails = 3 not in request.skipped and request.faulty_ms >= 2_000 and records >= 10
        return Outcome(
            seed=request.seed,
            failure="it fails" if fails else "",
            check="invariant" if fails else "",
            plan=good.plan,
            faults={},
            events={},
            records=records,
            acknowledged=records,
            recovery_ms=0,
            virtual_ms=request.faulty_ms,
            real_s=0.1,
            trace_hash="",
            last_events=(),
        )

    request = Request(seed=1)
    tries: list[int] = []
    shrinking = Shrinking(pretend, request, pretend(request), lambda number, tried: tries.append(number))
    shrinking.shrink()
    found = shrinking.request
    assert pretend(found).failure
    assert 3 not in found.skipped
    assert found.skipped
    assert found.faulty_ms < 4_000
    assert found.most_sends is not None
    assert found.most_sends < 20
    assert tries == list(range(1, len(tries) + 1))
    assert "--skip-faults" in found.command()


def test_every_switch_names_a_scenario_that_exists_or_none() -> None:
    from glasslog.simulator.scenarios.catalog import SCENARIOS

    assert all(not switch.scenario or switch.scenario in SCENARIOS for switch in SWITCHES.values())


def test_make_sim_runs_the_seeds_that_it_is_asked_for() -> None:
    """For a day ``FIRST`` was declared and not used: the seeds that CI drew for each commit were 1 to 60."""
    asked = ["make", "--dry-run", "--no-print-directory", "sim", "SEEDS=3", "FIRST=700", "DURATION=30"]
    shown = subprocess.run(asked, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "simulate --seed 700 --count 3 --duration 30" in shown.stdout
