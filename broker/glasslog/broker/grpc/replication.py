"""DescribeReplication of ``glasslog.v1.Broker``. Refuses to know how a leader tracks its followers."""

from typing import Protocol

from glasslog.broker.grpc.data import check_partitions
from glasslog.broker.replication_view import FollowerView, LeaderView, WaitingView
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb

_NEVER = -1


class Leaders(Protocol):
    """Who knows the partitions that are led here."""

    def describe_leader(self, partition: TopicPartition) -> LeaderView: ...


class ReplicationHandlers:
    """See the module."""

    def __init__(self, leaders: Leaders) -> None:
        self._leaders = leaders

    async def describe(
        self, message: pb.DescribeReplicationRequest, peer: Peer
    ) -> pb.DescribeReplicationResponse:
        check_partitions([(message.topic, message.partition)])
        try:
            view = self._leaders.describe_leader(TopicPartition(message.topic, message.partition))
        except GlasslogError as error:
            return pb.DescribeReplicationResponse(error_code=error.code, error_message=str(error), leader=-1)
        return pb.DescribeReplicationResponse(
            leader=view.leader_id,
            leader_epoch=view.leader_epoch,
            leading_for_ms=view.leading_for_ms,
            log_start_offset=view.log_start_offset,
            high_watermark=view.high_watermark,
            log_end_offset=view.log_end_offset,
            isr=view.isr,
            joining=view.joining,
            leaving=view.leaving,
            min_insync_replicas=view.min_insync_replicas,
            followers=[_follower(each) for each in view.followers],
            waiting=_waiting(view.waiting),
        )


def _follower(view: FollowerView) -> pb.DescribeReplicationResponse.Follower:
    return pb.DescribeReplicationResponse.Follower(
        broker_id=view.node_id,
        in_isr=view.in_isr,
        active=view.is_active,
        log_end_offset=view.log_end_offset,
        fetched_ms_ago=_NEVER if view.fetched_ms_ago is None else view.fetched_ms_ago,
        caught_up_ms_ago=_NEVER if view.caught_up_ms_ago is None else view.caught_up_ms_ago,
    )


def _waiting(view: WaitingView) -> pb.DescribeReplicationResponse.Waiting:
    return pb.DescribeReplicationResponse.Waiting(
        produces=len(view.required_offsets),
        lowest_required_offset=min(view.required_offsets, default=0),
        highest_required_offset=max(view.required_offsets, default=0),
        first_expires_in_ms=view.first_expires_in_ms,
        follower_fetches=view.follower_fetches,
        consumer_fetches=view.consumer_fetches,
    )
