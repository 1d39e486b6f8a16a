"""Brings replicas back whose logs lack synced records, once nobody counts on them to have these.

Such a log is not opened when the broker starts (see ``glasslog.log.recovery``): while the replica is in sync,
or eligible to lead (KIP-966), it may be the one that has what was acknowledged.  With another leader, and out
of the ISR and the ELR, it is a follower that lags: its log is cut in front of the damage, and it fetches the
rest.  The metadata that says so must know this incarnation of the broker; then nothing but fetches of this
very replica can make it count again, and it fetches only when it is open.

This module knows when a replica counts; it refuses to know how a log is cut.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.metadata.image import PartitionImage

_LOGGER = logging.getLogger(__name__)

_INTERVAL_MS = 1_000


class LogReturn:
    """See the module; ``run`` until cancelled.

    ``bring_back`` is awaited for a partition whose log is open now: it takes its role. ``is_current`` says
    whether the metadata knows this incarnation.
    """

    def __init__(
        self,
        *,
        replicas: Replicas,
        logs: PartitionLogs,
        is_current: Callable[[], bool],
        bring_back: Callable[[TopicPartition], Awaitable[None]],
    ) -> None:
        self._replicas = replicas
        self._logs = logs
        self._is_current = is_current
        self._bring_back = bring_back

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_MS / 1000)
            for name, topic_id in self._logs.lacking_records():
                if self._counts_for_nothing(name, topic_id) and await self._logs.open_without_lost(name):
                    _LOGGER.warning("%s: cut in front of what was damaged, it is copied again", name)
                    await self._bring_back(name)

    def _counts_for_nothing(self, name: TopicPartition, topic_id: TopicId | None) -> bool:
        placed = self._replicas.image.partition(name.topic, name.partition)
        if not self._is_current() or placed is None or topic_id not in (None, placed.topic_id):
            return False
        return is_spare(placed, self._replicas.node_id)


def is_spare(placed: PartitionImage, node_id: int) -> bool:
    """Whether somebody else leads, and nobody would miss what the replica on ``node_id`` holds."""
    return placed.has_leader and node_id not in (placed.leader, *placed.isr, *placed.elr)
