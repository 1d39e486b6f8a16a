"""A rate of bytes over time. Refuses to know what the bytes are."""

from math import ceil


class ByteQuota:
    """What was more than the rate allows is a debt that time pays off. Times in ms on a monotonic clock.

    The rate comes with each call, so that another one counts from then on, for old debts too.
    """

    def __init__(self) -> None:
        self._debt_bytes = 0.0
        self._at_ms = 0

    def record(self, size_bytes: int, *, bytes_per_second: int, now_ms: int) -> None:
        """So much was just used."""
        self._pay(bytes_per_second, now_ms)
        self._debt_bytes += size_bytes

    def delay_ms(self, *, bytes_per_second: int, now_ms: int) -> int:
        """How long to wait before more is used; 0: not at all."""
        self._pay(bytes_per_second, now_ms)
        return ceil(self._debt_bytes * 1_000 / bytes_per_second)

    def _pay(self, bytes_per_second: int, now_ms: int) -> None:
        passed_ms = max(0, now_ms - self._at_ms)
        self._debt_bytes = max(0.0, self._debt_bytes - passed_ms * bytes_per_second / 1_000)
        self._at_ms = max(self._at_ms, now_ms)
