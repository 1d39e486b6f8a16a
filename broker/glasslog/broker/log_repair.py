"""Mends this broker's logs where bits have rotted, from the replicas on other brokers.

This module knows which replicas are damaged, whom to ask, and what readers are told meanwhile; what a mended
segment is made of is decided in ``glasslog.log.mending``.  The damaged segment stays as it is until the new
one is whole and durable.  A replica that nobody can mend now is tried again and again: others may come back.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.log_claims import LogClaim, LogClaims
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replica_reader import ReplicaReader
from glasslog.broker.replicas import Replicas
from glasslog.broker.segment_swap import put_in_place
from glasslog.broker.throttle import Throttle
from glasslog.common.errors import ErrorCode, GlasslogError, require
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.log.cleaner_plan import SourceSegment
from glasslog.log.damage import DamagedLog
from glasslog.log.mending import Copied, Mending, MendingTask, Needed, ReplicasDiffer
from glasslog.log.producer_state import ProducerStates
from glasslog.log.segment import Segment

_LOGGER = logging.getLogger(__name__)

FIRST_BACKOFF_MS, MAX_BACKOFF_MS = 200, 30_000
"""Between attempts to mend a replica."""

HOPELESS_AFTER = 3
"""Attempts after which readers are told that what they ask for is damaged, rather than to try again."""

_CLAIM_BACKOFF_MS = 50
"""Before asking again whether somebody still compacts the log."""


class NoSoundReplica(GlasslogError):  # noqa: N818 - the state of things
    """Nobody that was asked could give what is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)


@dataclass(slots=True)
class _Mark:
    damage: DamagedLog
    due_ms: int
    failures: int = 0
    is_hopeless: bool = False


class LogRepair:
    """See the module. ``run`` until cancelled."""

    def __init__(
        self, *, replicas: Replicas, logs: PartitionLogs, claims: LogClaims, removal: FileRemoval
    ) -> None:
        self._replicas = replicas
        self._logs = logs
        self._runtime = replicas.runtime
        self._claims = claims
        self._removal = removal
        self._reader = ReplicaReader(replicas)
        self._throttle = Throttle(
            self._runtime.clock, bytes_per_second=replicas.config.log_repair_io_max_bytes_per_second
        )
        self._marks: dict[Partition, _Mark] = {}
        self._wake = asyncio.Event()

    def damaged(self) -> list[tuple[Partition, DamagedLog]]:
        """The replicas here that are known to hold something else than was written, and where."""
        return [(partition, mark.damage) for partition, mark in self._marks.items()]

    def report(self, partition: Partition, damage: DamagedLog) -> ErrorCode:
        """Somebody has met ``damage``. What readers are to be told: to try again, or that it is lost."""
        mark = self._marks.get(partition)
        if mark is None:
            self._replicas.counters.damages_found += 1
            _LOGGER.error("%s is damaged here, other replicas are asked: %s", partition.name, damage)
            mark = self._marks[partition] = _Mark(damage, self._runtime.clock.now_ms())
            self._wake.set()
        return ErrorCode.CORRUPT_MESSAGE if mark.is_hopeless else ErrorCode.KAFKA_STORAGE_ERROR

    async def run(self) -> None:
        while True:
            self._wake.clear()
            now_ms = self._runtime.clock.now_ms()
            for partition in [each for each, mark in self._marks.items() if mark.due_ms <= now_ms]:
                await self._attend(partition)
            await self._sleep()

    async def _sleep(self) -> None:
        due_ms = min((mark.due_ms for mark in self._marks.values()), default=None)
        delay_ms = None if due_ms is None else max(due_ms - self._runtime.clock.now_ms(), 1)
        try:
            async with asyncio.timeout(None if delay_ms is None else delay_ms / 1000):
                await self._wake.wait()
        except TimeoutError:
            return

    # --- one replica ------------------------------------------------------------------------------------

    async def _attend(self, partition: Partition) -> None:
        """Mend it, or say when to try again."""
        mark = self._marks[partition]
        if not partition.is_online or self._replicas.find(partition.name) is not partition:
            del self._marks[partition]
            return
        if self._claims.is_claimed(partition):
            mark.due_ms = self._runtime.clock.now_ms() + _CLAIM_BACKOFF_MS
            return
        mended = False
        self._claims.forgive(partition)
        with self._claims.claim(partition) as claim:
            try:
                await self._mend(claim, mark.damage)
                mended = True
            except (GlasslogError, ReplicasDiffer) as error:
                if claim.is_valid:
                    self._failed(partition, mark, error)
        if mended:
            del self._marks[partition]
            self._replicas.counters.damages_mended += 1
        else:
            backoff_ms = min(FIRST_BACKOFF_MS << min(mark.failures, 10), MAX_BACKOFF_MS)
            mark.due_ms = self._runtime.clock.now_ms() + backoff_ms

    def _failed(self, partition: Partition, mark: _Mark, error: Exception) -> None:
        mark.failures += 1
        mark.is_hopeless = mark.failures >= HOPELESS_AFTER or not self._sources(partition)
        level = logging.ERROR if mark.failures == 1 else logging.INFO
        _LOGGER.log(level, "%s stays damaged for now: %s; %s", partition.name, mark.damage, error)

    async def _mend(self, claim: LogClaim, damage: DamagedLog) -> None:
        log = claim.log
        if all(segment.base_offset != damage.base_offset for segment in log.segments):
            # Retention or compaction took it away.
            return
        if log.segments[-1].base_offset == damage.base_offset:
            log.roll()
        if log.config.is_compacted or log.cleaner_offset:
            await self._copy_log(claim, damage)
            return
        segment = next(each for each in log.segments if each.base_offset == damage.base_offset)
        try:
            await self._mend_segment(claim, segment)
        except ReplicasDiffer as reason:
            _LOGGER.info("%s: %s: all of the log is copied", claim.partition.name, reason)
            await self._copy_log(claim, damage)

    async def _mend_segment(self, claim: LogClaim, segment: Segment) -> None:
        """Its own sound batches stay, each of the others may come from another replica."""
        mending = Mending(self._task(claim, segment))
        made = await self._drive(claim, mending, segment.next_offset, self._sources(claim.partition))
        await self._put_in_place(claim, segment, made)
        _LOGGER.warning(
            "%s is mended: %d batches of %s are a replica's",
            claim.partition.name,
            mending.batches_taken,
            segment.path,
        )

    async def _copy_log(self, claim: LogClaim, damage: DamagedLog) -> None:
        """All closed segments from one replica; the damaged one is replaced last: a crash begins it anew."""
        await self._logs.settle(claim.partition.name, up_to=claim.log.segments[-1].base_offset)
        claim.check()
        problems = list[str]()
        for source in self._sources(claim.partition):
            try:
                made = await self._copy_segments(claim, source)
            except NoSoundReplica as error:
                problems.append(str(error))
                continue
            made.sort(key=lambda each: each[0].base_offset == damage.base_offset)
            while made:
                try:
                    await self._put_in_place(claim, *made.pop(0))
                except BaseException:
                    await self._discard(made)
                    raise
            _LOGGER.warning("%s is mended: copied from broker %d", claim.partition.name, source)
            return
        raise NoSoundReplica("; ".join(problems) or "there is no other replica in sync")

    async def _copy_segments(self, claim: LogClaim, source: NodeId) -> list[tuple[Segment, Segment]]:
        producers, made = ProducerStates(), list[tuple[Segment, Segment]]()
        try:
            for segment in claim.log.segments[:-1]:
                mending = Mending(self._task(claim, segment, producers=producers))
                copied = await self._drive(claim, mending, segment.next_offset, [source])
                made.append((segment, copied))
        except BaseException:
            await self._discard(made)
            raise
        return made

    async def _discard(self, made: Sequence[tuple[Segment, Segment]]) -> None:
        for _, segment in made:
            await self._runtime.blocking(segment.remove_files)

    async def _put_in_place(self, claim: LogClaim, segment: Segment, made: Segment) -> None:
        await put_in_place(self._runtime, self._removal, claim, made, replaced=[segment.base_offset])

    def _task(
        self, claim: LogClaim, segment: Segment, *, producers: ProducerStates | None = None
    ) -> MendingTask:
        log = claim.log
        source = SourceSegment(segment.base_offset, segment.next_offset, segment.size_bytes, segment.path)
        return MendingTask(
            files=self._runtime.files,
            directory=log.directory,
            config=log.config,
            source=source,
            log_start_offset=log.log_start_offset,
            high_watermark=claim.partition.high_watermark,
            epoch_at=log.epochs.epoch_at,
            aborted=() if producers is not None else log.aborted_in(segment),
            producers=producers,
        )

    # --- the others -------------------------------------------------------------------------------------

    def _sources(self, partition: Partition) -> list[NodeId]:
        """The leader first, then who is in sync."""
        role = partition.role
        placed = self._replicas.image.partition(partition.name.topic, partition.name.partition)
        in_sync = role.isr if isinstance(role, LeaderState) else () if placed is None else placed.isr
        nodes = dict.fromkeys((partition.leader_id, *in_sync))
        return [node for node in nodes if node not in (NO_NODE, self._replicas.node_id)]

    async def _drive(self, claim: LogClaim, mending: Mending, end: int, sources: Sequence[NodeId]) -> Segment:
        steps = mending.run()
        take = bind(next, steps)
        try:
            while not isinstance(step := await self._runtime.blocking(bind(_result_of, take)), Segment):
                claim.check()
                data = b""
                if isinstance(step, Needed):
                    data = await self._ask(claim.partition, step.offset, end, sources)
                else:
                    await asyncio.sleep(self._throttle.delay_ms(step.size_bytes) / 1000)
                claim.check()
                take = bind(steps.send, data)
            return step
        finally:
            # A step that still runs in a thread can not be closed; what it leaves, the next start removes.
            with suppress(ValueError, GlasslogError):
                steps.close()

    async def _ask(self, partition: Partition, offset: int, end: int, sources: Sequence[NodeId]) -> bytes:
        problems = list[str]()
        for node in sources:
            try:
                found = await self._reader.read(node, partition, offset)
            except GlasslogError as error:
                problems.append(f"broker {node}: {error}")
                continue
            if found.records or found.high_watermark >= end:
                return found.records
            problems.append(f"broker {node} has committed up to {found.high_watermark} only")
        text = "; ".join(problems) or "there is no other replica in sync"
        raise NoSoundReplica(f"nobody gives offset {offset}: {text}")


def _result_of(take: Callable[[], Needed | Copied]) -> Needed | Copied | Segment:
    """The next step, or the segment when that was the last one."""
    try:
        return take()
    except StopIteration as finished:
        return _segment(finished.value)


def _segment(made: object) -> Segment:
    require(isinstance(made, Segment), f"a mending returned {made!r}")
    assert isinstance(made, Segment)
    return made
