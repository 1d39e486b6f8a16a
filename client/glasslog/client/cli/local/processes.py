"""Processes of this machine by id and birth: is it the same one, does it live, end it.

A process id alone says nothing: the system gives it to another process sooner or later, so every question
and every signal also compares the time of birth. Refuses to know what a process does.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

_POLL_S = 0.005
_OWN_CHILDREN: dict[int, "_Child"] = {}
"""Those spawned by this very process: whoever spawns must also collect, or a dead one stays as a zombie."""


class Condition(Enum):
    """How a process is."""

    GONE = auto()
    RUNNING = auto()
    PAUSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """One process, for ever. ``birth`` is compared, never read."""

    pid: int
    birth: str


class _Child(subprocess.Popen[bytes]):
    """A process that may outlive this one on purpose: that is nothing to warn of."""

    def __del__(self) -> None:
        return


def spawn(
    command: Sequence[str], *, output: Path, folder: Path, environment: Mapping[str, str]
) -> ProcessMark:
    """Start a process in a session of its own, out of reach of our Ctrl-C; ``output`` is appended to."""
    with output.open("ab") as file:
        child = _Child(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    _OWN_CHILDREN[child.pid] = child
    seen = _look(child.pid)
    return ProcessMark(pid=child.pid, birth=seen.birth if seen else "gone")


def condition(mark: ProcessMark) -> Condition:
    """How the process is now."""
    child = _OWN_CHILDREN.get(mark.pid)
    if child is not None and child.poll() is not None:
        del _OWN_CHILDREN[mark.pid]
    seen = _look(mark.pid)
    if seen is None or seen.birth != mark.birth or seen.state[0] in "ZX":
        return Condition.GONE
    return Condition.PAUSED if seen.state[0] in "Tt" else Condition.RUNNING


def send(mark: ProcessMark, number: signal.Signals) -> bool:
    """Signal it; False when it is gone."""
    if condition(mark) is Condition.GONE:
        return False
    try:
        os.kill(mark.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(marks: Iterable[ProcessMark], *, timeout_s: float) -> tuple[ProcessMark, ...]:
    """Wait until all are gone; returns those that are not after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    left = tuple(marks)
    while left := tuple(mark for mark in left if condition(mark) is not Condition.GONE):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return left


def wait_until(mark: ProcessMark, wanted: Condition, *, timeout_s: float = 5) -> None:
    """Wait until the process is so, or gone. ``TimeoutError`` if neither comes."""
    deadline = time.monotonic() + timeout_s
    while condition(mark) not in (wanted, Condition.GONE):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"process {mark.pid} is not {wanted.name.lower()} after {timeout_s:g} s")
        time.sleep(_POLL_S)


def terminate(marks: Iterable[ProcessMark], *, timeout_s: float) -> tuple[ProcessMark, ...]:
    """Ask all to stop in order, kill those that have not after ``timeout_s``; returns the killed ones."""
    asked = [mark for mark in marks if send(mark, signal.SIGTERM)]
    for mark in asked:
        send(mark, signal.SIGCONT)
    stubborn = wait_gone(asked, timeout_s=timeout_s)
    kill(stubborn)
    return stubborn


def kill(marks: Iterable[ProcessMark], *, timeout_s: float = 10) -> None:
    """SIGKILL, and wait until the system has taken them down. ``TimeoutError`` if it can not."""
    left = wait_gone([mark for mark in marks if send(mark, signal.SIGKILL)], timeout_s=timeout_s)
    if left:
        numbers = ", ".join(str(mark.pid) for mark in left)
        raise TimeoutError(f"process {numbers} did not end within {timeout_s:g} s of SIGKILL")


# --- what the system says ---------------------------------------------------------------------------------


class _Seen(NamedTuple):
    state: str
    birth: str


_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()
_STATE_FIELD, _START_FIELD = 0, 19
"""In ``/proc/PID/stat``, counted after the command's name, which may hold anything."""


def _look(pid: int) -> _Seen | None:
    return _look_in_proc(pid) if _HAS_PROC else _look_with_ps(pid)


def _look_in_proc(pid: int) -> _Seen | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return _Seen(fields[_STATE_FIELD], f"{_boot()}+{fields[_START_FIELD]}")


def _boot() -> str:
    """Births are counted from the start of the machine."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return ""


def _look_with_ps(pid: int) -> _Seen | None:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, birth = done.stdout.strip().partition(" ")
    return _Seen(state, birth.strip()) if state else None
