"""``Consumer``: records of assigned or subscribed partitions, with positions and a group.

Joins the fetcher, the membership and the subscription state together. Partitions are given up only inside a
call that asks for records, so never while the user is busy with some.  Refuses to know streams and the
group protocol.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

from glasslog.client.fetcher import Fetcher
from glasslog.client.interceptors import ConsumerInterceptor, passed_through, tell_all
from glasslog.client.membership import Membership
from glasslog.client.offsets import OffsetLookup
from glasslog.client.options import Bootstrap, ConsumerKeywords, consumer_options
from glasslog.client.serializers import DeserializationError, deserializer_of
from glasslog.client.session import Session
from glasslog.client.subscription import (
    EARLIEST,
    LATEST,
    AwaitingReset,
    PartitionState,
    Positioned,
    SubscriptionState,
)
from glasslog.client.types import ConsumerRecord, Deserializer, FetchedRecords, OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

_MAX_BUFFERED_BYTES = 2_097_152
"""Per partition: nothing more is fetched while so much waits to be handed out."""

_ITERATION_WAIT_MS = 1_000
_AUTO_COMMIT_TIMEOUT_MS = 5_000
"""Short, since a rebalance and ``close`` wait for it, and the next one says the same and more."""

_LOG = logging.getLogger(__name__)

Found = TypeVar("Found")
OffsetOf = Callable[[PartitionState], int]
"""Which of its positions: the one handed out up to, or the one processed up to."""

_make_record: Callable[[type[ConsumerRecord], Iterable[object]], ConsumerRecord] = tuple.__new__


class RebalanceListener(Protocol):
    """Told of partitions that come and go, inside the consumer's poll, before the next records."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """About to be given up: the last chance to commit for them."""
        ...

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None: ...

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else has them already: nothing can be committed for them."""
        ...


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
        self._membership = (
            Membership(self._session, self._options, self._fetcher.arrived.set) if group_id else None
        )
        self._listener = listener
        self._key_deserializer = deserializer_of("key_deserializer", key_deserializer)
        self._value_deserializer = deserializer_of("value_deserializer", value_deserializer)
        self._is_raw = self._key_deserializer is None and self._value_deserializer is None
        self._interceptors = tuple(interceptors)
        self._pattern: re.Pattern[str] | None = None
        self._commits: dict[asyncio.Task[None], None] = {}
        self._joining: asyncio.Task[None] | None = None
        self._may_read_on = False
        """While joining: what is held stays this member's until the group has decided (KIP-429)."""

        self._decided: tuple[TopicPartition, ...] | None = None
        """What the group decided, until a poll acts on it."""

        self._join_error: Exception | None = None
        self._auto_commit = bool(group_id) and self._options.enable_auto_commit
        self._committed_upto: dict[TopicPartition, int] = {}
        self._next_commit_ms = 0
        self._committing: asyncio.Task[None] | None = None
        self._iterated: PartitionState | None = None
        self._since_check = 0
        if topics:
            self.subscribe(topics)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was being dealt with when the block failed has not been dealt with.
        await self._stop(_position if error is None else _processed)

    async def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        await self._session.start()
        self._fetcher.start()
        self._next_commit_ms = self._clock.now_ms() + self._options.auto_commit_interval_ms
        if self._membership is not None:
            self._membership.start()

    async def close(self) -> None:
        """Commit what was handed out (with automatic commits), leave the group, stop. Idempotent."""
        await self._stop(_position)

    # --- what to read -----------------------------------------------------------------------------------

    def subscribe(
        self, topics: Iterable[str] | re.Pattern[str], listener: RebalanceListener | None = None
    ) -> None:
        """Take part in the group with these topics, in place of any before. Needs ``group_id``.

        With a compiled pattern: all topics whose whole name matches, but internal ones; those that come later
        too, within ``metadata_max_age_ms``.
        """
        if self._membership is None:
            raise GlasslogError(
                ErrorCode.INVALID_GROUP_ID, "subscribing needs a group_id; without a group use assign"
            )
        self._listener = listener or self._listener
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
        assert self._membership is not None
        self._session.metadata.add_topics(topics)
        self._subscription.topics = topics
        self._membership.subscribe(topics)
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
        if self._membership is not None and self._subscription.topics:
            await self._end_joining()
            await self._give_up(self.assignment, _position)
            await self._membership.leave("unsubscribed")
            self._membership.subscribe(())
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
        records: list[ConsumerRecord] = []
        for partition, run, epoch in await self.poll_batches(max_records, timeout_ms):
            topic, number = partition.topic, partition.partition
            records += [_make_record(ConsumerRecord, (topic, number, *record, epoch)) for record in run]
        if not self._is_raw:
            records = self._deserialized(records)
        if self._interceptors and records:
            records = passed_through([each.on_consume for each in self._interceptors], records)
        return records

    def _deserialized(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """Those before the first that can not be; that one and the rest count as not handed out."""
        done: list[ConsumerRecord] = []
        for index, record in enumerate(records):
            try:
                done.append(self._deserialize(record))
            except DeserializationError:
                self._give_back(records[index:])
                if not done:
                    raise
                break
        return done

    def _deserialize(self, record: ConsumerRecord) -> ConsumerRecord:
        try:
            if self._key_deserializer is not None and record.key is not None:
                record = record._replace(key=self._key_deserializer(record.key))
            if self._value_deserializer is not None and record.value is not None:
                record = record._replace(value=self._value_deserializer(record.value))
        except Exception as error:
            partition = TopicPartition(record.topic, record.partition)
            raise DeserializationError(
                f"the record at offset {record.offset} of {partition} can not be deserialized: "
                f"{error or type(error).__name__}; seek to {record.offset + 1} to go on behind it",
                partition=partition,
                offset=record.offset,
            ) from error
        return record

    def _give_back(self, records: Iterable[ConsumerRecord]) -> None:
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
        state = self._iterated
        self._since_check += 1
        if state is not None:
            state.processed = state.position
        if (
            state is None
            or not state.has_decoded
            or state.paused
            or self._since_check >= self._options.max_poll_records
            or self._is_interrupted
        ):
            state = self._iterated = await self._next_state()
            self._since_check = 0
        taken, epoch = state.take_one()
        partition = state.partition
        record = _make_record(ConsumerRecord, (partition.topic, partition.partition, *taken, epoch))
        if not self._is_raw:
            (record,) = self._deserialized([record])
        if self._interceptors:
            passed = passed_through([each.on_consume for each in self._interceptors], [record])
            return passed[0] if passed else await self.__anext__()
        return record

    async def _next_state(self) -> PartitionState:
        while True:
            state = await self._await_records(_ITERATION_WAIT_MS, self._subscription.next_loaded)
            if state is not None:
                return state

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
            if self._membership is not None:
                self._membership.polled_ms = self._clock.now_ms()
                await self._rejoin_if_needed(self._membership, deadline_ms)
                self._auto_commit_if_due(self._membership)
            # Records of partitions that are being given up would be another member's too.
            found = find() if self._joining is None or self._may_read_on else None
            if found is not None:
                self._fetcher.wake()
                return found
            left_ms = deadline_ms - self._clock.now_ms()
            if left_ms <= 0:
                return None
            await self._wait(left_ms)

    async def _wait(self, longest_ms: int) -> None:
        if self._membership is not None:
            # To wait here is to poll: the membership hears of it between heartbeats.
            longest_ms = min(longest_ms, self._options.heartbeat_interval_ms)
        if self._auto_commit and self._committing is None:
            longest_ms = min(longest_ms, max(1, self._next_commit_ms - self._clock.now_ms()))
        timer = asyncio.get_running_loop().call_later(longest_ms / 1_000, self._fetcher.arrived.set)
        try:
            await self._fetcher.arrived.wait()
        finally:
            timer.cancel()

    @property
    def _is_interrupted(self) -> bool:
        """Whether a poll has to see to something before the next record."""
        joining = self._membership is not None and self._membership.needs_join
        return joining or self._decided is not None or self._session.failure is not None

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
        return offset

    def positions(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """As ``position``, of every partition where it is known."""
        return self._positions(_position)

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
        membership = self._need_group()
        wanted = self._wanted(offsets)
        await membership.commit(wanted, timeout_ms=self._options.default_api_timeout_ms)
        tell_all([each.on_commit for each in self._interceptors], wanted)

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None,
        on_done: Callable[[GlasslogError | None], None] | None = None,
    ) -> None:
        """As ``commit``, without waiting: commits are stored in the order they were asked for.

        ``on_done`` is told of the outcome; without it a failure is logged.  ``close`` waits for all of them.
        """
        membership, wanted = self._need_group(), self._wanted(offsets)
        task = self._session.scope.spawn(self._commit_later(membership, wanted, on_done), "consumer commit")
        self._commits[task] = None
        task.add_done_callback(lambda done: self._commits.pop(task, None))

    async def _commit_later(
        self,
        membership: Membership,
        wanted: Mapping[TopicPartition, OffsetAndMetadata],
        on_done: Callable[[GlasslogError | None], None] | None,
    ) -> None:
        failure: GlasslogError | None = None
        try:
            await membership.commit(wanted, timeout_ms=self._options.default_api_timeout_ms)
            tell_all([each.on_commit for each in self._interceptors], wanted)
        except GlasslogError as error:
            failure = error
        if on_done is not None:
            tell_all([on_done], failure)
        elif failure is not None:
            _LOG.warning("commit failed: %s", failure)

    def _wanted(
        self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        if offsets is None:
            return self.positions()
        return {
            partition: offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(offset)
            for partition, offset in offsets.items()
        }

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
        membership = self._need_group()
        return await membership.committed(partitions, timeout_ms=self._options.default_api_timeout_ms)

    def _need_group(self) -> Membership:
        self._session.check()
        if self._membership is None:
            raise GlasslogError(
                ErrorCode.INVALID_GROUP_ID, "this consumer has no group_id, so nothing to commit to"
            )
        return self._membership

    def _positions(self, offset_of: OffsetOf) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            partition: OffsetAndMetadata(place.offset, place.leader_epoch)
            for partition, place in self._subscription.positions(offset_of).items()
        }

    # --- automatic commits ------------------------------------------------------------------------------

    def _auto_commit_if_due(self, membership: Membership) -> None:
        now_ms = self._clock.now_ms()
        if not self._auto_commit or now_ms < self._next_commit_ms or self._committing is not None:
            return
        self._next_commit_ms = now_ms + self._options.auto_commit_interval_ms
        news = self._uncommitted(_processed)
        if news:
            work = self._commit_in_background(membership, news)
            self._committing = self._session.scope.spawn(work, "consumer automatic commit")

    def _uncommitted(self, offset_of: OffsetOf) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            partition: position
            for partition, position in self._positions(offset_of).items()
            if self._committed_upto.get(partition) != position.offset
        }

    async def _commit_in_background(
        self, membership: Membership, positions: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> None:
        try:
            await self._commit_quietly(membership, positions)
        finally:
            self._committing = None
            # A poll that waits may find that the next one is due already.
            self._fetcher.arrived.set()

    async def _commit_quietly(
        self,
        membership: Membership,
        positions: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """A commit that fails costs nothing but records that are delivered again."""
        try:
            await membership.commit(positions, timeout_ms=_AUTO_COMMIT_TIMEOUT_MS)
            tell_all([each.on_commit for each in self._interceptors], positions)
            for partition, position in positions.items():
                self._committed_upto[partition] = position.offset
        except GlasslogError as error:
            _LOG.warning("automatic commit failed: %s", error)

    # --- the group --------------------------------------------------------------------------------------

    async def _rejoin_if_needed(self, membership: Membership, deadline_ms: int) -> None:
        """Take part in a rebalance. It goes on in the background when the poll's time is over."""
        if self._joining is None:
            if self._decided is not None:
                decided, self._decided = self._decided, None
                self._start_joining(partial(self._settle, membership, decided), may_read_on=False)
            elif membership.needs_join:
                may_read_on = membership.is_cooperative and not membership.lost and bool(self.assignment)
                self._start_joining(partial(self._rejoin, membership), may_read_on=may_read_on)
        if self._joining is not None and not self._may_read_on:
            left_ms = max(0, deadline_ms - self._clock.now_ms())
            await asyncio.wait({self._joining}, timeout=left_ms / 1_000)
        error, self._join_error = self._join_error, None
        if error is not None:
            membership.needs_join = True
            raise error

    def _start_joining(self, work: Callable[[], Awaitable[None]], *, may_read_on: bool) -> None:
        self._may_read_on = may_read_on
        self._joining = self._session.scope.spawn(self._joined(work), "consumer join")

    async def _joined(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            # Also what a user's listener raised: the next poll raises it.
            self._join_error = error
        finally:
            self._joining, self._may_read_on = None, False
            self._fetcher.arrived.set()

    async def _rejoin(self, membership: Membership) -> None:
        """Join with what may be kept, and have the group's decision acted upon: by a poll if some is kept."""
        keeps = membership.is_cooperative and not membership.lost
        topics = self._subscription.topics
        kept = [each for each in self.assignment if keeps and each.topic in topics]
        await self._give_up(_without(self.assignment, kept), _processed)
        decided = await membership.join(kept)
        if decided is not None and kept:
            self._decided = decided
        elif decided is not None:
            await self._take_given(decided, decided)

    async def _settle(self, membership: Membership, decided: tuple[TopicPartition, ...]) -> None:
        """Give up what is somebody else's now, and say so by joining again; take what is new."""
        if membership.lost:
            return
        owned = self.assignment
        gone = _without(owned, decided)
        await self._give_up(gone, _processed)
        if gone:
            membership.needs_join = True
        await self._take_given(decided, _without(decided, owned))

    async def _take_given(self, partitions: Iterable[TopicPartition], new: Iterable[TopicPartition]) -> None:
        self._take_over(partitions)
        if self._listener is not None:
            await self._listener.on_assigned(tuple(sorted(new)))

    async def _end_joining(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait({self._joining})
            # A task that had not begun yet could not say so itself.
            self._joining, self._may_read_on = None, False
        self._decided = None

    async def _give_up(self, partitions: Sequence[TopicPartition], offset_of: OffsetOf) -> None:
        """Commit for these partitions and let go of them."""
        membership = self._membership
        if partitions and membership is not None:
            if membership.lost:
                if self._listener is not None:
                    await self._listener.on_lost(partitions)
            else:
                if self._auto_commit:
                    await self._commit_quietly(membership, self._uncommitted(offset_of))
                if self._listener is not None:
                    await self._listener.on_revoked(partitions)
        self._take_over(_without(self.assignment, partitions))

    def _take_over(self, partitions: Iterable[TopicPartition]) -> None:
        partitions = tuple(partitions)
        self._session.metadata.add_topics(partition.topic for partition in partitions)
        self._subscription.assign(partitions, has_group=self._membership is not None)
        self._iterated = None
        for gone in _without(self._committed_upto, partitions):
            del self._committed_upto[gone]
        self._fetcher.wake()
        self._fetcher.arrived.set()

    async def _stop(self, offset_of: OffsetOf) -> None:
        if not self._session.is_open:
            return
        try:
            await self._end_joining()
            if self._commits:
                await asyncio.wait(list(self._commits), timeout=_AUTO_COMMIT_TIMEOUT_MS / 1_000)
            if self._membership is not None and self._session.failure is None:
                await self._give_up(self.assignment, offset_of)
                if self._subscription.topics:
                    await self._membership.leave("the consumer was closed")
        finally:
            await self._session.close()


def _position(state: PartitionState) -> int:
    return state.position


def _processed(state: PartitionState) -> int:
    return state.processed


def _without(some: Iterable[TopicPartition], others: Iterable[TopicPartition]) -> list[TopicPartition]:
    excluded = frozenset(others)
    return [each for each in some if each not in excluded]
