"""Growing pauses between attempts.

Pure: the source of randomness is passed in. Refuses to know what is attempted.
"""

from dataclasses import dataclass

from glasslog.common.runtime.protocols import Random

_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``base_ms`` doubles with each failed attempt up to ``maximum_ms``, a fifth more or less (KIP-580)."""

    base_ms: int
    maximum_ms: int

    def delay_ms(self, attempts: int, random: Random) -> int:
        """The pause after ``attempts`` failures in a row; at least 1."""
        grown = min(self.maximum_ms, self.base_ms << min(max(0, attempts - 1), 20))
        return max(1, round(grown * random.uniform(1 - _JITTER, 1 + _JITTER)))
