"""Looks for a shorter run that fails by the same check: less time, fewer faults, fewer records.

Greedy, after the delta debugging of Zeller and Hildebrandt, and bounded in tries: a run takes seconds.
Refuses to know how a run is made and shown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from glasslog.simulator.outcome import Outcome
from glasslog.simulator.plan import draw_plan
from glasslog.simulator.request import Request

MOST_TRIES = 80
_LEAST_MS = 500
_LATER_MS = 200
_FEWEST_SENDS = 8

Runner = Callable[[Request], Outcome]
Told = Callable[[int, Request], None]


class Shrinking:
    """``shrink`` once. ``told`` hears the number of each try and what it is about to run."""

    def __init__(self, runner: Runner, request: Request, outcome: Outcome, told: Told) -> None:
        self._runner = runner
        self._told = told
        self._tries = 0
        self.request = request
        self.outcome = outcome

    def shrink(self) -> None:
        """Afterwards ``request`` is the shortest failing run found and ``outcome`` what it came to."""
        if self.request.scenario is not None:
            return
        self._cut_time()
        self._drop_faults()
        self._send_less()
        self._cut_time()

    def _still_fails(self, request: Request) -> bool:
        """Take ``request`` over if it fails alike; never once the tries are used up."""
        if self._tries >= MOST_TRIES or request == self.request:
            return False
        self._tries += 1
        self._told(self._tries, request)
        outcome = self._runner(request)
        if outcome.check != self.outcome.check:
            return False
        self.request, self.outcome = request, outcome
        return True

    def _cut_time(self) -> None:
        end_ms = min(self.request.faulty_ms, self.outcome.virtual_ms + _LATER_MS)
        self._still_fails(replace(self.request, faulty_ms=max(end_ms, _LEAST_MS)))
        for share in (0.5, 0.75):
            while self._still_fails(
                replace(self.request, faulty_ms=max(_LEAST_MS, round(self.request.faulty_ms * share)))
            ):
                pass

    def _drop_faults(self) -> None:
        size = len(self._left())
        while size >= 1:
            for chunk in _chunks(self._left(), size):
                self._still_fails(replace(self.request, skipped=self.request.skipped | set(chunk)))
            size //= 2

    def _left(self) -> list[int]:
        episodes = draw_plan(self.request.seed, faulty_ms=self.request.faulty_ms).episodes
        return [each.index for each in episodes if each.index not in self.request.skipped]

    def _send_less(self) -> None:
        sends = self.outcome.records // 2
        while sends >= _FEWEST_SENDS and self._still_fails(replace(self.request, most_sends=sends)):
            sends = min(sends, self.outcome.records) // 2


def _chunks(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """From the end: the last faults are the least likely to be what begins the story."""
    for end in range(len(numbers), 0, -size):
        yield numbers[max(0, end - size) : end]
