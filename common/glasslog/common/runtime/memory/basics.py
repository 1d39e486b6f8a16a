"""Virtual clock, seeded randomness and inline blocking work.

Refuses to know files and networks. The only source of chance is the seed.
"""

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from glasslog.common.runtime.memory.loop import VirtualTimeLoop

T = TypeVar("T")

_START_WALL_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z at virtual time zero."""


class MemoryClock:
    """The running virtual loop's time. ``wall_offset_ms`` may be changed to let the wall clock jump."""

    def __init__(self, *, wall_offset_ms: int = 0) -> None:
        self.wall_offset_ms = wall_offset_ms

    def now_ms(self) -> int:
        loop = asyncio.get_running_loop()
        return loop.now_ms() if isinstance(loop, VirtualTimeLoop) else int(loop.time() * 1_000)

    def monotonic_ns(self) -> int:
        return self.now_ms() * 1_000_000

    def wall_ms(self) -> int:
        return _START_WALL_MS + self.now_ms() + self.wall_offset_ms


class SeededRandom:
    """The same seed gives the same draws, in any process."""

    def __init__(self, seed: int | str) -> None:
        self._seed = str(seed)
        # Text seeds are hashed with SHA-512 there, which no hash seed of the process changes.
        self._random = random.Random(self._seed)

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random.random()

    def uuid(self) -> bytes:
        return self._random.randbytes(16)

    def fork(self, name: str) -> "SeededRandom":
        """An independent generator: draws from one never shift the other."""
        return SeededRandom(f"{self._seed}/{name}")


class MemoryBlocking:
    """Runs blocking work inline, after ``delay_ms`` (drawn up to that) of virtual time.

    The effect comes at the end of the delay, so a node killed meanwhile has not synced.
    """

    def __init__(self, random: SeededRandom | None = None, *, delay_ms: float = 0.0) -> None:
        self._random = random
        self.delay_ms = delay_ms

    async def __call__(self, function: Callable[[], T]) -> T:
        drawn_ms = (
            self._random.uniform(0.0, self.delay_ms) if self._random and self.delay_ms else self.delay_ms
        )
        await asyncio.sleep(drawn_ms / 1_000)
        return function()
