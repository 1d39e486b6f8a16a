"""A small, honest quorum of controllers for tests: one shared log, a leader by decree, few rules.

It keeps the wire contract of glasslog.v1.Quorum/Fetch and glasslog.v1.Controller; it refuses to elect, to
place replicas, and to survive anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from glasslog.broker.controller_channel import ControllerChannel
from glasslog.broker.watched import Watched
from glasslog.common.addresses import Voter
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicId
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Listener, Peer, Services, Stream, UnaryHandler
from glasslog.log.records import NewRecord, encode_batch
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    MetadataRecord,
    PartitionCreated,
    RegisterBroker,
    TopicCreated,
    TopicRemoved,
)
from glasslog.metadata.snapshot import SnapshotId, encode_snapshot
from glasslog.metadata.wire import encode_record, endpoints_from_wire
from glasslog.v1 import controller_pb2 as pb
from glasslog.v1 import quorum_pb2
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"
PORT = 9093
CONTROLLER = "/glasslog.v1.Controller/"
QUORUM = "/glasslog.v1.Quorum/"
_MAX_PARTITIONS = 1_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    base_offset: int
    next_offset: int
    epoch: int
    data: bytes


class FakeQuorum:
    """Controllers on hosts ``c1`` ... ``cN``. Tests change its fields and call its methods directly."""

    def __init__(self, world: MemoryWorld, *, size: int = 3) -> None:
        self.world = world
        self.voters = tuple(Voter(node_id=n, address=f"c{n}:{PORT}") for n in range(1, size + 1))
        self.epoch = 1
        self.leader_id = 1
        self.entries: list[LogEntry] = []
        self.high_watermark = 0
        self.diverging: list[quorum_pb2.DivergingEpoch] = []
        self.snapshot: tuple[SnapshotId, bytes] | None = None
        self.asked: list[tuple[int, str]] = []
        self.heartbeats: list[pb.BrokerHeartbeatRequest] = []
        self.registrations: list[pb.RegisterBrokerRequest] = []
        self.registration_error: tuple[ErrorCode, str] | None = None
        self.heartbeat_error: ErrorCode | None = None
        self.keep_fenced = False
        self.release_after_heartbeats = 0
        self.sessions: list[tuple[int, int]] = []
        self.open_sessions: dict[Stream, int] = {}
        self.alter_partition: Callable[[pb.AlterPartitionRequest], pb.AlterPartitionResponse] | None = None
        self.next_producer_id = 0
        self.producer_id_block = 10
        self.topics_created: list[pb.CreateTopicsRequest] = []
        self.topic_ids: dict[str, TopicId] = {}
        self._epochs: dict[int, int] = {}
        self._fenced: dict[int, bool] = {}
        self._session_tasks: dict[Stream, asyncio.Task[object]] = {}
        self._moved: Watched[int] = Watched(0)
        self._listeners: dict[int, Listener] = {}

    # --- what tests do to it ---

    async def start(self, *node_ids: int) -> None:
        for node_id in node_ids or tuple(voter.node_id for voter in self.voters):
            transport = self.world.runtime(f"c{node_id}").transport
            self._listeners[node_id] = await transport.listen(f"c{node_id}:{PORT}", self._services(node_id))

    def kill(self, node_id: int) -> None:
        self.world.kill(f"c{node_id}")

    def elect(self, leader_id: int) -> None:
        """A new leader in a new epoch; long polls at others end."""
        self.epoch += 1
        self.leader_id = leader_id
        self._moved.set(self._moved.value + 1)

    @property
    def end_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else 0

    def append(self, *records: MetadataRecord, commit: bool = True, control: bool = False) -> int:
        """One batch at the end of the log; returns its base offset."""
        base = self.end_offset
        rows: list[NewRecord] = [(0, None, encode_record(record), ()) for record in records]
        rows = rows or [(0, b"", b"", ())]
        data = bytes(encode_batch(rows, base_offset=base, leader_epoch=self.epoch, control=control))
        self.entries.append(LogEntry(base, base + len(rows), self.epoch, data))
        if commit:
            self.commit()
        self._moved.set(self._moved.value + 1)
        return base

    def begin_with_snapshot(self, *records: MetadataRecord) -> Offset:
        """Let the log begin with what these say; returns the last offset that they stand for."""
        snapshot_id = SnapshotId(end_offset=100, epoch=self.epoch)
        values = tuple(map(encode_record, records))
        self.snapshot = snapshot_id, b"".join(encode_snapshot(snapshot_id, [values], timestamp_ms=0))
        self.high_watermark = snapshot_id.end_offset
        return Offset(snapshot_id.end_offset - 1)

    def commit(self) -> None:
        self.high_watermark = self.end_offset
        self._moved.set(self._moved.value + 1)

    def set_fenced(self, broker_id: int, fenced: bool) -> None:
        epoch = self.broker_epoch(broker_id)
        self._fenced[broker_id] = fenced
        self.append(
            BrokerRegistrationChange(
                broker_id=NodeId(broker_id), broker_epoch=BrokerEpoch(epoch), fenced=fenced
            )
        )

    def broker_epoch(self, broker_id: int) -> int:
        return self._epochs[broker_id]

    def forget(self, broker_id: int) -> None:
        """As if the registration had never been."""
        del self._epochs[broker_id]

    def create_topic(self, name: str, leaders: Sequence[int], *, topic_id: bytes = b"") -> TopicId:
        """Partition ``i`` is led by ``leaders[i]``, its only replica."""
        identity = TopicId(topic_id or name.encode().ljust(16, b"\0")[:16])
        partitions = [
            PartitionCreated(
                topic_id=identity,
                partition=index,
                replicas=(NodeId(leader),),
                isr=(NodeId(leader),),
                leader=NodeId(leader),
                leader_epoch=LeaderEpoch(0),
                partition_epoch=PartitionEpoch(0),
            )
            for index, leader in enumerate(leaders)
        ]
        self.append(TopicCreated(name=name, topic_id=identity), *partitions)
        self.topic_ids[name] = identity
        return identity

    def break_sessions(self) -> None:
        """Every session's server end goes, as if its connection broke."""
        for task in list(self._session_tasks.values()):
            task.cancel()

    # --- what it serves ---

    def _services(self, node_id: int) -> Services:
        unary: dict[str, UnaryHandler] = {
            "/glasslog.v1.Quorum/Fetch": self._handler(
                node_id, quorum_pb2.QuorumFetchRequest, lambda message: self._fetch(node_id, message)
            )
        }

        def serve(
            name: str, kind: type[M], handle: Callable[[M], Awaitable[Message]], service: str = CONTROLLER
        ) -> None:
            unary[service + name] = self._handler(node_id, kind, handle, only_leader=True)

        serve("RegisterBroker", pb.RegisterBrokerRequest, self._register)
        serve("BrokerHeartbeat", pb.BrokerHeartbeatRequest, self._heartbeat)
        serve("AlterPartition", pb.AlterPartitionRequest, self._alter_partition)
        serve("AllocateProducerIds", pb.AllocateProducerIdsRequest, self._allocate)
        serve("CreateTopics", pb.CreateTopicsRequest, self._create_topics)
        serve("DeleteTopics", pb.DeleteTopicsRequest, self._delete_topics)
        serve("CreatePartitions", pb.CreatePartitionsRequest, self._create_partitions)
        serve("ElectLeaders", pb.ElectLeadersRequest, self._elect_leaders)
        serve("UpdateFeatures", pb.UpdateFeaturesRequest, self._update_features)
        serve("AlterConfigs", pb.AlterConfigsRequest, self._alter_configs)
        serve("AlterClientQuotas", pb.AlterClientQuotasRequest, self._alter_client_quotas)
        serve("UnregisterBroker", pb.UnregisterBrokerRequest, self._unregister)
        serve("AlterPartitionReassignments", pb.AlterPartitionReassignmentsRequest, self._reassign)

        serve("FetchSnapshot", quorum_pb2.FetchSnapshotRequest, self._fetch_snapshot, QUORUM)
        serve("Describe", quorum_pb2.DescribeQuorumRequest, self._describe_quorum, QUORUM)
        serve("AddVoter", quorum_pb2.AddVoterRequest, self._change_voters, QUORUM)
        serve("RemoveVoter", quorum_pb2.RemoveVoterRequest, self._change_voters, QUORUM)

        async def hold_session(stream: Stream, peer: Peer) -> None:
            await self._hold_session(node_id, stream)

        return Services(unary=unary, streams={CONTROLLER + "HoldSession": hold_session})

    def _handler(
        self,
        node_id: int,
        kind: type[M],
        handle: Callable[[M], Awaitable[Message]],
        *,
        only_leader: bool = False,
    ) -> UnaryHandler:
        async def serve(data: bytes, peer: Peer) -> bytes:
            self.asked.append((node_id, kind.DESCRIPTOR.name))
            if only_leader and node_id != self.leader_id:
                raise GlasslogError(ErrorCode.NOT_CONTROLLER, f"controller {node_id} is not active")
            answer = await handle(kind.FromString(data))
            return answer.SerializeToString()

        return serve

    async def _fetch_snapshot(
        self, message: quorum_pb2.FetchSnapshotRequest
    ) -> quorum_pb2.FetchSnapshotResponse:
        assert self.snapshot is not None
        _, data = self.snapshot
        return quorum_pb2.FetchSnapshotResponse(
            epoch=self.epoch,
            leader_id=self.leader_id,
            size_bytes=len(data),
            position=message.position,
            data=data[message.position :],
        )

    async def _fetch(
        self, node_id: int, message: quorum_pb2.QuorumFetchRequest
    ) -> quorum_pb2.QuorumFetchResponse:
        if message.cluster_id != CLUSTER_ID:
            raise GlasslogError(ErrorCode.INCONSISTENT_CLUSTER_ID, f"this is cluster {CLUSTER_ID}")
        answer = quorum_pb2.QuorumFetchResponse(
            epoch=self.epoch, leader_id=self.leader_id, high_watermark=self.high_watermark
        )
        if node_id != self.leader_id:
            answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            return answer
        if 0 <= message.current_leader_epoch < self.epoch:
            answer.error_code = ErrorCode.FENCED_LEADER_EPOCH
            return answer
        if self.snapshot is not None and message.fetch_offset < self.snapshot[0].end_offset:
            answer.snapshot_id.end_offset = self.snapshot[0].end_offset
            answer.snapshot_id.epoch = self.snapshot[0].epoch
            return answer
        if self.diverging:
            answer.diverging_epoch.CopyFrom(self.diverging.pop(0))
            return answer
        seen, epoch = self._moved.value, self.epoch
        if self.end_offset <= message.fetch_offset and self.high_watermark <= message.known_high_watermark:
            try:
                async with asyncio.timeout(message.max_wait_ms / 1000):
                    await self._moved.until(lambda value: value != seen)
            except TimeoutError:
                pass
        if self.epoch != epoch:
            return quorum_pb2.QuorumFetchResponse(
                epoch=self.epoch, leader_id=self.leader_id, error_code=ErrorCode.FENCED_LEADER_EPOCH
            )
        answer.high_watermark = self.high_watermark
        answer.records = b"".join(
            entry.data for entry in self.entries if entry.base_offset >= message.fetch_offset
        )
        return answer

    async def _register(self, message: pb.RegisterBrokerRequest) -> pb.RegisterBrokerResponse:
        self.registrations.append(message)
        if self.registration_error is not None:
            code, text = self.registration_error
            return pb.RegisterBrokerResponse(error_code=code, error_message=text)
        epoch = self.end_offset
        self._epochs[message.broker_id] = epoch
        self._fenced[message.broker_id] = True
        self.append(
            RegisterBroker(
                broker_id=NodeId(message.broker_id),
                incarnation_id=message.incarnation_id,
                broker_epoch=BrokerEpoch(epoch),
                endpoints=endpoints_from_wire(message.endpoints),
                rack=message.rack,
            )
        )
        return pb.RegisterBrokerResponse(broker_epoch=epoch)

    async def _heartbeat(self, message: pb.BrokerHeartbeatRequest) -> pb.BrokerHeartbeatResponse:
        self.heartbeats.append(message)
        if self.heartbeat_error is not None:
            raise GlasslogError(self.heartbeat_error)
        epoch = self._epochs.get(message.broker_id)
        if epoch != message.broker_epoch:
            raise GlasslogError(ErrorCode.STALE_BROKER_EPOCH, f"epoch is {epoch}")
        caught_up = message.current_metadata_offset >= epoch
        if caught_up and not message.want_fence and not self.keep_fenced and self._fenced[message.broker_id]:
            self.set_fenced(message.broker_id, False)
        if message.want_shut_down:
            self.release_after_heartbeats -= 1
        return pb.BrokerHeartbeatResponse(
            is_caught_up=caught_up,
            is_fenced=self._fenced[message.broker_id],
            should_shut_down=message.want_shut_down and self.release_after_heartbeats < 0,
        )

    async def _hold_session(self, node_id: int, stream: Stream) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._session_tasks[stream] = task
        try:
            async for data in stream:
                hello = pb.BrokerSessionHello.FromString(data)
                if node_id != self.leader_id:
                    raise GlasslogError(ErrorCode.NOT_CONTROLLER)
                self.sessions.append((node_id, hello.broker_epoch))
                self.open_sessions[stream] = node_id
        finally:
            self.open_sessions.pop(stream, None)
            del self._session_tasks[stream]

    async def _alter_partition(self, message: pb.AlterPartitionRequest) -> pb.AlterPartitionResponse:
        assert self.alter_partition is not None
        return self.alter_partition(message)

    async def _allocate(self, message: pb.AllocateProducerIdsRequest) -> pb.AllocateProducerIdsResponse:
        first = self.next_producer_id
        self.next_producer_id += self.producer_id_block
        return pb.AllocateProducerIdsResponse(first_producer_id=first, count=self.producer_id_block)

    async def _create_topics(self, message: pb.CreateTopicsRequest) -> pb.CreateTopicsResponse:
        """Every partition on the first registered broker; names that exist are refused."""
        self.topics_created.append(message)
        answer = pb.CreateTopicsResponse()
        for topic in message.topics:
            if topic.name in self.topic_ids:
                answer.topics.add(name=topic.name, error_code=ErrorCode.TOPIC_ALREADY_EXISTS)
                continue
            count = 1 if topic.partitions < 0 else topic.partitions
            if count > _MAX_PARTITIONS:
                answer.topics.add(name=topic.name, error_code=ErrorCode.INVALID_PARTITIONS)
                continue
            topic_id = self.create_topic(topic.name, [min(self._epochs, default=-1)] * count)
            answer.topics.add(name=topic.name, topic_id=topic_id, partitions=count, replication_factor=1)
        answer.metadata_offset = self.end_offset - 1
        return answer

    async def _create_partitions(self, message: pb.CreatePartitionsRequest) -> pb.CreatePartitionsResponse:
        """Accepts all and changes nothing."""
        answer = pb.CreatePartitionsResponse(metadata_offset=self.end_offset - 1)
        for topic in message.topics:
            answer.topics.add(name=topic.name)
        return answer

    async def _elect_leaders(self, message: pb.ElectLeadersRequest) -> pb.ElectLeadersResponse:
        """Finds nothing to elect."""
        return pb.ElectLeadersResponse(metadata_offset=self.end_offset - 1)

    async def _update_features(self, message: pb.UpdateFeaturesRequest) -> pb.UpdateFeaturesResponse:
        """Accepts all and changes nothing."""
        answer = pb.UpdateFeaturesResponse(metadata_offset=self.end_offset - 1)
        for update in message.updates:
            answer.features.add(name=update.name)
        return answer

    async def _alter_configs(self, message: pb.AlterConfigsRequest) -> pb.AlterConfigsResponse:
        """Accepts all and changes nothing."""
        answer = pb.AlterConfigsResponse(metadata_offset=self.end_offset - 1)
        for resource in message.resources:
            answer.resources.add(type=resource.type, name=resource.name)
        return answer

    async def _alter_client_quotas(
        self, message: pb.AlterClientQuotasRequest
    ) -> pb.AlterClientQuotasResponse:
        """Accepts all and changes nothing."""
        answer = pb.AlterClientQuotasResponse(metadata_offset=self.end_offset - 1)
        for _ in message.entries:
            answer.entries.add()
        return answer

    async def _unregister(self, message: pb.UnregisterBrokerRequest) -> pb.UnregisterBrokerResponse:
        """Everybody is needed."""
        return pb.UnregisterBrokerResponse(error_code=ErrorCode.INVALID_REQUEST)

    async def _reassign(
        self, message: pb.AlterPartitionReassignmentsRequest
    ) -> pb.AlterPartitionReassignmentsResponse:
        """Nothing can be moved here."""
        answer = pb.AlterPartitionReassignmentsResponse()
        for item in message.partitions:
            code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
            answer.partitions.add(topic=item.topic, partition=item.partition, error_code=code)
        return answer

    async def _describe_quorum(
        self, message: quorum_pb2.DescribeQuorumRequest
    ) -> quorum_pb2.DescribeQuorumResponse:
        return quorum_pb2.DescribeQuorumResponse(
            leader_id=self.leader_id, leader_epoch=self.epoch, high_watermark=self.high_watermark
        )

    async def _change_voters(
        self, message: quorum_pb2.AddVoterRequest | quorum_pb2.RemoveVoterRequest
    ) -> quorum_pb2.ChangeVotersResponse:
        """Nobody is known to it."""
        return quorum_pb2.ChangeVotersResponse(error_code=ErrorCode.VOTER_NOT_FOUND, error_message="nobody")

    async def _delete_topics(self, message: pb.DeleteTopicsRequest) -> pb.DeleteTopicsResponse:
        answer = pb.DeleteTopicsResponse()
        for name in message.names:
            topic_id = self.topic_ids.pop(name, None)
            if topic_id is None:
                answer.topics.add(name=name, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            else:
                self.append(TopicRemoved(topic_id=topic_id))
                answer.topics.add(name=name)
        answer.metadata_offset = self.end_offset - 1
        return answer


def channel_to(quorum: FakeQuorum, *, host: str = "b1", attempt_timeout_ms: int = 1_000) -> ControllerChannel:
    runtime = quorum.world.runtime(host)
    return ControllerChannel(runtime, quorum.voters, attempt_timeout_ms=attempt_timeout_ms)
