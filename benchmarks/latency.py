"""How long an acknowledgement takes at a modest, steady rate, without linger, and what it costs brokers.

By gRPC with our client and, where it is there, by Kafka's protocol with librdkafka. Nothing is killed.
"""

import asyncio
import importlib.util
from collections.abc import Sequence

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.bench.figures import percentile
from glasslog.client.cli.bench.pacing import PacedSender
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.producer import Producer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.kafka_clients import send_paced
from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, running_cluster
from benchmarks.report import Figure, Line, Skipped

_TOPIC = "latency"
_PARTITIONS, _REPLICAS = 6, 3
_RATE, _RECORD_BYTES = 1_000, 1_024
_WARM_UP_S = 1
_DURATION_S, _QUICK_DURATION_S = 10, 2
_TIMEOUT_S = 60


def run(*, quick: bool) -> Sequence[Line]:
    """1,000 records a second to six partitions with three replicas, acks=all, linger_ms=0."""
    duration_s = _QUICK_DURATION_S if quick else _DURATION_S
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, duration_s))


async def _measure(runtime: Runtime, cluster: LocalCluster, duration_s: int) -> list[Line]:
    async with asyncio.timeout(_TIMEOUT_S):
        async with Admin(cluster.bootstrap, runtime=runtime) as admin:
            await admin.create_topics(
                [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
            )
        async with Producer(cluster.bootstrap, runtime=runtime, linger_ms=0) as producer:
            await _send(producer, _WARM_UP_S)
            used = _Used(cluster)
            lines = _told("gRPC", await _send(producer, duration_s), used)
        if importlib.util.find_spec("confluent_kafka"):
            servers = ",".join(broker.address("KAFKA") for broker in cluster.state().brokers)
            send_paced(servers, _TOPIC, _WARM_UP_S, 0)
            used = _Used(cluster)
            lines += _told("librdkafka", send_paced(servers, _TOPIC, duration_s, 0), used)
        return lines


async def _send(producer: Producer, seconds: int) -> list[float]:
    sender = PacedSender(
        producer, topic=_TOPIC, partitions=_PARTITIONS, rate=_RATE, value=bytes(_RECORD_BYTES)
    )
    await sender.send_for(seconds)
    return [(ack.acked_s - ack.sent_s) * 1e3 for ack in sender.acknowledged]


class _Used:
    """What the brokers have used since it was made, on average, in ms."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._brokers = cluster.state().brokers
        self._before_ms = self._now_ms()

    def _now_ms(self) -> float:
        return processor_ms(self._brokers) / len(self._brokers) if HAS_PROC else 0.0

    def each_ms(self) -> float:
        return self._now_ms() - self._before_ms


def _told(who: str, latencies_ms: Sequence[float], used: _Used) -> list[Line]:
    what = f"acknowledgement by {who}"
    note = f"{_RATE:,} records/s of 1 KB, acks=all, no linger"
    cost = "a broker's processor time for each record"
    each_us = used.each_ms() * 1_000 / len(latencies_ms)
    return [
        Figure(what=f"{what}, p50", value=percentile(latencies_ms, 50), unit="ms", aim="<= 0.5", note=note),
        Figure(what=f"{what}, p99", value=percentile(latencies_ms, 99), unit="ms", aim="<= 3"),
        Figure(what=f"{what}, slowest", value=max(latencies_ms), unit="ms"),
        Figure(what=cost, value=each_us, unit="us", note=f"by {who}, on average of the three")
        if HAS_PROC
        else Skipped(what=cost, reason=NO_PROC),
    ]
