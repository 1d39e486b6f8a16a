"""From ``local up``, and from ``make up``, to a healthy cluster; memory of nodes at rest. Knows no topics."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from glasslog.client.cli.local.cluster import LocalCluster

from benchmarks.measuring import HAS_PROC, NO_PROC, resident_mb, stopped_cluster
from benchmarks.report import Figure, Line, Skipped

_REST_S, _QUICK_REST_S = 5.0, 1.0
_AIMS_MB = {"broker": "< 60", "controller": "< 50"}
_ROOT = Path(__file__).resolve().parent.parent
_IMAGE = "glasslog"
_HEALTHY = re.compile(r"All healthy after (\d+) s")


def run(*, quick: bool) -> Sequence[Line]:
    """Three controllers and three brokers: first start, orderly stop, start on the data left behind."""
    with stopped_cluster() as cluster:
        first_s = _up(cluster)
        time.sleep(_QUICK_REST_S if quick else _REST_S)
        memory = _memory(cluster)
        started = time.perf_counter()
        cluster.down()
        down_s = time.perf_counter() - started
        again_s = _up(cluster)
    return [
        Figure(what="local up, new", value=first_s, unit="s", aim="< 3"),
        Figure(what="local up, again", value=again_s, unit="s", aim="< 3"),
        Figure(what="local down", value=down_s, unit="s"),
        *memory,
        *_containers(),
    ]


def _up(cluster: LocalCluster) -> float:
    started = time.perf_counter()
    cluster.up()
    return time.perf_counter() - started


def _memory(cluster: LocalCluster) -> list[Line]:
    if not HAS_PROC:
        return [Skipped(what="memory of each node", reason=NO_PROC)]
    return [
        Figure(
            what=f"memory of {node.name}",
            value=resident_mb(node),
            unit="MB",
            aim=_AIMS_MB[node.role],
            note="resident, at rest",
        )
        for node in cluster.nodes()
    ]


def _containers() -> list[Line]:
    """The image, and the compose cluster once it is built; its ports must be free."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        return [Skipped(what="make up", reason="no Docker engine answers")]
    project = {**os.environ, "COMPOSE_PROJECT_NAME": "glasslog-bench", "GLASSLOG_IMAGE": _IMAGE}
    try:
        up = subprocess.run(["make", "up"], cwd=_ROOT, env=project, capture_output=True, text=True)
    finally:
        down = ["make", "down", "VOLUMES=1"]
        subprocess.run(down, cwd=_ROOT, env=project, capture_output=True)
    size = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", _IMAGE], capture_output=True, text=True
    )
    healthy = _HEALTHY.search(up.stdout)
    if healthy is None or size.returncode:
        reason = (up.stderr + size.stderr).strip().splitlines()[-1]
        return [Skipped(what="make up", reason=reason)]
    return [
        Figure(what="make up", value=int(healthy[1]), unit="s", aim="< 20", note="the image is there"),
        Figure(what="image", value=int(size.stdout) / 1e6, unit="MB", aim="< 250"),
    ]
