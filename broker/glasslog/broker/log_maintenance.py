"""The work on the logs of this broker's replicas that no request asks for: from retention to repair.

This module knows which tasks that takes; it refuses to know what they do.
"""

import asyncio

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.log_claims import LogClaims
from glasslog.broker.log_cleaner import CleanerStatus, LogCleaner
from glasslog.broker.log_repair import LogRepair
from glasslog.broker.log_retention import LogRetention
from glasslog.broker.log_scrub import LogScrub
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas


class LogMaintenance:
    """``run`` until cancelled."""

    def __init__(self, *, replicas: Replicas, logs: PartitionLogs) -> None:
        self._replicas = replicas
        self.claims = LogClaims(lambda partition, damage: replicas.on_damage(partition, damage))
        self._removal = FileRemoval(replicas.runtime)
        self.repair = LogRepair(replicas=replicas, logs=logs, claims=self.claims, removal=self._removal)
        self._scrub = LogScrub(replicas)
        replicas.on_damage = self.repair.report
        self._retention = LogRetention(
            replicas=replicas, logs=logs, claims=self.claims, removal=self._removal
        )
        self._cleaner = LogCleaner(replicas=replicas, logs=logs, claims=self.claims, removal=self._removal)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._removal.run(), name="removal of deleted segments")
            group.create_task(self._retention.run(), name="retention")
            group.create_task(self.repair.run(), name="repair of damaged logs")
            if self._replicas.config.log_scrub_interval_ms:
                group.create_task(self._scrub.run(), name="scrubbing")
            if self._replicas.config.log_cleaner_enable:
                group.create_task(self._cleaner.run(), name="log cleaner")

    @property
    def cleaner_status(self) -> CleanerStatus:
        return self._cleaner.status

    def count_unmaintained(self) -> int:
        """Replicas here that were given up after an error."""
        return sum(self.claims.is_given_up(partition) for partition in self._replicas)
