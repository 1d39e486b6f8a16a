"""``Consumer``: records of assigned or subscribed partitions, with positions and a group.

Joins the fetcher, the part in the group and the subscription state together. Refuses to know streams, how
records are converted, and when partitions come and go.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

from glasslog.client.commits import Commits
from glasslog.client.conversion import Conversion
from glasslog.client.fetcher import Fetcher
from glasslog.client.interceptors import ConsumerInterceptor
from glasslog.client.membership import Membership
from glasslog.client.offsets import OffsetLookup
from glasslog.client.options import Bootstrap, ConsumerKeywords, consumer_options
from glasslog.client.participation import Participation, RebalanceListener
from glasslog.client.session import Session
from glasslog.client.subscription import (
    EARLIEST,
    LATEST,
    AwaitingReset,
    PartitionState,
    Positioned,
    PositionOf,
    SubscriptionState,
    position_of,
    processed_of,
)
from glasslog.client.types import ConsumerRecord, Deserializer, FetchedRecords, OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

_MAX_BUFFERED_BYTES = 2_097_152
"""Per partition: nothing more is fetched while so much waits to be handed out."""

_ITERATION_WAIT_MS = 1_000

Found = TypeVar("Found")


class Consumer:
    """Reads records. Start it with ``start`` or ``async with``; one task may use it at a time.

    With topics it takes part in ``group_id``; without, use ``assign``.  Options are those of
    ``ConsumerOptions``. Errors are ``GlasslogError`` with Kafka's codes.
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
        self._options = consumer_options(bootstrap_servers, {**options, "group_id": group_id or ""})
        self._session = Session(runtime, self._options, "consumer")
        self._clock = self._session.runtime.clock
        self._subscription = SubscriptionState(
            auto_offset_reset=self._options.auto_offset_reset,
            max_buffered_bytes=max(_MAX_BUFFERED_BYTES, 2 * self._options.max_partition_fetch_bytes),
        )
        self._fetcher = Fetcher(self._session, self._options, self._subscription, self._fetch_committed)
        self._session.on_failure = lambda error: self._fetcher.arrived.set()
        self._conversion = Conversion(
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            interceptors=interceptors,
            give_back=self._give_back,
        )
        self._group = self._participation(tuple(interceptors), listener) if group_id else None
        self._pattern: re.Pattern[str] | None = None
        self._iterated: PartitionState | None = None
        self._left = 0
        """Records that iteration may take from there before it lets others run."""

        if topics:
            self.subscribe(topics)

    def _participation(
        self, interceptors: Sequence[ConsumerInterceptor], listener: RebalanceListener | None
    ) -> Participation:
        session, options, on_change = self._session, self._options, self._fetcher.arrived.set
        membership = Membership(session, options, on_change)
        commits = Commits(session, options, self._subscription, membership, interceptors, on_change)
        return Participation(
            session,
            options,
            self._subscription,
            membership,
            commits,
            listener=listener,
            take_over=self._take_over,
            on_change=on_change,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was being dealt with when the block failed has not been dealt with.
        await self._stop(position_of if error is None else processed_of)

    async def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        await self._session.start()
        self._fetcher.start()
        if self._group is not None:
            self._group.start()

    async def close(self) -> None:
        """Commit what was handed out (with automatic commits), leave the group, stop. Idempotent."""
        await self._stop(position_of)

    # --- what to read -----------------------------------------------------------------------------------

    def subscribe(
        self, topics: Iterable[str] | re.Pattern[str], listener: RebalanceListener | None = None
    ) -> None:
        """Take part in the group with these topics, in place of any before. Needs ``group_id``.

        With a compiled pattern: all topics whose whole name matches, but internal ones; those that come later
        too, within ``metadata_max_age_ms``.
        """
        if self._group is None:
            raise GlasslogError(
                ErrorCode.INVALID_GROUP_ID, "subscribing needs a group_id; without a group use assign"
            )
        self._group.listener = listener or self._group.listener
        if isinstance(topics, re.Pattern):
            self._pattern = topics
            self._session.metadata.follow_all_topics()
            self._session.metadata.on_change(self._match_topics)
            self._match_topics()
            return
        self._pattern = None
        self._take_topics(tuple(dict.fromkeys([topics] if isinstance(topics, str) else topics)))

    def _match_topics(self) -> None:
        if self._pattern is None:
            return
        known = self._session.metadata.view.topics.values()
        matching = [
            topic.name
            for topic in known
            if topic.partitions and not topic.internal and self._pattern.fullmatch(topic.name)
        ]
        if tuple(sorted(matching)) != self._subscription.topics:
            self._take_topics(tuple(sorted(matching)))

    def _take_topics(self, topics: tuple[str, ...]) -> None:
        assert self._group is not None
        self._session.metadata.add_topics(topics)
        self._subscription.topics = topics
        self._group.membership.subscribe(topics)
        self._fetcher.arrived.set()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions, without rebalances; positions are the group's if there is one."""
        if self._subscription.topics:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, "this consumer has subscribed: unsubscribe before assigning"
            )
        self._take_over(partitions)

    async def unsubscribe(self) -> None:
        """Give up everything and leave the group."""
        if self._group is not None and self._subscription.topics:
            await self._group.end_joining()
            await self._group.leave(position_of, "unsubscribed")
            self._group.membership.subscribe(())
        self._pattern = None
        self._subscription.topics = ()
        self._take_over(())

    @property
    def assignment(self) -> tuple[TopicPartition, ...]:
        """The partitions read at the moment, in order."""
        return self._subscription.assignment

    @property
    def subscription(self) -> tuple[str, ...]:
        return self._subscription.topics

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these until ``resume``."""
        for partition in partitions:
            self._subscription.state(partition).paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            self._subscription.state(partition).paused = False
        self._fetcher.wake()
        self._fetcher.arrived.set()

    @property
    def paused(self) -> tuple[TopicPartition, ...]:
        return tuple(state.partition for state in self._subscription.states if state.paused)

    # --- records ----------------------------------------------------------------------------------------

    async def poll(self, max_records: int | None = None, timeout_ms: int = 1_000) -> list[ConsumerRecord]:
        """At most ``max_records`` (default ``max_poll_records``) records; none when ``timeout_ms`` is over.

        Asking says that everything handed out before has been dealt with: automatic commits go by that.
        """
        return self._conversion.of_runs(await self.poll_batches(max_records, timeout_ms))

    def _give_back(self, records: Sequence[ConsumerRecord]) -> None:
        first: dict[TopicPartition, ConsumerRecord] = {}
        for record in records:
            first.setdefault(TopicPartition(record.topic, record.partition), record)
        for partition, record in first.items():
            self._subscription.move_to(
                partition, Positioned(offset=record.offset, leader_epoch=record.leader_epoch)
            )
        self._fetcher.wake()

    async def poll_batches(
        self, max_records: int | None = None, timeout_ms: int = 1_000
    ) -> list[FetchedRecords]:
        """As ``poll``, in runs per partition of plain tuples (offset, timestamp, key, value, headers)."""
        limit = self._options.max_poll_records if max_records is None else max_records
        found = await self._await_records(timeout_ms, lambda: self._subscription.take(limit) or None)
        return found or []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        """The next record, however long it takes. Asking says that the one before has been dealt with."""
        while True:
            state, record = self._iterated, None
            self._left -= 1
            # What has arrived, perhaps news of the group, is seen to before the next record.
            if (
                state is not None
                and self._left > 0
                and not state.paused
                and not self._fetcher.arrived.is_set()
            ):
                record = state.take_one()
            if record is None:
                record = await self._next_record()
            if self._conversion.does_nothing:
                return record
            converted = self._conversion.of_one(record)
            if converted is not None:
                return converted

    async def _next_record(self) -> ConsumerRecord:
        """The first of the next partition that has some."""
        while True:
            state = await self._await_records(_ITERATION_WAIT_MS, self._subscription.next_loaded)
            record = None if state is None else state.take_one()
            if record is not None:
                self._iterated, self._left = state, self._options.max_poll_records
                return record

    async def _await_records(self, timeout_ms: int, find: Callable[[], Found | None]) -> Found | None:
        """What ``find`` finds, once it does; between its attempts the group is seen to."""
        self._session.check()
        self._subscription.note_processed()
        deadline_ms = self._clock.now_ms() + timeout_ms
        # Even a poll that finds records at once lets the fetcher work.
        await asyncio.sleep(0)
        while True:
            self._fetcher.arrived.clear()
            self._session.check()
            if self._group is not None:
                await self._group.see_to(deadline_ms)
            found = find() if self._group is None or self._group.may_hand_out else None
            if found is not None:
                self._fetcher.wake()
                return found
            left_ms = deadline_ms - self._clock.now_ms()
            if left_ms <= 0:
                return None
            await self._wait(left_ms)

    async def _wait(self, longest_ms: int) -> None:
        if self._group is not None:
            longest_ms = min(longest_ms, self._group.longest_wait_ms())
        timer = asyncio.get_running_loop().call_later(longest_ms / 1_000, self._fetcher.arrived.set)
        try:
            await self._fetcher.arrived.wait()
        finally:
            timer.cancel()

    # --- positions --------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at ``offset``."""
        if offset < 0:
            raise GlasslogError(ErrorCode.OFFSET_OUT_OF_RANGE, f"there is no offset {offset}")
        self._subscription.move_to(partition, Positioned(offset=offset))
        self._fetcher.wake()

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on with the first record that is kept; without arguments in all assigned partitions."""
        self._seek_to(partitions, EARLIEST)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on behind the last record there is now; without arguments in all assigned partitions."""
        self._seek_to(partitions, LATEST)

    def seek_to_timestamp(self, timestamps: Mapping[TopicPartition, int]) -> None:
        """Go on with the first record from a time on (ms since 1970); behind the last if there is none."""
        for partition, timestamp_ms in timestamps.items():
            if timestamp_ms < 0:
                raise GlasslogError(ErrorCode.INVALID_TIMESTAMP, f"{timestamp_ms} is before 1970")
            self._subscription.move_to(partition, AwaitingReset(timestamp=timestamp_ms))
        self._fetcher.wake()

    def _seek_to(self, partitions: Sequence[TopicPartition], timestamp: int) -> None:
        for partition in partitions or self.assignment:
            self._subscription.move_to(partition, AwaitingReset(timestamp=timestamp))
        self._fetcher.wake()

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record to be handed out. Waits while it is not known."""
        deadline_ms = self._clock.now_ms() + self._options.default_api_timeout_ms
        while (offset := self._subscription.state(partition).position) < 0:
            self._session.check()
            self._subscription.raise_if_stuck(partition)
            if self._clock.now_ms() >= deadline_ms:
                raise GlasslogError(
                    ErrorCode.REQUEST_TIMED_OUT, f"the position in {partition} is not known yet"
                )
            self._fetcher.arrived.clear()
            self._fetcher.wake()
            await self._wait(100)
            # Not for us alone: iteration looks for it, too.
            self._fetcher.arrived.set()
        return offset

    def positions(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """As ``position``, of every partition where it is known."""
        return self._subscription.positions()

    def lag(self, partition: TopicPartition) -> int | None:
        """Offsets between the position and the end as last seen; ``None`` before the first fetch."""
        state = self._subscription.state(partition)
        if state.high_watermark < 0 or state.position < 0:
            return None
        return max(0, state.high_watermark - state.position)

    async def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """Store positions in the group: those given (next offset to read), or all of what was handed out.

        Raises UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION or REBALANCE_IN_PROGRESS when the partitions are no
        longer this member's.
        """
        await self._need_group().commits.commit(offsets)

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None,
        on_done: Callable[[GlasslogError | None], None] | None = None,
    ) -> None:
        """As ``commit``, without waiting: commits are stored in the order they were asked for.

        ``on_done`` is told of the outcome; without it a failure is logged.  ``close`` waits for all of them.
        """
        self._need_group().commits.commit_later(offsets, on_done)

    async def committed(self, partition: TopicPartition) -> OffsetAndMetadata | None:
        """The group's position in a partition, ``None`` if there is none."""
        return (await self._fetch_committed((partition,))).get(partition)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is kept, by partition."""
        return await self._offsets(dict.fromkeys(partitions, EARLIEST))

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record that consumers may see, by partition."""
        return await self._offsets(dict.fromkeys(partitions, LATEST))

    async def offsets_for_times(self, timestamps: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset at or after a time in milliseconds since 1970, -1 when there is none."""
        return await self._offsets(timestamps)

    async def _offsets(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        self._session.check()
        lookup = OffsetLookup(self._session, isolation_level=self._fetcher.isolation_level)
        found = await lookup.list(wanted, timeout_ms=self._options.default_api_timeout_ms)
        return {partition: position.offset for partition, position in found.items()}

    async def _fetch_committed(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        membership = self._need_group().membership
        return await membership.committed(partitions, timeout_ms=self._options.default_api_timeout_ms)

    def _need_group(self) -> Participation:
        self._session.check()
        if self._group is None:
            raise GlasslogError(
                ErrorCode.INVALID_GROUP_ID, "this consumer has no group_id, so nothing to commit to"
            )
        return self._group

    # --- inside -----------------------------------------------------------------------------------------

    def _take_over(self, partitions: Iterable[TopicPartition]) -> None:
        partitions = tuple(partitions)
        self._session.metadata.add_topics(partition.topic for partition in partitions)
        self._subscription.assign(partitions, has_group=self._group is not None)
        self._iterated = None
        if self._group is not None:
            self._group.commits.keep_only(partitions)
        self._fetcher.wake()
        self._fetcher.arrived.set()

    async def _stop(self, position: PositionOf) -> None:
        if not self._session.is_open:
            return
        try:
            if self._group is not None:
                await self._group.end_joining()
                await self._group.commits.finish()
                if self._session.failure is None:
                    await self._group.leave(position, "the consumer was closed")
        finally:
            await self._session.close()
