"""Clients whose every act goes into the history: what they sent, what became of it, what they were given.

The library's own ``Producer`` and ``Consumer``, on hosts of the simulated network or in the real world.
Refuses to know when they act, which faults there are, and what the cluster is made of.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self, Unpack

from glasslog.checker.operations import Outcome
from glasslog.client.admin import Admin
from glasslog.client.consumer import Consumer
from glasslog.client.options import ConsumerKeywords, ProducerKeywords
from glasslog.client.producer import Producer
from glasslog.client.types import ConsumerRecord, RecordMetadata
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.simulator.checker.history import Begun, History, Sent
from glasslog.simulator.trace import Trace

REQUEST_TIMEOUT_MS = 3_000
"""Calls that a fault has swallowed are given up after this."""

BOOTSTRAP_TIMEOUT_MS = 60_000
_ADMIN_TIMEOUT_MS = 6_000


class Surroundings(Protocol):
    """The cluster that clients talk to, and the world they live in."""

    @property
    def bootstrap(self) -> Sequence[str]:
        """``host:port`` of brokers."""
        ...

    def runtime(self, host: str) -> Runtime:
        """What a client on a host of this name runs on."""
        ...

    def on_given(self, reader: str, partition: TopicPartition, last_offset: int) -> None:
        """A consumer was given records up to here. Raises ``Violated`` if it must not have been."""
        ...

    async def replicas(self, partition: TopicPartition) -> Sequence[str]:
        """The nodes of its assignment, for verdicts."""
        ...


class Clients:
    """Makes clients; each lives on a host of its own name."""

    def __init__(self, surroundings: Surroundings, history: History, trace: Trace) -> None:
        self._surroundings = surroundings
        self._history = history
        self._trace = trace
        self.bootstrap = list(surroundings.bootstrap)

    def producer(
        self, name: str, *, validated: bool = True, **options: Unpack[ProducerKeywords]
    ) -> "RecordingProducer":
        """``validated``: acks=all and idempotent: what is acknowledged must survive, once and in order.

        Otherwise acks=1 without idempotence: its records may be lost and doubled.
        """
        keywords: ProducerKeywords = {
            "acks": "all" if validated else 1,
            "enable_idempotence": validated,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
            **options,
        }
        producer = Producer(self.bootstrap, runtime=self._surroundings.runtime(name), **keywords)
        return RecordingProducer(
            name,
            producer,
            self._history,
            self._trace,
            validated=validated,
            is_answered=keywords["acks"] != 0,
        )

    def admin(self, host: str, *, via: str = "") -> Admin:
        """Use as ``async with``; asks ``via`` first, if given, and gives up sooner than by default."""
        return Admin(
            [f"{via}:9192"] if via else self.bootstrap,
            runtime=self._surroundings.runtime(host),
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            default_api_timeout_ms=_ADMIN_TIMEOUT_MS,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
        )

    async def on_drained(self, partitions: Sequence[TopicPartition]) -> None:
        """All of these were read to the end, so the history is complete."""
        self._history.drained = tuple(partitions)
        for name in partitions:
            self._history.replicas[str(name)] = tuple(await self._surroundings.replicas(name))

    def consumer(
        self, name: str, *topics: str, host: str = "", group: str = "", **options: Unpack[ConsumerKeywords]
    ) -> "RecordingConsumer":
        """Of a group when it names one, else for ``assign``; on ``host``, or on one of its own name."""
        keywords: ConsumerKeywords = {
            "auto_offset_reset": "earliest",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
            **options,
        }
        consumer = Consumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            group_id=group or None,
            runtime=self._surroundings.runtime(host or name),
            **keywords,
        )
        if group:
            self._history.groups[group] = None
        return RecordingConsumer(name, consumer, self._history, self._surroundings, self._trace, group=group)


class RecordingProducer:
    """Use as ``async with``. Values are ``name/number`` and so unique in the run."""

    def __init__(
        self,
        name: str,
        producer: Producer,
        history: History,
        trace: Trace,
        *,
        validated: bool,
        is_answered: bool,
    ) -> None:
        self._trace = trace
        self._is_answered = is_answered
        self.name = name
        self.validated = validated
        self._producer = producer
        self._history = history
        self._number = 0

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.__aexit__(kind, error, trace)

    async def send(self, partition: TopicPartition) -> Sent:
        """Queue the next value; what becomes of it shows in what is returned, and in the history."""
        sent, _ = await self._send(partition)
        return sent

    async def put(self, partition: TopicPartition) -> Sent:
        """Send the next value and wait for what becomes of it."""
        sent, outcome = await self._send(partition)
        await outcome
        return sent

    async def flush(self) -> None:
        """Until everything queued is acknowledged or given up."""
        try:
            await self._producer.flush()
        except GlasslogError as error:
            self._trace.add("failed", self.name, does="flush", error=error.code.name)

    async def _send(self, partition: TopicPartition) -> tuple[Sent, "asyncio.Future[None]"]:
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number, self._number = self._number, self._number + 1
        sent = Sent(
            value=f"{self.name}/{number}",
            producer=self.name,
            number=number,
            partition=partition,
            validated=self.validated,
        )
        begun = self._history.sending(sent, now_ms())
        self._trace.add("send", self.name, value=sent.value, partition=str(partition))
        try:
            delivery = await self._producer.send(
                partition.topic, sent.value.encode(), partition=partition.partition
            )
        except GlasslogError as error:
            # It was never queued, so nothing of it can have left.
            sent.error = error.code.name
            self._history.has_sent(begun, Outcome.FAIL, now_ms())
            outcome.set_result(None)
        else:
            delivery.add_done_callback(partial(self._on_outcome, sent, begun, outcome))
        return sent, outcome

    def _on_outcome(
        self,
        sent: Sent,
        begun: Begun,
        future: "asyncio.Future[None]",
        outcome: RecordMetadata | GlasslogError,
    ) -> None:
        if isinstance(outcome, GlasslogError):
            sent.error = outcome.code.name
            self._history.has_sent(begun, Outcome.INFO, now_ms())
            self._trace.add("failed", self.name, does="send", value=sent.value, error=sent.error)
        else:
            sent.is_acknowledged, sent.offset = True, outcome.offset
            # With acks=0 the broker has said nothing: the record may come later, or never.
            known = Outcome.OK if self._is_answered else Outcome.INFO
            self._history.has_sent(begun, known, now_ms())
            self._trace.add(
                "acknowledged",
                self.name,
                value=sent.value,
                partition=str(sent.partition),
                offset=outcome.offset,
            )
        if not future.done():
            future.set_result(None)


class RecordingConsumer:
    """One task uses it at a time."""

    def __init__(
        self,
        name: str,
        consumer: Consumer,
        history: History,
        surroundings: Surroundings,
        trace: Trace,
        *,
        group: str,
    ) -> None:
        self._trace = trace
        self.name = name
        self.consumer = consumer
        """For what is not recorded: seeking, positions, closing."""

        self._group = group

        self._history = history
        self._surroundings = surroundings

    async def poll(self, *, timeout_ms: int, is_final: bool = False) -> list[ConsumerRecord]:
        """What the consumer is given, perhaps nothing; an error counts as nothing and is noted.

        ``is_final`` for the reader that reads everything in the end.
        """
        start_ms = now_ms()
        try:
            records = await self.consumer.poll(timeout_ms=timeout_ms)
        except GlasslogError as error:
            self._trace.add("failed", self.name, does="poll", error=error.code.name)
            await asyncio.sleep(0.05)
            return []
        self._record(records, start_ms, is_final=is_final)
        return records

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these from now on."""
        self.consumer.assign(partitions)
        self._history.has_assigned(self.name, partitions, now_ms())

    def _record(self, records: Sequence[ConsumerRecord], start_ms: float, *, is_final: bool) -> None:
        runs: dict[TopicPartition, list[tuple[int, str]]] = {}
        for record in records:
            name = TopicPartition(record.topic, record.partition)
            runs.setdefault(name, []).append((record.offset, (record.value or b"").decode()))
        if runs:
            self._history.has_polled(
                self.name,
                {str(name): tuple(run) for name, run in runs.items()},
                start_ms=start_ms,
                end_ms=now_ms(),
                group=self._group,
                is_drain=is_final,
            )
        for name, run in runs.items():
            self._trace.add(
                "polled",
                self.name,
                partition=str(name),
                offset=run[0][0],
                last_offset=run[-1][0],
            )
            self._surroundings.on_given(self.name, name, run[-1][0])


def now_ms() -> float:
    """Milliseconds of the loop, as histories have them."""
    return round(asyncio.get_running_loop().time() * 1000, 3)


async def drain(clients: Clients, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Read all of it with a fresh consumer, from the beginning to the end; returns where each ends.

    The history is complete then.
    """
    reader = clients.consumer("last")
    async with reader.consumer as consumer:
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        while not await _is_through(consumer, ends):
            await reader.poll(timeout_ms=200, is_final=True)
    await clients.on_drained(partitions)
    return dict(ends)


async def _is_through(consumer: Consumer, ends: dict[TopicPartition, int]) -> bool:
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])
