"""The shell around the group cores: one for each partition of ``__consumer_offsets`` that this broker leads.

It takes partitions over (reads their log into a fresh core) and gives them up, appends what the cores want
stored, answers who waits, and arms one timer. It refuses to know how the log is replicated
(``OffsetsStorage``) and how requests travel. What a group may do is decided in ``core``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from glasslog.broker.group.core import GroupShard
from glasslog.broker.group.effects import Append, Response
from glasslog.broker.group.hashing import partition_of_group
from glasslog.broker.group.records import Unknown, decode, encode
from glasslog.broker.group.types import (
    CommitRequest,
    CommitResponse,
    CommittedOffset,
    GroupDescription,
    GroupLimits,
    JoinRequest,
    JoinResponse,
    LeavingMember,
    MemberIdentity,
    SyncRequest,
    SyncResponse,
)
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import Offset, TopicPartition, format_uuid
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.batch import iterate_batches
from glasslog.log.records import decode_records, encode_batch

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Row = tuple[int, bytes, bytes | None, tuple[()]]
_LOAD_RETRY_MS = 100
_LOAD_CHUNK_BYTES = 1 << 20
_MAX_APPENDS_A_BATCH = 500
_FULL_BATCH_BYTES = 1 << 20
"""A batch that has reached this size is sent before more appends join it."""
_MAX_APPEND_BYTES = 8 << 20
"""Of one group's metadata, or of one commit."""


class OffsetsStorage(Protocol):
    """The partitions of ``__consumer_offsets`` as far as this broker has them."""

    def partition_count(self) -> int:
        """How many partitions the topic has; 0 while it does not exist."""
        ...

    def append(self, partition: int, batch: bytes) -> Awaitable[None]:
        """Append with acks=all; done when replicated. Raises ``GlasslogError``."""
        ...

    def start_offset(self, partition: int) -> Offset: ...

    def read(self, partition: int, offset: Offset, max_bytes: int) -> bytes:
        """Whole batches from ``offset`` up to the end of the leader's log; empty there."""
        ...


@dataclass(slots=True, kw_only=True)
class _Serving:
    """A partition that is coordinated here. ``appends`` wait for the writer task."""

    partition: int
    epoch: int
    shard: GroupShard
    appends: "asyncio.Queue[Append]"
    tasks: "list[asyncio.Task[None]]"
    loaded: bool = False


class _Batch:
    """Appends that go to the log together. One that can not be stored is refused alone, not with the rest."""

    def __init__(self, *, wall_ms: int) -> None:
        self.rows: list[_Row] = []
        self._outcomes: list[tuple[int, ErrorCode]] = []
        self._wall_ms = wall_ms
        self._size_bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self._outcomes) < _MAX_APPENDS_A_BATCH and self._size_bytes < _FULL_BATCH_BYTES

    def add(self, append: Append) -> None:
        try:
            encoded = [encode(record) for record in append.records]
        except GlasslogError as error:
            self._outcomes.append((append.token, error.code))
            return
        size_bytes = sum(len(key) + len(value or b"") for key, value in encoded)
        if size_bytes > _MAX_APPEND_BYTES:
            self._outcomes.append((append.token, ErrorCode.INVALID_COMMIT_OFFSET_SIZE))
            return
        self._size_bytes += size_bytes
        self.rows += [(self._wall_ms, key, value, ()) for key, value in encoded]
        self._outcomes.append((append.token, ErrorCode.NONE))

    def outcomes(self, stored: ErrorCode) -> Iterator[tuple[int, ErrorCode]]:
        """How each append ended, in order, if the rows ended so."""
        for token, refusal in self._outcomes:
            yield token, stored if refusal is ErrorCode.NONE else refusal


class GroupCoordinator:
    """Serves groups; answers with Kafka's errors as values, and never raises for a member's fault."""

    def __init__(self, *, runtime: Runtime, limits: GroupLimits, storage: OffsetsStorage) -> None:
        self._runtime = runtime
        self._limits = limits
        self._storage = storage
        self._serving: dict[int, _Serving] = {}
        self._waiters: dict[int, Callable[[Response], None]] = {}
        self._next_waiter = 0
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    # --- life ---

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for serving in self._serving.values():
                    self._start(serving, group)
                await self._run_timer()
        finally:
            self._group = None
            for partition in list(self._serving):
                self.on_resigned(partition)

    async def _run_timer(self) -> None:
        while True:
            self._wake.clear()
            now, wall = self._runtime.clock.now_ms(), self._runtime.clock.wall_ms()
            for serving in list(self._serving.values()):
                if serving.loaded:
                    serving.shard.tick(now, wall)
                    self._drain(serving)
            deadlines = [s.shard.next_deadline_ms() for s in self._serving.values() if s.loaded]
            due = min((deadline for deadline in deadlines if deadline is not None), default=None)
            delay = None if due is None else max(due - self._runtime.clock.now_ms(), 1) / 1000
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    def on_elected(self, partition: int, epoch: int) -> None:
        """This broker leads the partition: load it, then serve its groups."""
        known = self._serving.get(partition)
        if known is not None and known.epoch >= epoch:
            return
        if known is not None:
            self.on_resigned(partition)
        serving = _Serving(
            partition=partition,
            epoch=epoch,
            shard=GroupShard(self._limits),
            appends=asyncio.Queue(),
            tasks=[],
        )
        self._serving[partition] = serving
        if self._group is not None:
            self._start(serving, self._group)

    def _start(self, serving: _Serving, group: asyncio.TaskGroup) -> None:
        name = f"group-coordinator-{serving.partition}"
        serving.tasks.append(group.create_task(self._serve(serving), name=name))

    def on_resigned(self, partition: int) -> None:
        """Another broker leads the partition: whoever waits here is sent there."""
        serving = self._serving.pop(partition, None)
        if serving is None:
            return
        serving.shard.resign()
        self._reply_all(serving)
        for task in serving.tasks:
            task.cancel()
        self._wake.set()

    # --- one partition ---

    async def _serve(self, serving: _Serving) -> None:
        try:
            await self._load(serving)
        except GlasslogError as error:
            self._give_up(serving, error)
            return
        while True:
            first = await serving.appends.get()
            batch = _Batch(wall_ms=self._runtime.clock.wall_ms())
            batch.add(first)
            while batch.has_room and not serving.appends.empty():
                batch.add(serving.appends.get_nowait())
            stored = await self._store(serving.partition, batch.rows)
            now = self._runtime.clock.now_ms()
            for token, outcome in batch.outcomes(stored):
                serving.shard.on_stored(token, outcome, now)
            self._drain(serving)
            # What was stored may have begun sessions that end before the timer is due.
            self._wake.set()

    def _give_up(self, serving: _Serving, error: GlasslogError) -> None:
        """Its log can not be read: others must not suffer; the next change of the partition tries again."""
        logger.error("groups of partition %d can not be coordinated: %s", serving.partition, error)
        serving.tasks.clear()
        self.on_resigned(serving.partition)

    async def _load(self, serving: _Serving) -> None:
        started = self._runtime.clock.now_ms()
        offset = self._storage.start_offset(serving.partition)
        records = 0
        while data := await self._read(serving.partition, offset):
            for header, position in iterate_batches(data):
                if not header.is_control:
                    for record in decode_records(data, position):
                        records += 1
                        self._replay(serving, record.key, record.value)
                offset = Offset(header.next_offset)
            await asyncio.sleep(0)
        now = self._runtime.clock.now_ms()
        serving.shard.on_loaded(now, self._runtime.clock.wall_ms())
        serving.loaded = True
        self._wake.set()
        took = now - started
        logger.info(
            "coordinating groups of partition %d: %d records read in %d ms", serving.partition, records, took
        )

    async def _read(self, partition: int, offset: Offset) -> bytes:
        """The next part of a log; waits for one that is being mended."""
        while True:
            try:
                return self._storage.read(partition, offset, _LOAD_CHUNK_BYTES)
            except GlasslogError as error:
                # The same code tells of a disk that has failed; that never gets better.
                if error.code is not ErrorCode.KAFKA_STORAGE_ERROR or isinstance(error, StorageError):
                    raise
            await asyncio.sleep(_LOAD_RETRY_MS / 1000)

    def _replay(self, serving: _Serving, key: bytes | None, value: bytes | None) -> None:
        try:
            change = decode(key, value)
        except StorageError as error:
            # One foreign record must not take every group of the partition away.
            logger.error("partition %d: %s; passed over", serving.partition, error)
            return
        if not isinstance(change, Unknown):
            serving.shard.replay(change, self._runtime.clock.now_ms())

    async def _store(self, partition: int, rows: list[_Row]) -> ErrorCode:
        if not rows:
            return ErrorCode.NONE
        try:
            await self._storage.append(partition, bytes(encode_batch(rows)))
        except GlasslogError as error:
            logger.warning("group records of partition %d not stored: %s", partition, error)
            return _coordinator_error(error.code)
        return ErrorCode.NONE

    def _drain(self, serving: _Serving) -> None:
        ready = serving.shard.take_ready()
        for append in ready.appends:
            serving.appends.put_nowait(append)
        for reply in ready.replies:
            self._answer(reply.waiter, reply.response)

    def _reply_all(self, serving: _Serving) -> None:
        for reply in serving.shard.take_ready().replies:
            self._answer(reply.waiter, reply.response)

    def _answer(self, waiter: int, response: Response) -> None:
        answer = self._waiters.get(waiter)
        if answer is not None:
            answer(response)

    def _shard(self, group_id: str) -> _Serving | ErrorCode:
        count = self._storage.partition_count()
        if count == 0:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        serving = self._serving.get(partition_of_group(group_id, count))
        if serving is None:
            return ErrorCode.NOT_COORDINATOR
        return serving if serving.loaded else ErrorCode.COORDINATOR_LOAD_IN_PROGRESS

    async def _wait(self, serving: _Serving, ask: Callable[[int], None]) -> Response:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        waiter = self._new_waiter(partial(_settle, future))
        try:
            ask(waiter)
            self._drain(serving)
            self._wake.set()
            return await future
        finally:
            del self._waiters[waiter]

    def _new_waiter(self, answer: Callable[[Response], None]) -> int:
        self._next_waiter += 1
        self._waiters[self._next_waiter] = answer
        return self._next_waiter

    # --- requests ---

    async def join(self, request: JoinRequest) -> JoinResponse:
        """Answered when the group has agreed on a generation, or refused at once."""
        serving = self._shard(request.group_id)
        if isinstance(serving, ErrorCode):
            return JoinResponse(error=serving, member_id=request.member_id)
        now, shard = self._runtime.clock.now_ms(), serving.shard
        return _expect(JoinResponse, await self._wait(serving, lambda w: shard.join(request, w, now)))

    async def sync(self, request: SyncRequest) -> SyncResponse:
        """Answered when the leader's assignment is stored."""
        serving = self._shard(request.group_id)
        if isinstance(serving, ErrorCode):
            return SyncResponse(error=serving)
        now, shard = self._runtime.clock.now_ms(), serving.shard
        return _expect(SyncResponse, await self._wait(serving, lambda w: shard.sync(request, w, now)))

    def heartbeat(self, identity: MemberIdentity) -> ErrorCode:
        """A member says that it is alive."""
        serving = self._shard(identity.group_id)
        if isinstance(serving, ErrorCode):
            return serving
        return serving.shard.heartbeat(identity, self._runtime.clock.now_ms())

    def watch(
        self, identity: MemberIdentity, told: ErrorCode, tell: Callable[[ErrorCode], None]
    ) -> Callable[[], None]:
        """Have ``tell`` called once, as soon as a heartbeat would not be answered as ``told`` just now.

        Returns what ends the watch, which has to be called in any case.
        """
        serving = self._shard(identity.group_id)
        if isinstance(serving, ErrorCode):
            return _nothing
        shard = serving.shard
        waiter = self._new_waiter(lambda response: tell(_expect(ErrorCode, response)))
        shard.watch(identity, told, waiter)

        def end() -> None:
            del self._waiters[waiter]
            shard.unwatch(identity, waiter)

        return end

    def leave(self, group_id: str, members: tuple[LeavingMember, ...]) -> ErrorCode | tuple[ErrorCode, ...]:
        """Members go, each with its outcome; or why nobody could."""
        serving = self._shard(group_id)
        if isinstance(serving, ErrorCode):
            return serving
        outcomes = serving.shard.leave(group_id, members, self._runtime.clock.now_ms())
        self._drain(serving)
        self._wake.set()
        return outcomes

    async def commit(self, request: CommitRequest) -> CommitResponse:
        """Answered when the offsets are replicated."""
        serving = self._shard(request.identity.group_id)
        if isinstance(serving, ErrorCode):
            return tuple((partition, serving) for partition, _ in request.offsets)
        clock, shard = self._runtime.clock, serving.shard
        now, wall = clock.now_ms(), clock.wall_ms()
        response = await self._wait(serving, lambda w: shard.commit(request, w, now, wall))
        assert isinstance(response, tuple)
        return response

    def committed(
        self, group_id: str, partitions: tuple[TopicPartition, ...] | None
    ) -> ErrorCode | tuple[tuple[TopicPartition, CommittedOffset], ...]:
        """The group's positions in ``partitions``, or in all it has (``None``)."""
        serving = self._shard(group_id)
        if isinstance(serving, ErrorCode):
            return serving
        if partitions is None:
            return serving.shard.all_committed(group_id)
        return tuple((partition, serving.shard.committed(group_id, partition)) for partition in partitions)

    async def delete_group(self, group_id: str) -> ErrorCode:
        """Forget a group without members; done when that is replicated."""
        serving = self._shard(group_id)
        if isinstance(serving, ErrorCode):
            return serving
        shard = serving.shard
        return _expect(ErrorCode, await self._wait(serving, lambda w: shard.delete_group(group_id, w)))

    async def delete_offsets(
        self, group_id: str, partitions: tuple[TopicPartition, ...]
    ) -> ErrorCode | CommitResponse:
        """Forget committed offsets, each with its outcome; or why none could be."""
        serving = self._shard(group_id)
        if isinstance(serving, ErrorCode):
            return serving
        shard = serving.shard
        response = await self._wait(serving, lambda w: shard.delete_offsets(group_id, partitions, w))
        assert isinstance(response, tuple | ErrorCode)
        return response

    def new_member_id(self, prefix: str) -> str:
        """An id for a member that comes without one."""
        return f"{prefix or 'consumer'}-{format_uuid(self._runtime.random.uuid())}"

    def describe(self, group_id: str) -> ErrorCode | GroupDescription:
        """A group's state and members."""
        serving = self._shard(group_id)
        return serving if isinstance(serving, ErrorCode) else serving.shard.describe(group_id)

    def groups(self) -> tuple[GroupDescription, ...]:
        """Every group that this broker coordinates."""
        loaded = [serving.shard for serving in self._serving.values() if serving.loaded]
        return tuple(shard.describe(group_id) for shard in loaded for group_id in shard.group_ids())


def _settle(future: "asyncio.Future[Response]", response: Response) -> None:
    if not future.done():
        future.set_result(response)


def _nothing() -> None:
    pass


def _expect(kind: type[T], response: object) -> T:
    assert isinstance(response, kind)
    return response


def _coordinator_error(code: ErrorCode) -> ErrorCode:
    """What a member is told when storing failed: look for another coordinator, or try again."""
    if code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR):
        return ErrorCode.NOT_COORDINATOR
    if code is ErrorCode.MESSAGE_TOO_LARGE:
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return ErrorCode.COORDINATOR_NOT_AVAILABLE
