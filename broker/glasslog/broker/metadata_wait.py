"""Waiting until a broker's own metadata shows what the controller has decided for its client.

Refuses to know what that is: an offset of the metadata log stands for it.
"""

import asyncio

from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.runtime.protocols import Clock

DEFAULT_TIMEOUT_MS = 30_000


class Deadline:
    """``timeout_ms`` from now on, or a default where that is 0 or less."""

    def __init__(self, clock: Clock, timeout_ms: int) -> None:
        self._clock = clock
        self._at_ms = clock.now_ms() + (timeout_ms if timeout_ms > 0 else DEFAULT_TIMEOUT_MS)

    @property
    def left_ms(self) -> int:
        """At least 1."""
        return max(1, self._at_ms - self._clock.now_ms())


async def await_offset(metadata: MetadataView, offset: int, deadline: Deadline) -> None:
    """What was decided is decided: that this broker is slow to see it is no failure of the request."""
    try:
        async with asyncio.timeout(deadline.left_ms / 1000):
            await metadata.wait_for(lambda image: image.offset >= offset)
    except TimeoutError:
        return
