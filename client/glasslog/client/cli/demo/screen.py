"""How the demo shows itself: a live table on a terminal, plain lines elsewhere. Refuses to know what happens.

Events stay in the scroll-back; progress is overwritten on a terminal and told once a second elsewhere.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from glasslog.client.cli.demo.narrator import PartitionView

_PLAIN_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at the run. Rates are over the last second or so."""

    elapsed_s: float
    fraction: float
    written: int
    read: int
    records_per_s: float
    mb_per_s: float
    partitions: Mapping[int, PartitionView]

    def line(self) -> str:
        """All of it in one line."""
        return (
            f"{self.fraction:4.0%}  written {self.written:>9,}  read {self.read:>9,}  "
            f"{self.records_per_s:>9,.0f} records/s  {self.mb_per_s:5.1f} MB/s  {self.leaders()}"
        )

    def leaders(self) -> str:
        """``0:2{1,2,3}``: partition, leader, ISR."""
        return " ".join(
            f"{number}:{'-' if p.leader < 0 else p.leader}{{{_numbers(p.isr)}}}"
            for number, p in sorted(self.partitions.items())
        )


class Screen(Protocol):
    """Where the demo talks to."""

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
    """Lines for a pipe or a log file."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._next = 0.0

    def event(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.2f} s] {text}", flush=True)

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
        table.add_row("partition", *(str(number) for number in sorted(progress.partitions)))
        ordered = [progress.partitions[number] for number in sorted(progress.partitions)]
        table.add_row("leader", *("none" if p.leader < 0 else str(p.leader) for p in ordered))
        table.add_row("ISR", *(_numbers(p.isr) for p in ordered))
        bar = "#" * round(progress.fraction * 40)
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(
            f"{bar:.<40} {progress.fraction:4.0%}  written {progress.written:,}  read {progress.read:,}  "
            f"{progress.records_per_s:,.0f} records/s  {progress.mb_per_s:.1f} MB/s"
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
