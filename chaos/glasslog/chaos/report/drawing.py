"""Shapes of SVG as text, and a scale from time to places. Refuses to know what is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From milliseconds of the run to places on the drawing."""

    left: float
    width: float
    length_ms: float

    def x(self, ms: float) -> float:
        return round(self.left + self.width * min(1.0, max(0.0, ms / max(self.length_ms, 1))), 2)

    def ticks_ms(self) -> list[int]:
        """Round times, about ten of them."""
        step_ms = next((step for step in _STEPS_MS if self.length_ms / step <= _MOST_TICKS), _STEPS_MS[-1])
        return list(range(0, int(self.length_ms) + 1, step_ms))


_STEPS_MS = tuple(
    1000 * seconds for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400)
)
_MOST_TICKS = 14


def rect(
    x: float, y: float, width: float, height: float, style: str, *, title: str = "", radius: float = 0
) -> str:
    """``style`` is a class; ``title`` shows when a pointer rests on it."""
    corners = f' rx="{radius:g}"' if radius else ""
    size = f'width="{max(width, 0.5):g}" height="{height:g}"'
    shape = f'<rect class="{style}" x="{x:g}" y="{y:g}" {size}{corners}'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def text(x: float, y: float, content: str, style: str) -> str:
    """One line of text; ``y`` is that of its base."""
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def polyline(points: Iterable[tuple[float, float]], style: str) -> str:
    """A line through points."""
    return f'<polyline class="{style}" points="{_listed(points)}"/>'


def polygon(points: Iterable[tuple[float, float]], style: str) -> str:
    """An area between points."""
    return f'<polygon class="{style}" points="{_listed(points)}"/>'


def _listed(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """The whole drawing; ``label`` says what it shows to those who can not see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
