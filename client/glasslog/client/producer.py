"""``Producer``: records in, acknowledgements out.

Serializes, chooses partitions, waits for room; the rest is the sender's and the accumulator's. Refuses to
know sequence numbers, leaders and retries.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from types import TracebackType
from typing import Self, Unpack

from glasslog.client.accumulator import Accumulator, AccumulatorOptions
from glasslog.client.backoff import Backoff
from glasslog.client.cluster import PartitionView
from glasslog.client.delivery import Deliveries, Delivery
from glasslog.client.interceptors import ProducerInterceptor, ProducerRecord, passed_through, tell_all
from glasslog.client.options import Bootstrap, ProducerKeywords, ProducerOptions, producer_options
from glasslog.client.partitioner import CustomPartitioner, partitioner_of
from glasslog.client.pending_batch import PendingBatch
from glasslog.client.sender import ProducerStats, Sender
from glasslog.client.serializers import SerializationError, serializer_of
from glasslog.client.session import Session
from glasslog.client.types import Headers, Serializer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.batch import HEADER_BYTES
from glasslog.log.records import NewRecord

_RUN = 4_096
"""Records taken at once by ``send_many``."""

_MAX_TIMESTAMP_MS = (1 << 63) - 1
_RECORD_OVERHEAD_BYTES = HEADER_BYTES + 32


class Producer:
    """Sends records to topics. Start it with ``start`` or ``async with``; any number of tasks may use it.

    Options are those of ``ProducerOptions``; ``partitioner`` is ``"default"``, ``"round_robin"`` or a
    function of topic, serialized key and number of partitions; serializers (``"bytes"``, ``"str"``,
    ``"json"`` or a function) turn what ``send`` gets into bytes.  Errors are ``GlasslogError`` with Kafka's
    codes.
    """

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
        self._options = producer_options(bootstrap_servers, options)
        self._session = Session(runtime, self._options, "producer")
        self._session.on_failure = self._on_failure
        self._clock = self._session.runtime.clock
        random = self._session.runtime.random
        self._accumulator = Accumulator(_accumulator_options(self._options), random)
        self._sender = Sender(
            self._session.runtime,
            self._options,
            self._session.metadata,
            self._session.connections,
            self._session.scope,
            self._accumulator,
        )
        self._partitioner = partitioner_of(partitioner, random)
        self._key_serializer = serializer_of("key_serializer", key_serializer)
        self._value_serializer = serializer_of("value_serializer", value_serializer)
        self._interceptors = tuple(interceptors)
        self._partitions: dict[str, tuple[TopicPartition, ...]] = {}
        self._small_bytes = self._options.max_request_size - _RECORD_OVERHEAD_BYTES
        self._owes_a_turn = False
        """Whether the next call lets others run before it queues anything."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._session.close()
            self._abandon("an error ended the block that used the producer")

    async def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        self._session.metadata.on_change(self._on_metadata)
        await self._session.start()
        self._sender.start()

    async def close(self, timeout_ms: int | None = None) -> None:
        """Send what is waiting, for at most ``timeout_ms``, then stop. Raises as ``flush`` does."""
        if not self._session.is_open:
            return
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
                await self.flush()
                await self._sender.drained()
        except TimeoutError:
            unsent = self._accumulator.unfinished_batches
            raise GlasslogError(
                ErrorCode.REQUEST_TIMED_OUT, f"{unsent} batches were not acknowledged within {timeout_ms} ms"
            ) from None
        finally:
            await self._session.close()
            self._abandon("the producer was closed")

    @property
    def stats(self) -> ProducerStats:
        """Counters since the start."""
        return self._sender.stats

    # --- sending ----------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: object,
        key: object = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Delivery:
        """Queue one record; await the result for its ``RecordMetadata``, or leave it and ``flush`` later.

        Waits for metadata of a new topic and, when ``buffer_memory`` is used up, for room: up to
        ``max_block_ms`` each.  Raises MESSAGE_TOO_LARGE, INVALID_TIMESTAMP, UNKNOWN_TOPIC_OR_PARTITION,
        REQUEST_TIMED_OUT, and ``TypeError`` for what is not bytes.  When it raises or is cancelled, nothing
        has been queued.
        """
        outgoing = self.serialized(topic, value, key, partition, timestamp_ms, headers)
        return self.send_at_once(*outgoing) or await self.send_serialized(*outgoing)

    def serialized(
        self,
        topic: str,
        value: object,
        key: object,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Headers,
    ) -> tuple[str, bytes | None, bytes | None, int | None, int | None, Headers]:
        """What ``send`` has to do before it queues, in the thread that calls: interceptors, serializers."""
        if self._interceptors:
            record = ProducerRecord(topic, value, key, partition, timestamp_ms, headers)
            topic, value, key, partition, timestamp_ms, headers = passed_through(
                [each.on_send for each in self._interceptors], record
            )
        key_bytes = _to_bytes("key", key, self._key_serializer)
        return (
            topic,
            _to_bytes("value", value, self._value_serializer),
            key_bytes,
            partition,
            timestamp_ms,
            headers,
        )

    async def send_serialized(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Headers,
    ) -> Delivery:
        """``send``, without interceptors and serializers."""
        partitions = await self._prepare(topic)
        return self._queue(topic, partitions, value, key, partition, timestamp_ms, headers)

    def send_at_once(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Headers,
    ) -> Delivery | None:
        """``send_serialized``, where nothing has to be waited for; ``None`` otherwise."""
        partitions = self._partitions.get(topic)
        if partitions is None or self._owes_a_turn:
            return None
        if not self._session.is_usable or not self._accumulator.has_room:
            return None
        return self._queue(topic, partitions, value, key, partition, timestamp_ms, headers)

    def _queue(
        self,
        topic: str,
        partitions: tuple[TopicPartition, ...],
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Headers,
    ) -> Delivery:
        content_bytes = (len(key) if key else 0) + (len(value) if value else 0)
        if headers != () or content_bytes > self._small_bytes:
            self._check_size(content_bytes, headers)
        target = self._target(topic, partitions, partition, key)
        timestamp = self._clock.wall_ms() if timestamp_ms is None else self._timestamp(timestamp_ms)
        record = (timestamp, key, value, headers)
        accumulator = self._accumulator
        batch = accumulator.append_to_open(target, record)
        if batch is None:
            batch = accumulator.append(target, record, now_ms=self._clock.now_ms())
        if accumulator.attention:
            self._attend(target)
        delivery = Delivery(batch, batch.record_count - 1)
        if self._interceptors:
            batch.watchers.append(partial(self._tell_interceptors, delivery))
        return delivery

    def _tell_interceptors(self, delivery: Delivery) -> None:
        tell_all([each.on_acknowledgement for each in self._interceptors], delivery.outcome())

    async def send_many(
        self,
        topic: str,
        values: Sequence[bytes],
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Deliveries:
        """Queue many values under one key, far cheaper than by ``send``. Serializers are not used.

        They are in one partition, in order, if ``key`` or ``partition`` is given.  Raises as ``send`` does.
        """
        timestamp = self._timestamp(timestamp_ms)
        _check_bytes("value", set(map(type, values)))
        _check_bytes("key", {type(key)} - {type(None)})
        self._check_size(len(key or b"") + max(map(len, values), default=0), headers)
        runs: list[tuple[PendingBatch, int, int]] = []
        for start in range(0, len(values), _RUN):
            some = values[start : start + _RUN]
            records = list(zip(repeat(timestamp), repeat(key), some, repeat(headers), strict=False))
            await self._extend(topic, records, key, partition, runs)
        return Deliveries(runs)

    async def send_records(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Queue pairs of key and value, each to its key's partition. Serializers are not used.

        The result is by partition.  Raises as ``send`` does.
        """
        timestamp = self._timestamp(timestamp_ms)
        _check_bytes("key or value", {type(part) for pair in records for part in pair} - {type(None)})
        partitions = await self._prepare(topic)
        choose, count = self._partitioner.choose, len(partitions)
        by_partition: dict[int, list[NewRecord]] = {}
        for key, value in records:
            self._check_size(len(key or b"") + len(value or b""), ())
            by_partition.setdefault(choose(topic, key, count), []).append((timestamp, key, value, ()))
        runs: list[tuple[PendingBatch, int, int]] = []
        for partition, some in by_partition.items():
            await self._extend(topic, some, None, partition, runs)
        return Deliveries(runs)

    async def send_batch(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        partition: int,
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Queue pairs of key and value as one batch: all of them are stored, side by side, or none is.

        Serializers are not used.  Raises as ``send`` does, and MESSAGE_TOO_LARGE when they do not fit into a
        request.
        """
        timestamp = self._timestamp(timestamp_ms)
        _check_bytes("key or value", {type(part) for pair in records for part in pair} - {type(None)})
        if not records:
            return Deliveries([])
        partitions = await self._prepare(topic)
        target = self._target(topic, partitions, partition, None)
        rows: list[NewRecord] = [(timestamp, key, value, ()) for key, value in records]
        now_ms = self._clock.now_ms()
        batch = self._accumulator.append_whole(target, rows, timestamp=timestamp, now_ms=now_ms)
        self._attend(target)
        return Deliveries([(batch, 0, len(rows))])

    async def flush(self) -> None:
        """Send everything queued before this call and wait for the outcomes.

        Raises the first error since the last flush that nobody was waiting for, so that fire-and-forget is
        safe.
        """
        self._session.check()
        batches = self._accumulator.unfinished()
        self._accumulator.flushing += 1
        self._sender.wake()
        try:
            for batch in batches:
                await _finished(batch)
        finally:
            self._accumulator.flushing -= 1
        self._raise_unseen()

    async def partitions_for(self, topic: str) -> tuple[PartitionView, ...]:
        """The topic's partitions with their leaders. Raises UNKNOWN_TOPIC_OR_PARTITION."""
        self._session.check()
        return (
            await self._session.metadata.await_topic(topic, self._options.max_block_ms, create=True)
        ).partitions

    # --- inside -----------------------------------------------------------------------------------------

    async def _extend(
        self,
        topic: str,
        records: Sequence[NewRecord],
        key: bytes | None,
        partition: int | None,
        runs: list[tuple[PendingBatch, int, int]],
    ) -> None:
        start = 0
        while start < len(records):
            partitions = await self._prepare(topic)
            target = self._target(topic, partitions, partition, key)
            batch, added = self._accumulator.extend(
                target,
                records[start:] if start else records,
                timestamp=records[start][0],
                now_ms=self._clock.now_ms(),
            )
            runs.append((batch, batch.record_count - added, added))
            start += added
            if self._accumulator.attention:
                self._attend(target)

    async def _prepare(self, topic: str) -> tuple[TopicPartition, ...]:
        """The topic's partitions, once there is room for more records."""
        if self._owes_a_turn:
            # Here and not once something was queued: a task cancelled then could not know that it was.
            self._owes_a_turn = False
            await asyncio.sleep(0)
        self._session.check()
        if not self._accumulator.has_room:
            await self._await_room()
        partitions = self._partitions.get(topic)
        return partitions if partitions is not None else await self._learn(topic)

    async def _learn(self, topic: str) -> tuple[TopicPartition, ...]:
        found = await self._session.metadata.await_topic(topic, self._options.max_block_ms, create=True)
        partitions = tuple(TopicPartition(topic, view.partition) for view in found.partitions)
        self._partitions[topic] = partitions
        return partitions

    async def _await_room(self) -> None:
        try:
            async with asyncio.timeout(self._options.max_block_ms / 1_000):
                while not self._accumulator.has_room:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._sender.room.append(future)
                    self._sender.wake()
                    await future
        except TimeoutError:
            raise GlasslogError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"no room for more records within max_block_ms={self._options.max_block_ms}: "
                f"{self._accumulator.used_bytes} bytes wait for acknowledgement, buffer_memory is "
                f"{self._options.buffer_memory}",
            ) from None
        self._session.check()

    def _target(
        self, topic: str, partitions: tuple[TopicPartition, ...], partition: int | None, key: bytes | None
    ) -> TopicPartition:
        if partition is None:
            return partitions[self._partitioner.choose(topic, key, len(partitions))]
        if not 0 <= partition < len(partitions):
            raise GlasslogError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {topic!r} has {len(partitions)} partitions, there is no partition {partition}",
            )
        return partitions[partition]

    def _attend(self, target: TopicPartition) -> None:
        """A batch was begun or filled: tell partitioner and sender, and let the sender run soon."""
        self._accumulator.attention = False
        self._partitioner.on_new_batch(target.topic, target.partition)
        self._sender.wake()
        self._owes_a_turn = True

    def _timestamp(self, given_ms: int | None) -> int:
        if given_ms is None:
            return self._clock.wall_ms()
        if not isinstance(given_ms, int) or not 0 <= given_ms <= _MAX_TIMESTAMP_MS:
            raise GlasslogError(
                ErrorCode.INVALID_TIMESTAMP,
                f"timestamp_ms={given_ms!r} is not a whole number of milliseconds since 1970",
            )
        return given_ms

    def _check_size(self, content_bytes: int, headers: Headers) -> None:
        size_bytes = content_bytes + _RECORD_OVERHEAD_BYTES
        for header in headers:
            name, content = _checked(header)
            size_bytes += len(name.encode()) + len(content or b"") + 10
        if size_bytes > self._options.max_request_size:
            raise GlasslogError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"a record of {size_bytes} bytes exceeds max_request_size={self._options.max_request_size}",
            )

    def _on_metadata(self) -> None:
        view = self._session.metadata.view
        for topic, partitions in list(self._partitions.items()):
            found = view.topic(topic)
            if found is None:
                del self._partitions[topic]
            elif len(found.partitions) != len(partitions):
                self._partitions[topic] = tuple(
                    TopicPartition(topic, partition.partition) for partition in found.partitions
                )

    def _raise_unseen(self) -> None:
        error, self._sender.unseen_error = self._sender.unseen_error, None
        if error is not None:
            raise GlasslogError(error.code, str(error)) from error

    def _on_failure(self, error: GlasslogError) -> None:
        self._accumulator.fail_all(error)
        self._sender.settle()

    def _abandon(self, why: str) -> None:
        self._accumulator.fail_all(GlasslogError(ErrorCode.OPERATION_NOT_ATTEMPTED, f"given up: {why}"))
        self._sender.settle()
        for future in self._sender.room:
            if not future.done():
                future.set_result(None)


async def _finished(batch: PendingBatch) -> None:
    """Wait for an outcome without being the one who looks at it."""
    if batch.outcome is None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        batch.watchers.append(lambda: None if future.done() else future.set_result(None))
        await future


def _to_bytes(what: str, value: object, serializer: Serializer | None) -> bytes | None:
    if serializer is not None:
        try:
            value = serializer(value)
        except Exception as error:
            raise SerializationError(
                f"a record's {what} {value!r:.60} can not be serialized: {error or type(error).__name__}"
            ) from error
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(
        f"a record's {what} must be bytes or None, not {type(value).__name__}: set {what}_serializer"
    )


def _checked(header: object) -> tuple[str, bytes | None]:
    match header:
        case (str() as name, bytes() | None as content):
            return name, content
    raise TypeError(f"header {header!r:.60} must be a tuple of a str and bytes or None")


def _check_bytes(what: str, kinds: set[type]) -> None:
    """Serializers are not used: only bytes will do."""
    wrong = sorted(kind.__name__ for kind in kinds if not issubclass(kind, bytes))
    if wrong:
        raise TypeError(f"a record's {what} must be bytes, not {wrong[0]}")


def _accumulator_options(options: ProducerOptions) -> AccumulatorOptions:
    return AccumulatorOptions(
        batch_size=options.batch_size,
        linger_ms=options.linger_ms,
        buffer_memory=options.buffer_memory,
        max_request_size=options.max_request_size,
        max_in_flight=options.max_in_flight,
        retries=options.retries,
        delivery_timeout_ms=options.delivery_timeout_ms,
        idempotent=options.enable_idempotence,
        compression=options.compression,
        backoff=Backoff(base_ms=options.retry_backoff_ms, maximum_ms=options.retry_backoff_max_ms),
    )
