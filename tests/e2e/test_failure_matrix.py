"""Kafka's failure matrix on real processes: {orderly stop, kill} x {once, five times} x {leader, follower,
active controller}, each under load, and every acknowledged record is read in the end, once and in order.

The suite has one run with each of the six kinds of failure; ``make matrix RUNS=10`` runs all twelve rows ten
times.
Source: Kafka's ``replication_test.py``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster

GLASSLOG = [sys.executable, "-m", "glasslog.client"]
RUNS = int(os.environ.get("GLASSLOG_MATRIX_RUNS", "0"))
DEADLINE_S = 110
AWAY_S, BETWEEN_S, BETWEEN_ALIKE_S = 1, 1, 3
"""Brokers should be back before the next leader goes, or there is soon nobody left to lead."""

LEAST_ACKNOWLEDGED_PER_S = 50
FAILURES = tuple(
    product(("stop", "kill"), ("leader of orders-0", "follower of orders-0", "active controller"))
)
MATRIX = [pytest.param(*row) for row in product(range(RUNS), (1, 5), FAILURES)] or [
    pytest.param(0, 0, FAILURES[0], marks=pytest.mark.skip(reason="`make matrix` runs it"))
]

SCENARIO = """\
name: {name}
description: One row of Kafka's failure matrix.
duration: {duration_s}s
topics: [{{name: orders, partitions: 3, replicas: 3, configs: {{min.insync.replicas: 2}}}}]
producers: [{{count: 2, rate: 100}}]
consumers: [{{group: readers, members: 2}}]
steps:
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path_factory.mktemp("matrix"))
    cluster.up(settings={"chaos.enabled": "true"})
    yield cluster
    cluster.down(delete=True)


def survive(
    cluster: LocalCluster, folder: Path, failures: Sequence[tuple[str, str]], *, between_s: int
) -> None:
    """One failure after the other under load, then everything is read and judged."""
    duration_s = 2 + len(failures) * (AWAY_S + between_s)
    steps = [f"  - {{after: {between_s}s, {what}: {whom}, for: {AWAY_S}s}}\n" for what, whom in failures]
    scenario = folder / "scenario.yaml"
    scenario.write_text(SCENARIO.format(name="failure-matrix", duration_s=duration_s) + "".join(steps))
    done = subprocess.run(
        [*GLASSLOG, "chaos", "run", str(scenario), "--dir", str(cluster.directory), "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is True
    # On a slow machine who went may not be back yet, so that nobody leads when the next failure is due.
    assert len(told["faults"]) > len(failures) // 2, told["faults"]
    assert told["acknowledged"] > LEAST_ACKNOWLEDGED_PER_S * duration_s


def test_acknowledged_records_survive_each_kind_of_failure(cluster: LocalCluster, tmp_path: Path) -> None:
    survive(cluster, tmp_path, FAILURES, between_s=BETWEEN_S)


@pytest.mark.parametrize(("run", "times", "failure"), MATRIX)
def test_the_whole_matrix(
    cluster: LocalCluster, tmp_path: Path, run: int, times: int, failure: tuple[str, str]
) -> None:
    survive(cluster, tmp_path, [failure] * times, between_s=BETWEEN_ALIKE_S)
