"""DescribeQuorum, AddRaftVoter and RemoveRaftVoter of the Kafka listener: what kafka-metadata-quorum.sh asks.

Translates for ``quorum_admin``, whose values are the controllers' own messages; refuses to know who decides.
The listeners that AddRaftVoter names are not looked at: a controller says itself where it is.
Source: KIP-595, KIP-836, KIP-853.
"""

from collections.abc import Callable, Iterable, Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import quorum as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.broker.quorum_admin import QuorumHandlers
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import METADATA_TOPIC
from glasslog.v1 import quorum_pb2 as pb

_REMOVAL_TIMEOUT_MS = 30_000
_LISTENER = "CONTROLLER"
_NO_DIRECTORY = bytes(16)


class QuorumApis:
    """See the module; ``wall_ms`` is the time since 1970."""

    def __init__(self, quorum: QuorumHandlers, *, wall_ms: Callable[[], int]) -> None:
        self._quorum = quorum
        self._wall_ms = wall_ms

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.DESCRIBE_QUORUM, self.describe),
            in_a_task(wire.ADD_RAFT_VOTER, self.add),
            in_a_task(wire.REMOVE_RAFT_VOTER, self.remove),
        )

    async def describe(
        self, request: wire.DescribeQuorumRequest, caller: Caller
    ) -> wire.DescribeQuorumResponse:
        asked = [
            (topic.topic_name, each.partition_index) for topic in request.topics for each in topic.partitions
        ]
        if asked != [(METADATA_TOPIC, 0)]:
            return _no_quorum(request)
        try:
            found = await self._quorum.describe(pb.DescribeQuorumRequest(), caller.peer)
        except GlasslogError as error:
            return _refused_description(error.code, str(error))
        partition = wire.PartitionResponse(
            partition_index=0,
            error_code=ErrorCode.NONE,
            leader_id=found.leader_id,
            leader_epoch=found.leader_epoch,
            high_watermark=found.high_watermark,
            current_voters=self._states(found.voters),
            observers=self._states(found.observers),
        )
        topic = wire.TopicResponse(topic_name=METADATA_TOPIC, partitions=(partition,))
        return wire.DescribeQuorumResponse(
            error_code=ErrorCode.NONE, topics=(topic,), nodes=_nodes(found.voters)
        )

    async def add(self, request: wire.AddRaftVoterRequest, caller: Caller) -> wire.AddRaftVoterResponse:
        asked = pb.AddVoterRequest(
            cluster_id=request.cluster_id or "",
            voter_id=request.voter_id,
            directory_id=request.voter_directory_id,
            timeout_ms=request.timeout_ms,
        )
        try:
            answer = await self._quorum.add_voter(asked, caller.peer)
        except GlasslogError as error:
            return wire.AddRaftVoterResponse(error_code=error.code, error_message=str(error))
        return wire.AddRaftVoterResponse(
            error_code=answer.error_code, error_message=answer.error_message or None
        )

    async def remove(
        self, request: wire.RemoveRaftVoterRequest, caller: Caller
    ) -> wire.RemoveRaftVoterResponse:
        asked = pb.RemoveVoterRequest(
            cluster_id=request.cluster_id or "",
            voter_id=request.voter_id,
            directory_id=request.voter_directory_id,
            timeout_ms=_REMOVAL_TIMEOUT_MS,
        )
        try:
            answer = await self._quorum.remove_voter(asked, caller.peer)
        except GlasslogError as error:
            return wire.RemoveRaftVoterResponse(error_code=error.code, error_message=str(error))
        return wire.RemoveRaftVoterResponse(
            error_code=answer.error_code, error_message=answer.error_message or None
        )

    def _states(self, replicas: Iterable[pb.DescribeQuorumResponse.Replica]) -> tuple[wire.ReplicaState, ...]:
        return tuple(
            wire.ReplicaState(
                replica_id=each.id,
                replica_directory_id=each.directory_id or _NO_DIRECTORY,
                log_end_offset=each.log_end_offset,
                last_fetch_timestamp=self._moment(each.last_fetch_ms_ago),
                last_caught_up_timestamp=self._moment(each.last_caught_up_ms_ago),
            )
            for each in replicas
        )

    def _moment(self, ms_ago: int) -> int:
        return -1 if ms_ago < 0 else self._wall_ms() - ms_ago


def _refused_description(code: ErrorCode, reason: str) -> wire.DescribeQuorumResponse:
    return wire.DescribeQuorumResponse(error_code=code, error_message=reason, topics=())


def _no_quorum(request: wire.DescribeQuorumRequest) -> wire.DescribeQuorumResponse:
    """Only one partition has a quorum, and it is asked for alone."""
    return wire.DescribeQuorumResponse(
        topics=tuple(
            wire.TopicResponse(
                topic_name=topic.topic_name,
                partitions=tuple(
                    wire.PartitionResponse(
                        partition_index=each.partition_index,
                        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                        error_message=f"partition 0 of {METADATA_TOPIC} alone has a quorum",
                    )
                    for each in topic.partitions
                ),
            )
            for topic in request.topics
        )
    )


def _nodes(voters: Iterable[pb.DescribeQuorumResponse.Replica]) -> tuple[wire.QuorumNode, ...]:
    """Where the voters are, as far as that is known."""
    return tuple(
        wire.QuorumNode(node_id=each.id, listeners=(_listener(each.address),))
        for each in voters
        if each.address
    )


def _listener(address: str) -> wire.VoterListener:
    host, _, port = address.rpartition(":")
    return wire.VoterListener(name=_LISTENER, host=host, port=int(port))
