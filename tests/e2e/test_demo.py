"""``glasslog demo`` as a person runs it: every kind of kill, a falsified record, wrong input, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GLASSLOG = [sys.executable, "-m", "glasslog.client"]
DEADLINE_S = 100
FILES, LINES = 40, 1500


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input that trips line handling: empty files and lines, no end of line, CR, bytes that are no text."""
    folder = tmp_path_factory.mktemp("documents")
    for number in range(FILES):
        lines = [f"line {index} of file {number}\n" for index in range(LINES)]
        (folder / f"file-{number}.txt").write_text("".join(lines))
    (folder / "empty").write_bytes(b"")
    (folder / "odd").write_bytes(b"\n\n\r\nno end\rof line \xff\xfe\x00 here")
    return folder


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the demo puts its cluster; whatever a test leaves running there is a failure."""
    yield tmp_path
    left = [line for line in _processes() if str(tmp_path) in line]
    assert not left, f"still running: {left}"


def _processes() -> list[str]:
    return subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def run_demo(temporary: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*GLASSLOG, "demo", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("kill", ["leader", "follower", "controller", "controllers", "none"])
def test_nothing_is_lost_or_doubled_whoever_is_killed(documents: Path, temporary: Path, kill: str) -> None:
    done = run_demo(temporary, "--input", str(documents), "--kill", kill)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"lost +0\n +doubled +0\n", done.stdout)
    assert f"files          {FILES + 2}, SHA-256 equal for {FILES + 2}" in done.stdout
    assert done.stdout.rstrip().endswith("0: PASSED")
    assert ("killed (SIGKILL)" in done.stdout) == (kill != "none")
    assert list(temporary.iterdir()) == []


def test_one_falsified_record_fails_the_verdict(documents: Path, temporary: Path) -> None:
    done = run_demo(temporary, "--input", str(documents), "--kill", "none", "--corrupt")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "falsified the record at offset" in done.stdout
    assert "1: FAILED" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("--input", "EMPTY"), 1, "no file in it"),
        (("--input", "EMPTY/missing"), 1, "not a folder"),
        (("--kill", "king"), 2, "--kill"),
    ],
)
def test_wrong_input_is_one_clear_line(
    temporary: Path, arguments: tuple[str, ...], status: int, why: str
) -> None:
    (temporary / "empty").mkdir()
    done = run_demo(temporary, *(a.replace("EMPTY", str(temporary / "empty")) for a in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert why in done.stderr


@pytest.mark.parametrize("moment", ["Starting", "Writing", "killed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(
    documents: Path, temporary: Path, moment: str, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*GLASSLOG, "demo", "--input", str(documents)],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line and "half-way" not in line.split(moment)[0]:
                break
        process.send_signal(number)
        rest, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert list(temporary.iterdir()) == []
