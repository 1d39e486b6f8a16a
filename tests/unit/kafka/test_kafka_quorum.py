"""What Kafka's own tools learn of the quorum, and what becomes of their changes."""

import asyncio
from typing import TypeVar

from glasslog.broker.kafka.messages import quorum as wire
from glasslog.broker.kafka.quorum_api import QuorumApis
from glasslog.broker.kafka.serving import Caller
from glasslog.broker.quorum_admin import QuorumHandlers
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import quorum_pb2 as pb
from google.protobuf.message import Message

Answer = TypeVar("Answer", bound=Message)
DISK = bytes(range(16))
NOW_MS = 1_000_000
CALLER = Caller(version=2, client_id="tool", peer=Peer("client:1"), listener="KAFKA")
METADATA = wire.DescribedTopic(
    topic_name="__cluster_metadata", partitions=(wire.DescribedPartition(partition_index=0),)
)


class Controllers:
    """Answers every call alike, or raises; remembers what was asked."""

    def __init__(self, outcome: Message | GlasslogError) -> None:
        self._outcome = outcome
        self.asked: list[tuple[str, Message]] = []

    async def call(self, method: str, request: Message, answer: type[Answer], *, timeout_ms: int) -> Answer:
        self.asked.append((method.rpartition("/")[2], request))
        if isinstance(self._outcome, GlasslogError):
            raise self._outcome
        assert isinstance(self._outcome, answer)
        return self._outcome


def apis(controllers: Controllers) -> QuorumApis:
    return QuorumApis(QuorumHandlers(controllers, timeout_ms=2_000), wall_ms=lambda: NOW_MS)


def test_the_quorum_is_described_with_times_since_1970() -> None:
    replica = pb.DescribeQuorumResponse.Replica
    found = pb.DescribeQuorumResponse(
        leader_id=101,
        leader_epoch=4,
        high_watermark=9,
        voters=[
            replica(id=101, log_end_offset=9, directory_id=DISK, address="a:9093"),
            replica(id=102, log_end_offset=-1, last_fetch_ms_ago=-1, last_caught_up_ms_ago=-1),
        ],
        observers=[replica(id=1, log_end_offset=8, last_fetch_ms_ago=30, last_caught_up_ms_ago=40)],
    )
    answer = asyncio.run(
        apis(Controllers(found)).describe(wire.DescribeQuorumRequest(topics=(METADATA,)), CALLER)
    )
    ((partition,),) = [topic.partitions for topic in answer.topics]
    assert (partition.leader_id, partition.leader_epoch, partition.high_watermark) == (101, 4, 9)
    assert [voter.replica_directory_id for voter in partition.current_voters] == [DISK, bytes(16)]
    assert partition.current_voters[0].last_caught_up_timestamp == NOW_MS
    assert partition.current_voters[1].last_fetch_timestamp == -1
    assert partition.observers[0].last_caught_up_timestamp == NOW_MS - 40
    assert answer.nodes == (
        wire.QuorumNode(node_id=101, listeners=(wire.VoterListener(name="CONTROLLER", host="a", port=9093),)),
    )


def test_other_topics_have_no_quorum() -> None:
    topic = wire.DescribedTopic(topic_name="orders", partitions=METADATA.partitions)
    controllers = Controllers(pb.DescribeQuorumResponse())
    answer = asyncio.run(apis(controllers).describe(wire.DescribeQuorumRequest(topics=(topic,)), CALLER))
    ((partition,),) = [topic.partitions for topic in answer.topics]
    assert partition.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert not controllers.asked


def test_changes_carry_cluster_and_directory_and_come_back_with_a_reason() -> None:
    refused = pb.ChangeVotersResponse(error_code=ErrorCode.DUPLICATE_VOTER, error_message="votes already")
    controllers = Controllers(refused)
    added = wire.AddRaftVoterRequest(
        cluster_id="c", timeout_ms=500, voter_id=104, voter_directory_id=DISK, listeners=()
    )
    removed = wire.RemoveRaftVoterRequest(cluster_id=None, voter_id=104, voter_directory_id=DISK)
    answers = (
        asyncio.run(apis(controllers).add(added, CALLER)),
        asyncio.run(apis(controllers).remove(removed, CALLER)),
    )
    assert {(each.error_code, each.error_message) for each in answers} == {(126, "votes already")}
    assert controllers.asked == [
        (
            "AddVoter",
            pb.AddVoterRequest(cluster_id="c", voter_id=104, directory_id=DISK, timeout_ms=500),
        ),
        ("RemoveVoter", pb.RemoveVoterRequest(voter_id=104, directory_id=DISK, timeout_ms=1_500)),
    ]


def test_without_an_active_controller_the_tool_is_told_so() -> None:
    lost = GlasslogError(ErrorCode.REQUEST_TIMED_OUT, "no active controller answered")
    answer = asyncio.run(
        apis(Controllers(lost)).describe(wire.DescribeQuorumRequest(topics=(METADATA,)), CALLER)
    )
    assert (answer.error_code, answer.error_message) == (7, "no active controller answered")
