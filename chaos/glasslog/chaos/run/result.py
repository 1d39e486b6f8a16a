"""What came of a run, as values, and told to people in a few lines. Refuses to know how it was made."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.recorder import Figures
from glasslog.chaos.scenario.model import Scenario
from glasslog.checker.operations import History
from glasslog.checker.verdict import Verdict
from glasslog.client.cli.output import Json

_SHOWN_ANOMALIES = 10
_SHOWN_REASONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was recorded of one run. ``troubles`` say what did not become right again.

    ``recovery_ms`` is from the end of all faults until every node was ready and every replica in sync;
    ``length_ms`` that of the whole run.
    """

    scenario: Scenario
    seed: int
    cluster: str
    history: History
    figures: Figures
    chronicle: Chronicle
    troubles: tuple[str, ...]
    recovery_ms: float
    length_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run, and what the checker says of it. ``command`` makes the same run again."""

    run: Run
    verdict: Verdict
    command: str

    @property
    def passed(self) -> bool:
        return self.verdict.is_good and not self.run.troubles

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        if self.passed:
            return "PASSED: nothing lost, doubled or reordered, and the cluster is well again"
        wrong = [f"{count} {kind}" for kind, count in self.verdict.counts().items()]
        reasons = [*self.run.troubles, *wrong, *self.verdict.missing]
        more = [f"and {len(reasons) - _SHOWN_REASONS} more"] if len(reasons) > _SHOWN_REASONS else []
        return "FAILED: " + "; ".join([*reasons[:_SHOWN_REASONS], *more])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def latencies_ms(figures: Figures) -> list[float]:
    """Of every batch that was acknowledged."""
    return [each for interval in figures.intervals.values() for each in interval.latencies_ms]


def longest_gap_ms(figures: Figures, duration_ms: float) -> float:
    """How long at most nothing was acknowledged while there was load, to the interval."""
    longest = current = 0
    for number in range(int(duration_ms // figures.interval_ms)):
        interval = figures.intervals.get(number)
        current = 0 if interval is not None and interval.acknowledged else current + 1
        longest = max(longest, current)
    return longest * figures.interval_ms


def rows(result: Result) -> Iterator[tuple[str, str]]:
    """Names and figures, for people."""
    run, verdict = result.run, result.verdict
    figures, delays = run.figures, latencies_ms(run.figures)
    kinds = Counter(event.kind for event in run.chronicle.events)
    yield "scenario", f"{run.scenario.name}, seed {run.seed}, on {run.cluster}"
    yield "faults", f"{len(run.chronicle.spans)} in {run.scenario.duration_ms / 1000:g} s"
    yield (
        "records",
        f"{figures.sent:,} sent, {figures.acknowledged:,} acknowledged, {figures.failed:,} given up, "
        f"{figures.read:,} read by groups",
    )
    yield (
        "ack latency",
        f"median {percentile(delays, 0.5):.0f} ms, 99 % {percentile(delays, 0.99):.0f} ms, "
        f"longest {max(delays, default=0):.0f} ms",
    )
    yield (
        "longest gap",
        f"{longest_gap_ms(figures, run.scenario.duration_ms) / 1000:g} s without any acknowledgement",
    )
    yield (
        "changes",
        f"{kinds['leader']} of leaders, {kinds['isr']} of ISRs, {kinds['controller']} of the controller",
    )
    if not run.troubles:
        yield "recovery", f"every replica in sync {run.recovery_ms / 1000:.1f} s after the last fault ended"
    yield "checked", f"{verdict.operations:,} operations"
    for anomaly in verdict.anomalies[:_SHOWN_ANOMALIES]:
        yield "anomaly", str(anomaly)
    if len(verdict.anomalies) > _SHOWN_ANOMALIES:
        yield "anomaly", f"and {len(verdict.anomalies) - _SHOWN_ANOMALIES} more"
    yield "verdict", result.headline
    yield "again", result.command


def as_text(result: Result) -> str:
    """All rows, aligned."""
    return "\n".join(f"  {name:<13} {text}" for name, text in rows(result))


def as_json(result: Result) -> Mapping[str, Json]:
    """The keys are for scripts to rely on."""
    run, verdict, delays = result.run, result.verdict, latencies_ms(result.run.figures)
    return {
        "passed": result.passed,
        "scenario": run.scenario.name,
        "seed": run.seed,
        "cluster": run.cluster,
        "faults": [span.label for span in run.chronicle.spans],
        "sent": run.figures.sent,
        "acknowledged": run.figures.acknowledged,
        "given_up": run.figures.failed,
        "read": run.figures.read,
        "ack_p50_ms": round(percentile(delays, 0.5), 3),
        "ack_p99_ms": round(percentile(delays, 0.99), 3),
        "ack_max_ms": round(max(delays, default=0.0), 3),
        "longest_gap_ms": longest_gap_ms(run.figures, run.scenario.duration_ms),
        "recovery_ms": round(run.recovery_ms, 3),
        "operations": verdict.operations,
        "anomalies": dict(verdict.counts()),
        "incomplete": list(verdict.missing),
        "troubles": list(run.troubles),
        "replay": result.command,
    }


def command_line(words: Sequence[str]) -> str:
    """Words as a shell takes them."""
    return shlex.join(words)
