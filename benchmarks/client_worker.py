"""``python -m benchmarks.client_worker WHAT SERVERS TOPIC RECORDS``: one client, one process, one figure.

Prints as JSON what the client's own process used up from the first record to the last acknowledgement, or
to the last record read. Refuses to know who asks, and what the others reach.
"""

import asyncio
import importlib
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

from glasslog.client import sync
from glasslog.client.consumer import Consumer
from glasslog.client.options import ProducerOptions
from glasslog.client.producer import Producer
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.production.start import new_event_loop, prepare_process, production_runtime

RECORD_BYTES = 100
_PARTITIONS = 6
_RUN = 500
_VALUES = [b"%0*d" % (RECORD_BYTES, number) for number in range(_RUN)]
_WARM_UP = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of so many records: the client's processor time, and the time that went by."""

    processor_s: float
    elapsed_s: float
    records: int


class _Measurement:
    """From its making until ``over``."""

    def __init__(self) -> None:
        self._processor_s, self._began_s = _processor_s(), time.perf_counter()

    def over(self, records: int) -> Cost:
        return Cost(
            processor_s=_processor_s() - self._processor_s,
            elapsed_s=time.perf_counter() - self._began_s,
            records=records,
        )


def _values(count: int) -> Iterator[bytes]:
    return islice(cycle(_VALUES), count)


def _processor_s() -> float:
    """Of all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- ours -------------------------------------------------------------------------------------------------


async def _send(servers: Sequence[str], topic: str, records: int) -> Cost:
    async with Producer(servers, runtime=production_runtime()) as producer:
        for value in _values(_WARM_UP):
            await producer.send(topic, value)
        await producer.flush()
        measured = _Measurement()
        for value in _values(records):
            await producer.send(topic, value)
        await producer.flush()
        return measured.over(records)


async def _send_many(servers: Sequence[str], topic: str, records: int) -> Cost:
    async with Producer(servers, runtime=production_runtime()) as producer:
        await producer.send_many(topic, _VALUES)
        await producer.flush()
        measured = _Measurement()
        for _ in range(records // _RUN):
            await producer.send_many(topic, _VALUES)
        await producer.flush()
        return measured.over(records // _RUN * _RUN)


def _send_from_script(servers: Sequence[str], topic: str, records: int) -> Cost:
    with sync.Producer(servers) as producer:
        for value in _values(_WARM_UP):
            producer.send(topic, value)
        producer.flush()
        measured = _Measurement()
        for value in _values(records):
            producer.send(topic, value)
        producer.flush()
        return measured.over(records)


async def _iterate(servers: Sequence[str], topic: str, records: int) -> Cost:
    async with Consumer(
        bootstrap_servers=servers, auto_offset_reset="earliest", runtime=production_runtime()
    ) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(_PARTITIONS)])
        await anext(consumer)
        measured, left = _Measurement(), records
        async for _ in consumer:
            left -= 1
            if not left:
                break
        return measured.over(records)


async def _poll(servers: Sequence[str], topic: str, records: int) -> Cost:
    async with Consumer(
        bootstrap_servers=servers, auto_offset_reset="earliest", runtime=production_runtime()
    ) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(_PARTITIONS)])
        await anext(consumer)
        measured, seen = _Measurement(), 0
        while seen < records:
            seen += len(await consumer.poll())
        return measured.over(seen)


# --- theirs -----------------------------------------------------------------------------------------------


def _same_batches() -> Mapping[str, int]:
    """Theirs are a quarter of ours by default, and do not linger: that would be another comparison."""
    ours = ProducerOptions(bootstrap_servers=("none:1",))
    return {"linger_ms": ours.linger_ms, "batch_size": ours.batch_size}


async def _aiokafka_send(servers: Sequence[str], topic: str, records: int) -> Cost:
    producer: Any = _module("aiokafka").AIOKafkaProducer(
        bootstrap_servers=list(servers),
        acks="all",
        **{"max_batch_size" if key == "batch_size" else key: value for key, value in _same_batches().items()},
    )
    await producer.start()
    try:
        for value in _values(_WARM_UP):
            await producer.send(topic, value)
        await producer.flush()
        measured = _Measurement()
        for value in _values(records):
            await producer.send(topic, value)
        await producer.flush()
        return measured.over(records)
    finally:
        await producer.stop()


async def _aiokafka_iterate(servers: Sequence[str], topic: str, records: int) -> Cost:
    library = _module("aiokafka")
    consumer: Any = library.AIOKafkaConsumer(bootstrap_servers=list(servers), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([library.TopicPartition(topic, number) for number in range(_PARTITIONS)])
        await consumer.getone()
        measured, left = _Measurement(), records
        async for _ in consumer:
            left -= 1
            if not left:
                break
        return measured.over(records)
    finally:
        await consumer.stop()


def _kafka_python_send(servers: Sequence[str], topic: str, records: int) -> Cost:
    producer: Any = _module("kafka").KafkaProducer(
        bootstrap_servers=list(servers), acks="all", **_same_batches()
    )
    try:
        for value in _values(_WARM_UP):
            producer.send(topic, value)
        producer.flush()
        measured = _Measurement()
        for value in _values(records):
            producer.send(topic, value)
        producer.flush()
        return measured.over(records)
    finally:
        producer.close()


def _kafka_python_iterate(servers: Sequence[str], topic: str, records: int) -> Cost:
    library = _module("kafka")
    consumer: Any = library.KafkaConsumer(bootstrap_servers=list(servers), auto_offset_reset="earliest")
    try:
        consumer.assign([library.TopicPartition(topic, number) for number in range(_PARTITIONS)])
        next(consumer)
        measured, left = _Measurement(), records
        for _ in consumer:
            left -= 1
            if not left:
                break
        return measured.over(records)
    finally:
        consumer.close()


def _module(name: str) -> Any:
    return importlib.import_module(name)


# --- either -----------------------------------------------------------------------------------------------


Work = Callable[[Sequence[str], str, int], Awaitable[Cost] | Cost]

WORK: Mapping[str, Work] = {
    "send": _send,
    "send_many": _send_many,
    "send from a script": _send_from_script,
    "iterate": _iterate,
    "poll": _poll,
    "aiokafka send": _aiokafka_send,
    "aiokafka iterate": _aiokafka_iterate,
    "kafka-python send": _kafka_python_send,
    "kafka-python iterate": _kafka_python_iterate,
}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    what, servers, topic, records = arguments
    prepare_process()
    work = WORK[what]

    async def measure() -> Cost:
        outcome = work(servers.split(","), topic, int(records))
        return outcome if isinstance(outcome, Cost) else await outcome

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(measure()))))


if __name__ == "__main__":
    main(sys.argv[1:])
