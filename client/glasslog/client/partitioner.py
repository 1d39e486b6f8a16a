"""Which partition a record goes to: murmur2 of its key as every Kafka client has it, sticky without a key.

Pure but for a seeded source of randomness that is passed in. Refuses to know leaders and batches; whoever
batches says when a new one begins.  Sources: Kafka's ``Utils.murmur2``, KIP-480.
"""

from collections.abc import Callable
from struct import iter_unpack
from typing import Protocol

from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Random

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFF_FFFF
_POSITIVE = 0x7FFF_FFFF
_CACHED_KEYS = 65_536

CustomPartitioner = Callable[[str, bytes | None, int], int]
"""A user's own: topic, serialized key, number of partitions, to a partition."""


class Partitioner(Protocol):
    """How a producer chooses partitions."""

    def choose(self, topic: str, key: bytes | None, partition_count: int) -> int:
        """The partition for a record; in ``[0, partition_count)``."""
        ...

    def on_new_batch(self, topic: str, partition: int) -> None:
        """A batch of that partition was begun."""
        ...


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit murmur2 with Kafka's seed."""
    length = len(data)
    whole = length & ~3
    value = (_SEED ^ length) & _MASK
    for (word,) in iter_unpack("<I", data[:whole]):
        mixed = word * _MULTIPLIER & _MASK
        mixed = (mixed ^ mixed >> 24) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ mixed
    if whole != length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


class DefaultPartitioner:
    """Keyed records by murmur2; the others stay on one partition per topic until a batch is full."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._hashes: dict[bytes, int] = {}
        self._sticky: dict[str, int] = {}
        self._in_batch: dict[str, bool] = {}

    def choose(self, topic: str, key: bytes | None, partition_count: int) -> int:
        if key is None:
            return self._choose_sticky(topic, partition_count)
        hashed = self._hashes.get(key)
        if hashed is None:
            if len(self._hashes) >= _CACHED_KEYS:
                self._hashes.clear()
            hashed = self._hashes[key] = murmur2(key) & _POSITIVE
        return hashed % partition_count

    def on_new_batch(self, topic: str, partition: int) -> None:
        if self._sticky.get(topic) != partition:
            return
        # The batch that begins is the second one for this choice: the record that begins it still goes here.
        if self._in_batch.get(topic):
            del self._sticky[topic]
        self._in_batch[topic] = not self._in_batch.get(topic)

    def _choose_sticky(self, topic: str, partition_count: int) -> int:
        chosen = self._sticky.get(topic, partition_count)
        if chosen >= partition_count:
            chosen = self._sticky[topic] = self._random.randrange(partition_count)
            self._in_batch[topic] = False
        return chosen


class RoundRobinPartitioner:
    """Records to all partitions in turn, whatever their keys."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def choose(self, topic: str, key: bytes | None, partition_count: int) -> int:
        chosen = self._last[topic] = (self._last.get(topic, -1) + 1) % partition_count
        return chosen

    def on_new_batch(self, topic: str, partition: int) -> None:
        return


def partitioner_of(given: CustomPartitioner | str | None, random: Random) -> Partitioner:
    """A user's own, or one by name: ``default`` and ``round_robin``. Raises ``ConfigError`` for another."""
    match given:
        case None | "default":
            return DefaultPartitioner(random)
        case "round_robin":
            return RoundRobinPartitioner()
        case str():
            raise ConfigError(f"partitioner={given!r}: a function, or one of default, round_robin")
        case _:
            return CheckedPartitioner(given)


class CheckedPartitioner:
    """A user's function, held to the range of partitions."""

    def __init__(self, function: CustomPartitioner) -> None:
        self._function = function

    def choose(self, topic: str, key: bytes | None, partition_count: int) -> int:
        chosen = self._function(topic, key, partition_count)
        if not 0 <= chosen < partition_count:
            raise GlasslogError(
                ErrorCode.INVALID_PARTITIONS,
                f"the partitioner chose partition {chosen} of {topic!r}, which has {partition_count}",
            )
        return chosen

    def on_new_batch(self, topic: str, partition: int) -> None:
        return
