"""``python -m tests.e2e.failure_matrix --runs 10``: all rows of the failure matrix, again and again, counted.

Each row's outcome goes into ``rows.jsonl`` at once, so that a run that was broken off is gone on with, as
long as the code is the same; what rows that failed have left stays beside it, in ``round-NN/ROW``.  Refuses
to know what a row is.
"""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from glasslog.client.cli.local.cluster import LocalCluster

from tests.e2e.failure_rows import ROWS, Played, Row, keep_cluster, play
from tests.source_tree import ROOT, product_modules

JOURNAL = "rows.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row that was played to its end; ``code`` tells which."""

    code: str
    round: int
    row: str
    why: str
    seconds: float


class Rounds:
    """``runs`` rounds of ``rows`` in ``folder``, some of them played already."""

    def __init__(self, folder: Path, *, rows: Sequence[str], runs: int, code: str) -> None:
        self.folder = folder
        self._rows = rows
        self._runs = runs
        self._code = code
        found = [entry for entry in _read(folder / JOURNAL) if entry.code == code]
        is_over = len(found) >= runs * len(rows)
        self._entries = [] if is_over else found
        if not self._entries:
            # What earlier code has left, and what was played to its end, does not count any more.
            (folder / JOURNAL).unlink(missing_ok=True)

    @property
    def is_begun(self) -> bool:
        return bool(self._entries)

    def left(self, number: int) -> list[str]:
        """The rows that round ``number`` still wants."""
        played = {entry.row for entry in self._entries if entry.round == number}
        return [row for row in self._rows if row not in played]

    def place(self, number: int, row: str) -> Path:
        """A folder that is not there yet, for what the row leaves."""
        first = self.folder / f"round-{number:02}" / row
        later = (first.with_name(f"{row}.{again}") for again in range(2, 1_000))
        return next(path for path in (first, *later) if not path.exists())

    def note(self, number: int, row: str, played: Played) -> None:
        entry = Entry(code=self._code, round=number, row=row, why=played.why, seconds=played.seconds)
        self._entries.append(entry)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(entry)) + "\n")

    def green(self) -> list[bool]:
        """Of each round that is over, whether all was well."""
        return [
            not any(entry.why for entry in self._entries if entry.round == number)
            for number in range(1, self._runs + 1)
            if not self.left(number)
        ]

    def summary(self) -> str:
        green = self.green()
        failed = sum(bool(entry.why) for entry in self._entries)
        seconds = sum(entry.seconds for entry in self._entries)
        return (
            f"{len(green)} of {self._runs} rounds are over, {sum(green)} green, {in_a_row(green)} in a row; "
            f"{len(self._entries)} rows in {seconds:.0f} s, {failed} failed"
        )


def in_a_row(green: Sequence[bool]) -> int:
    """The longest run of green rounds."""
    longest = current = 0
    for each in green:
        current = current + 1 if each else 0
        longest = max(longest, current)
    return longest


def _read(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    # The last line of a run that was killed may be torn.
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [Entry(**json.loads(line)) for line in lines]


def code_version() -> str:
    """The same as long as no module of the product changes."""
    digest = hashlib.sha256()
    for path in product_modules():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class _Clusters:
    """One at a time; after a failure the next row has a new one."""

    def __init__(self) -> None:
        self._cluster: LocalCluster | None = None

    def get(self) -> LocalCluster:
        if self._cluster is None:
            self._cluster = LocalCluster(Path(tempfile.mkdtemp(prefix="glasslog-matrix-")))
            self._cluster.up(settings={"chaos.enabled": "true"})
        return self._cluster

    def keep(self, folder: Path) -> None:
        cluster, self._cluster = self.get(), None
        keep_cluster(cluster, folder)

    def close(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.down(delete=True)


@contextmanager
def _clusters() -> Iterator[_Clusters]:
    clusters = _Clusters()
    try:
        yield clusters
    finally:
        clusters.close()


def _play_round(rounds: Rounds, number: int, rows: Sequence[Row]) -> None:
    left = set(rounds.left(number))
    with _clusters() as clusters:
        for row in rows:
            if row.name not in left:
                continue
            folder = rounds.place(number, row.name)
            played = play(clusters.get(), row, folder)
            if played.why:
                clusters.keep(folder)
            with suppress(OSError):
                # Nothing failed in this round so far.
                folder.parent.rmdir()
            rounds.note(number, row.name, played)
            outcome = f"FAILED: {played.why}; see {folder}" if played.why else "green"
            print(f"round {number}  {row.name:<18} {played.seconds:5.1f} s  {outcome}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is left; 0 only if every round is green."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.failure_matrix", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="rounds of all rows")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "matrix", help="where outcomes are kept"
    )
    parser.add_argument("--only", default="", metavar="ROW", help="rows whose name has this in it")
    asked = parser.parse_args(arguments)
    # Who runs in the background of a shell would otherwise ignore both, or leave a cluster behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    rows = [row for row in ROWS if asked.only in row.name]
    rounds = Rounds(asked.folder, rows=[row.name for row in rows], runs=asked.runs, code=code_version())
    if rounds.is_begun:
        print(f"going on: {rounds.summary()}", flush=True)
    try:
        for number in range(1, asked.runs + 1):
            _play_round(rounds, number, rows)
    except KeyboardInterrupt:
        print(f"broken off, the same command goes on: {rounds.summary()}", flush=True)
        return 130
    print(rounds.summary())
    return 0 if all(rounds.green()) else 1


if __name__ == "__main__":
    sys.exit(main())
