"""What a consumer costs that has nothing to read. Knows our consumer, and where brokers are."""

import asyncio
import time
from collections.abc import Sequence

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.consumer import Consumer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.measuring import running_cluster
from benchmarks.report import Figure, Line

_TOPIC = "rest"
_PARTITIONS, _REPLICAS = 6, 3
_MEASURE_S, _QUICK_MEASURE_S, _SETTLE_S = 15.0, 3.0, 3.0
_TIMEOUT_S = 300


def run(*, quick: bool) -> Sequence[Line]:
    """A consumer that waits."""
    with running_cluster() as cluster:
        seconds = _QUICK_MEASURE_S if quick else _MEASURE_S
        return run_in_process(lambda runtime: _measure(runtime, cluster, seconds))


async def _measure(runtime: Runtime, cluster: LocalCluster, seconds: float) -> list[Line]:
    async with asyncio.timeout(_TIMEOUT_S):
        async with Admin(cluster.bootstrap, runtime=runtime) as admin:
            await admin.create_topics(
                [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
            )
        share = await _waiting_consumer(runtime, cluster, seconds)
        return [
            Figure(
                what="a consumer at rest",
                value=100 * share,
                unit="% of a core",
                aim="< 1",
                note=f"in a group, {_PARTITIONS} partitions on three brokers",
            )
        ]


async def _waiting_consumer(runtime: Runtime, cluster: LocalCluster, seconds: float) -> float:
    async with Consumer(
        _TOPIC, bootstrap_servers=cluster.bootstrap, group_id="at-rest", runtime=runtime
    ) as consumer:
        while len(consumer.assignment) < _PARTITIONS:
            await consumer.poll(timeout_ms=100)
        await consumer.poll(timeout_ms=int(_SETTLE_S * 1_000))
        began_s = time.process_time()
        await consumer.poll(timeout_ms=int(seconds * 1_000))
        return (time.process_time() - began_s) / seconds
