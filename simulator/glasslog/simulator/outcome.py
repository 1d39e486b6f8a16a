"""What one run came to. Refuses to know how it got there and how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from glasslog.common.errors import InvariantViolation
from glasslog.common.runtime.memory.loop import Deadlock, VirtualTimeExceeded

FailedCheck = Literal["", "history", "invariant", "progress", "error"]
"""What found a run to be bad: the history's checker, an invariant of the simulator's or of a node's own, a
wait that did not end, or nothing but an exception."""


class Violated(AssertionError):  # noqa: N818 - the name of the situation
    """Something that must always hold does not; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``failure`` says what is wrong, and ``check`` what found it; both are empty for a good run.

    ``plan`` says what was drawn, or told; ``faults`` counts the episodes of each kind, ``events`` those of
    the trace.  ``recovery_ms`` is virtual time from the end of all faults until every replica was in sync,
    ``virtual_ms`` that of the whole run, ``real_s`` what it took.
    """

    seed: int
    failure: str
    check: FailedCheck
    plan: str
    faults: Mapping[str, int]
    events: Mapping[str, int]
    records: int
    acknowledged: int
    recovery_ms: int
    virtual_ms: int
    real_s: float
    trace_hash: str
    last_events: tuple[str, ...]


_BY_WEIGHT: tuple[FailedCheck, ...] = ("invariant", "error", "progress")


def blame(error: BaseException) -> FailedCheck:
    """Which check an exception that ended a run stands for."""
    match error:
        case BaseExceptionGroup():
            found = [blame(each) for each in error.exceptions]
            return next((check for check in _BY_WEIGHT if check in found), "error")
        case AssertionError() | InvariantViolation():
            return "invariant"
        case TimeoutError() | Deadlock() | VirtualTimeExceeded():
            return "progress"
        case _:
            return "error"


def describe(error: BaseException) -> str:
    """An error as one text, with what was noted about it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(each) for each in error.exceptions)
    notes = " ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error} {notes}".strip()
