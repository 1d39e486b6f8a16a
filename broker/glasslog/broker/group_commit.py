"""Syncs logs for those who wait: one sync for all appends that came while the last one ran, off the loop.

This module knows who waits for which offset; it refuses to know why.  Each log is synced by itself, logs of
several partitions at the same time.  Source: Kafka's ``flush.messages``, which syncs within each append.
"""

import asyncio

from glasslog.broker.partition.partition import Partition
from glasslog.broker.replicas import OnSynced, Replicas
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.log.log import Log


class GroupCommit:
    """See the module. ``run`` does the work until cancelled."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._waiting: dict[Partition, list[OnSynced]] = {}
        self._due: asyncio.Queue[Partition] = asyncio.Queue()

    def sync_soon(self, partition: Partition, on_synced: OnSynced) -> None:
        """Call ``on_synced`` when everything that ``partition`` holds by now is durable, or can not be."""
        waiting = self._waiting.get(partition)
        if waiting is None:
            self._waiting[partition] = [on_synced]
            self._due.put_nowait(partition)
        else:
            waiting.append(on_synced)

    async def run(self) -> None:
        """Sync until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                partition = await self._due.get()
                group.create_task(self._sync_until_none_waits(partition), name=f"sync of {partition.name}")

    async def _sync_until_none_waits(self, partition: Partition) -> None:
        """One task a log: whoever comes while it syncs waits for its next round."""
        while served := self._waiting[partition]:
            self._waiting[partition] = []
            error = await self._sync(partition)
            self._advance(partition)
            for on_synced in served:
                on_synced(error)
        del self._waiting[partition]

    def _advance(self, partition: Partition) -> None:
        """A leader's high watermark may have waited for this."""
        replicas = self._replicas
        is_online = partition.is_online
        if is_online and partition.advance_high_watermark(now_ms=replicas.runtime.clock.now_ms()):
            replicas.on_high_watermark(partition)

    async def _sync(self, partition: Partition) -> ErrorCode:
        try:
            log = partition.log
            await self._flush(log)
        except GlasslogError as error:
            if partition.is_online and partition.log is not log:
                # It was moved to another data directory meanwhile, where all that it held was synced.
                return ErrorCode.NONE
            self._replicas.on_error(partition, error)
            return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NONE

    async def _flush(self, log: Log) -> None:
        pending = log.begin_flush()
        if pending is None:
            return
        try:
            await self._replicas.runtime.blocking(pending.sync)
        except StorageError as error:
            log.fail_flush(pending, error)
            raise
        log.complete_flush(pending)
