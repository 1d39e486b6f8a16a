"""How long an acknowledgement takes at a modest, steady rate, without linger. Nothing is killed."""

import asyncio
from collections.abc import Sequence

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.producer import Producer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.measuring import percentile, running_cluster
from benchmarks.pacing import PacedSender
from benchmarks.report import Figure, Line

_TOPIC = "latency"
_PARTITIONS, _REPLICAS = 6, 3
_RATE, _RECORD_BYTES = 1_000, 75
_WARM_UP_S = 1.0
_DURATION_S, _QUICK_DURATION_S = 10.0, 2.0
_TIMEOUT_S = 40


def run(*, quick: bool) -> Sequence[Line]:
    """1,000 records a second to six partitions with three replicas, acks=all, linger_ms=0."""
    duration_s = _QUICK_DURATION_S if quick else _DURATION_S
    with running_cluster() as cluster:
        latencies_ms = run_in_process(lambda runtime: _measure(runtime, cluster, duration_s))
    note = f"{_RATE:,} records/s, acks=all, no linger"
    return [
        Figure(what="acknowledgement p50", value=percentile(latencies_ms, 50), unit="ms", note=note),
        Figure(what="acknowledgement p99", value=percentile(latencies_ms, 99), unit="ms"),
        Figure(what="acknowledgement, slowest", value=max(latencies_ms), unit="ms"),
    ]


async def _measure(runtime: Runtime, cluster: LocalCluster, duration_s: float) -> list[float]:
    async with (
        asyncio.timeout(_TIMEOUT_S),
        Admin(cluster.bootstrap, runtime=runtime) as admin,
        Producer(cluster.bootstrap, runtime=runtime, linger_ms=0) as producer,
    ):
        await admin.create_topics(
            [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
        )
        await _sender(producer).send_for(_WARM_UP_S)
        sender = _sender(producer)
        await sender.send_for(duration_s)
        return [(ack.acked_s - ack.sent_s) * 1e3 for ack in sender.acknowledged]


def _sender(producer: Producer) -> PacedSender:
    return PacedSender(producer, topic=_TOPIC, partitions=_PARTITIONS, rate=_RATE, value=bytes(_RECORD_BYTES))
