"""Measures one thing each: writing, reading, how long an acknowledgement takes, how long a failover.

Refuses to know how it is shown.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glasslog.client.admin import Admin
from glasslog.client.cli.bench.figures import longest_gap_ms
from glasslog.client.cli.bench.pacing import PacedSender
from glasslog.client.cli.bench.place import Place
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.progress import progress
from glasslog.client.consumer import Consumer
from glasslog.client.options import ConsumerKeywords, ProducerKeywords
from glasslog.client.producer import Producer
from glasslog.common.runtime.protocols import Runtime

if TYPE_CHECKING:
    from glasslog.client.delivery import Deliveries

_RUN_RECORDS = 1_000
_UNSEEN_RUNS = 64
_POLL_MS = 200
_POLL_RECORDS = 20_000
_PATIENCE_S = 30.0
_WARM_UP_S = 1.0
_BEFORE_S, _AFTER_S = 0.5, 1.0
_FAILOVER_RATE, _FAILOVER_BYTES = 1_000, 100
_LOOK_S = 0.05


async def write(
    runtime: Runtime, servers: str, place: Place, options: ProducerKeywords, *, records: int, size_bytes: int
) -> float:
    """Seconds until all of them are acknowledged. Raises ``GlasslogError`` for the first that is not."""
    values = [bytes(size_bytes)] * _RUN_RECORDS
    unseen: deque[Deliveries] = deque()
    async with Producer(servers, runtime=runtime, **options) as producer:
        await producer.partitions_for(place.topic)
        began_s = time.perf_counter()
        with progress(f"writing to {place.topic}", lambda: records) as advance:
            for sent in range(0, records, _RUN_RECORDS):
                count = min(_RUN_RECORDS, records - sent)
                unseen.append(await producer.send_many(place.topic, values[:count]))
                advance(count)
                while len(unseen) > _UNSEEN_RUNS:
                    await unseen.popleft()
            await producer.flush()
            for deliveries in unseen:
                await deliveries
        return time.perf_counter() - began_s


async def read(
    runtime: Runtime, servers: str, place: Place, options: ConsumerKeywords, *, records: int
) -> tuple[int, int, float]:
    """How many records, how many bytes of keys and values, and the seconds from the first poll on.

    Reads from the beginning to ``records``, or to what is the end when it begins.
    """
    async with Consumer(bootstrap_servers=servers, runtime=runtime, **options) as consumer:
        starts = await consumer.beginning_offsets(place.partitions)
        ends = await consumer.end_offsets(place.partitions)
        wanted = min(records, sum(ends[each] - starts[each] for each in place.partitions))
        consumer.assign(place.partitions)
        consumer.seek_to_beginning()
        count = size_bytes = 0
        last_s = began_s = time.perf_counter()
        with progress(f"reading {place.topic}", lambda: wanted) as advance:
            while count < wanted:
                found = await consumer.poll(min(_POLL_RECORDS, wanted - count), _POLL_MS)
                count += len(found)
                size_bytes += sum(len(record.key or b"") + len(record.value or b"") for record in found)
                advance(len(found))
                last_s = time.perf_counter() if found else last_s
                if time.perf_counter() - last_s > _PATIENCE_S:
                    raise CommandError(f"{count} of {wanted} records came before {_PATIENCE_S:g} s passed")
        return count, size_bytes, time.perf_counter() - began_s


async def latencies_ms(
    runtime: Runtime,
    servers: str,
    place: Place,
    options: ProducerKeywords,
    *,
    rate: int,
    size_bytes: int,
    seconds: float,
) -> list[float]:
    """Of each record from ``send`` to its acknowledgement, at a steady rate that waits for nothing."""
    async with Producer(servers, runtime=runtime, **options) as producer:
        await _sender(producer, place, rate, size_bytes).send_for(min(_WARM_UP_S, seconds))
        sender = _sender(producer, place, rate, size_bytes)
        await sender.send_for(seconds)
    return [(ack.acked_s - ack.sent_s) * 1e3 for ack in sender.acknowledged]


def _sender(producer: Producer, place: Place, rate: int, size_bytes: int) -> PacedSender:
    return PacedSender(
        producer, topic=place.topic, partitions=len(place.partitions), rate=rate, value=bytes(size_bytes)
    )


async def stalls_ms(
    runtime: Runtime, cluster: LocalCluster, admin: Admin, place: Place, *, runs: int
) -> Sequence[float]:
    """The longest pause of acknowledgements for each SIGKILL of a leader, which is restarted."""
    names = {node.node_id: node.name for node in cluster.nodes()}
    return [await _stall_ms(runtime, cluster, admin, place, names) for _ in range(runs)]


async def _stall_ms(
    runtime: Runtime, cluster: LocalCluster, admin: Admin, place: Place, names: dict[int, str]
) -> float:
    await _in_sync(admin, place)
    stop = asyncio.Event()
    async with Producer(cluster.bootstrap, runtime=runtime) as producer:
        sender = _sender(producer, place, _FAILOVER_RATE, _FAILOVER_BYTES)
        sending = asyncio.create_task(sender.send_until(stop))
        try:
            await asyncio.sleep(_BEFORE_S)
            (topic,) = await admin.describe_topics([place.topic])
            victim = names[topic.partitions[0].leader]
            killed_s = time.perf_counter()
            await asyncio.to_thread(cluster.kill, victim)
            try:
                await asyncio.sleep(_AFTER_S)
            finally:
                # Also when interrupted: nobody has asked for a cluster with a broker less.
                await asyncio.to_thread(cluster.restart, victim)
        finally:
            stop.set()
            await sending
    return longest_gap_ms(sender.acknowledged, after_s=killed_s)


async def _in_sync(admin: Admin, place: Place) -> None:
    while True:
        (topic,) = await admin.describe_topics([place.topic])
        if all(set(each.isr) == set(each.replicas) for each in topic.partitions):
            return
        await asyncio.sleep(_LOOK_S)
