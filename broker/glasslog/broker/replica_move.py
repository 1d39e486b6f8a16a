"""One replica on its way from one data directory of this broker to another.

A copy of its log grows in small steps; those that wait for a disk are done off the event loop.  When nothing
is left to copy it takes the log's place in one turn of the event loop: nothing is appended meanwhile.  This
module knows the steps of one move; it refuses to know who wants it and whose turn it is.  What comes next of
a log is ``replica_copy``'s, how the folders change places ``log_exchange``'s.
Source: Kafka's ``ReplicaAlterLogDirsThread`` (KIP-113).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind
from typing import NamedTuple, TypeVar

from glasslog.broker.cold_reads import ColdReads
from glasslog.broker.log_claims import LogClaims
from glasslog.broker.log_exchange import CompleteCopy
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replica_copy import find_cut, next_batches, start_of
from glasslog.broker.replicas import Replicas
from glasslog.broker.stored_logs import BrokenLog, StoredLog
from glasslog.common.errors import GlasslogError, StorageError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.log.batch import CorruptBatch
from glasslog.log.damage import DamagedLog
from glasslog.log.directory import FutureFolder, LogDirectory
from glasslog.log.log import Log
from glasslog.log.segment import ColdRead

STEP_BYTES = 1 << 20
"""Read of a log in one turn of the event loop, and appended to its copy in a thread."""

LAST_STEP_BYTES, MAX_LAST_STEP_BYTES = 1 << 18, 1 << 23
"""What may be left for the turn in which the copy takes the log's place: more with every attempt."""

BUSY_BACKOFF_MS = 50
"""Before looking again whether somebody still works on the log, or on a checkpoint."""

DAMAGE_BACKOFF_MS = 1_000
"""Before reading again what is being mended."""

_UNKNOWN_REWRITES = -1

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveParts:
    """What moves need of a broker."""

    replicas: Replicas
    logs: PartitionLogs
    claims: LogClaims
    cold_reads: ColdReads


class Copied(NamedTuple):
    """More of it is there; nothing, when somebody had to be waited for."""

    size_bytes: int = 0
    pause_ms: int = 0


class Moved(NamedTuple):
    """The replica lies in the other directory now."""

    stored: StoredLog | BrokenLog


class Refused(NamedTuple):
    """The copy can not be used: its disk refuses, or, where ``is_content``, what is in it makes no sense."""

    reason: str
    is_content: bool


class _CopyFailed(Exception):  # noqa: N818 - what happened
    """Carries a ``Refused`` past what else can go wrong."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


class ReplicaMove:
    """See the module. ``is_resumed``: its folder was there when the broker started."""

    def __init__(
        self,
        parts: MoveParts,
        partition: Partition,
        directory: LogDirectory,
        folder: FutureFolder,
        *,
        is_resumed: bool,
    ) -> None:
        self._parts = parts
        self._runtime = parts.replicas.runtime
        self.partition = partition
        self.directory = directory
        self.folder = folder
        self.is_resumed = is_resumed
        self.log: Log | None = None
        self.is_busy = False
        """Whether a step is under way: its thread may still use what is given up."""
        self.is_unwanted = False
        """Whether what was copied is to be removed once no step is under way."""
        self._attempts = 0
        self._holds_claim = False
        self._rewrites = _UNKNOWN_REWRITES
        """How often the log had been compacted when its copy began."""

    @property
    def name(self) -> TopicPartition:
        return self.partition.name

    def make_folder(self, topic_id: TopicId) -> StorageError | None:
        """The order to move, on disk. Blocks, in any thread; why it failed."""
        try:
            self.directory.begin_future(self.folder, topic_id)
        except StorageError as error:
            return error
        return None

    def let_go(self) -> None:
        """Others may compact, shorten and mend the log."""
        if self._holds_claim:
            self._holds_claim = False
            self._parts.claims.let_go(self.partition)

    @property
    def is_possible(self) -> bool:
        """Whether the replica is still here and both disks work."""
        partition, parts = self.partition, self._parts
        is_here = partition.is_online and parts.replicas.find(self.name) is partition
        return is_here and self.directory in parts.logs.directories

    # --- steps ------------------------------------------------------------------------------------------

    async def step(self) -> Copied | Moved | Refused:
        """Some of it. Raises ``StorageError`` when the replica's own disk refuses."""
        try:
            return await self._step()
        except _CopyFailed as failure:
            return failure.refused
        except DamagedLog as damage:
            # Whoever mends it must be let at it.
            self.let_go()
            if self.partition.is_online:
                self._parts.replicas.on_damage(self.partition, damage)
            return Copied(pause_ms=DAMAGE_BACKOFF_MS)

    async def _step(self) -> Copied | Moved:
        copy = self.log or await self._open()
        if not self.is_possible:
            return Copied()
        original = self.partition.log
        if _is_compacted(original) and not self._claim():
            return Copied(pause_ms=BUSY_BACKOFF_MS)
        copy.config = original.config
        if await self._cut(original, copy):
            return Copied()
        try:
            data = next_batches(original, copy, max_bytes=STEP_BYTES, cached_only=True)
        except ColdRead as cold:
            await self._warm(cold)
            return Copied()
        if not data:
            return await self._complete(copy)
        await self._on_copy(bind(copy.append_as_follower, data, now_ms=self._runtime.clock.wall_ms()))
        return Copied(size_bytes=len(data))

    async def _open(self) -> Log:
        """What an earlier process has copied is looked through: nobody has said how far it is durable."""
        original = self.partition.log
        if not (self.is_resumed and _is_compacted(original)):
            self._rewrites = original.rewrites
        opening = bind(
            Log.open,
            files=self._runtime.files,
            directory=self.folder.path,
            config=original.config,
            clean_shutdown=False,
            may_cut_synced=True,
            now_ms=self._runtime.clock.wall_ms(),
        )
        self.log = copy = await self._on_copy(opening)
        return copy

    def _claim(self) -> bool:
        """Compacted meanwhile, a log could lose a tombstone whose older records are in the copy already."""
        if not self._holds_claim and not self._parts.claims.is_claimed(self.partition):
            self._parts.claims.hold(self.partition)
            self._holds_claim = True
        return self._holds_claim

    async def _cut(self, original: Log, copy: Log) -> bool:
        """Whether something was in the copy that is not in the log."""
        if _is_compacted(original) and self._rewrites != original.rewrites:
            self._rewrites = original.rewrites
            await self._on_copy(bind(copy.truncate_fully_and_start_at, start_of(original)))
            return True
        cut = find_cut(original, copy)
        if cut is None:
            return False
        cutting = copy.truncate_fully_and_start_at if cut.is_whole else copy.truncate_to
        await self._on_copy(bind(cutting, cut.offset))
        return True

    async def _warm(self, cold: ColdRead) -> None:
        done = asyncio.Event()
        self._parts.cold_reads.warm((cold,), done.set)
        await done.wait()

    async def _on_copy(self, work: Callable[[], T]) -> T:
        """In a thread; what goes wrong is the fault of the directory that is moved to."""
        try:
            return await self._runtime.blocking(work)
        except GlasslogError as error:
            raise _CopyFailed(_refused(error)) from error

    # --- the last one -----------------------------------------------------------------------------------

    async def _complete(self, copy: Log) -> Copied | Moved:
        """Most of the copy is made durable off the event loop, the little that came meanwhile on it."""
        await self._on_copy(copy.flush)
        parts = self._parts
        if not self.is_possible:
            return Copied()
        is_worked_on = parts.claims.is_claimed(self.partition) and not self._holds_claim
        if is_worked_on or parts.logs.is_checkpointing:
            return Copied(pause_ms=BUSY_BACKOFF_MS)
        if not self._has_rest(copy):
            return Copied()
        copying = CompleteCopy(
            log=copy,
            folder=self.folder,
            directory=self.directory,
            high_watermark=self.partition.high_watermark,
        )
        with suppress(StorageError):
            return Moved(parts.logs.exchange(copying))
        # A directory has failed: ``is_possible`` says so.
        return Copied()

    def _has_rest(self, copy: Log) -> bool:
        """Copy what is left, if it is little; False when there is more to do first."""
        original = self.partition.log
        if find_cut(original, copy) is not None:
            return False
        left = min(LAST_STEP_BYTES << self._attempts, MAX_LAST_STEP_BYTES)
        self._attempts = min(self._attempts + 1, MAX_LAST_STEP_BYTES.bit_length())
        now_ms = self._runtime.clock.wall_ms()
        while data := next_batches(original, copy, max_bytes=STEP_BYTES, cached_only=False):
            left -= len(data)
            if left < 0:
                return False
            self._try_copy(bind(copy.append_as_follower, data, now_ms=now_ms))
        self._try_copy(bind(copy.advance_start, original.log_start_offset))
        return True

    def _try_copy(self, work: Callable[[], object]) -> None:
        try:
            work()
        except GlasslogError as error:
            raise _CopyFailed(_refused(error)) from error


def _refused(error: GlasslogError) -> Refused:
    return Refused(str(error), is_content=isinstance(error, DamagedLog | CorruptBatch))


def _is_compacted(original: Log) -> bool:
    return original.config.is_compacted or original.cleaner_offset > 0
