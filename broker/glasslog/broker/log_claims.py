"""Who works on which log in the background, and which logs nobody does any more.

Retention and the cleaner take segments of the same log away, so that only one of them may at a time.  This
module refuses to know what they do.  Source: the states of Kafka's ``LogCleanerManager``.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glasslog.broker.partition.partition import Partition
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.log.damage import DamagedLog
from glasslog.log.log import Log

_LOGGER = logging.getLogger(__name__)


class LogAborted(Exception):  # noqa: N818 - not an error: the work is begun anew another time
    """The log was truncated, deleted or lost its disk while somebody worked on it."""


class LogClaim:
    """Somebody's right to work on ``log`` for now."""

    def __init__(self, partition: Partition, log: Log) -> None:
        self._truncations = log.truncations
        self.partition = partition
        self.log = log

    @property
    def is_valid(self) -> bool:
        """Whether the log is still the partition's, and was not truncated."""
        partition = self.partition
        if not partition.is_online or partition.log is not self.log:
            return False
        return self.log.truncations == self._truncations

    def check(self) -> None:
        """After every wait; raises ``LogAborted``."""
        if not self.is_valid:
            raise LogAborted(f"{self.partition.name}: its log was changed meanwhile")


class LogClaims:
    """Claims of one broker's logs. A log that could not be worked on is given up until the next start."""

    def __init__(self, on_damage: Callable[[Partition, DamagedLog], object]) -> None:
        self._on_damage = on_damage
        self._claimed: set[TopicPartition] = set()
        self._given_up: dict[TopicPartition, TopicId] = {}

    def is_given_up(self, partition: Partition) -> bool:
        return self._given_up.get(partition.name) == partition.topic_id

    def forgive(self, partition: Partition) -> None:
        """What was wrong with its log was mended."""
        self._given_up.pop(partition.name, None)

    def is_free(self, partition: Partition) -> bool:
        """Whether ``claim`` would succeed."""
        claimed = partition.name in self._claimed
        return partition.is_online and not claimed and not self.is_given_up(partition)

    def is_claimed(self, partition: Partition) -> bool:
        """Whether somebody works on its log."""
        return partition.name in self._claimed

    def hold(self, partition: Partition) -> None:
        """Keep everybody else from the log of a partition that is not claimed, until ``let_go``."""
        self._claimed.add(partition.name)

    def let_go(self, partition: Partition) -> None:
        """The end of ``hold``."""
        self._claimed.discard(partition.name)

    @contextmanager
    def claim(self, partition: Partition) -> Iterator[LogClaim]:
        """Work on the log of a partition that ``is_free``.

        Whatever goes wrong with it is written to the broker's log, and the log is given up; unless it was
        changed meanwhile, which explains anything.
        """
        claim = LogClaim(partition, partition.log)
        self._claimed.add(partition.name)
        try:
            yield claim
        except LogAborted as reason:
            _LOGGER.info("%s", reason)
        except (GlasslogError, OSError) as error:
            if isinstance(error, DamagedLog):
                self._on_damage(partition, error)
            if claim.is_valid:
                _LOGGER.error("%s: old records stay from now on: %s", partition.name, error)
                self._given_up[partition.name] = partition.topic_id
        finally:
            self._claimed.discard(partition.name)
