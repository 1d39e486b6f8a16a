"""The benchmarks' own arithmetic and report, and that one runs; what they measure is never asserted."""

import json
import subprocess
import sys

import pytest
from glasslog.client.cli.bench.figures import longest_gap_ms, percentile
from glasslog.client.cli.bench.pacing import Acknowledgement

from benchmarks.report import Failed, Figure, Outcome, Skipped, as_json, as_text
from tests.source_tree import ROOT


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_percentiles_are_values_that_were_measured(percent: int, expected: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == expected


def test_a_stall_begins_with_the_last_acknowledgement_before_the_kill() -> None:
    """Once only acknowledgements after the kill were looked at: a stall that began before went unseen."""
    times = {0: (0.0, 0.9, 1.3, 1.4), 1: (0.1, 1.05, 1.1, 1.2)}
    acks = [Acknowledgement(partition, 0.0, at) for partition, series in times.items() for at in series]
    assert longest_gap_ms(acks, after_s=1.1) == pytest.approx(400)


OUTCOMES: list[tuple[str, Outcome]] = [
    ("fast", [Figure(what="speed", value=123456.7, unit="records/s", aim="> 1", note="how")]),
    ("large", [Skipped(what="memory", reason="no /proc")]),
    ("broken", Failed(reason="it broke")),
]


def test_the_table_shows_figures_skips_and_failures() -> None:
    lines = [line.split("  ") for line in as_text(OUTCOMES).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows == [
        ["BENCHMARK", "FIGURE", "VALUE", "UNIT", "AIM", "NOTE"],
        ["fast", "speed", "123,457", "records/s", "> 1", "how"],
        ["large", "memory", "-", "skipped: no /proc"],
        ["broken", "-", "failed", "it broke"],
    ]


def test_the_document_has_the_same() -> None:
    document = json.loads(json.dumps(as_json(OUTCOMES, machine="this one")))
    assert document["machine"] == "this one"
    fast, large, broken = document["benchmarks"]
    assert fast["figures"][0]["value"] == 123456.7
    assert large == {
        "name": "large",
        "figures": [],
        "skipped": [{"what": "memory", "reason": "no /proc"}],
    }
    assert broken == {"name": "broken", "failed": "it broke"}


def run_benchmarks(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_benchmark_runs() -> None:
    done = run_benchmarks("codec", "--quick", "--format", "json")
    assert done.returncode == 0, done.stderr
    (codec,) = json.loads(done.stdout)["benchmarks"]
    shown = {line["what"] for line in (*codec["figures"], *codec.get("skipped", ()))}
    assert {"encode, pure Python", "decode, pure Python"} <= shown
    assert "compiled" in shown or "encode, compiled" in shown


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    done = run_benchmarks("bogus")
    assert done.returncode == 2
    assert "no benchmark is called 'bogus'; there are codec," in done.stderr
