"""How results are shown: aligned text, a table on a terminal, JSON. Refuses to know what they mean."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Format = Literal["text", "json"]

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def print_json(value: Json) -> None:
    """A whole document, indented."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Json) -> None:
    """One object on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One line a row. Colours and lines only where a person looks at it."""
    cells = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        print(aligned(columns, cells))


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in capitals, each as wide as its widest cell, two spaces between."""
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def repeated(watch_s: float | None, show: Callable[[], None]) -> None:
    """Show it once, or every ``watch_s`` seconds until interrupted; on a terminal in one place."""
    while True:
        if watch_s is not None and sys.stdout.isatty():
            print(_CLEAR, end="")
        show()
        sys.stdout.flush()
        if watch_s is None:
            return
        time.sleep(watch_s)


def note(text: str) -> None:
    """A remark for a person, kept out of what a script reads."""
    print(text, file=sys.stderr)


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


_STYLES: Mapping[str, str] = {
    "running": "green",
    "unready": "yellow",
    "paused": "yellow",
    "stopped": "dim",
    "dead": "red",
}
