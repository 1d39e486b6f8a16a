"""Records through a whole cluster: one producer, a group of three consumers, three replicas, acks=all.

All clients share one process and one core, as in the demo; nothing is killed. Knows only the clients' public
face.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime

from benchmarks import bursts
from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, running_cluster
from benchmarks.report import Figure, Line, Skipped

_TOPIC = "throughput"
_PARTITIONS, _REPLICAS, _CONSUMERS = 6, 3, 3
_RECORD_BYTES, _KEY_BYTES = 75, 15
_RECORDS_PER_KEY = 250
_RECORDS, _QUICK_RECORDS = 2_000_000, 200_000
_SINGLE_RECORDS, _QUICK_SINGLE_RECORDS = 200_000, 20_000
_MAX_POLL_RECORDS = 20_000
_TIMEOUT_S = 60


@dataclass(slots=True)
class _Progress:
    """What the consumers have seen together."""

    wanted: int
    read: int
    done: asyncio.Event


def run(*, quick: bool) -> Sequence[Line]:
    """Records written while they are read; some one at a time; then, on a new cluster, ``bursts``."""
    records = _QUICK_RECORDS if quick else _RECORDS
    singles = _QUICK_SINGLE_RECORDS if quick else _SINGLE_RECORDS
    with running_cluster() as cluster:
        lines = run_in_process(lambda runtime: _measure(runtime, cluster, records, singles))
    return [*lines, *bursts.run(quick=quick)]


async def _measure(runtime: Runtime, cluster: LocalCluster, records: int, singles: int) -> list[Line]:
    brokers = cluster.state().brokers
    async with asyncio.timeout(_TIMEOUT_S), Admin(cluster.bootstrap, runtime=runtime) as admin:
        await admin.create_topics(
            [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
        )
        before_ms = processor_ms(brokers) if HAS_PROC else 0.0
        elapsed_s = await _through(runtime, cluster.bootstrap, records)
        used_ms = processor_ms(brokers) - before_ms if HAS_PROC else 0.0
        single_s = await _one_by_one(runtime, cluster.bootstrap, singles)
    megabytes = records * _RECORD_BYTES / 1e6
    how = f"{records:,} of {_RECORD_BYTES} bytes, send_many"
    return [
        Figure(
            what="produce + consume", value=records / elapsed_s, unit="records/s", aim=">= 100,000", note=how
        ),
        Figure(what="produce + consume", value=megabytes / elapsed_s, unit="MB/s"),
        Figure(
            what="brokers' processor time",
            value=used_ms / megabytes,
            unit="ms/MB",
            note="all three, written once and read once",
        )
        if HAS_PROC
        else Skipped(what="brokers' processor time", reason=NO_PROC),
        Figure(
            what="produce by send()", value=singles / single_s, unit="records/s", note="one call a record"
        ),
    ]


async def _through(runtime: Runtime, bootstrap: Sequence[str], records: int) -> float:
    """Seconds from the first record sent to the last one read, consumers being ready before."""
    progress = _Progress(wanted=records, read=0, done=asyncio.Event())
    async with asyncio.TaskGroup() as group:
        ready = [asyncio.Event() for _ in range(_CONSUMERS)]
        readers = [group.create_task(_read(runtime, bootstrap, progress, event)) for event in ready]
        for event in ready:
            await event.wait()
        started = time.perf_counter()
        async with Producer(bootstrap, runtime=runtime) as producer:
            for number in range(0, records, _RECORDS_PER_KEY):
                values = _VALUES[: records - number]
                await producer.send_many(_TOPIC, values, key=b"%0*d" % (_KEY_BYTES, number))
        await progress.done.wait()
        elapsed_s = time.perf_counter() - started
        for reader in readers:
            reader.cancel()
    return elapsed_s


_VALUES = [b"%0*d" % (_RECORD_BYTES - _KEY_BYTES, number) for number in range(_RECORDS_PER_KEY)]


async def _read(
    runtime: Runtime, bootstrap: Sequence[str], progress: _Progress, ready: asyncio.Event
) -> None:
    async with Consumer(
        _TOPIC,
        bootstrap_servers=bootstrap,
        group_id="readers",
        auto_offset_reset="earliest",
        runtime=runtime,
    ) as consumer:
        while True:
            for batch in await consumer.poll_batches(_MAX_POLL_RECORDS, timeout_ms=100):
                progress.read += len(batch.records)
            if len(consumer.assignment) == _PARTITIONS // _CONSUMERS:
                ready.set()
            if progress.read >= progress.wanted:
                progress.done.set()


async def _one_by_one(runtime: Runtime, bootstrap: Sequence[str], records: int) -> float:
    key, value = bytes(_KEY_BYTES), bytes(_RECORD_BYTES - _KEY_BYTES)
    async with Producer(bootstrap, runtime=runtime) as producer:
        await producer.send(_TOPIC, value, key)
        await producer.flush()
        started = time.perf_counter()
        for _ in range(records):
            await producer.send(_TOPIC, value, key)
        await producer.flush()
        return time.perf_counter() - started
