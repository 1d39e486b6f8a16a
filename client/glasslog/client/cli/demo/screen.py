"""How a run under faults shows itself: a live table on a terminal, plain lines elsewhere.

Refuses to know what happens.
Events stay in the scroll-back; progress is overwritten on a terminal and told once a second elsewhere.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from glasslog.client.cli.demo.narrator import PartitionView

_PLAIN_INTERVAL_S = 1.0
_RATE_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at the run. Rates are over the last second or so; partitions in the order to show them."""

    elapsed_s: float
    fraction: float
    written: int
    read: int
    records_per_s: float
    mb_per_s: float | None
    partitions: Sequence[tuple[str, PartitionView]]

    def line(self) -> str:
        """All of it in one line."""
        size = "" if self.mb_per_s is None else f"{self.mb_per_s:5.1f} MB/s  "
        return (
            f"{self.fraction:4.0%}  written {self.written:>9,}  read {self.read:>9,}  "
            f"{self.records_per_s:>9,.0f} records/s  {size}{self.leaders()}"
        )

    def leaders(self) -> str:
        """``0:2{1,2,3}``: partition, leader, ISR."""
        return " ".join(
            f"{name}:{'-' if p.leader < 0 else p.leader}{{{_numbers(p.isr)}}}" for name, p in self.partitions
        )


@dataclass(slots=True)
class Rate:
    """Records and bytes per second over a short window."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def update(self, now: float, records: int, size_bytes: int) -> tuple[float, float]:
        """Counts so far, at ``now`` in seconds; returns records and MB in a second."""
        self.samples.append((now, records, size_bytes))
        while len(self.samples) > 2 and self.samples[1][0] < now - _RATE_WINDOW_S:
            self.samples.pop(0)
        then, old_records, old_bytes = self.samples[0]
        span = max(now - then, 1e-3)
        return (records - old_records) / span, (size_bytes - old_bytes) / span / 1e6


class Screen(Protocol):
    """Where a run talks to."""

    def event(self, text: str) -> None:
        """Something happened."""
        ...

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        ...

    def close(self) -> None:
        """No more progress; what follows is plain output."""
        ...


class PlainScreen:
    """Lines for a pipe or a log file; ``to_errors``: on standard error."""

    def __init__(self, *, to_errors: bool = False) -> None:
        self._to_errors = to_errors
        self._started = time.monotonic()
        self._next = 0.0

    def event(self, text: str) -> None:
        file = sys.stderr if self._to_errors else sys.stdout
        print(f"[{time.monotonic() - self._started:6.2f} s] {text}", file=file, flush=True)

    def progress(self, progress: Progress) -> None:
        if progress.elapsed_s >= self._next:
            self._next = progress.elapsed_s + _PLAIN_INTERVAL_S
            self.event(progress.line())

    def close(self) -> None:
        pass


class LiveScreen:
    """A table that is drawn anew in place, with events scrolling above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._started = time.monotonic()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._live.start()

    def event(self, text: str) -> None:
        from rich.text import Text

        stamp = f"[{time.monotonic() - self._started:6.2f} s] "
        self._live.console.print(Text(stamp, style="dim") + Text(text, style=_style(text)))

    def progress(self, progress: Progress) -> None:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_row("partition", *(name for name, _ in progress.partitions))
        ordered = [view for _, view in progress.partitions]
        table.add_row("leader", *("none" if p.leader < 0 else str(p.leader) for p in ordered))
        table.add_row("ISR", *(_numbers(p.isr) for p in ordered))
        bar = "#" * round(progress.fraction * 40)
        size = "" if progress.mb_per_s is None else f"  {progress.mb_per_s:.1f} MB/s"
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(
            f"{bar:.<40} {progress.fraction:4.0%}  written {progress.written:,}  read {progress.read:,}  "
            f"{progress.records_per_s:,.0f} records/s{size}"
        )
        self._live.update(outer)

    def close(self) -> None:
        self._live.stop()


def make_screen() -> Screen:
    """The one that fits standard output."""
    return LiveScreen() if sys.stdout.isatty() else PlainScreen()


def _numbers(nodes: tuple[int, ...]) -> str:
    return ",".join(str(node) for node in sorted(nodes))


def _style(text: str) -> str:
    if "killed" in text:
        return "bold red"
    return "green" if "rejoined" in text else "yellow" if "->" in text else ""
