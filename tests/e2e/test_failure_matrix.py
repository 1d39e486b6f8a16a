"""Each kind of failure of Kafka's matrix on real processes, one after the other under load: every
acknowledged record is read in the end, once and in order.

``make matrix RUNS=10`` plays all twelve rows ten times.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster

from tests.e2e.failure_rows import EACH_KIND, play


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path / "cluster")
    cluster.up(settings={"chaos.enabled": "true"})
    yield cluster
    cluster.down()


def test_acknowledged_records_survive_each_kind_of_failure(cluster: LocalCluster, tmp_path: Path) -> None:
    played = play(cluster, EACH_KIND, tmp_path / "kept")
    assert not played.why, f"{played.why}; see {tmp_path}"
