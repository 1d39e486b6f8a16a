"""The file of a history, written line by line while a run goes on, so that a crash of the tool leaves it.

Refuses to know what is in a history.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOSPC
from io import FileIO
from pathlib import Path

from glasslog.checker.operations import Fault, History, Operation
from glasslog.checker.writing import HistoryWriter
from glasslog.client.cli.errors import CommandError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    path: Path
    file: FileIO
    writer: HistoryWriter


class HistoryFile:
    """At ``path``; without one in a new folder, until it is thrown away.

    Opened by the first line, so that a run that never began leaves what there was.  Methods raise
    ``CommandError`` when the file can not be written.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        self._wanted = path
        self._name = name
        self._opened: _Opened | None = None

    def _lines(self) -> HistoryWriter:
        if self._opened is None:
            path = self._wanted or Path(tempfile.mkdtemp(prefix="glasslog-chaos-")) / "history.jsonl"
            try:
                # What is in a buffer when the tool dies is lost.
                file = path.open("wb", buffering=0)
            except OSError as error:
                raise CommandError(f"the history {path}: {error.strerror}") from None
            self._opened = _Opened(
                path=path, file=file, writer=HistoryWriter(_put(path, file), name=self._name)
            )
        return self._opened.writer

    def operation(self, operation: Operation) -> None:
        """One that has ended."""
        self._lines().operation(operation)

    def fault(self, fault: Fault) -> None:
        """One that is over."""
        self._lines().fault(fault)

    def end(self, history: History) -> None:
        """What is known in the end only; operations and faults of ``history`` are there already."""
        for key, nodes in sorted(history.replicas.items()):
            self._lines().replicas(key, nodes)
        if history.end is not None:
            self._lines().end(drained=history.end.drained, groups=history.end.groups)

    def close(self, *, keep: bool) -> Path | None:
        """Returns where the file is that nobody asked for, if it is kept."""
        if self._opened is None:
            return None
        path = self._opened.path
        self._opened.file.close()
        if self._wanted is not None:
            return None
        if keep:
            return path
        path.unlink()
        path.parent.rmdir()
        return None


def _put(path: Path, file: FileIO) -> Callable[[str], None]:
    def put(line: str) -> None:
        if file.closed:
            # The first line that could not be written ends the run.
            return
        data = line.encode()
        try:
            if file.write(data) < len(data):
                raise OSError(ENOSPC, "No space left on device")
        except OSError as error:
            file.close()
            raise CommandError(f"the history {path}: {error.strerror}") from None

    return put
