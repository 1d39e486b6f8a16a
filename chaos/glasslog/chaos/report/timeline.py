"""The timeline: faults, throughput, latency, leaders, ISRs and controllers over one axis of time, as SVG.

Refuses to know HTML, and what is right or wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from glasslog.chaos.report.drawing import Scale, line, polygon, polyline, rect, svg, text
from glasslog.chaos.run.chronicle import Chronicle, Span, State
from glasslog.chaos.run.recorder import Figures, Interval
from glasslog.chaos.run.result import Run, percentile

WIDTH = 1000.0
_LEFT, _RIGHT = 96.0, 14.0
_GAP = 26.0
_CURVE_HEIGHT = 84.0
_ROW = 11.0
_BAR = 15.0
_MOST_POINTS = 400
_MOST_PARTITIONS = 12
_MOST_FAULT_ROWS = 12
_MOST_STRETCHES = 4_500
"""Of all replicas together; of the controllers, and as shades, a share of it."""


def timeline(run: Run) -> str:
    """One drawing of the whole run."""
    scale = Scale(left=_LEFT, width=WIDTH - _LEFT - _RIGHT, length_ms=run.length_ms)
    parts: list[str] = []
    y = 18.0
    for name, lane in (
        ("faults", _faults(run.chronicle.spans, scale)),
        ("records a second", _throughput(run.figures, scale)),
        ("ack latency", _latency(run.figures, scale)),
        *_partitions(run.chronicle, scale),
        ("controller", _controllers(run.chronicle, scale)),
    ):
        drawn, height = lane
        parts.append(text(scale.left, y - 5, name, "lane"))
        parts.append(f'<g transform="translate(0 {y:g})">{"".join(drawn)}</g>')
        y += height + _GAP
    height = y + 6
    # Behind everything else, so that a change can be seen to fall into a fault.
    behind = [rect(x, 0, end - x, y - 10, "shade") for x, end in _shades(run.chronicle.spans, scale)]
    behind += _axis(scale, y - 10)
    label = f"{len(run.chronicle.spans)} faults, and what clients and replicas did meanwhile"
    return svg(WIDTH, height, label, [*behind, *parts])


Lane = tuple[list[str], float]


def _end(span: Span, scale: Scale) -> float:
    return scale.length_ms if span.end_ms is None else span.end_ms


def _shades(spans: Sequence[Span], scale: Scale) -> Iterator[tuple[float, float]]:
    """From where to where faults lasted; those that touch are one where there are very many."""
    places = sorted((scale.x(span.start_ms), scale.x(_end(span, scale))) for span in spans)
    if len(places) <= _MOST_STRETCHES // 10:
        yield from places
        return
    begun, reached = places[0]
    for x, end in places:
        if x > reached + 1:
            yield begun, reached
            begun = x
        reached = max(reached, end)
    yield begun, reached


def _axis(scale: Scale, bottom: float) -> list[str]:
    parts = []
    for at_ms in scale.ticks_ms():
        x = scale.x(at_ms)
        parts.append(line(x, 0, x, bottom, "grid"))
        parts.append(text(x, bottom + 12, f"{at_ms / 1000:g} s", "tick"))
    return parts


# --- faults ---------------------------------------------------------------------------------------------


def _faults(spans: Sequence[Span], scale: Scale) -> Lane:
    ends: list[float] = []
    parts = []
    for span in spans:
        start, end = scale.x(span.start_ms), scale.x(_end(span, scale))
        label = f"{span.label.partition(' (')[0]}"
        # A label takes room even where its bar does not.
        reach = max(end, start + 6.2 * len(label)) + 6
        row = next((number for number, taken in enumerate(ends) if taken <= start), len(ends))
        if row >= _MOST_FAULT_ROWS:
            continue
        ends[row : row + 1] = [reach]
        y = row * (_BAR + 3)
        lasted = (_end(span, scale) - span.start_ms) / 1000
        title = f"{span.label}: from {span.start_ms / 1000:.1f} s on, for {lasted:.1f} s"
        parts.append(rect(start, y, end - start, _BAR, "fault", title=title, radius=2))
        parts.append(text(start + 4, y + 11, label, "on-fault"))
    return parts, max(1, len(ends)) * (_BAR + 3)


# --- curves ---------------------------------------------------------------------------------------------


def _throughput(figures: Figures, scale: Scale) -> Lane:
    per_point, points = _merged(figures, scale)
    factor = 1000 / (per_point * figures.interval_ms)
    written = [(at_ms, sum(each.acknowledged for each in some) * factor) for at_ms, some in points]
    read = [(at_ms, sum(each.read for each in some) * factor) for at_ms, some in points]
    top = _round_up(max((value for _, value in [*written, *read]), default=0))
    y = _CURVE_HEIGHT
    area = [(scale.x(at_ms), _place(value, top)) for at_ms, value in written]
    parts = [_frame(scale, top, "")]
    if area:
        parts.append(polygon([(area[0][0], y), *area, (area[-1][0], y)], "area"))
        parts.append(polyline(area, "written"))
        parts.append(polyline([(scale.x(at_ms), _place(value, top)) for at_ms, value in read], "read"))
    parts.append(text(0, 34, "acknowledged", "key-written"))
    parts.append(text(0, 47, "read by groups", "key-read"))
    return parts, y


def _latency(figures: Figures, scale: Scale) -> Lane:
    _, points = _merged(figures, scale)
    known = [(at_ms, [delay for each in some for delay in each.latencies_ms]) for at_ms, some in points]
    top = _round_up(max((delay for _, delays in known for delay in delays), default=0))
    parts = [_frame(scale, top, " ms")]
    # While nothing is acknowledged there is no latency: no line.
    for is_there, stretch in groupby(known, key=lambda each: bool(each[1])):
        if is_there:
            delays = list(stretch)
            for name, of in (("worst", max), ("middle", _median)):
                curve = [(scale.x(at_ms), _place(of(some), top)) for at_ms, some in delays]
                parts.append(polyline(curve, name))
    parts.append(text(0, 34, "longest", "key-worst"))
    parts.append(text(0, 47, "median", "key-middle"))
    return parts, _CURVE_HEIGHT


def _median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


def _merged(figures: Figures, scale: Scale) -> tuple[int, list[tuple[float, list[Interval]]]]:
    """Neighbouring intervals as one, so that there are not too many; how many, and each with its middle."""
    count = int(scale.length_ms // figures.interval_ms) + 1
    per_point = -(-count // _MOST_POINTS)
    empty = Interval()
    return per_point, [
        (
            (first + per_point / 2) * figures.interval_ms,
            [figures.intervals.get(number, empty) for number in range(first, first + per_point)],
        )
        for first in range(0, count, per_point)
    ]


def _frame(scale: Scale, top: float, unit: str) -> str:
    right = scale.left + scale.width
    return (
        line(scale.left, _CURVE_HEIGHT, right, _CURVE_HEIGHT, "base")
        + line(scale.left, 0, right, 0, "grid")
        + text(scale.left - 5, 7, f"{top:,.0f}{unit}", "value")
        + text(scale.left - 5, _CURVE_HEIGHT, "0", "value")
    )


def _place(value: float, top: float) -> float:
    return round(_CURVE_HEIGHT * (1 - value / top), 2)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20... so that an axis ends at a number that can be read."""
    magnitude = 1.0
    while value > 5 * magnitude:
        magnitude *= 10
    return next(magnitude * step for step in (1, 2, 5, 10) if value <= magnitude * step)


# --- leaders, ISRs, controllers -------------------------------------------------------------------------


def _partitions(chronicle: Chronicle, scale: Scale) -> Iterator[tuple[str, Lane]]:
    shown = sorted(chronicle.states.items())[:_MOST_PARTITIONS]
    for partition, states in shown:
        most = _MOST_STRETCHES // (len(shown) * max(1, len(_rows(states))))
        yield partition, _replicas(_fewer(states, most, scale), _rows(states), chronicle.names, scale)


def _rows(states: Sequence[State]) -> list[int]:
    """The brokers that were ever in its ISR, or led it."""
    return sorted({node for state in states for node in (*state.isr, state.leader) if node >= 0})


def _fewer(states: Sequence[State], most: int, scale: Scale) -> Sequence[State]:
    """If there are more than can be told apart, of each span of time the one with the smallest ISR."""
    if len(states) <= most:
        return states
    kept: dict[int, State] = {}
    for state in states:
        span = int(most * state.at_ms / max(scale.length_ms, 1))
        if span not in kept or len(state.isr) < len(kept[span].isr):
            kept[span] = state
    return list(kept.values())


def _replicas(
    states: Sequence[State], brokers: Sequence[int], names: Mapping[int, str], scale: Scale
) -> Lane:
    """A row for each replica: strong while it leads, light while it is in the ISR, marked while it is not."""
    parts = [
        text(scale.left - 5, row * _ROW + 9, names.get(node, str(node)), "value")
        for row, node in enumerate(brokers)
    ]
    for state, end_ms in _with_ends(states, scale):
        x, end = scale.x(state.at_ms), scale.x(end_ms)
        for row, node in enumerate(brokers):
            style, what = _standing(state, node)
            title = f"{names.get(node, str(node))} {what} from {state.at_ms / 1000:.2f} s on"
            parts.append(rect(x, row * _ROW + 1, end - x, _ROW - 2, style, title=title))
    return parts, len(brokers) * _ROW


def _standing(state: State, node: int) -> tuple[str, str]:
    if node == state.leader:
        return "leads", "leads"
    return ("in-sync", "is in the ISR") if node in state.isr else ("lags", "is not in the ISR")


def _with_ends(states: Sequence[State], scale: Scale) -> Iterator[tuple[State, float]]:
    for state, following in pairwise(states):
        yield state, following.at_ms
    if states:
        yield states[-1], scale.length_ms


def _controllers(chronicle: Chronicle, scale: Scale) -> Lane:
    # Of changes at the same place the last is seen.
    seen = {int(scale.x(at_ms)): (at_ms, node) for at_ms, node in chronicle.controllers}
    moments = [*seen.values(), (scale.length_ms, -1)]
    nodes = sorted({node for _, node in chronicle.controllers})
    parts = [
        text(scale.left - 5, row * _ROW + 9, chronicle.names.get(node, str(node)), "value")
        for row, node in enumerate(nodes)
    ]
    for (at_ms, node), (end_ms, _) in pairwise(moments):
        x = scale.x(at_ms)
        title = f"{chronicle.names.get(node, str(node))} is active from {at_ms / 1000:.2f} s on"
        y = nodes.index(node) * _ROW
        parts.append(rect(x, y + 1, scale.x(end_ms) - x, _ROW - 2, "leads", title=title))
    return parts, len(nodes) * _ROW
