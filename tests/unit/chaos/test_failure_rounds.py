"""The failure matrix's rounds: what was played counts, a run that was broken off goes on."""

import json
from pathlib import Path

import pytest

from tests.e2e.failure_matrix import JOURNAL, Rounds, in_a_row
from tests.e2e.failure_rows import EACH_KIND, FAILURES, ROWS, Played, scenario_text

ROW_NAMES = ("kill-leader-1", "kill-leader-5")
GREEN, RED = Played(why="", seconds=1.5), Played(why="1 lost", seconds=2.0)


def rounds(folder: Path, *, runs: int = 2, code: str = "c1") -> Rounds:
    return Rounds(folder, rows=ROW_NAMES, runs=runs, code=code)


def test_the_matrix_is_kafkas() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)) == 12
    assert {"stop-leader-1", "kill-controller-5", "stop-follower-5"} <= set(names)


def test_a_row_is_a_scenario_with_its_failures() -> None:
    text = scenario_text(EACH_KIND.failures)
    assert text.count("for: 1s") == len(FAILURES)
    assert "duration: 14s" in text


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    first = rounds(tmp_path)
    for row in ROW_NAMES:
        first.note(1, row, GREEN)
    first.note(2, ROW_NAMES[0], GREEN)
    again = rounds(tmp_path)
    assert again.is_begun
    assert again.left(1) == []
    assert again.left(2) == [ROW_NAMES[1]]
    assert again.summary().startswith("1 of 2 rounds are over, 1 green, 1 in a row; 3 rows")


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    rounds(tmp_path).note(1, ROW_NAMES[0], GREEN)
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"code": "c1", "rou')
    assert rounds(tmp_path).left(1) == [ROW_NAMES[1]]


@pytest.mark.parametrize("code", ["c1", "c2"])
def test_what_is_over_or_of_other_code_begins_anew(tmp_path: Path, code: str) -> None:
    first = rounds(tmp_path, runs=1)
    for row in ROW_NAMES:
        first.note(1, row, GREEN)
    again = rounds(tmp_path, runs=1, code=code)
    assert again.left(1) == list(ROW_NAMES)
    again.note(1, ROW_NAMES[0], GREEN)
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 1


def test_a_failure_breaks_the_row_of_green_rounds(tmp_path: Path) -> None:
    played = rounds(tmp_path, runs=3)
    for number in (1, 2, 3):
        played.note(number, ROW_NAMES[0], RED if number == 2 else GREEN)
        played.note(number, ROW_NAMES[1], GREEN)
    assert played.green() == [True, False, True]
    assert json.loads((tmp_path / JOURNAL).read_text().splitlines()[2])["why"] == "1 lost"
    assert "2 green, 1 in a row" in played.summary()


@pytest.mark.parametrize(("green", "longest"), [([], 0), ([True, True, False, True], 2), ([False], 0)])
def test_the_longest_run_of_green_rounds(green: list[bool], longest: int) -> None:
    assert in_a_row(green) == longest


def test_what_a_row_left_is_never_overwritten(tmp_path: Path) -> None:
    played = rounds(tmp_path)
    first = played.place(1, "kill-leader-1")
    first.mkdir(parents=True)
    assert first == tmp_path / "round-01" / "kill-leader-1"
    assert played.place(1, "kill-leader-1").name == "kill-leader-1.2"
