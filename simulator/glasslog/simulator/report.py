"""How a run and many runs are told, to people and to scripts. Refuses to make any."""

import json
from collections.abc import Mapping

from glasslog.client.cli.output import Json
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.request import Request

_HASH_SHOWN = 16


def as_json(request: Request, outcome: Outcome) -> Mapping[str, Json]:
    """One run; the keys are for scripts to rely on."""
    return {
        "seed": outcome.seed,
        "scenario": request.scenario.name if request.scenario else None,
        "switch": request.switch.name if request.switch else None,
        "passed": not outcome.failure,
        "check": outcome.check or None,
        "failure": outcome.failure or None,
        "plan": outcome.plan,
        "faults": outcome.faults,
        "events": outcome.events,
        "records": outcome.records,
        "acknowledged": outcome.acknowledged,
        "recovery_ms": outcome.recovery_ms,
        "virtual_ms": outcome.virtual_ms,
        "real_ms": round(outcome.real_s * 1000),
        "trace_hash": outcome.trace_hash,
        "replay": request.command(),
    }


def as_text(request: Request, outcome: Outcome) -> str:
    """One run, in a few lines; a failed one with what led to it and how to see it again."""
    faults = ", ".join(f"{kind} {count}" for kind, count in outcome.faults.items())
    virtual_s = outcome.virtual_ms / 1000
    rows = [
        ("cluster" if request.scenario is None else "scenario", outcome.plan),
        ("operations", f"{outcome.acknowledged:,} of {outcome.records:,} records sent were acknowledged"),
        ("recovery", f"every replica in sync {outcome.recovery_ms} ms after the last fault ended"),
        ("speed", f"{virtual_s:.1f} virtual s in {outcome.real_s:.1f} s: {speed(outcome):.0f} times"),
        ("trace", f"{sum(outcome.events.values()):,} events, hash {outcome.trace_hash[:_HASH_SHOWN]}"),
    ]
    if request.scenario is None:
        rows.insert(1, ("faults", f"{sum(outcome.faults.values())}: {faults}"))
    if request.switch is not None:
        rows.insert(1, ("bug put back", f"{request.switch.name}: {request.switch.description}"))
    lines = [f"seed {outcome.seed}: {'FAILED' if outcome.failure else 'passed'}"]
    lines += [f"  {name:<13} {text}" for name, text in rows]
    if outcome.failure:
        lines += _blame(request, outcome)
    return "\n".join(lines)


def speed(outcome: Outcome) -> float:
    """Virtual seconds in a real one."""
    return outcome.virtual_ms / 1000 / max(outcome.real_s, 1e-6)


def _blame(request: Request, outcome: Outcome) -> list[str]:
    first, *more = outcome.failure.splitlines()
    return [
        "  what led to it (virtual seconds):",
        *(f"    {_readable(line)}" for line in outcome.last_events),
        f"  {'found by':<13} {outcome.check}",
        f"  {'failure':<13} {first}",
        *(f"  {'':<13} {line}" for line in more),
        f"  {'replay':<13} {request.command()}",
    ]


def _readable(line: str) -> str:
    """An event of the trace for people."""
    event = json.loads(line)
    at, kind, node = event.pop("at"), event.pop("event"), event.pop("node", "")
    fields = " ".join(
        str(value) if name == "text" else f"{name}={json.dumps(value, separators=(',', ':'))}"
        for name, value in event.items()
    )
    return f"{at:>11.6f}  {node:<13} {kind} {fields}"
