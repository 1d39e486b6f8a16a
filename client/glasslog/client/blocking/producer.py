"""``Producer`` for plain scripts: records are handed over to the loop, and their fate may be asked for.

Refuses to know batches and brokers: the producer within does.
"""

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Unpack

from glasslog.client import delivery as asyncio_delivery
from glasslog.client import producer as asyncio_producer
from glasslog.client.blocking.base import BlockingClient, waiting
from glasslog.client.interceptors import ProducerInterceptor
from glasslog.client.options import Bootstrap, ProducerKeywords
from glasslog.client.partitioner import CustomPartitioner
from glasslog.client.sender import ProducerStats
from glasslog.client.types import BatchMetadata, Headers, RecordMetadata, Serializer
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.production.thread import HandOver
from glasslog.common.runtime.protocols import Runtime

_MAX_HANDED_OVER = 4_096
"""Records that ``send`` has taken but the loop has not: then it waits until the loop has."""


_Outgoing = tuple[str, bytes | None, bytes | None, int | None, int | None, Headers]
"""Arguments of ``send_serialized``."""

_Refusal = GlasslogError | TypeError


class Delivery:
    """One record's fate."""

    __slots__ = ("_callbacks", "_producer", "_state")

    def __init__(self, producer: "Producer", outgoing: _Outgoing) -> None:
        self._producer = producer
        self._state: _Outgoing | asyncio_delivery.Delivery | _Refusal = outgoing
        """On the way to the loop; queued there; refused there."""

        self._callbacks: tuple[Callable[[RecordMetadata | GlasslogError], None], ...] = ()

    def result(self) -> RecordMetadata:
        """Wait for where it was written; raises what it failed with."""
        return self._producer._wait(self._outcome)

    def done(self) -> bool:
        """Whether it was acknowledged or given up."""
        match self._state:
            case asyncio_delivery.Delivery() as queued:
                return queued.done()
            case tuple():
                return False
            case _:
                return True

    def add_done_callback(self, callback: Callable[[RecordMetadata | GlasslogError], None]) -> None:
        """Have ``callback`` called with the outcome, on the background thread: it must not wait for us."""
        self._producer._thread.post(lambda: self._tell(callback))

    async def _outcome(self) -> RecordMetadata:
        while isinstance(self._state, tuple):
            await self._producer._handed_over.drained()
        if isinstance(self._state, asyncio_delivery.Delivery):
            return await self._state
        self._producer._unseen.pop(id(self._state), None)
        raise self._state

    def _on_queued(self, queued: "asyncio_delivery.Delivery | _Refusal") -> None:
        self._state = queued
        if self._callbacks:
            callbacks, self._callbacks = self._callbacks, ()
            for callback in callbacks:
                self._tell(callback)

    def _tell(self, callback: Callable[[RecordMetadata | GlasslogError], None]) -> None:
        match self._state:
            case tuple():
                self._callbacks = (*self._callbacks, callback)
            case asyncio_delivery.Delivery() as queued:
                queued.add_done_callback(callback)
            case GlasslogError() as error:
                self._producer._unseen.pop(id(error), None)
                callback(error)
            case TypeError():
                # Raised by the next flush: no callback expects it.
                return


class Deliveries:
    """The fate of many records."""

    def __init__(self, producer: "Producer", within: asyncio_delivery.Deliveries) -> None:
        self._producer = producer
        self._within = within

    def result(self) -> list[BatchMetadata]:
        """Wait for where each run of them was written, in the order given; raises what one failed with."""
        return self._producer._wait(self._outcome)

    def done(self) -> bool:
        """Whether everything was acknowledged or given up."""
        return self._within.done()

    async def _outcome(self) -> list[BatchMetadata]:
        return await self._within


class Producer(BlockingClient[asyncio_producer.Producer]):
    """Sends records to topics; see ``glasslog.client.Producer``. Any number of threads may use it."""

    def __init__(
        self,
        bootstrap_servers: Bootstrap,
        *,
        partitioner: CustomPartitioner | str | None = None,
        key_serializer: Serializer | str | None = None,
        value_serializer: Serializer | str | None = None,
        interceptors: Sequence[ProducerInterceptor] = (),
        runtime: Runtime | None = None,
        **options: Unpack[ProducerKeywords],
    ) -> None:
        inner = asyncio_producer.Producer(
            bootstrap_servers,
            partitioner=partitioner,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
            interceptors=interceptors,
            runtime=runtime,
            **options,
        )
        super().__init__(inner, "producer")
        self._handed_over: HandOver[Delivery] = HandOver(self._thread, self._queue, limit=_MAX_HANDED_OVER)
        self._unseen: dict[int, _Refusal] = {}
        """Refusals of records that nobody has asked after, by their identity."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stop(lambda: self._inner.__aexit__(kind, error, trace))

    def send(
        self,
        topic: str,
        value: object,
        key: object = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Delivery:
        """Hand one record over; its ``result()`` waits for its ``RecordMetadata``, ``flush`` for all.

        Waits only when ``buffer_memory`` is used up.  Raises what a serializer raises, and ``TypeError`` for
        what is not bytes; every other refusal is the result's, or else the next flush's.
        """
        outgoing = self._inner.serialized(topic, value, key, partition, timestamp_ms, headers)
        if not self._thread.is_held:
            self._wait(self._handed_over.drained)
        delivery = Delivery(self, outgoing)
        if not self._handed_over.put(delivery):
            self._wait(self._handed_over.drained)
        return delivery

    def send_many(
        self,
        topic: str,
        values: Sequence[bytes],
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Deliveries:
        """Queue many values under one key, far cheaper than by ``send``. Serializers are not used."""

        async def work() -> asyncio_delivery.Deliveries:
            await self._handed_over.drained()
            return await self._inner.send_many(topic, values, key, partition, timestamp_ms, headers)

        return Deliveries(self, self._wait(work))

    def send_records(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Queue pairs of key and value, each to its key's partition. Serializers are not used."""

        async def work() -> asyncio_delivery.Deliveries:
            await self._handed_over.drained()
            return await self._inner.send_records(topic, records, timestamp_ms)

        return Deliveries(self, self._wait(work))

    def send_batch(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        partition: int,
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Queue pairs of key and value as one batch: all of them are stored, side by side, or none is."""

        async def work() -> asyncio_delivery.Deliveries:
            await self._handed_over.drained()
            return await self._inner.send_batch(topic, records, partition, timestamp_ms)

        return Deliveries(self, self._wait(work))

    def flush(self) -> None:
        """Send everything handed over before this call and wait for the outcomes.

        Raises the first error since the last flush that nobody was waiting for.
        """
        self._wait(self._flush)

    def close(self, timeout_ms: int | None = None) -> None:
        """Send what is waiting, for at most ``timeout_ms``, then stop. Raises as ``flush`` does."""

        async def work() -> None:
            await self._handed_over.drained()
            await self._inner.close(timeout_ms)
            self._raise_unseen()

        self._stop(work)

    partitions_for = waiting(asyncio_producer.Producer.partitions_for)

    @property
    def stats(self) -> ProducerStats:
        """Counters since the start."""
        return self._inner.stats

    async def _queue(self, deliveries: Iterable[Delivery]) -> None:
        send_at_once = self._inner.send_at_once
        for delivery in deliveries:
            outgoing = delivery._state
            assert isinstance(outgoing, tuple)
            try:
                queued: asyncio_delivery.Delivery | _Refusal
                queued = send_at_once(*outgoing) or await self._inner.send_serialized(*outgoing)
            except (GlasslogError, TypeError) as error:
                queued = self._unseen[id(error)] = error
            delivery._on_queued(queued)

    async def _flush(self) -> None:
        await self._handed_over.drained()
        await self._inner.flush()
        self._raise_unseen()

    def _raise_unseen(self) -> None:
        unseen, self._unseen = self._unseen, {}
        for error in unseen.values():
            raise error
