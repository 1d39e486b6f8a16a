"""``glasslog simulate --history`` writes what ``glasslog check`` judges, of good runs and of bad ones."""

from pathlib import Path

import pytest
from glasslog.client.cli.main import main


def test_the_history_of_a_good_run_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "history.jsonl")
    assert main(["simulate", "--seed", "1", "--scenario", "retried-batches", "--history", path]) == 0
    assert main(["check", path]) == 0
    shown = capsys.readouterr().out
    assert "(glasslog simulate --seed 1 --scenario retried-batches)" in shown
    assert shown.splitlines()[-1] == "verdict: good"


def test_the_history_of_a_bad_run_names_values_replicas_and_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "history.jsonl")
    assert main(["simulate", "--seed", "1", "--switch", "forgotten-producers", "--history", path]) == 1
    capsys.readouterr()
    assert main(["check", path]) == 1
    shown = capsys.readouterr().out
    assert "duplicate in kept-0: producer/" in shown
    assert "replicas: broker-1, broker-2, broker-3" in shown
    assert "faults: " in shown


def test_a_history_is_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "1-2", "--history", "x"]) == 2
    assert "--history is of one run" in capsys.readouterr().err


def test_a_history_that_can_not_be_written_costs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "1", "--history", "/nowhere/history.jsonl"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "No such file or directory" in captured.err
