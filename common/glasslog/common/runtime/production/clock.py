"""The machine's clocks and randomness, and threads for blocking work.

Refuses to know who asks and why.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_NANOSECONDS_PER_MS = 1_000_000
_DEFAULT_THREADS = 4


class SystemClock:
    """See ``protocols.Clock``."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // _NANOSECONDS_PER_MS

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        return time.time_ns() // _NANOSECONDS_PER_MS


class SystemRandom:
    """See ``protocols.Random``: fast draws seeded by the OS; ids straight from the OS. Not for secrets."""

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(32))

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def uuid(self) -> bytes:
        return os.urandom(16)


class ThreadBlocking:
    """See ``protocols.Blocking``: at most ``threads`` pieces of work at once, the rest waits its turn.

    A caller that is cancelled does not stop work that has begun.
    """

    def __init__(self, *, threads: int = _DEFAULT_THREADS) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="glasslog-blocking")

    async def __call__(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Wait for the work that has begun; what has not begun is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
