"""Brings what is not in the page cache there, off the event loop, for the read that waits for it.

This module knows how many ranges are read at one time; it refuses to know fetches.  The bytes are not kept:
whoever waits reads again, from the page cache then, so that a log is only ever read on the event loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from glasslog.common.runtime.protocols import Runtime
from glasslog.log.segment import ColdRead


class ColdReads:
    """See the module. ``run`` does the work until cancelled, ``max_in_flight`` ranges at a time."""

    def __init__(self, runtime: Runtime, *, max_in_flight: int) -> None:
        self._runtime = runtime
        self._max_in_flight = max_in_flight
        self._due: asyncio.Queue[tuple[ColdRead, Callable[[], None]]] = asyncio.Queue()
        self.count = 0
        """Ranges that had to be brought in."""

    def warm(self, reads: Sequence[ColdRead], on_done: Callable[[], None]) -> None:
        """Call ``on_done`` when all ranges of ``reads`` are in the page cache, or can not be read."""
        left = len(reads)

        def one_is_done() -> None:
            nonlocal left
            left -= 1
            if not left:
                on_done()

        self.count += left
        for read in reads:
            # Until it was its turn, its segment may have been removed or its log closed.
            read.segment.pin()
            self._due.put_nowait((read, one_is_done))

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._max_in_flight):
                group.create_task(self._work(), name=f"cold reads {number}")

    async def _work(self) -> None:
        while True:
            read, on_done = await self._due.get()
            try:
                await self._runtime.blocking(partial(read.segment.warm, read.length, read.position))
            finally:
                read.segment.unpin()
            on_done()
