"""How long a partition is without acknowledgements when brokers go, with default settings.

Kills: send steadily to all partitions, SIGKILL the leader or a follower of one, go on until all is
acknowledged; then the broker comes back and the next one waits until it is in every ISR.  A rolling restart:
each broker is stopped in order and started again under load, the next when the one before is in sync.  It
refuses to know who elects whom.
"""

import asyncio
import time
from collections.abc import Sequence

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.bench.figures import longest_gap_ms, percentile
from glasslog.client.cli.bench.pacing import PacedSender
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.producer import Producer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.measuring import running_cluster
from benchmarks.report import Figure, Line

_TOPIC = "failover"
_PARTITIONS, _REPLICAS = 6, 3
_RATE, _RECORD_BYTES = 1_200, 75
_BEFORE_S, _AFTER_S, _CALM_S = 0.5, 1.0, 5.0
_RUNS, _QUICK_RUNS = 20, 2
_LINGER_MS = 5
_TIMEOUT_S = 900
_POLL_S = 0.05


def run(*, quick: bool) -> Sequence[Line]:
    """Kills of whoever leads partition 0 then, as many of a follower of it, and one rolling restart."""
    runs = _QUICK_RUNS if quick else _RUNS
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, runs))


async def _measure(runtime: Runtime, cluster: LocalCluster, runs: int) -> list[Line]:
    bench = _Failover(runtime, cluster)
    async with asyncio.timeout(_TIMEOUT_S), Admin(cluster.bootstrap, runtime=runtime) as admin:
        await admin.create_topics(
            [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
        )
        leaders_ms = [await bench.kill(admin, is_leader=True) for _ in range(runs)]
        followers_ms = [await bench.kill(admin, is_leader=False) for _ in range(runs)]
        without_ms, restart_ms = await bench.rolling_restart(admin)
    return [
        *_stalls("SIGKILL of a leader", leaders_ms),
        *_stalls("SIGKILL of a follower", followers_ms),
        Figure(
            what="rolling restart, longest gap beyond linger",
            value=max(0.0, restart_ms - _LINGER_MS),
            unit="ms",
            aim="<= 100",
            note=f"three brokers; as long without any restart: {max(0.0, without_ms - _LINGER_MS):.0f}",
        ),
    ]


def _stalls(what: str, stalls_ms: Sequence[float]) -> list[Line]:
    # A producer's error would have ended the benchmark.
    every = f"no errors in {len(stalls_ms)} kills: " + ", ".join(f"{stall:.0f}" for stall in stalls_ms)
    return [
        Figure(
            what=f"{what}, stall, median",
            value=percentile(stalls_ms, 50),
            unit="ms",
            aim="<= 250",
            note=every,
        ),
        Figure(what=f"{what}, stall, worst", value=max(stalls_ms), unit="ms", aim="<= 600"),
    ]


class _Failover:
    """One cluster that is broken again and again."""

    def __init__(self, runtime: Runtime, cluster: LocalCluster) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._names = {node.node_id: node.name for node in cluster.nodes()}

    def _sender(self, producer: Producer) -> PacedSender:
        return PacedSender(
            producer, topic=_TOPIC, partitions=_PARTITIONS, rate=_RATE, value=bytes(_RECORD_BYTES)
        )

    async def kill(self, admin: Admin, *, is_leader: bool) -> float:
        """The longest gap, in ms, that one SIGKILL makes; the broker is back afterwards."""
        await _all_in_sync(admin)
        stop = asyncio.Event()
        async with Producer(self._cluster.bootstrap, runtime=self._runtime) as producer:
            sender = self._sender(producer)
            async with asyncio.TaskGroup() as group:
                group.create_task(sender.send_until(stop))
                await asyncio.sleep(_BEFORE_S)
                (topic,) = await admin.describe_topics([_TOPIC])
                first = topic.partitions[0]
                follower = next(node for node in first.replicas if node != first.leader)
                victim = self._names[first.leader if is_leader else follower]
                killed_s = time.perf_counter()
                await asyncio.to_thread(self._cluster.kill, victim)
                await asyncio.sleep(_AFTER_S)
                stop.set()
        await asyncio.to_thread(self._cluster.restart, victim)
        return longest_gap_ms(sender.acknowledged, after_s=killed_s)

    async def rolling_restart(self, admin: Admin) -> tuple[float, float]:
        """The longest gap, in ms, before any restart, and that of restarting all brokers in turn."""
        await _all_in_sync(admin)
        stop = asyncio.Event()
        async with Producer(self._cluster.bootstrap, runtime=self._runtime, linger_ms=_LINGER_MS) as producer:
            sender = self._sender(producer)
            async with asyncio.TaskGroup() as group:
                group.create_task(sender.send_until(stop))
                await asyncio.sleep(_BEFORE_S)
                calm_s = time.perf_counter()
                # As long as the restarts take, roughly: the machine has gaps of its own.
                await asyncio.sleep(_CALM_S)
                restarts_s = time.perf_counter()
                for broker in self._cluster.state().brokers:
                    await asyncio.to_thread(self._cluster.restart, broker.name)
                    await _all_in_sync(admin)
                await asyncio.sleep(_AFTER_S)
                stop.set()
        calm = [ack for ack in sender.acknowledged if ack.acked_s <= restarts_s]
        return (
            longest_gap_ms(calm, after_s=calm_s),
            longest_gap_ms(sender.acknowledged, after_s=restarts_s),
        )


async def _all_in_sync(admin: Admin) -> None:
    while True:
        (topic,) = await admin.describe_topics([_TOPIC])
        if all(set(partition.isr) == set(partition.replicas) for partition in topic.partitions):
            return
        await asyncio.sleep(_POLL_S)
