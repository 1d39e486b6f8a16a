"""Bars for long work, on standard error, where a person looks at it. Refuses to know what is worked at."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


def has_terminal() -> bool:
    """Whether there is a terminal to draw on."""
    return sys.stderr.isatty()


@contextmanager
def progress(what: str, total: Callable[[], int], *, in_bytes: bool = False) -> Iterator[Advance]:
    """A bar that goes when the work is over; nothing is drawn, and ``total`` not asked, but on a terminal."""
    if not has_terminal():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
    # What is printed meanwhile may be piped on: it stays where it is.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total())
        yield lambda amount: bar.advance(task, amount)
