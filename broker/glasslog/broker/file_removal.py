"""Removes the files of segments that left their log, a while later: somebody may still read in them.

This module knows deadlines; it refuses to know why a segment went.  What a stopped broker leaves behind is
removed when the log is opened again.  Source: Kafka's ``file.delete.delay.ms``.
"""

import asyncio
import heapq
import logging
from contextlib import suppress

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.segment import Segment

_LOGGER = logging.getLogger(__name__)


class FileRemoval:
    """Segments and when their files go. ``run`` until cancelled."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._due: list[tuple[int, int, Segment]] = []
        self._serial = 0
        self._wake = asyncio.Event()

    def after(self, delay_ms: int, segment: Segment) -> None:
        """Remove the files of ``segment``, which its log has given up, in ``delay_ms``."""
        self._serial += 1
        heapq.heappush(self._due, (self._runtime.clock.now_ms() + delay_ms, self._serial, segment))
        self._wake.set()

    async def run(self) -> None:
        while True:
            while self._due and self._due[0][0] <= self._runtime.clock.now_ms():
                await self._remove(heapq.heappop(self._due)[2])
            self._wake.clear()
            delay_ms = self._due[0][0] - self._runtime.clock.now_ms() if self._due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(None if delay_ms is None else max(delay_ms, 1) / 1000):
                    await self._wake.wait()

    async def _remove(self, segment: Segment) -> None:
        segment.abandon()
        try:
            await self._runtime.blocking(segment.remove_files)
        except StorageError as error:
            _LOGGER.warning("the files of a deleted segment stay until the next start: %s", error)
