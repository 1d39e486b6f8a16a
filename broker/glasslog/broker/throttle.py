"""How long background work on files has to pause, not to take the disk from those who wait.

Refuses to know whose work it is.
"""

from glasslog.common.runtime.protocols import Clock


class Throttle:
    """Spreads bytes over time, ``bytes_per_second`` at most, which may change meanwhile."""

    def __init__(self, clock: Clock, *, bytes_per_second: float) -> None:
        self._clock = clock
        self.bytes_per_second = bytes_per_second
        self._free_at_ms = 0.0

    def delay_ms(self, size_bytes: int) -> float:
        """How long to wait after ``size_bytes`` were read or written."""
        now_ms = self._clock.now_ms()
        self._free_at_ms = max(self._free_at_ms, now_ms) + size_bytes * 1000 / self.bytes_per_second
        return self._free_at_ms - now_ms
