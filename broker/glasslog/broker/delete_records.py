"""The way of a DeleteRecords request: the leader's log begins later, durably, and then every follower's.

This module knows what may be deleted and who has to follow; it refuses to know transports, and removes no
file: retention gives up the segments below the log's start.  Source: Kafka's ``ReplicaManager.deleteRecords``
and ``DelayedDeleteRecords`` (KIP-107).
"""

import asyncio
from collections.abc import Sequence

from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import DeleteRecordsPartition, DeleteRecordsResult
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, Offset
from glasslog.common.topic_config import topic_config
from glasslog.common.topic_names import is_internal


class RecordDeletion:
    """See the module."""

    def __init__(self, *, replicas: Replicas, logs: PartitionLogs) -> None:
        self._replicas = replicas
        self._logs = logs
        self._waiting: dict[Partition, list[asyncio.Event]] = {}
        replicas.on_log_start = self._on_log_start

    async def delete(
        self, partitions: Sequence[DeleteRecordsPartition], *, timeout_ms: int
    ) -> tuple[DeleteRecordsResult, ...]:
        """One result per partition, in order; every refusal is in a result, never raised.

        UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, INVALID_TOPIC_EXCEPTION for an internal topic,
        POLICY_VIOLATION where ``cleanup.policy`` has no ``delete``, OFFSET_OUT_OF_RANGE above the high
        watermark, KAFKA_STORAGE_ERROR, REQUEST_TIMED_OUT when a follower has not followed in time.
        """
        asked = [self._delete_one(each, timeout_ms) for each in partitions]
        return tuple(await asyncio.gather(*asked))

    async def _delete_one(self, each: DeleteRecordsPartition, timeout_ms: int) -> DeleteRecordsResult:
        partition = self._replicas.find(each.partition)
        try:
            target = self._advance(each)
            partition = self._replicas.get(each.partition)
            if not await self._logs.checkpoint_log_starts(each.partition):
                raise GlasslogError(
                    ErrorCode.KAFKA_STORAGE_ERROR, f"{each.partition}: its new start can not be written"
                )
            low_watermark = await self._until_followed(partition, target, timeout_ms)
        except GlasslogError as error:
            if partition is not None:
                self._replicas.on_error(partition, error)
            return DeleteRecordsResult(partition=each.partition, error=error.code, error_message=str(error))
        return DeleteRecordsResult(partition=each.partition, low_watermark=low_watermark)

    def _advance(self, each: DeleteRecordsPartition) -> Offset:
        name, replicas = each.partition, self._replicas
        if is_internal(name.topic):
            raise GlasslogError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name}: records of an internal topic can not be deleted"
            )
        partition = replicas.get(name)
        partition.leader()
        settings = topic_config(replicas.config, replicas.image.topic_config(name.topic))
        if "delete" not in settings.cleanup_policy:
            raise GlasslogError(
                ErrorCode.POLICY_VIOLATION,
                f"{name}: cleanup.policy={','.join(settings.cleanup_policy)} allows no deletion of records",
            )
        target = partition.delete_records(each.offset)
        # Followers that wait for records are told of the new start at once.
        replicas.purgatory.appended.complete_all(partition)
        return target

    async def _until_followed(self, partition: Partition, target: Offset, timeout_ms: int) -> Offset:
        event = asyncio.Event()
        self._waiting.setdefault(partition, []).append(event)
        try:
            async with asyncio.timeout(max(timeout_ms, 0) / 1000):
                while (low_watermark := partition.low_watermark(self._is_alive)) < target:
                    event.clear()
                    await event.wait()
            return low_watermark
        except TimeoutError:
            raise GlasslogError(
                ErrorCode.REQUEST_TIMED_OUT, f"{partition.name}: not every follower begins at {target} yet"
            ) from None
        finally:
            waiting = self._waiting[partition]
            waiting.remove(event)
            if not waiting:
                del self._waiting[partition]

    def _is_alive(self, node: NodeId) -> bool:
        broker = self._replicas.image.brokers.get(node)
        return broker is not None and broker.active

    def _on_log_start(self, partition: Partition) -> None:
        for event in self._waiting.get(partition, ()):
            event.set()
