"""From a scenario and a seed to what comes when: the plan of a run.

Pure: the same scenario and seed give the same plan.  Whom a fault hits is not in it: that is looked up when
its time has come (``targets``), with draws of its own, so that one fault more or less shifts no other's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glasslog.chaos.scenario.model import After, At, Every, Fault, FaultKind, Scenario, Step
from glasslog.chaos.scenario.targets import Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One fault of the plan; ``index`` counts them in the order of time, ``end_ms`` is when it is undone.

    Times are from the start of the load. A restart is over when it is over: its end is its beginning.
    """

    index: int
    at_ms: int
    end_ms: int
    fault: Fault
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    at_ms: int
    step: Step
    repetition: int


def timetable(scenario: Scenario, seed: int, make: Callable[[str], Draws]) -> tuple[Due, ...]:
    """Everything that will be done, in the order of time; a fault ends with the scenario at the latest.

    ``make`` gives draws that are seeded by a text.
    """
    begun = sorted(_begun(scenario), key=lambda each: each.at_ms)
    plan = []
    for index, each in enumerate(begun):
        draws = make(f"{seed} kind {each.step.line} {each.repetition}")
        fault = each.step.faults[draws.randrange(len(each.step.faults))]
        plan.append(
            Due(
                index=index,
                at_ms=each.at_ms,
                end_ms=_end(each, fault, scenario.duration_ms),
                fault=fault,
                line=each.step.line,
            )
        )
    return tuple(plan)


def _end(each: _Drawn, fault: Fault, duration_ms: int) -> int:
    if fault.kind is FaultKind.RESTART:
        return each.at_ms
    length_ms = each.step.duration_ms or duration_ms
    return max(each.at_ms, min(each.at_ms + length_ms, duration_ms))


def _begun(scenario: Scenario) -> Iterator[_Drawn]:
    before_ms = 0
    for step in scenario.steps:
        times_ms = list(_times(step, before_ms, scenario.duration_ms))
        yield from (
            _Drawn(at_ms=at_ms, step=step, repetition=number) for number, at_ms in enumerate(times_ms)
        )
        if times_ms:
            is_restart = all(fault.kind is FaultKind.RESTART for fault in step.faults)
            before_ms = times_ms[-1] + (0 if is_restart else step.duration_ms)


def _times(step: Step, before_ms: int, duration_ms: int) -> Iterator[int]:
    match step.when:
        case At(ms=ms):
            yield ms
        case After(ms=ms):
            yield before_ms + ms
        case Every(ms=ms, from_ms=from_ms, times=times):
            last_ms = from_ms + ms * (times - 1) if times else duration_ms - 1
            yield from range(from_ms, last_ms + 1, ms)


def latest(scenario: Scenario) -> tuple[int, int]:
    """When the last fault begins, in milliseconds, and the line of its step."""
    return max(((each.at_ms, each.step.line) for each in _begun(scenario)), default=(0, 0))
