"""A rate of whatever is used, over time. Refuses to know what it is.

Source of the burst: Kafka's client quotas are rates over a window, in the whole of which as much may be used
as the rate allows, be it at once.
"""

from math import ceil

_ROUNDING_MS = 1e-6
"""What is left of a debt by adding up fractions: nobody waits another millisecond for that."""


class RateQuota:
    """What was more than the rate allows is a debt that time pays off. Times in ms on a monotonic clock.

    For ``burst_ms`` of doing nothing there is credit. The rate comes with each call, so that another one
    counts from then on, for old debts too.
    """

    __slots__ = ("_at_ms", "_burst_ms", "_debt")

    def __init__(self, *, burst_ms: int = 0) -> None:
        self._burst_ms = burst_ms
        self._debt = 0.0
        self._at_ms: int | None = None

    def record(self, amount: float, *, per_second: float, now_ms: int) -> None:
        """So much was just used; less than nothing takes back what was recorded."""
        self._pay(per_second, now_ms)
        self._debt += amount

    def delay_ms(self, *, per_second: float, now_ms: int) -> int:
        """How long to wait before more is used; 0: not at all."""
        self._pay(per_second, now_ms)
        return max(0, ceil(self._debt * 1_000 / per_second - _ROUNDING_MS))

    def is_rested(self, *, per_second: float, now_ms: int) -> bool:
        """Whether there can not be more credit: nothing was used for as long as counts."""
        self._pay(per_second, now_ms)
        return self._debt <= -self._credit(per_second)

    def _credit(self, per_second: float) -> float:
        return per_second * self._burst_ms / 1_000

    def _pay(self, per_second: float, now_ms: int) -> None:
        credit = self._credit(per_second)
        if self._at_ms is None:
            self._debt, self._at_ms = -credit, now_ms
        passed_ms = max(0, now_ms - self._at_ms)
        self._debt = max(-credit, self._debt - passed_ms * per_second / 1_000)
        self._at_ms = max(self._at_ms, now_ms)
