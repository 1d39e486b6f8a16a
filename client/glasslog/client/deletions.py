"""Asks leaders to delete the oldest records of partitions.

Refuses to know which offsets are worth deleting.
"""

import asyncio
from collections.abc import Mapping

from glasslog.client.backoff import Backoff
from glasslog.client.connections import error_of
from glasslog.client.session import Session
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.v1.broker_pb2 import DeleteRecordsRequest, DeleteRecordsResponse

_MAX_PAUSE_MS = 500


class RecordDeletion:
    """One client's deletions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def delete(
        self, offsets: Mapping[TopicPartition, int], *, timeout_ms: int
    ) -> dict[TopicPartition, int]:
        """Where each partition begins afterwards, on all its replicas; retried until ``timeout_ms``.

        Raises the last error, or the first that can not be retried; other partitions may be done by then.
        """
        done: dict[TopicPartition, int] = {}
        last = GlasslogError(ErrorCode.REQUEST_TIMED_OUT, "no leader has answered")
        backoff = Backoff(base_ms=self._session.options.retry_backoff_ms, maximum_ms=_MAX_PAUSE_MS)
        attempts = 0
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while True:
                    left = {name: offset for name, offset in offsets.items() if name not in done}
                    failed = await self._attempt(left, done)
                    if not failed:
                        return done
                    last = next((error for error in failed if not error.retriable), failed[0])
                    if not last.retriable:
                        raise last
                    self._session.metadata.request_update()
                    attempts += 1
                    await asyncio.sleep(backoff.delay_ms(attempts, self._session.runtime.random) / 1_000)
        except TimeoutError:
            raise GlasslogError(last.code, f"not deleted within {timeout_ms} ms: {last}") from None

    async def _attempt(
        self, wanted: Mapping[TopicPartition, int], done: dict[TopicPartition, int]
    ) -> list[GlasslogError]:
        metadata = self._session.metadata
        metadata.add_topics(partition.topic for partition in wanted)
        by_leader: dict[NodeId, dict[TopicPartition, int]] = {}
        failed: list[GlasslogError] = []
        for partition, offset in wanted.items():
            leader = metadata.view.leader(partition)
            if leader is None:
                failed.append(
                    GlasslogError(ErrorCode.LEADER_NOT_AVAILABLE, f"{partition} has no known leader")
                )
            else:
                by_leader.setdefault(leader.node_id, {})[partition] = offset
        for node_id, offsets in by_leader.items():
            failed += await self._ask(node_id, offsets, done)
        return failed

    async def _ask(
        self, node_id: NodeId, offsets: Mapping[TopicPartition, int], done: dict[TopicPartition, int]
    ) -> list[GlasslogError]:
        session = self._session
        broker = session.metadata.view.brokers[node_id]
        timeout_ms = session.options.request_timeout_ms
        request = DeleteRecordsRequest(
            timeout_ms=timeout_ms,
            partitions=[
                DeleteRecordsRequest.Partition(
                    topic=partition.topic, partition=partition.partition, offset=offset
                )
                for partition, offset in offsets.items()
            ],
        )
        try:
            response = await session.connections.unary(
                broker.address, "DeleteRecords", request, DeleteRecordsResponse, timeout_ms=timeout_ms
            )
        except GlasslogError as error:
            session.metadata.mark_unreachable(broker)
            return [error]
        failed = []
        for result in response.partitions:
            if result.error_code:
                failed.append(GlasslogError(error_of(result.error_code), result.error_message))
            else:
                done[TopicPartition(result.topic, result.partition)] = result.low_watermark
        return failed
