"""How long a partition is without acknowledgements after a SIGKILL of its leader, with default settings.

A run is: send steadily to all partitions, kill the leader of one, go on until all is acknowledged; then the
broker comes back and the next run waits until it is in every ISR. It refuses to know who elects whom.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.producer import Producer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.measuring import percentile, running_cluster
from benchmarks.pacing import Acknowledgement, PacedSender
from benchmarks.report import Figure, Line

_TOPIC = "failover"
_PARTITIONS, _REPLICAS = 6, 3
_RATE, _RECORD_BYTES = 1_200, 75
_BEFORE_S, _AFTER_S = 1.0, 2.0
_RUNS, _QUICK_RUNS = 5, 2
_TIMEOUT_S = 90
_POLL_S = 0.05


def run(*, quick: bool) -> Sequence[Line]:
    """Several kills, one after the other, of whoever leads partition 0 then."""
    runs = _QUICK_RUNS if quick else _RUNS
    with running_cluster() as cluster:
        stalls_ms = run_in_process(lambda runtime: _measure(runtime, cluster, runs))
    note = f"{runs} kills: " + ", ".join(f"{stall:.0f}" for stall in stalls_ms)
    return [
        Figure(what="longest stall, median", value=percentile(stalls_ms, 50), unit="ms", note=note),
        Figure(what="longest stall, worst", value=max(stalls_ms), unit="ms", aim="< 1,000"),
    ]


async def _measure(runtime: Runtime, cluster: LocalCluster, runs: int) -> list[float]:
    async with asyncio.timeout(_TIMEOUT_S), Admin(cluster.bootstrap, runtime=runtime) as admin:
        await admin.create_topics(
            [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
        )
        stalls_ms = []
        for _ in range(runs):
            await _all_in_sync(admin)
            stalls_ms.append(await _kill_once(runtime, cluster, admin))
        return stalls_ms


async def _kill_once(runtime: Runtime, cluster: LocalCluster, admin: Admin) -> float:
    names = {node.node_id: node.name for node in cluster.nodes()}
    stop = asyncio.Event()
    async with Producer(cluster.bootstrap, runtime=runtime) as producer:
        sender = PacedSender(
            producer, topic=_TOPIC, partitions=_PARTITIONS, rate=_RATE, value=bytes(_RECORD_BYTES)
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(sender.send_until(stop))
            await asyncio.sleep(_BEFORE_S)
            (topic,) = await admin.describe_topics([_TOPIC])
            victim = names[topic.partitions[0].leader]
            killed_s = time.perf_counter()
            await asyncio.to_thread(cluster.kill, victim)
            await asyncio.sleep(_AFTER_S)
            stop.set()
    await asyncio.to_thread(cluster.restart, victim)
    return longest_gap_ms(sender.acknowledged, after_s=killed_s)


def longest_gap_ms(acknowledged: Sequence[Acknowledgement], *, after_s: float) -> float:
    """The longest time that ended after ``after_s`` in which some partition got no acknowledgement.

    Every partition must have been written to all the while.
    """
    times: dict[int, list[float]] = {}
    for ack in acknowledged:
        times.setdefault(ack.partition, []).append(ack.acked_s)
    gaps = (pair for series in times.values() for pair in pairwise(series))
    return max((later - earlier) * 1e3 for earlier, later in gaps if later > after_s)


async def _all_in_sync(admin: Admin) -> None:
    while True:
        (topic,) = await admin.describe_topics([_TOPIC])
        if all(set(partition.isr) == set(partition.replicas) for partition in topic.partitions):
            return
        await asyncio.sleep(_POLL_S)
