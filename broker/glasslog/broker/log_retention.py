"""Keeps the logs of this broker's replicas within their retention, in the background.

This module knows when to look, in which order things become durable and when files may go; which segments
have expired is decided in ``glasslog.log.retention``.
Source: Kafka's ``LogManager`` (retention, ``LogDeleter``) and ``UnifiedLog``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.log_claims import LogClaim, LogClaims
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas
from glasslog.log.log import Log
from glasslog.log.retention import (
    FRESH,
    Expired,
    SegmentFacts,
    find_expired,
    horizon_ms,
    largest_timestamp_of,
)

_LOGGER = logging.getLogger(__name__)

INITIAL_DELAY_MS = 30_000
"""Before the first look after a start, which has more urgent things to do."""


class LogRetention:
    """Deletes what retention lets go. ``run`` until cancelled."""

    def __init__(
        self, *, replicas: Replicas, logs: PartitionLogs, claims: LogClaims, removal: FileRemoval
    ) -> None:
        self._replicas = replicas
        self._runtime = replicas.runtime
        self._logs = logs
        self._claims = claims
        self._removal = removal

    async def run(self) -> None:
        config = self._replicas.config
        async with asyncio.TaskGroup() as group:
            check_ms = config.log_retention_check_interval_ms
            group.create_task(_every(check_ms, self.delete_old_segments), name="retention")
            checkpoint_ms = config.log_flush_start_offset_checkpoint_interval_ms
            group.create_task(_every(checkpoint_ms, self._checkpoint_log_starts), name="log start offsets")

    async def _checkpoint_log_starts(self) -> None:
        await self._logs.checkpoint_log_starts()

    async def delete_old_segments(self) -> None:
        """Look at every replica here once; one that is being compacted comes another time."""
        for partition in self._replicas:
            if self._claims.is_free(partition):
                with self._claims.claim(partition) as claim:
                    await self._delete_old_segments(claim)

    async def _delete_old_segments(self, claim: LogClaim) -> None:
        log = claim.log
        expired = self._find_expired(claim)
        if not expired.segments:
            return
        if expired.segments == len(log.segments):
            log.roll()
        start = log.segments[expired.segments].base_offset
        log.advance_start(start)
        self._replicas.on_leader_start(claim.partition)
        # Durable before a file goes: after a crash nobody takes the gap for lost data.
        if await self._logs.checkpoint_log_starts(claim.partition.name):
            claim.check()
            await self._retire(claim, start, expired.reason)

    def _find_expired(self, claim: LogClaim) -> Expired:
        log, now_ms = claim.log, self._runtime.clock.wall_ms()
        return find_expired(
            list(_facts(log, horizon_ms(log.config, now_ms))),
            config=log.config,
            log_start_offset=log.log_start_offset,
            high_watermark=claim.partition.high_watermark,
            now_ms=now_ms,
        )

    async def _retire(self, claim: LogClaim, start: int, reason: str) -> None:
        log, counters = claim.log, self._replicas.counters
        retired = log.retire_segments_below(start)
        counters.segments_deleted += len(retired)
        counters.segment_bytes_deleted += sum(segment.size_bytes for segment in retired)
        _LOGGER.info(
            "%s: begins at %d now, %d segments are deleted because %s",
            claim.partition.name,
            log.log_start_offset,
            len(retired),
            reason,
        )
        for segment in retired:
            self._removal.after(log.config.file_delete_delay_ms, segment)
        await self._runtime.blocking(log.sync_folder)


def _facts(log: Log, horizon: int) -> Iterator[SegmentFacts]:
    """Nobody looks into segments after the first one that has not expired by time."""
    is_fresh = not horizon
    for segment in log.segments:
        timestamp = FRESH if is_fresh else largest_timestamp_of(segment)
        is_fresh = timestamp >= horizon
        yield SegmentFacts(segment.next_offset, segment.size_bytes, timestamp)


async def _every(interval_ms: int, work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(min(interval_ms, INITIAL_DELAY_MS) / 1000)
    while True:
        await work()
        await asyncio.sleep(interval_ms / 1000)
