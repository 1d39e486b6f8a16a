"""Ten thousand partitions on three brokers: how long decisions take, and what it costs to have them.

It refuses to know how controllers decide. Topics are created one after the other, each with a thousand
partitions of three replicas, and are there once every leader serves; then a broker is killed, and then the
active controller.
"""

import asyncio
import time
from collections.abc import Sequence

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.common.ids import NO_NODE
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, resident_mb, running_cluster
from benchmarks.report import Figure, Line, Skipped

_TOPICS, _QUICK_TOPICS = 10, 2
_PARTITIONS, _REPLICAS = 1_000, 3
_SETTLE_S, _IDLE_S = 5.0, 10.0
_TIMEOUT_S, _ANSWER_TIMEOUT_MS = 300, 60_000
_POLL_S = 0.02


def run(*, quick: bool) -> Sequence[Line]:
    """Create, rest, kill a broker, kill the active controller."""
    topics = _QUICK_TOPICS if quick else _TOPICS
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, topics))


async def _measure(runtime: Runtime, cluster: LocalCluster, topics: int) -> Sequence[Line]:
    admin = Admin(
        cluster.bootstrap,
        runtime=runtime,
        request_timeout_ms=_ANSWER_TIMEOUT_MS,
        default_api_timeout_ms=_ANSWER_TIMEOUT_MS,
    )
    async with asyncio.timeout(_TIMEOUT_S), admin:
        names = [f"scale-{number}" for number in range(topics)]
        times = [await _create(admin, name) for name in names]
        created_s, served_s = times[0]
        count = f"{topics * _PARTITIONS:,}"
        total_s = sum(served for _, served in times)
        lines: list[Line] = [
            Figure(what="topic of 1,000 partitions, first", value=created_s, unit="s", aim="< 1"),
            Figure(what="until all its leaders serve", value=served_s, unit="s"),
            Figure(what=f"{count} partitions created and led", value=total_s, unit="s", aim="< 30"),
        ]
        lines += await _rest(cluster)
        led, moved_s = await _kill_broker(cluster, admin, names)
        lines.append(Figure(what=f"{led:,} leaders of a killed broker", value=moved_s, unit="s", aim="< 2"))
        decided_s = await _kill_controller(cluster, admin)
        lines.append(Figure(what="next decision, controller killed", value=decided_s, unit="s", aim="< 1.5"))
        return lines


async def _create(admin: Admin, name: str) -> tuple[float, float]:
    """Seconds until the topic was there, and until each of its leaders answered."""
    started_s = time.perf_counter()
    await admin.create_topics([NewTopic(name=name, partitions=_PARTITIONS, replication_factor=_REPLICAS)])
    created_s = time.perf_counter() - started_s
    await admin.end_offsets(name)
    return created_s, time.perf_counter() - started_s


async def _rest(cluster: LocalCluster) -> Sequence[Line]:
    if not HAS_PROC:
        return [Skipped(what="idle", reason=NO_PROC)]
    await asyncio.sleep(_SETTLE_S)
    before_ms = processor_ms(cluster.nodes())
    await asyncio.sleep(_IDLE_S)
    share = (processor_ms(cluster.nodes()) - before_ms) / (_IDLE_S * 1000)
    largest = {
        kind: max(resident_mb(node) for node in cluster.nodes() if node.name.startswith(kind))
        for kind in ("controller", "broker")
    }
    return [
        Figure(what="idle, all nodes", value=share * 100, unit="% of a core", aim="< 15"),
        Figure(what="largest controller", value=largest["controller"], unit="MB", aim="< 250"),
        Figure(what="largest broker", value=largest["broker"], unit="MB"),
    ]


async def _kill_broker(cluster: LocalCluster, admin: Admin, names: Sequence[str]) -> tuple[int, float]:
    """How many partitions the killed one led, and when the last of them had another leader that serves."""
    victim = next(node for node in cluster.nodes() if node.name == "broker-1")
    led = sum(
        partition.leader == victim.node_id
        for topic in await admin.describe_topics(names)
        for partition in topic.partitions
    )
    started_s = time.perf_counter()
    await asyncio.to_thread(cluster.kill, victim.name)
    for name in names:
        await _all_led(admin, name, without=victim.node_id)
    for name in names:
        await admin.end_offsets(name)
    return led, time.perf_counter() - started_s


async def _all_led(admin: Admin, name: str, *, without: int) -> None:
    while True:
        (topic,) = await admin.describe_topics([name])
        if all(partition.leader not in (without, NO_NODE) for partition in topic.partitions):
            return
        await asyncio.sleep(_POLL_S)


async def _kill_controller(cluster: LocalCluster, admin: Admin) -> float:
    described = await admin.describe_cluster()
    victim = next(node for node in cluster.nodes() if node.node_id == described.controller_id)
    started_s = time.perf_counter()
    await asyncio.to_thread(cluster.kill, victim.name)
    await admin.create_topics([NewTopic(name="after", partitions=1, replication_factor=1)])
    return time.perf_counter() - started_s
