"""Which run to make, and the command that makes it again. Refuses to make it."""

import shlex
from dataclasses import dataclass

from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.switches.switch import Switch

FAULTY_MS = 20_000
"""How long faults come, unless it is asked for otherwise; virtual."""


DRAWN = "drawn"
"""Stands where a scenario's name does for the drawn mix of faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A run to make: the drawn mix of faults, or ``scenario``; with the bug that ``switch`` puts back.

    ``skipped`` faults are left out, by their index in the plan, and the clients send at most ``most_sends``
    records: a failing run is made shorter with them.
    """

    seed: int
    faulty_ms: int = FAULTY_MS
    scenario: Scenario | None = None
    switch: Switch | None = None
    skipped: frozenset[int] = frozenset()
    most_sends: int | None = None

    def command(self) -> str:
        """What makes this very run again."""
        words = ["glasslog", "simulate", "--seed", str(self.seed)]
        if self.scenario is not None and self.scenario.file:
            words += ["--scenario-file", self.scenario.file]
        elif self.scenario is not None:
            words += ["--scenario", self.scenario.name]
        elif self.switch is not None and self.switch.scenario:
            words += ["--scenario", DRAWN]
        if self.switch is not None:
            words += ["--switch", self.switch.name]
        if self.faulty_ms != FAULTY_MS:
            words += ["--duration", f"{self.faulty_ms / 1000:g}"]
        if self.skipped:
            words += ["--skip-faults", ",".join(map(str, sorted(self.skipped)))]
        if self.most_sends is not None:
            words += ["--sends", str(self.most_sends)]
        return shlex.join(words)
