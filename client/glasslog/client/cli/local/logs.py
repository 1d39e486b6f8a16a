"""The log file of a local node: its last words, last lines, new lines. Refuses to know their format."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

_ROLL_BYTES = 16 * 1024 * 1024
_LAST_WORDS_LINES = 50
_CHUNK_BYTES = 65_536
_FOLLOW_POLL_S = 0.1
_START_MARK = "--- start "
FATAL_PREFIX = "glasslog server: "
"""What the line in which a node says why it stops begins with."""


def begin(path: Path) -> None:
    """Before a start: mark its place, and set a big file aside, replacing the one set aside before."""
    if path.exists() and path.stat().st_size > _ROLL_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_START_MARK}{time.strftime('%Y-%m-%dT%H:%M:%S')}\n")


def last_words(path: Path) -> str:
    """The line in which the node said why it stopped since its last start, or else its last one."""
    lines: list[str] = []
    for line in tail(path, _LAST_WORDS_LINES):
        lines = [] if line.startswith(_START_MARK) else [*lines, line] if line.strip() else lines
    if not lines:
        return f"it said nothing ({path})"
    for line in reversed(lines):
        if line.startswith(FATAL_PREFIX):
            return line.removeprefix(FATAL_PREFIX)
    return f"{lines[-1].strip()} ({path})"


def tail(path: Path, count: int, *, end: int | None = None) -> list[str]:
    """The last ``count`` lines, of the first ``end`` bytes if given; none when there is no file."""
    if count <= 0 or not path.exists():
        return []
    with path.open("rb") as file:
        position = file.seek(0, 2) if end is None else end
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            length = min(_CHUNK_BYTES, position)
            position -= length
            file.seek(position)
            data = file.read(length) + data
    return data.decode("utf-8", "replace").splitlines()[-count:]


def follow(path: Path, count: int, *, cancelled: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """The last ``count`` lines, then every new one as it comes, until cancelled."""
    position = path.stat().st_size if path.exists() else 0
    yield from tail(path, count, end=position)
    rest = b""
    while not cancelled():
        size = path.stat().st_size if path.exists() else 0
        if size < position:
            position, rest = 0, b""
        if size == position:
            time.sleep(_FOLLOW_POLL_S)
            continue
        with path.open("rb") as file:
            file.seek(position)
            data = rest + file.read(_CHUNK_BYTES)
            position = file.tell()
        *lines, rest = data.split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
