"""From ``local up`` to a healthy cluster, and the memory of its nodes at rest. Knows no topics."""

import time
from collections.abc import Sequence

from glasslog.client.cli.local.cluster import LocalCluster

from benchmarks.measuring import HAS_PROC, NO_PROC, resident_mb, stopped_cluster
from benchmarks.report import Figure, Line, Skipped

_REST_S, _QUICK_REST_S = 5.0, 1.0
_AIMS_MB = {"broker": "< 60", "controller": "< 50"}


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
