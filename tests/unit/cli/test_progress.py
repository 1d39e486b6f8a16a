"""Bars appear where a person looks at them, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from glasslog.client.cli.progress import progress
with progress("writing to t", lambda: 4, in_bytes=IN_BYTES) as advance:
    for _ in range(4):
        advance(1)
    print("rich" in sys.modules, flush=True)
"""


def run_on_a_terminal(script: str) -> tuple[str, str]:
    """Standard output, and what a terminal at standard error is told."""
    leader, follower = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=follower,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        os.close(follower)
    told = b""
    while True:
        try:
            block = os.read(leader, 65_536)
        except OSError:
            # How Linux tells that the other end is closed.
            break
        if not block:
            break
        told += block
    os.close(leader)
    return done.stdout, told.decode()


def test_a_terminal_shows_a_bar_and_keeps_standard_output_clean() -> None:
    printed, told = run_on_a_terminal(SCRIPT.replace("IN_BYTES", "False"))
    assert printed == "True\n"
    assert "writing to t" in told
    assert "4/4" in told


def test_bytes_are_shown_as_bytes() -> None:
    _, told = run_on_a_terminal(SCRIPT.replace("IN_BYTES", "True"))
    assert "4/4 bytes" in told


def test_a_pipe_sees_nothing_and_pays_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("IN_BYTES", "False")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_only_a_file_says_how_long_it_is(tmp_path: Path) -> None:
    """What is piped in or typed has no end that could be known."""
    file = tmp_path / "lines"
    file.write_bytes(b"1\n2\n")
    script = (
        "import os\n"
        "from glasslog.client.cli.produce import progress_of\n"
        "with progress_of(DESCRIPTOR, 't') as advance:\n"
        "    advance(4)\n"
    )
    opened = f"os.open({str(file)!r}, os.O_RDONLY)"
    _, of_a_file = run_on_a_terminal(script.replace("DESCRIPTOR", opened))
    _, of_a_pipe = run_on_a_terminal(script.replace("DESCRIPTOR", "os.pipe()[0]"))
    assert "4/4 bytes" in of_a_file
    assert of_a_pipe == ""
