"""What several benchmarks need: other processes' memory and processor time, a cluster to use up.

Refuses to know what is measured.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.state import NodeState

_PROC = Path("/proc")
HAS_PROC = (_PROC / "self" / "status").exists()
NO_PROC = "needs /proc, which this system does not have"
_USER_FIELD, _SYSTEM_FIELD = 11, 12
"""In ``/proc/PID/stat``, counted after the command's name, which may hold anything."""


def resident_mb(node: NodeState) -> float:
    """Memory of a node that is in RAM, in MB of 10^6 bytes. Only where ``HAS_PROC``."""
    return _status_mb(node, "VmRSS")


def peak_resident_mb(node: NodeState) -> float:
    """The most that ``resident_mb`` would have told since the node was started. Only where ``HAS_PROC``."""
    return _status_mb(node, "VmHWM")


def _status_mb(node: NodeState, key: str) -> float:
    for line in (_PROC / str(_pid(node)) / "status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"{node.name}: its /proc entry does not tell {key}")


def processor_ms(nodes: Sequence[NodeState]) -> float:
    """Processor time that the nodes have used so far, user and system, in ms. Only where ``HAS_PROC``."""
    ticks = 0
    for node in nodes:
        text = (_PROC / str(_pid(node)) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        ticks += int(fields[_USER_FIELD]) + int(fields[_SYSTEM_FIELD])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="glasslog-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stopped_cluster() -> Iterator[LocalCluster]:
    """A cluster that was not started; whatever the block leaves of it is stopped and removed."""
    with scratch_folder() as folder:
        cluster = LocalCluster(folder)
        try:
            yield cluster
        finally:
            if cluster.is_running():
                cluster.down()


@contextmanager
def running_cluster() -> Iterator[LocalCluster]:
    """Three controllers and three brokers as ``glasslog local up`` starts them."""
    with stopped_cluster() as cluster:
        cluster.up()
        yield cluster


def _pid(node: NodeState) -> int:
    assert node.process is not None, f"{node.name} does not run"
    return node.process.pid
