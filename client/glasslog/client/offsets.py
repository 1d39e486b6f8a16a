"""Asks leaders where logs begin and end, or which offset belongs to a time.

Refuses to know what the offsets are for.
"""

import asyncio
from collections.abc import Mapping

from glasslog.client.backoff import Backoff
from glasslog.client.connections import error_of
from glasslog.client.session import Session
from glasslog.client.types import OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.v1.broker_pb2 import ListOffsetsRequest, ListOffsetsResponse

_ATTEMPT_MS = 5_000

Timestamps = Mapping[TopicPartition, int]
"""Milliseconds since 1970, -1 for the end, -2 for the beginning."""


class OffsetLookup:
    """One client's questions for offsets, at one isolation level (1: read_committed)."""

    def __init__(self, session: Session, *, isolation_level: int = 0) -> None:
        self._session = session
        self._isolation_level = isolation_level

    async def list(self, wanted: Timestamps, *, timeout_ms: int) -> dict[TopicPartition, OffsetAndMetadata]:
        """Offsets of all partitions (-1: no record that late), retried until ``timeout_ms``.

        Raises the last error, or the first that can not be retried.
        """
        found: dict[TopicPartition, OffsetAndMetadata] = {}
        left = dict(wanted)
        last = GlasslogError(ErrorCode.REQUEST_TIMED_OUT, f"no offsets within {timeout_ms} ms")
        backoff = Backoff(base_ms=self._session.options.retry_backoff_ms, maximum_ms=500)
        attempts = 0
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while True:
                    answered, failed = await self.list_once(left)
                    found.update(answered)
                    left = {partition: wanted[partition] for partition in failed}
                    if not left:
                        return found
                    last = next(iter(failed.values()))
                    for error in failed.values():
                        if not error.retriable:
                            raise error
                    attempts += 1
                    await asyncio.sleep(backoff.delay_ms(attempts, self._session.runtime.random) / 1_000)
        except TimeoutError:
            raise GlasslogError(last.code, f"no offsets within {timeout_ms} ms: {last}") from None

    async def list_once(
        self, wanted: Timestamps
    ) -> tuple[dict[TopicPartition, OffsetAndMetadata], dict[TopicPartition, GlasslogError]]:
        """What could be found at the first attempt, and what went wrong with the others."""
        metadata = self._session.metadata
        metadata.add_topics(partition.topic for partition in wanted)
        by_leader: dict[NodeId, list[TopicPartition]] = {}
        failed: dict[TopicPartition, GlasslogError] = {}
        for partition in wanted:
            leader = metadata.view.leader(partition)
            if leader is None:
                failed[partition] = GlasslogError(
                    ErrorCode.LEADER_NOT_AVAILABLE, f"{partition} has no known leader"
                )
            else:
                by_leader.setdefault(leader.node_id, []).append(partition)
        found: dict[TopicPartition, OffsetAndMetadata] = {}
        for node_id, partitions in by_leader.items():
            await self._ask(
                node_id, {partition: wanted[partition] for partition in partitions}, found, failed
            )
        if failed:
            metadata.request_update()
        return found, failed

    async def _ask(
        self,
        node_id: NodeId,
        wanted: Timestamps,
        found: dict[TopicPartition, OffsetAndMetadata],
        failed: dict[TopicPartition, GlasslogError],
    ) -> None:
        view = self._session.metadata.view
        broker = view.brokers[node_id]
        request = ListOffsetsRequest(
            isolation_level=self._isolation_level,
            partitions=[
                ListOffsetsRequest.Partition(
                    topic=partition.topic,
                    partition=partition.partition,
                    timestamp=timestamp,
                    current_leader_epoch=view.leader_epoch(partition),
                )
                for partition, timestamp in wanted.items()
            ],
        )
        try:
            response = await self._session.connections.unary(
                broker.address, "ListOffsets", request, ListOffsetsResponse, timeout_ms=_ATTEMPT_MS
            )
        except GlasslogError as error:
            self._session.metadata.mark_unreachable(broker)
            failed.update(dict.fromkeys(wanted, error))
            return
        for result in response.partitions:
            partition = TopicPartition(result.topic, result.partition)
            if result.error_code:
                code = error_of(result.error_code)
                failed[partition] = GlasslogError(code, f"{partition}: {code.name}")
            else:
                found[partition] = OffsetAndMetadata(result.offset, result.leader_epoch)
        for partition in wanted:
            if partition not in found and partition not in failed:
                failed[partition] = GlasslogError(
                    ErrorCode.UNKNOWN_SERVER_ERROR, f"{partition}: the answer says nothing about it"
                )
