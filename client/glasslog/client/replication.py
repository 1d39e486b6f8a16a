"""Asks the leader of a partition how it sees it: ISR, followers, who waits for what.

Refuses to know what to make of that.
"""

import asyncio
from dataclasses import dataclass

from glasslog.client.backoff import Backoff
from glasslog.client.connections import error_of
from glasslog.client.session import Session
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.v1.broker_pb2 import DescribeReplicationRequest, DescribeReplicationResponse

_ATTEMPT_MS = 2_000
_MAX_PAUSE_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerDescription:
    """A follower as its leader knows it.

    ``log_end_offset``: it has everything below, ``None`` before it fetched; times are ``None`` for never.
    """

    broker_id: NodeId
    in_isr: bool
    is_active: bool
    log_end_offset: int | None
    fetched_ms_ago: int | None
    caught_up_ms_ago: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationDescription:
    """A partition as its leader sees it.

    ``joining`` and ``leaving`` are changes of the ISR that are asked for and not confirmed yet.  So many
    ``waiting_produces`` wait for the high watermark, between the lowest and the highest required offset.
    """

    leader: NodeId
    leader_epoch: int
    leading_for_ms: int
    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    isr: tuple[NodeId, ...]
    joining: tuple[NodeId, ...]
    leaving: tuple[NodeId, ...]
    min_insync_replicas: int
    followers: tuple[FollowerDescription, ...]
    waiting_produces: int
    lowest_required_offset: int
    highest_required_offset: int
    first_expires_in_ms: int
    waiting_follower_fetches: int
    waiting_consumer_fetches: int


class ReplicationLookup:
    """One client's questions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def describe(self, partition: TopicPartition) -> ReplicationDescription:
        """Retried while leaders change, up to ``default_api_timeout_ms``; raises the last error then."""
        options, metadata = self._session.options, self._session.metadata
        metadata.add_topics((partition.topic,))
        last = GlasslogError(ErrorCode.LEADER_NOT_AVAILABLE, f"{partition} has no leader")
        backoff = Backoff(base_ms=options.retry_backoff_ms, maximum_ms=_MAX_PAUSE_MS)
        attempts = 0
        try:
            async with asyncio.timeout(options.default_api_timeout_ms / 1_000):
                while True:
                    try:
                        return await self._ask(partition)
                    except GlasslogError as error:
                        if not error.retriable:
                            raise
                        last = error
                    attempts += 1
                    await asyncio.sleep(backoff.delay_ms(attempts, self._session.runtime.random) / 1_000)
                    await metadata.refresh()
        except TimeoutError:
            raise GlasslogError(last.code, str(last)) from None

    async def _ask(self, partition: TopicPartition) -> ReplicationDescription:
        leader = self._session.metadata.view.leader(partition)
        if leader is None:
            raise GlasslogError(ErrorCode.LEADER_NOT_AVAILABLE, f"{partition} has no leader")
        reply = await self._session.connections.unary(
            leader.address,
            "DescribeReplication",
            DescribeReplicationRequest(topic=partition.topic, partition=partition.partition),
            DescribeReplicationResponse,
            timeout_ms=_ATTEMPT_MS,
        )
        if reply.error_code:
            raise GlasslogError(error_of(reply.error_code), reply.error_message)
        return _description(reply)


def _description(reply: DescribeReplicationResponse) -> ReplicationDescription:
    return ReplicationDescription(
        leader=NodeId(reply.leader),
        leader_epoch=reply.leader_epoch,
        leading_for_ms=reply.leading_for_ms,
        log_start_offset=reply.log_start_offset,
        high_watermark=reply.high_watermark,
        log_end_offset=reply.log_end_offset,
        isr=tuple(map(NodeId, reply.isr)),
        joining=tuple(map(NodeId, reply.joining)),
        leaving=tuple(map(NodeId, reply.leaving)),
        min_insync_replicas=reply.min_insync_replicas,
        followers=tuple(map(_follower, reply.followers)),
        waiting_produces=reply.waiting.produces,
        lowest_required_offset=reply.waiting.lowest_required_offset,
        highest_required_offset=reply.waiting.highest_required_offset,
        first_expires_in_ms=reply.waiting.first_expires_in_ms,
        waiting_follower_fetches=reply.waiting.follower_fetches,
        waiting_consumer_fetches=reply.waiting.consumer_fetches,
    )


def _follower(reply: DescribeReplicationResponse.Follower) -> FollowerDescription:
    return FollowerDescription(
        broker_id=NodeId(reply.broker_id),
        in_isr=reply.in_isr,
        is_active=reply.active,
        log_end_offset=None if reply.log_end_offset < 0 else reply.log_end_offset,
        fetched_ms_ago=None if reply.fetched_ms_ago < 0 else reply.fetched_ms_ago,
        caught_up_ms_ago=None if reply.caught_up_ms_ago < 0 else reply.caught_up_ms_ago,
    )
