"""``Consumer`` for plain scripts: records are taken from the loop many at a time, and handed out one by one.

Refuses to know fetching and groups: the consumer within does.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, Unpack

from glasslog.client import consumer as asyncio_consumer
from glasslog.client.blocking.base import BlockingClient, on_loop, waiting
from glasslog.client.interceptors import ConsumerInterceptor
from glasslog.client.options import Bootstrap, ConsumerKeywords
from glasslog.client.types import ConsumerRecord, Deserializer, FetchedRecords, OffsetAndMetadata
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.production.thread import Calls
from glasslog.common.runtime.protocols import Runtime


class RebalanceListener(Protocol):
    """Told of partitions that come and go, on the thread that polls, before it gets the next records."""

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """About to be given up: the last chance to commit for them."""
        ...

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None: ...

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else has them already: nothing can be committed for them."""
        ...


class _OnCallersThread:
    """A listener for the consumer within: passes everything on to the thread that waits for it."""

    def __init__(self, calls: Calls, listener: RebalanceListener) -> None:
        self._calls = calls
        self._listener = listener

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await self._calls.call(lambda: self._listener.on_revoked(partitions))

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        await self._calls.call(lambda: self._listener.on_assigned(partitions))

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        await self._calls.call(lambda: self._listener.on_lost(partitions))


class Consumer(BlockingClient[asyncio_consumer.Consumer]):
    """Reads records; see ``glasslog.client.Consumer``. One thread may use it at a time.

    ``for record in consumer`` takes many records from the loop at once.  Those that were not handed out yet
    count as unread: for ``position``, for commits, and when the consumer is closed.
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: Bootstrap,
        group_id: str | None = None,
        listener: RebalanceListener | None = None,
        key_deserializer: Deserializer | str | None = None,
        value_deserializer: Deserializer | str | None = None,
        interceptors: Sequence[ConsumerInterceptor] = (),
        runtime: Runtime | None = None,
        **options: Unpack[ConsumerKeywords],
    ) -> None:
        calls = Calls()
        inner = asyncio_consumer.Consumer(
            *topics,
            bootstrap_servers=bootstrap_servers,
            group_id=group_id,
            listener=_OnCallersThread(calls, listener) if listener is not None else None,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            interceptors=interceptors,
            runtime=runtime,
            **options,
        )
        super().__init__(inner, "consumer")
        self._calls = calls
        self._taken: deque[ConsumerRecord] = deque()
        self._last: ConsumerRecord | None = None
        self._kept_back: dict[TopicPartition, OffsetAndMetadata] = {}
        """Where runs begin that the loop has given and the caller has not got yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was being dealt with when the block failed has not been dealt with.
        if error is not None and self._last is not None:
            self._taken.appendleft(self._last)

        async def work() -> None:
            self._give_back()
            await self._inner.__aexit__(kind, error, trace)

        self._stop(work)

    def close(self) -> None:
        """Commit what was handed out (with automatic commits), leave the group, stop. Idempotent."""

        async def work() -> None:
            self._give_back()
            await self._inner.close()

        self._stop(work)

    # --- what to read -----------------------------------------------------------------------------------

    def subscribe(
        self, topics: Iterable[str] | re.Pattern[str], listener: RebalanceListener | None = None
    ) -> None:
        """Take part in the group with these topics, in place of any before. Needs ``group_id``."""
        calls = self._calls
        passed_on = _OnCallersThread(calls, listener) if listener is not None and calls is not None else None
        self._act(lambda: self._inner.subscribe(topics, passed_on))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions, without rebalances; positions are the group's if there is one."""
        self._act(lambda: self._inner.assign(partitions))

    def unsubscribe(self) -> None:
        """Give up everything and leave the group."""

        async def work() -> None:
            self._give_back()
            await self._inner.unsubscribe()

        self._wait(work)

    @property
    def assignment(self) -> tuple[TopicPartition, ...]:
        """The partitions read at the moment, in order."""
        return self._inner.assignment

    @property
    def subscription(self) -> tuple[str, ...]:
        return self._inner.subscription

    @property
    def paused(self) -> tuple[TopicPartition, ...]:
        return self._inner.paused

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these until ``resume``."""
        self._act(lambda: self._inner.pause(*partitions))

    resume = on_loop(asyncio_consumer.Consumer.resume)

    # --- records ----------------------------------------------------------------------------------------

    def poll(self, max_records: int | None = None, timeout_ms: int = 1_000) -> list[ConsumerRecord]:
        """At most ``max_records`` (default ``max_poll_records``); none when ``timeout_ms`` is over."""

        async def work() -> None:
            self._give_back()
            self._taken.extend(await self._inner.poll(max_records, timeout_ms))

        # By way of `_taken`, so that what an interrupt keeps from the caller counts as unread.
        self._wait(work)
        records = list(self._taken)
        self._taken.clear()
        return records

    def poll_batches(self, max_records: int | None = None, timeout_ms: int = 1_000) -> list[FetchedRecords]:
        """As ``poll``, in runs per partition of plain tuples (offset, timestamp, key, value, headers)."""

        async def work() -> list[FetchedRecords]:
            self._give_back()
            batches = await self._inner.poll_batches(max_records, timeout_ms)
            for partition, records, _ in batches:
                self._kept_back.setdefault(partition, OffsetAndMetadata(records[0][0]))
            return batches

        batches = self._wait(work)
        self._kept_back.clear()
        return batches

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord:
        """The next record, however long it takes. Asking says that the one before has been dealt with."""
        while not self._taken:
            self._last = None
            self._wait(self._take_more)
        self._last = self._taken.popleft()
        return self._last

    async def _take_more(self) -> None:
        self._give_back()
        self._taken.extend(await self._inner.poll())

    # --- positions --------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at ``offset``."""
        self._act(lambda: self._inner.seek(partition, offset))

    def seek_to_timestamp(self, timestamps: Mapping[TopicPartition, int]) -> None:
        """Go on with the first record from a time on (ms since 1970); behind the last if there is none."""
        self._act(lambda: self._inner.seek_to_timestamp(timestamps))

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on with the first record that is kept; without arguments in all assigned partitions."""
        self._act(lambda: self._inner.seek_to_beginning(*partitions))

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on behind the last record there is now; without arguments in all assigned partitions."""
        self._act(lambda: self._inner.seek_to_end(*partitions))

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record to be handed out. Waits while it is not known."""
        unread = self._unread().get(partition)
        if unread is not None:
            return unread.offset

        async def work() -> int:
            return await self._inner.position(partition)

        return self._wait(work)

    def lag(self, partition: TopicPartition) -> int | None:
        """Offsets between the position and the end as last seen; ``None`` before the first fetch."""
        unread = sum(record[:2] == (partition.topic, partition.partition) for record in self._taken)
        within = self._inner.lag(partition)
        return None if within is None else within + unread

    def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """Store positions in the group: those given (next offset to read), or all of what was handed out."""

        async def work() -> None:
            await self._inner.commit(
                {**self._inner.positions(), **self._unread()} if offsets is None else offsets
            )

        self._wait(work)

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None,
        on_done: Callable[[GlasslogError | None], None] | None = None,
    ) -> None:
        """As ``commit``, without waiting. ``on_done`` is called on the background thread."""

        async def work() -> None:
            handed_out = {**self._inner.positions(), **self._unread()}
            self._inner.commit_async(handed_out if offsets is None else offsets, on_done)

        self._wait(work)

    committed = waiting(asyncio_consumer.Consumer.committed)
    beginning_offsets = waiting(asyncio_consumer.Consumer.beginning_offsets)
    end_offsets = waiting(asyncio_consumer.Consumer.end_offsets)
    offsets_for_times = waiting(asyncio_consumer.Consumer.offsets_for_times)

    # --- inside -----------------------------------------------------------------------------------------

    def _act(self, work: Callable[[], None]) -> None:
        """Something that changes what is read: unread records are given back first."""

        async def act() -> None:
            self._give_back()
            work()

        if self._thread.is_held or self._was_started:
            self._wait(act)
        else:
            work()

    def _unread(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """By partition, where the first record is that was taken from the loop and not handed out."""
        unread = dict(self._kept_back)
        for record in self._taken:
            unread.setdefault(
                TopicPartition(record.topic, record.partition), OffsetAndMetadata(record.offset)
            )
        return unread

    def _give_back(self) -> None:
        """Stand where the unread records begin. On the loop."""
        for partition, position in self._unread().items():
            if partition in self._inner.assignment:
                self._inner.seek(partition, position.offset)
        self._taken.clear()
        self._kept_back.clear()
        self._last = None
