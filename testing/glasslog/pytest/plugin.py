"""The pytest plugin: fixtures that give a test a throw-away cluster, in memory or as processes.

Loaded by every run of pytest where glasslog is installed, so it imports nothing of it before a test asks.
Refuses to know what a test does with a cluster.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from glasslog.pytest.processes import ProcessCluster
    from glasslog.pytest.simulation import Simulation

MARKER = "glasslog"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What ``@pytest.mark.glasslog(...)`` may say of the cluster."""

    controllers: int = 3
    brokers: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which seeds stories in memory run with."""
    group = parser.getgroup("glasslog")
    group.addoption("--glasslog-seed", type=int, default=0, metavar="N", help="first seed of each story")
    group.addoption(
        "--glasslog-seeds", type=int, default=1, metavar="N", help="how many seeds each story has"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known; refuse to run no seed at all."""
    if config.getoption("--glasslog-seeds") < 1:
        raise pytest.UsageError("--glasslog-seeds: at least 1")
    config.addinivalue_line(
        "markers",
        f"{MARKER}(controllers=3, brokers=3, settings={{}}): the cluster that glasslog_simulation or "
        "glasslog_cluster makes",
    )


@pytest.fixture
def glasslog_simulation(request: pytest.FixtureRequest) -> "Simulation":
    """Runs a story on a cluster in memory, on virtual time: ``verdict = glasslog_simulation(story)``."""
    from glasslog.pytest.simulation import Simulation

    wanted, options = _wanted(request), request.config.getoption
    first, count = options("--glasslog-seed"), options("--glasslog-seeds")
    return Simulation(
        name=request.node.nodeid,
        controllers=wanted.controllers,
        brokers=wanted.brokers,
        settings=wanted.settings,
        seeds=range(first, first + count),
    )


@pytest.fixture
def glasslog_cluster(request: pytest.FixtureRequest, tmp_path: "Path") -> "Iterator[ProcessCluster]":
    """A cluster of processes, up and healthy; what they wrote and logged lies in the test's ``tmp_path``."""
    from glasslog.client.cli.local.cluster import LocalCluster
    from glasslog.pytest.processes import ProcessCluster

    wanted = _wanted(request)
    local = LocalCluster(tmp_path / "glasslog")
    local.up(brokers=wanted.brokers, controllers=wanted.controllers, settings=wanted.settings)
    try:
        yield ProcessCluster(local, request.node.nodeid)
    finally:
        local.down()


def _wanted(request: pytest.FixtureRequest) -> _Wanted:
    marker = request.node.get_closest_marker(MARKER)
    if marker is None:
        return _Wanted()
    try:
        return _Wanted(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise pytest.UsageError(f"{request.node.nodeid}: @pytest.mark.{MARKER}: {error}") from None
