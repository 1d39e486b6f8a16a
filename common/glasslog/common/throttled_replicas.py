"""Which replicas of a topic are copied at a limited rate, as settings of topics say it.

The text is ``*`` for all, or ``PARTITION:BROKER,...``. Refuses to know the rate and who copies.
Source: Kafka's ``ThrottledReplicaListValidator`` (KIP-73).
"""

from collections.abc import Sequence
from functools import lru_cache

EVERY_REPLICA = "*"
_REMEMBERED = 256
"""Different lists that are kept at hand."""


def problem_with_throttled_replicas(entries: Sequence[str]) -> str | None:
    """What is wrong with the entries of such a list, if anything."""
    if tuple(entries) == (EVERY_REPLICA,):
        return None
    wrong = next((entry for entry in entries if _pair(entry) is None), None)
    return None if wrong is None else f"{wrong!r} is neither PARTITION:BROKER nor, alone, '*'"


@lru_cache(maxsize=_REMEMBERED)
def throttled_replicas(entries: tuple[str, ...]) -> frozenset[tuple[int, int]] | None:
    """Partition and broker of each; ``None``: all."""
    if entries == (EVERY_REPLICA,):
        return None
    return frozenset(pair for entry in entries if (pair := _pair(entry)) is not None)


def is_throttled(entries: tuple[str, ...], *, partition: int, broker_id: int) -> bool:
    """Whether a broker's replica of a partition is among them."""
    if not entries:
        return False
    listed = throttled_replicas(entries)
    return listed is None or (partition, broker_id) in listed


def _pair(entry: str) -> tuple[int, int] | None:
    partition, colon, broker = entry.partition(":")
    if not colon or not partition.isdecimal() or not broker.isdecimal():
        return None
    return int(partition), int(broker)
