"""Compacts the logs of this broker's replicas whose topics say so, the dirtiest first, one at a time.

This module knows when a log is cleaned, how fast, and in which order its files and checkpoints change; what
stays of a log is decided in ``glasslog.log.cleaner``.  The work is done off the event loop in small steps,
and only the swap of a finished segment on it.  One task does it all: in one process more would only take
turns.  Nothing that goes wrong here ends the broker.
Source: Kafka's ``LogCleaner`` and ``LogCleanerManager``.
"""

import asyncio
import logging
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.log_claims import LogClaim, LogClaims
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas
from glasslog.broker.segment_swap import put_in_place
from glasslog.broker.throttle import Throttle
from glasslog.common.errors import GlasslogError
from glasslog.log.cleaner import Cleaning, CleaningTask, Rewritten, Worked
from glasslog.log.cleaner_plan import Cleanable, find_cleanable

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class CleanerStatus:
    """What metrics tell of the cleaner: of the last run, and totals since the start."""

    last_run_ms: int = 0
    """Monotonic: when logs were looked through last."""
    max_dirty_ratio: float = 0.0
    """Of the dirtiest log then."""
    last_recopy_ratio: float = 0.0
    """Bytes written for bytes read by the last cleaning."""
    last_map_utilization: float = 0.0
    last_cleaning_ms: int = 0
    cleanings: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class LogCleaner:
    """See the module. ``run`` until cancelled."""

    def __init__(
        self, *, replicas: Replicas, logs: PartitionLogs, claims: LogClaims, removal: FileRemoval
    ) -> None:
        self._replicas = replicas
        self._runtime = replicas.runtime
        self._logs = logs
        self._claims = claims
        self._removal = removal
        self._throttle = Throttle(
            self._runtime.clock, bytes_per_second=replicas.config.log_cleaner_io_max_bytes_per_second
        )
        self.status = CleanerStatus()

    async def run(self) -> None:
        """Clean whatever is dirty enough, look again after ``log.cleaner.backoff.ms``."""
        while True:
            while await self.clean_dirtiest():
                pass
            await asyncio.sleep(self._replicas.config.log_cleaner_backoff_ms / 1000)

    # --- which ---

    async def clean_dirtiest(self) -> bool:
        """Clean the log that needs it most; False when none needs it."""
        self.status.last_run_ms = self._runtime.clock.now_ms()
        self.status.max_dirty_ratio = 0.0
        chosen: tuple[Partition, Cleanable] | None = None
        for partition in self._replicas:
            if not self._claims.is_free(partition) or not partition.log.config.is_compacted:
                continue
            with self._claims.claim(partition) as claim:
                found = self._look_at(claim)
                if found is not None and (chosen is None or found.dirty_ratio > chosen[1].dirty_ratio):
                    chosen = partition, found
        if chosen is None or not self._claims.is_free(chosen[0]):
            return False
        with self._claims.claim(chosen[0]) as claim:
            await self._clean(claim, chosen[1])
        return True

    def _look_at(self, claim: LogClaim) -> Cleanable | None:
        log = claim.log
        now_ms = self._runtime.clock.wall_ms()
        found = find_cleanable(log, high_watermark=claim.partition.high_watermark, now_ms=now_ms)
        self.status.max_dirty_ratio = max(self.status.max_dirty_ratio, found.dirty_ratio)
        return found if found.is_due(log.config) else None

    # --- how ---

    async def _clean(self, claim: LogClaim, cleanable: Cleanable) -> None:
        log, clock = claim.log, self._runtime.clock
        # What supersedes a record must not be lost after that record was dropped, and where leader epochs
        # begin is not to be learned from what is left.
        await self._logs.settle(claim.partition.name, up_to=cleanable.end_offset)
        claim.check()
        started_ms = clock.now_ms()
        task = CleaningTask(
            files=self._runtime.files,
            directory=log.directory,
            config=log.config,
            cleanable=cleanable,
            aborted=log.aborted_transactions(0, upper_offset=cleanable.end_offset),
            producers=dict(log.producers.entries),
            now_ms=clock.wall_ms(),
        )
        cleaning = Cleaning(
            task,
            map_bytes=self._replicas.config.log_cleaner_dedupe_buffer_size,
            buffer_bytes=self._replicas.config.log_cleaner_io_buffer_size,
        )
        await self._drive(claim, cleaning.run())
        log.cleaner_offset = cleaning.cleaned_to
        self._note(claim, cleaning, clock.now_ms() - started_ms)
        await self._logs.checkpoint_cleaner_offsets(claim.partition.name)

    async def _drive(self, claim: LogClaim, steps: Generator[Worked | Rewritten, None, None]) -> None:
        take = bind(next, steps, None)
        try:
            while (step := await self._runtime.blocking(take)) is not None:
                if isinstance(step, Rewritten):
                    replaced = [source.base_offset for source in step.sources]
                    await put_in_place(self._runtime, self._removal, claim, step.segment, replaced=replaced)
                else:
                    claim.check()
                    config = self._replicas.config
                    self._throttle.bytes_per_second = config.log_cleaner_io_max_bytes_per_second
                    await asyncio.sleep(self._throttle.delay_ms(step.size_bytes) / 1000)
                    claim.check()
        finally:
            # A step that still runs in a thread can not be closed; what it leaves, the next start removes.
            with suppress(ValueError, GlasslogError):
                steps.close()

    def _note(self, claim: LogClaim, cleaning: Cleaning, took_ms: int) -> None:
        totals, status = cleaning.totals, self.status
        status.cleanings += 1
        status.bytes_read += totals.bytes_read
        status.bytes_written += totals.bytes_written
        status.last_cleaning_ms = took_ms
        status.last_map_utilization = totals.map_utilization
        status.last_recopy_ratio = totals.bytes_written / max(totals.bytes_read, 1)
        _LOGGER.info(
            "%s: compacted up to %d in %d ms, %d bytes became %d",
            claim.partition.name,
            cleaning.cleaned_to,
            took_ms,
            totals.bytes_read,
            totals.bytes_written,
        )
