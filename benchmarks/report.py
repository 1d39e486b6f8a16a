"""What a benchmark reports, and how it is shown. Refuses to know how anything is measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from glasslog.client.cli.output import Json, aligned


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number. ``aim`` is what we would like it to be, as text; nothing ever checks it."""

    what: str
    value: float
    unit: str
    aim: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A number that this machine can not give, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A benchmark that broke, and how."""

    reason: str


Line = Figure | Skipped
Outcome = Sequence[Line] | Failed

_COLUMNS = ("benchmark", "figure", "value", "unit", "aim", "note")


def as_text(outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """One aligned table."""
    return aligned(_COLUMNS, [row for name, outcome in outcomes for row in _rows(name, outcome)])


def as_json(outcomes: Sequence[tuple[str, Outcome]], *, machine: str) -> Json:
    """One document; a benchmark has either ``figures`` and ``skipped``, or ``failed``."""
    return {
        "machine": machine,
        "benchmarks": [{"name": name, **_document(outcome)} for name, outcome in outcomes],
    }


def _rows(name: str, outcome: Outcome) -> list[list[str]]:
    if isinstance(outcome, Failed):
        return [[name, "-", "failed", "", "", outcome.reason]]
    return [[name, *_cells(line)] for line in outcome]


def _cells(line: Line) -> list[str]:
    match line:
        case Figure():
            return [line.what, _number(line.value), line.unit, line.aim, line.note]
        case Skipped():
            return [line.what, "-", "", "", f"skipped: {line.reason}"]


def _number(value: float) -> str:
    """Three or four digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _document(outcome: Outcome) -> dict[str, Json]:
    if isinstance(outcome, Failed):
        return {"failed": outcome.reason}
    return {
        "figures": [asdict(line) for line in outcome if isinstance(line, Figure)],
        "skipped": [asdict(line) for line in outcome if isinstance(line, Skipped)],
    }
