"""The command at a real terminal, as a person sits at it, and the same in a pipe, as a script has it."""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster

from tests.e2e.test_local_cluster import DEADLINE_S, command, environment, glasslog

COLUMNS = 120
ESCAPE = "\x1b"
CTRL_C, CTRL_D = b"\x03", b"\x04"
_LOGIN = """
import os, signal, sys
os.login_tty(0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal its session's own, or Ctrl-C would be a byte like any other. What a shell runs in the
background ignores SIGINT, and so would what that starts."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("terminal") / "local")
    made.up(brokers=1, controllers=1)
    yield made
    made.down()


class Terminal:
    """A command that has one of its own: what it shows, and what is typed."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self._leader, follower = os.openpty()
        more = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "50"}
        self._process = subprocess.Popen(
            # Not by preexec_fn: that forks, while threads of gRPC may hold whatever they like.
            [sys.executable, "-c", _LOGIN, *command(*arguments)],
            stdin=follower,
            env=environment(directory) | more,
        )
        os.close(follower)
        self.shown = ""

    def type(self, keys: bytes) -> None:
        os.write(self._leader, keys)

    def until(self, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self.shown):
            assert time.monotonic() < deadline, f"not shown within {DEADLINE_S:g} s: {self.shown}"
            if not self._read():
                assert condition(self.shown), self.shown

    def end(self) -> int:
        """Its exit status, once it has said everything."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < deadline, f"no end within {DEADLINE_S:g} s: {self.shown}"
        status = self._process.wait(DEADLINE_S)
        os.close(self._leader)
        assert "Traceback" not in self.shown
        return status

    def _read(self) -> bool:
        """Whether there may be more."""
        ready, _, _ = select.select([self._leader], [], [], 1.0)
        if not ready:
            return self._process.poll() is None
        try:
            block = os.read(self._leader, 65_536)
        except OSError:
            # How Linux tells that the other end is closed.
            return False
        self.shown += block.decode("utf-8", "replace")
        return bool(block)


def on_terminal(cluster: LocalCluster, *arguments: str) -> str:
    terminal = Terminal(cluster.directory, arguments)
    assert terminal.end() == 0, terminal.shown
    return terminal.shown


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_a_listing_has_colours_at_a_terminal_and_none_in_a_pipe(cluster: LocalCluster) -> None:
    shown = on_terminal(cluster, "local", "status")
    assert f"{ESCAPE}[32mrunning" in shown
    assert all(len(line) <= COLUMNS for line in plain(shown).splitlines())
    piped = glasslog(cluster.directory, "local", "status")
    assert ESCAPE not in piped
    assert {"broker-1", "running"} <= set(piped.split())
    assert {"broker-1", "running"} <= set(plain(shown).split()), "the same is in both"


def test_json_is_the_same_at_a_terminal(cluster: LocalCluster) -> None:
    shown = on_terminal(cluster, "topic", "list", "--format", "json")
    assert shown.replace("\r\n", "\n") == glasslog(cluster.directory, "topic", "list", "--format", "json")


def test_what_is_typed_is_written_until_ctrl_d(cluster: LocalCluster) -> None:
    glasslog(cluster.directory, "topic", "create", "typed", "--replication-factor", "1")
    terminal = Terminal(cluster.directory, ("produce", "typed"))
    terminal.type(b"first\nsecond\n" + CTRL_D)
    assert terminal.end() == 0
    assert "2 records written to typed" in terminal.shown
    reading = ("consume", "typed", "--from-beginning", "--max-records", "2", "--timeout", "20")
    assert glasslog(cluster.directory, *reading, "--values-only") == "first\nsecond\n"


def test_a_watch_shows_it_again_in_one_place_until_ctrl_c(cluster: LocalCluster) -> None:
    glasslog(cluster.directory, "topic", "create", "watched", "--replication-factor", "1")
    terminal = Terminal(cluster.directory, ("topic", "describe", "watched", "--watch", "0.1"))
    terminal.until(lambda shown: plain(shown).lower().count("leader epoch") >= 3)
    terminal.type(CTRL_C)
    assert terminal.end() == 130
    assert terminal.shown.count(f"{ESCAPE}[2J") >= 3


def test_an_error_is_one_line_at_a_terminal_too(cluster: LocalCluster) -> None:
    terminal = Terminal(cluster.directory, ("topic", "describe", "nowhere"))
    assert terminal.end() == 1
    assert terminal.shown.splitlines() == ["glasslog: topic 'nowhere': does not exist"]
