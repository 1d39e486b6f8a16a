"""An unmodified Kafka client, librdkafka, through a whole cluster: throughput, batches, latency of acks.

One partition with three replicas, ``min.insync.replicas`` 2, acks=all, as in comparisons with other systems.
Client and brokers share this machine. Knows nothing of brokers but where they listen.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glasslog.client.cli.bench.figures import percentile
from glasslog.client.cli.local.cluster import LocalCluster

from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, resident_mb, running_cluster
from benchmarks.report import Figure, Line, Skipped

RECORD_BYTES = 1024
_MEGABYTES, _QUICK_MEGABYTES = 300, 30
PACED_RATE, _SECONDS, _QUICK_SECONDS = 1_000, 10, 2
_FLUSH_S = 120.0
_MISSING = "needs confluent-kafka, which is among the development tools"


def run(*, quick: bool) -> Sequence[Line]:
    """Large batches, small batches, reading back, then single records at a fixed rate."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return [Skipped(what="Kafka clients", reason=_MISSING)]
    megabytes = _QUICK_MEGABYTES if quick else _MEGABYTES
    with running_cluster() as cluster:
        return _measure(cluster, megabytes, _QUICK_SECONDS if quick else _SECONDS)


def _measure(cluster: LocalCluster, megabytes: int, seconds: int) -> list[Line]:
    servers = ",".join(broker.address("KAFKA") for broker in cluster.state().brokers)
    lines: list[Line] = []
    large = {"batch.size": 1_000_000, "linger.ms": 5}
    small = {"batch.size": 16_384, "linger.ms": 5}
    _create(servers, "large", "small", "paced")
    lines += _priced(
        cluster, megabytes, "produce, 1 MB batches", lambda: produce(servers, "large", megabytes, large)
    )
    lines += _priced(
        cluster,
        megabytes // 3,
        "produce, 16 KB batches",
        lambda: produce(servers, "small", megabytes // 3, small),
    )
    lines += _priced(cluster, megabytes, "consume", lambda: _consume(servers, "large", megabytes))
    for linger_ms in (5, 0):
        latencies = send_paced(servers, "paced", seconds, linger_ms)
        how = f"{PACED_RATE:,} records/s of 1 KB, linger {linger_ms} ms"
        lines += [
            Figure(what=f"ack p{percent}", value=percentile(latencies, percent), unit="ms", note=how)
            for percent in (50, 99)
        ]
    if HAS_PROC:
        most = max(resident_mb(broker) for broker in cluster.state().brokers)
        lines.append(Figure(what="memory of a broker afterwards", value=most, unit="MB", note="the largest"))
    return lines


def _priced(cluster: LocalCluster, megabytes: int, what: str, work: Callable[[], float]) -> list[Line]:
    brokers = cluster.state().brokers
    before_ms = processor_ms(brokers) if HAS_PROC else 0.0
    elapsed_s = work()
    speed = Figure(
        what=what, value=megabytes / elapsed_s, unit="MB/s", note=f"{megabytes} MB of 1 KB records"
    )
    if not HAS_PROC:
        return [speed, Skipped(what="brokers' processor time", reason=NO_PROC)]
    used_ms = processor_ms(brokers) - before_ms
    return [speed, Figure(what="brokers' processor time", value=used_ms / megabytes, unit="ms/MB", note=what)]


def kafka_module(module: str = "confluent_kafka") -> Any:
    """Loaded when it is wanted: it need not be there."""
    return importlib.import_module(module)


def _create(servers: str, *names: str) -> None:
    kafka = kafka_module("confluent_kafka.admin")
    admin = kafka.AdminClient({"bootstrap.servers": servers})
    config = {"min.insync.replicas": "2"}
    topics = [kafka.NewTopic(name, num_partitions=1, replication_factor=3, config=config) for name in names]
    for future in admin.create_topics(topics).values():
        future.result(_FLUSH_S)


def produce(servers: str, topic: str, megabytes: int, options: Mapping[str, int]) -> float:
    """Seconds from the first record to the last acknowledgement."""
    producer = kafka_module().Producer(
        {"bootstrap.servers": servers, "acks": "all", "queue.buffering.max.kbytes": 65_536, **options}
    )
    value = b"x" * RECORD_BYTES
    count = megabytes * 1_000_000 // RECORD_BYTES
    started = time.perf_counter()
    for _ in range(count):
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.01)
    left = producer.flush(_FLUSH_S)
    assert left == 0, f"{left} records were not acknowledged"
    return time.perf_counter() - started


def _consume(servers: str, topic: str, megabytes: int) -> float:
    kafka = kafka_module()
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "unused",
            "fetch.queue.backoff.ms": 1,
            "queued.min.messages": 1_000_000,
        }
    )
    consumer.assign([kafka.TopicPartition(topic, 0, 0)])
    wanted, seen = megabytes * 1_000_000 // RECORD_BYTES, 0
    started = time.perf_counter()
    while seen < wanted:
        seen += len(consumer.consume(100_000, 1.0))
    elapsed_s = time.perf_counter() - started
    consumer.close()
    return elapsed_s


def send_paced(servers: str, topic: str, seconds: int, linger_ms: int) -> list[float]:
    """Milliseconds from ``produce`` to the acknowledgement, each record at its own time.

    A value begins with when it was sent.
    """
    producer = kafka_module().Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": linger_ms})
    latencies: list[float] = []
    started = time.perf_counter()
    for number in range(seconds * PACED_RATE):
        due = started + number / PACED_RATE
        while (now := time.perf_counter()) < due:
            producer.poll(min(due - now, 0.001))

        def on_delivery(error: object, message: object, sent: float = now) -> None:
            assert error is None, error
            latencies.append((time.perf_counter() - sent) * 1000)

        producer.produce(topic, paced_value(), on_delivery=on_delivery)
    producer.flush(_FLUSH_S)
    return latencies[PACED_RATE // 2 :]


def paced_value() -> bytes:
    """Begins with 20 digits: the nanoseconds of this machine's clock that only goes forward."""
    return b"%020d" % time.perf_counter_ns() + b"x" * (RECORD_BYTES - 20)
