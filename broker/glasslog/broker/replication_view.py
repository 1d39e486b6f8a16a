"""A partition as its leader sees it: ISR, how far followers are, who waits for what. Reads only.

Refuses to know who asks, and how it is told.
"""

from dataclasses import dataclass

from glasslog.broker.partition.follower_state import FollowerState
from glasslog.broker.partition.isr import IsrState, PendingExpand, PendingShrink
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.replicas import Replicas
from glasslog.common.ids import NodeId, TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerView:
    """A follower. ``log_end_offset`` is -1 until it has fetched; ``None``: never."""

    node_id: NodeId
    in_isr: bool
    is_active: bool
    log_end_offset: int
    fetched_ms_ago: int | None
    caught_up_ms_ago: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingView:
    """Requests that wait. ``required_offsets`` are those that acks=all produces wait for."""

    required_offsets: tuple[int, ...]
    first_expires_in_ms: int
    follower_fetches: int
    consumer_fetches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderView:
    """A leader's view of its partition."""

    leader_id: NodeId
    leader_epoch: int
    leading_for_ms: int
    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    isr: tuple[NodeId, ...]
    joining: tuple[NodeId, ...]
    leaving: tuple[NodeId, ...]
    min_insync_replicas: int
    followers: tuple[FollowerView, ...]
    waiting: WaitingView


def leader_view(replicas: Replicas, name: TopicPartition) -> LeaderView:
    """Raises NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION."""
    partition = replicas.get(name)
    leader = partition.leader()
    replicas.purgatory.appended.look(partition)
    now_ms = replicas.runtime.clock.now_ms()
    joining, leaving = _pending(leader.isr_state)
    return LeaderView(
        leader_id=leader.node_id,
        leader_epoch=leader.leader_epoch,
        leading_for_ms=now_ms - leader.since_ms,
        log_start_offset=partition.log_start_offset,
        high_watermark=leader.high_watermark,
        log_end_offset=partition.log_end_offset,
        isr=leader.isr,
        joining=joining,
        leaving=leaving,
        min_insync_replicas=leader.effective_min_isr,
        followers=tuple(_follower(replicas, leader, each, now_ms) for each in leader.followers.values()),
        waiting=_waiting(replicas, partition, now_ms),
    )


def _pending(state: IsrState) -> tuple[tuple[NodeId, ...], tuple[NodeId, ...]]:
    match state:
        case PendingExpand(added=added):
            return (added,), ()
        case PendingShrink(removed=removed):
            return (), removed
        case _:
            return (), ()


def _follower(replicas: Replicas, leader: LeaderState, state: FollowerState, now_ms: int) -> FollowerView:
    broker = replicas.image.brokers.get(state.node_id)
    return FollowerView(
        node_id=state.node_id,
        in_isr=state.node_id in leader.isr,
        is_active=broker is not None and broker.active,
        log_end_offset=state.log_end_offset,
        fetched_ms_ago=state.fetched_ms_ago(now_ms),
        caught_up_ms_ago=state.caught_up_ms_ago(now_ms),
    )


def _waiting(replicas: Replicas, partition: Partition, now_ms: int) -> WaitingView:
    purgatory = replicas.purgatory
    required, deadline_ms = purgatory.produces.waiting_on(partition)
    return WaitingView(
        required_offsets=tuple(required),
        first_expires_in_ms=0 if deadline_ms is None else max(0, deadline_ms - now_ms),
        follower_fetches=purgatory.appended.count_on(partition),
        consumer_fetches=purgatory.committed.count_on(partition),
    )
