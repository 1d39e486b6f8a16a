"""The rows of Kafka's failure matrix, and how one is played on real processes: load, failures, the verdict.

Whatever a row that fails has left is kept: what was asked, what was said, what the clients did and saw, the
report, and the cluster's whole folder with every node's log and data.  Refuses to know how often rows are
played.
Source: Kafka's ``replication_test.py``.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from glasslog.client.cli.local.cluster import LocalCluster

GLASSLOG = [sys.executable, "-m", "glasslog.client"]
AWAY_S, BETWEEN_S = 1, 1
"""A node that is back after a second need not be in sync when the next one goes a second later: then its
partitions wait for it, and lose nothing."""

_BEFORE_AND_AFTER_S = 2
_DEADLINE_S = 150
_LEAST_ACKNOWLEDGED_PER_S = 50
_SCENARIO = """\
name: failure-matrix
description: One row of Kafka's failure matrix.
duration: {duration_s}s
topics: [{{name: orders, partitions: 3, replicas: 3, configs: {{min.insync.replicas: 2}}}}]
producers: [{{count: 2, rate: 100}}]
consumers: [{{group: readers, members: 2}}]
steps:
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What happens to whom, in the words of a scenario."""

    what: str
    whom: str

    @property
    def name(self) -> str:
        return f"{self.what}-{self.whom.removesuffix(' of orders-0').rpartition(' ')[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Failures one after the other."""

    name: str
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a row; ``why`` is empty when all was well."""

    why: str
    seconds: float


FAILURES = tuple(
    Failure(what=what, whom=whom)
    for what, whom in product(
        ("stop", "kill"), ("leader of orders-0", "follower of orders-0", "active controller")
    )
)
ROWS = tuple(
    Row(name=f"{failure.name}-{times}", failures=(failure,) * times)
    for times, failure in product((1, 5), FAILURES)
)
EACH_KIND = Row(name="each-kind", failures=FAILURES)


def play(cluster: LocalCluster, row: Row, folder: Path) -> Played:
    """Play ``row``; ``folder``, which must not be there, is there afterwards only if it failed."""
    began = time.monotonic()
    folder.mkdir(parents=True)
    try:
        why = _why(cluster, row, folder)
    except BaseException:
        # Broken off, which says nothing of the row.
        shutil.rmtree(folder)
        raise
    if not why:
        shutil.rmtree(folder)
    return Played(why=why, seconds=round(time.monotonic() - began, 1))


def keep_cluster(cluster: LocalCluster, folder: Path) -> None:
    """Take down a cluster that has failed, and put its folder where its row's output is."""
    cluster.down()
    shutil.move(cluster.directory, folder / "cluster")


def _why(cluster: LocalCluster, row: Row, folder: Path) -> str:
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario_text(row.failures), encoding="utf-8")
    kept = ["--history", str(folder / "history.jsonl"), "--report", str(folder / "report.html")]
    command = [*GLASSLOG, "chaos", "run", str(scenario), "--dir", str(cluster.directory), *kept]
    try:
        with (folder / "verdict.json").open("wb") as told, (folder / "output.txt").open("wb") as said:
            status = subprocess.run(
                [*command, "--format", "json"],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=said,
                timeout=_DEADLINE_S,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired:
        return f"no verdict after {_DEADLINE_S} s"
    return _judged(status, folder, row)


def _judged(status: int, folder: Path, row: Row) -> str:
    try:
        verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    except ValueError:
        last = (folder / "output.txt").read_text(encoding="utf-8").strip().rpartition("\n")[2]
        return f"exit status {status} without a verdict: {last}"
    if status or verdict["passed"] is not True:
        return f"exit status {status}: {verdict['anomalies']} {verdict['incomplete']} {verdict['troubles']}"
    # On a slow machine who went may not be back yet, so that nobody leads when the next failure is due.
    if len(verdict["faults"]) <= len(row.failures) // 2:
        return f"only {len(verdict['faults'])} of {len(row.failures)} failures happened: it tested too little"
    if verdict["acknowledged"] < _LEAST_ACKNOWLEDGED_PER_S * duration_s(row.failures):
        return f"only {verdict['acknowledged']} records were acknowledged: it tested too little"
    return ""


def duration_s(failures: Sequence[Failure]) -> int:
    return _BEFORE_AND_AFTER_S + len(failures) * (AWAY_S + BETWEEN_S)


def scenario_text(failures: Sequence[Failure]) -> str:
    """The scenario file of a row."""
    steps = [f"  - {{after: {BETWEEN_S}s, {each.what}: {each.whom}, for: {AWAY_S}s}}\n" for each in failures]
    return _SCENARIO.format(duration_s=duration_s(failures)) + "".join(steps)
