"""The report as one HTML page: verdict, timeline, anomalies, what happened when. Refuses to know files."""

from collections import Counter
from collections.abc import Iterator
from html import escape

from glasslog.chaos.report.explanations import EXPLANATIONS
from glasslog.chaos.report.style import STYLE
from glasslog.chaos.report.timeline import timeline
from glasslog.chaos.run.chronicle import Event
from glasslog.chaos.run.result import Result, rows
from glasslog.checker.anomalies import Anomaly

MAX_EVENTS = 1_500
MAX_ANOMALIES = 200
MAX_REASONS = 50
MAX_CHARACTERS = 600
"""Of one text that a cluster or a client said."""

_MAX_NAMED = 30
_HIDDEN_ROWS = ("anomaly", "verdict", "again")
_KINDS = {"fault": "fault", "healed": "healed", "leader": "leader", "isr": "ISR", "controller": "controller"}


def page(result: Result) -> str:
    """The whole file. Everything in it is inline: it opens without a network."""
    scenario = result.run.scenario
    title = f"{scenario.name}, seed {result.run.seed}: {'PASSED' if result.passed else 'FAILED'}"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *_head(result),
            "<h2>Timeline</h2>",
            f'<div class="drawing">{timeline(result.run)}</div>',
            _LEGEND,
            *_anomalies(result),
            *_events(result),
            "<h2>Run it again</h2>",
            f"<pre>{escape(result.command)}</pre>",
            "</main></body></html>\n",
        ]
    )


_LEGEND = (
    '<p class="legend"><span class="chip leads"></span>leads, or is the active controller'
    '<span class="chip in-sync"></span>in the ISR<span class="chip lags"></span>not in the ISR'
    '<span class="chip shade"></span>while a fault lasts</p>'
)


def _head(result: Result) -> Iterator[str]:
    scenario, state = result.run.scenario, "passed" if result.passed else "failed"
    yield f"<h1>{escape(scenario.name)}</h1>"
    yield f'<p class="description">{escape(scenario.description)}</p>'
    yield f'<p class="verdict {state}">{_short(result.headline)}</p>'
    yield '<dl class="figures">'
    for name, value in rows(result):
        if name not in _HIDDEN_ROWS:
            yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"


# --- anomalies ------------------------------------------------------------------------------------------


def _anomalies(result: Result) -> Iterator[str]:
    verdict = result.verdict
    yield f"<h2>{'What was checked' if result.passed else 'What is wrong'}</h2>"
    reasons = (*result.run.troubles, *verdict.missing)
    for reason in reasons[:MAX_REASONS]:
        yield f'<p class="trouble">{_short(reason)}</p>'
    if len(reasons) > MAX_REASONS:
        yield f"<p>And {len(reasons) - MAX_REASONS:,} more.</p>"
    if not verdict.anomalies:
        yield f"<p>The checker looked at {verdict.operations:,} operations and found nothing wrong.</p>"
    for anomaly in verdict.anomalies[:MAX_ANOMALIES]:
        yield from _anomaly(anomaly)
    if len(verdict.anomalies) > MAX_ANOMALIES:
        yield f"<p>And {len(verdict.anomalies) - MAX_ANOMALIES:,} more.</p>"
    if verdict.allowed:
        counts = Counter((str(each.kind), each.allowed) for each in verdict.allowed)
        yield "<h3>Noticed, and allowed</h3><ul>"
        for (kind, reason), count in sorted(counts.items()):
            yield f"<li>{count} {escape(kind)}, since {escape(reason)}</li>"
        yield "</ul>"


def _anomaly(anomaly: Anomaly) -> Iterator[str]:
    yield '<section class="anomaly">'
    yield f"<h3>{_short(str(anomaly))}</h3><p>{escape(EXPLANATIONS[anomaly.kind])}</p><ul>"
    if anomaly.faults:
        yield f"<li>meanwhile, or last before: {_short('; '.join(anomaly.faults))}</li>"
    if anomaly.replicas:
        yield f"<li>replicas: {escape(', '.join(anomaly.replicas))}</li>"
    if anomaly.operations:
        yield f"<li>operations of the history: {', '.join(map(str, anomaly.operations[:_MAX_NAMED]))}</li>"
    yield "</ul></section>"


# --- events ---------------------------------------------------------------------------------------------


def _events(result: Result) -> Iterator[str]:
    events = result.run.chronicle.events
    yield "<h2>What happened when</h2>"
    yield '<div class="scroll"><table><thead><tr><th>second</th><th></th><th></th></tr></thead><tbody>'
    for event in events[:MAX_EVENTS]:
        yield _event(event)
    yield "</tbody></table></div>"
    if len(events) > MAX_EVENTS:
        yield f"<p>And {len(events) - MAX_EVENTS:,} more.</p>"


def _event(event: Event) -> str:
    kind = _KINDS.get(event.kind, "")
    return (
        f'<tr class="{event.kind}"><td class="at">{event.at_ms / 1000:.2f}</td>'
        f"<td>{kind}</td><td>{_short(event.text)}</td></tr>"
    )


def _short(text: str) -> str:
    """As HTML, cut off where it is too long."""
    return escape(text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "...")
