"""What replication carries: three replicas, ``min.insync.replicas`` 2, acks=all.

Kafka's client librdkafka in bursts that the disk's cache takes, with large and with small batches, to 3 and
to 24 partitions; our client by gRPC with large messages; and how long a record takes to a consumer that
waits for it. Client and brokers share this machine. Knows nothing of brokers but where they listen.
"""

import asyncio
import importlib.util
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.bench.figures import percentile
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks.kafka_clients import (
    PACED_RATE,
    RECORD_BYTES,
    kafka_module,
    paced_value,
    produce,
    send_paced,
)
from benchmarks.measuring import HAS_PROC, peak_resident_mb, processor_ms, running_cluster
from benchmarks.report import Figure, Line, Skipped

_LARGE: Mapping[str, int] = {"batch.size": 1_000_000, "linger.ms": 5}
_SMALL: Mapping[str, int] = {"batch.size": 16_384, "linger.ms": 5}
_MESSAGE_BYTES = 256 << 10
_RECORDS_PER_CALL = 256
_ONE, _FEW, _MANY, _MESSAGES, _PACED = "one", "few", "many", "messages", "paced"
_TOPICS: Mapping[str, int] = {_ONE: 1, _FEW: 3, _MANY: 24, _MESSAGES: 3, _PACED: 1}
"""Their partitions."""

_TIMEOUT_S = 300
_SETTLE_S = 0.5
_WARM_UP = 500
"""Records that do not count."""

_MISSING = "needs confluent-kafka, which is among the development tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """How much of everything."""

    burst_mb: int = 500
    small_mb: int = 200
    bursts: int = 3
    paced_s: int = 10


_QUICK = _Size(burst_mb=30, small_mb=10, bursts=1, paced_s=2)


def run(*, quick: bool) -> Sequence[Line]:
    """Everything on one cluster, one thing after the other."""
    size = _QUICK if quick else _Size()
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, size))


async def _measure(runtime: Runtime, cluster: LocalCluster, size: _Size) -> list[Line]:
    lines: list[Line] = []
    async with asyncio.timeout(_TIMEOUT_S):
        async with Admin(cluster.bootstrap, runtime=runtime) as admin:
            for name, partitions in _TOPICS.items():
                await _create(admin, name, partitions)
        if importlib.util.find_spec("confluent_kafka"):
            lines += _by_kafka(cluster, size)
            lines += _delays("librdkafka", _tail_by_kafka(_servers(cluster), size.paced_s))
        else:
            lines.append(Skipped(what="librdkafka", reason=_MISSING))
        lines += await _by_grpc(runtime, cluster, size)
        lines += _delays("gRPC", await _tail_by_grpc(runtime, cluster, size.paced_s))
    if HAS_PROC:
        most = max(map(peak_resident_mb, cluster.state().brokers))
        what, note = "memory of a broker at its peak", "the largest"
        lines.append(Figure(what=what, value=most, unit="MB", aim="<= 110", note=note))
    return lines


async def _create(admin: Admin, name: str, partitions: int) -> None:
    configs = {"min.insync.replicas": "2"}
    topic = NewTopic(name=name, partitions=partitions, replication_factor=3, configs=configs)
    await admin.create_topics([topic])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burst:
    """``speed`` in MB/s, ``cost`` in ms of all brokers' cores for each MB."""

    speed: float
    cost: float


class _Priced:
    """From its making until ``over``."""

    def __init__(self, cluster: LocalCluster, megabytes: int) -> None:
        self._brokers = cluster.state().brokers
        self._megabytes = megabytes
        self._before_ms = processor_ms(self._brokers) if HAS_PROC else 0.0

    def over(self, elapsed_s: float) -> _Burst:
        used_ms = processor_ms(self._brokers) - self._before_ms if HAS_PROC else 0.0
        return _Burst(speed=self._megabytes / elapsed_s, cost=used_ms / self._megabytes)


def _told(what: str, bursts: Sequence[_Burst], megabytes: int, aim: str) -> list[Line]:
    every = ", ".join(f"{burst.speed:.0f}" for burst in bursts)
    best = max(bursts, key=lambda burst: burst.speed)
    note = f"best of bursts of {megabytes} MB: {every}"
    lines: list[Line] = [Figure(what=what, value=best.speed, unit="MB/s", aim=aim, note=note)]
    if HAS_PROC:
        cost = min(burst.cost for burst in bursts)
        lines.append(Figure(what="brokers' processor time", value=cost, unit="ms/MB", aim="<= 8", note=what))
    return lines


# --- librdkafka ---------------------------------------------------------------------------------------------


def _servers(cluster: LocalCluster) -> str:
    return ",".join(broker.address("KAFKA") for broker in cluster.state().brokers)


def _by_kafka(cluster: LocalCluster, size: _Size) -> list[Line]:
    servers = _servers(cluster)

    def bursts(topic: str, megabytes: int, options: Mapping[str, int], count: int) -> list[_Burst]:
        return [
            _Priced(cluster, megabytes).over(produce(servers, topic, megabytes, options))
            for _ in range(count)
        ]

    large = bursts(_ONE, size.burst_mb, _LARGE, size.bursts)
    small = bursts(_ONE, size.small_mb, _SMALL, size.bursts)
    by_few: list[_Burst] = []
    by_many: list[_Burst] = []
    for _ in range(size.bursts):
        # In turn, so that neither has the better moments of the machine.
        by_few += bursts(_FEW, size.small_mb, _LARGE, 1)
        by_many += bursts(_MANY, size.small_mb, _LARGE, 1)
    share = max(each.speed for each in by_many) / max(each.speed for each in by_few)
    return [
        *_told("produce 1 KB records, 1 MB batches", large, size.burst_mb, ">= 150"),
        *_told("produce 1 KB records, 16 KB batches", small, size.small_mb, ">= 170"),
        *_told(f"produce to {_TOPICS[_FEW]} partitions", by_few, size.small_mb, ""),
        *_told(f"produce to {_TOPICS[_MANY]} partitions", by_many, size.small_mb, ""),
        Figure(
            what=f"{_TOPICS[_MANY]} partitions against {_TOPICS[_FEW]}",
            value=100 * share,
            unit="%",
            aim=">= 80",
        ),
    ]


# --- ours ---------------------------------------------------------------------------------------------------


async def _by_grpc(runtime: Runtime, cluster: LocalCluster, size: _Size) -> list[Line]:
    values = [b"x" * RECORD_BYTES] * _RECORDS_PER_CALL
    calls = size.small_mb * 1_000_000 // (RECORD_BYTES * _RECORDS_PER_CALL)
    bursts = []
    async with Producer(cluster.bootstrap, runtime=runtime, batch_size=_MESSAGE_BYTES) as producer:
        await producer.send_many(_MESSAGES, values)
        await producer.flush()
        for _ in range(size.bursts):
            priced, started_s = _Priced(cluster, size.small_mb), time.perf_counter()
            for _ in range(calls):
                await producer.send_many(_MESSAGES, values)
            await producer.flush()
            bursts.append(priced.over(time.perf_counter() - started_s))
    return _told("produce by gRPC, 256 KB messages", bursts, size.small_mb, ">= 120")


# --- a consumer that waits ----------------------------------------------------------------------------------


def _delays(who: str, delays_ms: Sequence[float]) -> list[Line]:
    note = "1,000 records/s of 1 KB without linger, from send to a consumer that waits"
    return [
        Figure(
            what=f"end to end by {who}, p{percent}",
            value=percentile(delays_ms, percent),
            unit="ms",
            aim=aim,
            note=note,
        )
        for percent, aim in ((50, "<= 1"), (99, ""))
    ]


def _tail_by_kafka(servers: str, seconds: int) -> list[float]:
    consumer = kafka_module().Consumer({"bootstrap.servers": servers, "group.id": "unused"})
    consumer.assign([kafka_module().TopicPartition(_PACED, 0, 0)])
    delays_ms: list[float] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            messages, now_ns = consumer.consume(1_000, 0.1), time.perf_counter_ns()
            delays_ms.extend((now_ns - int(message.value()[:20])) / 1e6 for message in messages)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        send_paced(servers, _PACED, seconds, 0)
        time.sleep(_SETTLE_S)
    finally:
        is_over.set()
        reader.join()
        consumer.close()
    return delays_ms[_WARM_UP:]


async def _tail_by_grpc(runtime: Runtime, cluster: LocalCluster, seconds: int) -> list[float]:
    delays_ms: list[float] = []

    async def read(consumer: Consumer) -> None:
        while True:
            for record in await consumer.poll():
                assert record.value is not None
                delays_ms.append((time.perf_counter_ns() - int(record.value[:20])) / 1e6)

    async with (
        Producer(cluster.bootstrap, runtime=runtime, linger_ms=0) as producer,
        Consumer(bootstrap_servers=cluster.bootstrap, runtime=runtime) as consumer,
    ):
        place = TopicPartition(_PACED, 0)
        consumer.assign([place])
        consumer.seek_to_end(place)
        await consumer.position(place)
        reading = asyncio.create_task(read(consumer))
        started_s, sent = time.perf_counter(), 0
        while (passed_s := time.perf_counter() - started_s) < seconds:
            for _ in range(sent, due := int(passed_s * PACED_RATE)):
                await producer.send(_PACED, paced_value())
            sent = max(sent, due)
            await asyncio.sleep(0.001)
        await producer.flush()
        await asyncio.sleep(_SETTLE_S)
        reading.cancel()
        await asyncio.wait([reading])
    return delays_ms[_WARM_UP:]
