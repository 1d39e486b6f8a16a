"""Keeps the logs of this broker's replicas within their retention, in the background.

This module knows when to look, in which order things become durable and when files may go; which segments
have expired is decided in ``glasslog.log.retention``.  Nothing that goes wrong here ends the broker: the
partition is left alone from then on, which the log says and a metric counts.
Source: Kafka's ``LogManager`` (retention, ``LogDeleter``) and ``UnifiedLog``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.log.log import Log
from glasslog.log.retention import (
    FRESH,
    Expired,
    SegmentFacts,
    find_expired,
    horizon_ms,
    largest_timestamp_of,
)
from glasslog.log.segment import Segment

_LOGGER = logging.getLogger(__name__)

INITIAL_DELAY_MS = 30_000
"""Before the first look after a start, which has more urgent things to do."""


class LogMaintenance:
    """Deletes what retention lets go. ``run`` until cancelled."""

    def __init__(self, *, replicas: Replicas, logs: PartitionLogs) -> None:
        self._replicas = replicas
        self._runtime = replicas.runtime
        self._logs = logs
        self._removal = FileRemoval(self._runtime)
        self._given_up: dict[TopicPartition, TopicId] = {}

    async def run(self) -> None:
        config = self._replicas.config
        async with asyncio.TaskGroup() as group:
            group.create_task(self._removal.run(), name="removal of deleted segments")
            check_ms = config.log_retention_check_interval_ms
            group.create_task(_every(check_ms, self.delete_old_segments), name="retention")
            checkpoint_ms = config.log_flush_start_offset_checkpoint_interval_ms
            group.create_task(_every(checkpoint_ms, self._checkpoint_log_starts), name="log start offsets")

    def count_unmaintained(self) -> int:
        """Replicas here that were given up after an error."""
        return sum(self._is_given_up(partition) for partition in self._replicas)

    async def _checkpoint_log_starts(self) -> None:
        await self._logs.checkpoint_log_starts()

    # --- retention ---

    async def delete_old_segments(self) -> None:
        """Look at every replica here once."""
        for partition in self._replicas:
            if not partition.is_online or self._is_given_up(partition):
                continue
            log = partition.log
            truncations = log.truncations
            try:
                await self._delete_old_segments(partition, log)
            except (GlasslogError, OSError) as error:
                if log.truncations == truncations and self._still_has(partition, log):
                    self._give_up(partition, error)

    def _is_given_up(self, partition: Partition) -> bool:
        return self._given_up.get(partition.name) == partition.topic_id

    def _give_up(self, partition: Partition, error: Exception) -> None:
        _LOGGER.error("%s: its old segments stay from now on: %s", partition.name, error)
        self._given_up[partition.name] = partition.topic_id

    async def _delete_old_segments(self, partition: Partition, log: Log) -> None:
        timestamps = self._learn_timestamps(log)
        expired = self._find_expired(partition, log, timestamps)
        if not expired.segments:
            return
        if expired.segments == len(log.segments):
            log.roll()
        start = log.segments[expired.segments].base_offset
        log.advance_start(start)
        # Durable before a file goes: after a crash nobody takes the gap for lost data.
        if await self._logs.checkpoint_log_starts(partition.name) and self._still_has(partition, log):
            await self._retire(partition, log, start, expired.reason)

    def _find_expired(self, partition: Partition, log: Log, timestamps: Mapping[int, int]) -> Expired:
        facts = [
            SegmentFacts(each.next_offset, each.size_bytes, timestamps.get(each.next_offset, FRESH))
            for each in log.segments
        ]
        return find_expired(
            facts,
            config=log.config,
            log_start_offset=log.log_start_offset,
            high_watermark=partition.high_watermark,
            now_ms=self._runtime.clock.wall_ms(),
        )

    def _still_has(self, partition: Partition, log: Log) -> bool:
        return partition.is_online and partition.log is log

    def _learn_timestamps(self, log: Log) -> dict[int, int]:
        """The largest timestamp of each segment that may have expired, by the offset where it ends.

        The first one that has not expired ends the search.
        """
        found: dict[int, int] = {}
        horizon = horizon_ms(log.config, self._runtime.clock.wall_ms())
        for segment in log.segments if horizon else ():
            largest = found[segment.next_offset] = largest_timestamp_of(segment)
            if largest >= horizon:
                break
        return found

    async def _retire(self, partition: Partition, log: Log, start: int, reason: str) -> None:
        retired = log.retire_segments_below(start)
        counters = self._replicas.counters
        counters.segments_deleted += len(retired)
        counters.segment_bytes_deleted += sum(segment.size_bytes for segment in retired)
        _LOGGER.info(
            "%s: begins at %d now, %d segments are deleted because %s",
            partition.name,
            log.log_start_offset,
            len(retired),
            reason,
        )
        await self._runtime.blocking(log.sync_folder)
        self._remove_later(retired, log.config.file_delete_delay_ms)

    def _remove_later(self, retired: Sequence[Segment], delay_ms: int) -> None:
        for segment in retired:
            self._removal.after(delay_ms, segment)


async def _every(interval_ms: int, work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(min(interval_ms, INITIAL_DELAY_MS) / 1000)
    while True:
        await work()
        await asyncio.sleep(interval_ms / 1000)
