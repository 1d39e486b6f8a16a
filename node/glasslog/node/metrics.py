"""Numbers in Prometheus' text format. Refuses to know what they mean and where they come from.

Written here rather than by prometheus_client, whose import alone costs a node several megabytes at rest.
Source: Prometheus' "text-based format", version 0.0.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family. ``samples`` are pairs of labels and value."""

    name: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"
    samples: Sequence[tuple[Mapping[str, str], float]]


def gauge(name: str, help_text: str, value: float) -> Metric:
    """A number that goes up and down, without labels."""
    return Metric(name=name, help=help_text, samples=(({}, value),))


def counter(name: str, help_text: str, value: float) -> Metric:
    """A number that only grows, without labels; its name ends in ``_total``."""
    return Metric(name=name, help=help_text, kind="counter", samples=(({}, value),))


def render(metrics: Iterable[Metric]) -> bytes:
    """All families, one line a sample."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escape(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return ("\n".join(lines) + "\n").encode() if lines else b""


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in labels.items())
    return "{" + inner + "}"


def _escape(text: str, *, quotes: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quotes else escaped


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
