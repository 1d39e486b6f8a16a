"""Reads the closed segments of this broker's replicas from time to time, to find rot before a reader does.

This module knows how often and how fast; it refuses to know what is done about damage.  It reads off the
event loop, one segment after the other.  Own to glasslog: Kafka has nothing like it.
"""

import asyncio
import logging
from functools import partial as bind

from glasslog.broker.partition.partition import Partition
from glasslog.broker.replicas import Replicas
from glasslog.broker.throttle import Throttle
from glasslog.common.errors import GlasslogError
from glasslog.log.cleaner_plan import SourceSegment
from glasslog.log.damage import DamagedLog
from glasslog.log.epoch_cache import UNDEFINED_EPOCH
from glasslog.log.scrubbing import scrub_segment

_LOGGER = logging.getLogger(__name__)


class LogScrub:
    """See the module. ``run`` until cancelled."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._runtime = replicas.runtime
        self._interval_ms = replicas.config.log_scrub_interval_ms
        self._throttle = Throttle(
            self._runtime.clock, bytes_per_second=replicas.config.log_scrub_io_max_bytes_per_second
        )

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_ms / 1000)
            await self.scrub()

    async def scrub(self) -> None:
        """Read every closed segment of every replica here once."""
        for partition in self._replicas:
            for base_offset in partition.log.segment_base_offsets[:-1] if partition.is_online else ():
                await self._scrub(partition, base_offset)

    async def _scrub(self, partition: Partition, base_offset: int) -> None:
        source = _source(partition, base_offset)
        if source is None:
            return
        log = partition.log
        steps = scrub_segment(
            self._runtime.files,
            source,
            lambda offset: log.epochs.epoch_at(offset) if offset >= log.log_start_offset else UNDEFINED_EPOCH,
        )
        try:
            while (size_bytes := await self._runtime.blocking(bind(next, steps, None))) is not None:
                self._replicas.counters.bytes_scrubbed += size_bytes
                await asyncio.sleep(self._throttle.delay_ms(size_bytes) / 1000)
        except GlasslogError as error:
            if _source(partition, base_offset) != source:
                # Retention, compaction or a truncation changed it meanwhile.
                return
            if isinstance(error, DamagedLog):
                self._replicas.on_damage(partition, error)
            else:
                _LOGGER.error("%s can not be scrubbed: %s", partition.name, error)


def _source(partition: Partition, base_offset: int) -> SourceSegment | None:
    """The closed segment that begins there, as it is now."""
    if not partition.is_online:
        return None
    for segment in partition.log.segments[:-1]:
        if segment.base_offset == base_offset:
            return SourceSegment(segment.base_offset, segment.next_offset, segment.size_bytes, segment.path)
    return None
