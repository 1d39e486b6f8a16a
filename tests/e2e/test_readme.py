"""README.md does what it says: its console and Python blocks are run in order, as printed, on one machine.

A line of a ``console`` block that begins with ``$`` is a command for the shell and must end with status 0.
The lines after it, if any, are what it must print on standard output: white space counts once, every number
and every id may be another one, and ``...`` stands for anything. Commands that only look are repeated until
they print that.
A ``python`` block is a program of its own. A ``console with docker`` block is run where there is an engine
(``tests/containers/test_readme_in_containers.py``). Blocks of other kinds are for reading.
"""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.source_tree import ROOT

COMMAND_TIMEOUT_S = 60
LOOKING_TIMEOUT_S = 20

_BLOCK = re.compile(r"^```(?P<kind>console|python)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_IN_CONTAINERS = re.compile(r"^```console with docker\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LOOKS = re.compile(r"^glasslog (?:local status|why|\w+ (?:describe|list|status))\b[^|>]*$")
_ID = re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])")
_PARTS = re.compile(r"\.\.\.|\d+|\s+")
_OF_THE_USER = ("GLASSLOG_", "XDG_", "PYTHON")


class Step(NamedTuple):
    """A command or a program, and what it must print; nothing is expected of an empty text."""

    number: int
    kind: str
    text: str
    expected: str


def steps_in_containers(markdown: str) -> Iterator[Step]:
    """Those of the blocks that need an engine."""
    for block in _IN_CONTAINERS.finditer(markdown):
        first = markdown.count("\n", 0, block.start("text")) + 1
        yield from _commands(first, block["text"].splitlines())


def steps(markdown: str) -> Iterator[Step]:
    for block in _BLOCK.finditer(markdown):
        first = markdown.count("\n", 0, block.start("text")) + 1
        if block["kind"] == "python":
            yield Step(first, "python", block["text"], "")
        else:
            yield from _commands(first, block["text"].splitlines())


def _commands(first: int, lines: list[str]) -> Iterator[Step]:
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Step(first + start, "console", lines[start][2:], "\n".join(lines[start + 1 : end]))


def fits(expected: str, printed: str) -> bool:
    """Whether ``printed`` is what README shows, by the rules of this module; anything fits nothing."""
    pattern, end = [], 0
    text = _ID.sub("ID", expected).strip()
    for part in _PARTS.finditer(text):
        pattern += [re.escape(text[end : part.start()]), _replacement(part[0])]
        end = part.end()
    pattern.append(re.escape(text[end:]))
    return not text or re.fullmatch("".join(pattern), _ID.sub("ID", printed).strip(), re.DOTALL) is not None


def _replacement(part: str) -> str:
    return {".": ".*?"}.get(part[0], r"\s+" if part.isspace() else r"\d+")


class _Done(NamedTuple):
    """How a command ended. Remarks (standard error) are for people and no part of what README shows."""

    status: int
    printed: str
    remarks: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.printed}{self.remarks}"


@dataclass(frozen=True)
class Reader:
    """Somebody who types what README says, in a folder and a home of their own."""

    folder: Path
    environment: Mapping[str, str]
    timeout_s: int = COMMAND_TIMEOUT_S

    def follow(self, step: Step) -> str:
        """Do the step; returns what is wrong, or nothing."""
        # What may hang is a step; all of them together may well take longer than a test usually may.
        faulthandler.dump_traceback_later(
            self.timeout_s + 2 * LOOKING_TIMEOUT_S, exit=True, file=sys.__stderr__ or 2
        )
        deadline = time.monotonic() + (LOOKING_TIMEOUT_S if _LOOKS.match(step.text) else 0)
        while True:
            done = self._do(step)
            if done.status == 0 and fits(step.expected, done.printed):
                return ""
            if time.monotonic() >= deadline:
                return f"README.md:{step.number}: {step.text}\n{done}"
            time.sleep(0.2)

    def _do(self, step: Step) -> _Done:
        if step.kind == "python":
            program = self.folder / f"line_{step.number}.py"
            program.write_text(step.text, encoding="utf-8")
            return self._run(f'python "{program}"')
        return self._run(step.text)

    def _run(self, command: str) -> _Done:
        """One command in a shell that knows what the commands before it exported."""
        kept = self.folder / "exported"
        script = (
            f'[ ! -e "{kept}" ] || . "{kept}"\n{command}\nstatus=$?\nexport -p > "{kept}"\nexit $status\n'
        )
        shell = subprocess.Popen(
            ["sh", "-c", script],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, remarks = shell.communicate(timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            printed, remarks = shell.communicate()
            remarks += f"(no end after {self.timeout_s} s)"
        return _Done(shell.returncode, printed, remarks)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader whose cluster is gone afterwards, however far they came."""
    bin_folder = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_USER)}
    environment = {**kept, "HOME": str(tmp_path), "PATH": os.pathsep.join((bin_folder, kept["PATH"]))}
    reader = Reader(tmp_path, environment)
    yield reader
    for where in ("", " --dir playground", " --dir by-hand"):
        command = f"glasslog local down --delete{where}"
        subprocess.run(
            command.split(), cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60
        )


def test_readme_does_what_it_says(reader: Reader) -> None:
    script = list(steps((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {step.kind for step in script} == {"console", "python"}
    for step in script:
        assert not (complaint := reader.follow(step)), complaint


def test_blocks_are_found_in_order() -> None:
    markdown = "a\n```console\n$ one\n1 x\n2 y\n$ two\n```\n```sh\nthree\n```\n```python\nfour()\n```\n"
    assert list(steps(markdown)) == [
        Step(3, "console", "one", "1 x\n2 y"),
        Step(6, "console", "two", ""),
        Step(12, "python", "four()\n", ""),
    ]
    engine = "```console with docker\n$ five\n6\n```\n"
    assert list(steps(markdown + engine)) == list(steps(markdown))
    assert list(steps_in_containers(markdown + engine)) == [Step(15, "console", "five", "6")]


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("", "anything at all"),
        ("broker-1  running  1234", "broker-1 running 7\n"),
        ("first\n...\nlast", "first\nand\nmore\nlast\n"),
        ("id QQkb9m3WDHdgXwlqoKOKCQ x", "id 664Y-XDVcCiRF-zbhgVhmw x"),
        ("at 127.0.0.1:...", "at 127.0.0.1:80 and so on"),
    ],
)
def test_what_may_differ_may_differ(expected: str, printed: str) -> None:
    assert fits(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("broker-1 is dead.", ""),
        ("ISR 1,2,3", "ISR 1,2"),
        ("one", "one\ntwo"),
        ("state running", "state dead"),
        ("a.b", "axb"),
    ],
)
def test_what_must_not_differ_is_noticed(expected: str, printed: str) -> None:
    assert not fits(expected, printed)


@pytest.mark.parametrize(
    ("command", "looks"),
    [
        ("glasslog topic describe orders", True),
        ("glasslog local status", True),
        ("glasslog group list --format json", True),
        ("glasslog local kill broker-1", False),
        ("glasslog consume orders --max-records 1", False),
        ("glasslog topic list | glasslog produce names", False),
    ],
)
def test_only_commands_that_look_are_repeated(command: str, looks: bool) -> None:
    assert bool(_LOOKS.match(command)) is looks
