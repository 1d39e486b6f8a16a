"""A broker made of dictionaries, honest about what clients can see of one, for tests of the client alone.

One node leads everything: logs with Kafka's sequence check, long polls, a group coordinator without sessions.
``faults`` are answers to give instead, by method; ``silent`` methods get no answer at all.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Listener, Peer, Services, Stream
from glasslog.log.batch import BatchHeader, parse_header, set_base_offset_and_epoch
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2 as controller
from google.protobuf.message import Message

PORT = 9192
_METHOD = "/glasslog.v1.Broker/"
_JOIN_WINDOW_S = 0.05
_POLL_S = 0.005
_WINDOW = 5
_LEADER_EPOCH = 3


@dataclass(slots=True)
class FakeLog:
    """Batches in order, each with the offset after it."""

    batches: list[tuple[BatchHeader, bytes]] = field(default_factory=list)
    end_offset: int = 0
    start_offset: int = 0
    sequences: dict[tuple[int, int], deque[tuple[int, int, int]]] = field(default_factory=dict)

    def append(self, data: bytes) -> int | ErrorCode:
        """The base offset, also of a duplicate."""
        header = parse_header(data)
        if header.has_producer:
            window = self.sequences.setdefault(
                (header.producer_id, header.producer_epoch), deque(maxlen=_WINDOW)
            )
            for first, last, offset in window:
                if (first, last) == (header.base_sequence, header.last_sequence):
                    return offset
            if header.base_sequence != (window[-1][1] + 1 if window else 0):
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            window.append((header.base_sequence, header.last_sequence, self.end_offset))
        written = bytearray(data)
        offset = self.end_offset
        set_base_offset_and_epoch(written, 0, base_offset=offset, leader_epoch=_LEADER_EPOCH)
        self.batches.append((parse_header(written), bytes(written)))
        self.end_offset += header.last_offset_delta + 1
        return offset

    def read(self, offset: int, max_bytes: int) -> bytes:
        data = b""
        for header, batch in self.batches:
            if header.next_offset > offset and (not data or len(data) + len(batch) <= max_bytes):
                data += batch
        return data


@dataclass(slots=True)
class FakeGroup:
    generation: int = 0
    members: dict[str, bytes] = field(default_factory=dict)
    joining: dict[str, bytes] = field(default_factory=dict)
    assignments: dict[str, bytes] = field(default_factory=dict)
    rebalance: asyncio.Task[None] | None = None
    offsets: dict[tuple[str, int], pb.OffsetCommitRequest.Partition] = field(default_factory=dict)


class FakeBroker:
    """Use as ``async with FakeBroker(world) as broker``."""

    def __init__(self, world: MemoryWorld, host: str = "broker-1") -> None:
        self.world = world
        self.host = host
        self.port = PORT
        self.logs: dict[str, list[FakeLog]] = {}
        self.groups: dict[str, FakeGroup] = {}
        self.calls: dict[str, int] = {}
        self.faults: dict[str, list[ErrorCode]] = {}
        self.max_batch_bytes = 1 << 30
        self.lose_answers = 0
        """So many produce requests are carried out, and then the stream breaks in place of an answer."""

        self.appeared = asyncio.Event()
        self.next_id = 0
        self.leads = True
        self._listener: Listener | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        names = [name.removeprefix("_on_") for name in dir(self) if name.startswith("_on_")]
        unary = {_METHOD + name: self._unary(name) for name in names}
        streams = {
            _METHOD + "Produce": self._produce,
            _METHOD + "Fetch": self._fetch,
            _METHOD + "Heartbeats": self._heartbeats,
        }
        transport = self.world.runtime(self.host).transport
        self._listener = await transport.listen(self.address, Services(unary=unary, streams=streams))

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    def create(self, topic: str, partitions: int = 1) -> None:
        self.logs[topic] = [FakeLog() for _ in range(partitions)]

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        from glasslog.log.records import decode_fast

        return [record[3] for _, data in self.logs[topic][partition].batches for record in decode_fast(data)]

    # --- plumbing ---------------------------------------------------------------------------------------

    def _unary(self, name: str):  # type: ignore[no-untyped-def]  # the handlers' types differ by message
        handler = getattr(self, f"_on_{name}")
        request_type = getattr(pb, f"{name}Request", None) or getattr(controller, f"{name}Request")

        async def serve(data: bytes, peer: Peer) -> bytes:
            self.calls[name] = self.calls.get(name, 0) + 1
            reply: Message = await handler(request_type.FromString(data))
            return reply.SerializeToString()

        return serve

    def _fault(self, name: str) -> int:
        waiting = self.faults.get(name)
        return int(waiting.pop(0)) if waiting else 0

    # --- data -------------------------------------------------------------------------------------------

    async def _produce(self, stream: Stream, peer: Peer) -> None:
        async for message in stream:
            request = pb.ProduceRequest.FromString(message)
            answer = pb.ProduceResponse(correlation_id=request.correlation_id)
            for item in request.partitions:
                answer.partitions.append(self._append(item))
            self.appeared.set()
            if self.lose_answers:
                self.lose_answers -= 1
                return
            if request.acks:
                await stream.send(answer.SerializeToString())

    def _append(self, item: pb.ProduceRequest.Partition) -> pb.ProduceResponse.Partition:
        result: int | ErrorCode
        fault = self._fault("Produce")
        if fault:
            result = ErrorCode(fault)
        elif len(item.records) > self.max_batch_bytes:
            result = ErrorCode.MESSAGE_TOO_LARGE
        elif not self.leads:
            result = ErrorCode.NOT_LEADER_OR_FOLLOWER
        else:
            result = self.logs[item.topic][item.partition].append(item.records)
        failed = isinstance(result, ErrorCode)
        return pb.ProduceResponse.Partition(
            topic=item.topic,
            partition=item.partition,
            error_code=int(result) if failed else 0,
            base_offset=-1 if failed else int(result),
            log_append_time_ms=-1,
            current_leader_id=-1,
            current_leader_epoch=-1,
        )

    async def _fetch(self, stream: Stream, peer: Peer) -> None:
        async for message in stream:
            request = pb.FetchRequest.FromString(message)
            answer = self._read(request)
            waited_s = 0.0
            while not any(p.records or p.error_code for p in answer.partitions) and (
                waited_s < request.max_wait_ms / 1_000
            ):
                await asyncio.sleep(_POLL_S)
                waited_s += _POLL_S
                answer = self._read(request)
            await stream.send(answer.SerializeToString())

    def _read(self, request: pb.FetchRequest) -> pb.FetchResponse:
        answer = pb.FetchResponse(correlation_id=request.correlation_id)
        for item in request.partitions:
            log = self.logs[item.topic][item.partition]
            code = self._fault("Fetch")
            if not code and not log.start_offset <= item.fetch_offset <= log.end_offset:
                code = int(ErrorCode.OFFSET_OUT_OF_RANGE)
            answer.partitions.add(
                topic=item.topic,
                partition=item.partition,
                error_code=code,
                high_watermark=log.end_offset,
                log_start_offset=log.start_offset,
                records=b"" if code else log.read(item.fetch_offset, item.max_bytes),
                preferred_read_replica=-1,
                current_leader_id=-1,
                current_leader_epoch=-1,
            )
        return answer

    # --- what every broker answers ----------------------------------------------------------------------

    async def _on_Metadata(self, request: pb.MetadataRequest) -> pb.MetadataResponse:  # noqa: N802
        answer = pb.MetadataResponse(cluster_id="fake", controller_id=-1, metadata_offset=1)
        answer.brokers.add(id=1, host=self.host, port=self.port)
        for name in sorted(self.logs) if request.all_topics else request.topics:
            if name not in self.logs:
                answer.topics.add(name=name, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                continue
            topic = answer.topics.add(name=name, topic_id=name.encode().ljust(16))
            for number in range(len(self.logs[name])):
                topic.partitions.add(
                    partition=number, leader=1, leader_epoch=_LEADER_EPOCH, replicas=[1], isr=[1]
                )
        return answer

    async def _on_InitProducerId(  # noqa: N802
        self, request: pb.InitProducerIdRequest
    ) -> pb.InitProducerIdResponse:
        self.next_id += 1
        code = self._fault("InitProducerId")
        return pb.InitProducerIdResponse(error_code=code, producer_id=self.next_id, producer_epoch=0)

    async def _on_ListOffsets(  # noqa: N802
        self, request: pb.ListOffsetsRequest
    ) -> pb.ListOffsetsResponse:
        answer = pb.ListOffsetsResponse()
        for item in request.partitions:
            log = self.logs[item.topic][item.partition]
            offset = log.end_offset if item.timestamp == -1 else log.start_offset
            answer.partitions.add(
                topic=item.topic,
                partition=item.partition,
                offset=offset,
                error_code=self._fault("ListOffsets"),
            )
        return answer

    async def _on_CreateTopics(  # noqa: N802
        self, request: controller.CreateTopicsRequest
    ) -> controller.CreateTopicsResponse:
        answer = controller.CreateTopicsResponse()
        for topic in request.topics:
            exists = topic.name in self.logs
            code = self._fault("CreateTopics") or (ErrorCode.TOPIC_ALREADY_EXISTS if exists else 0)
            if not code:
                self.create(topic.name, topic.partitions)
            answer.topics.add(
                name=topic.name,
                error_code=code,
                partitions=topic.partitions,
                replication_factor=topic.replication_factor,
            )
        return answer

    async def _on_DeleteTopics(  # noqa: N802
        self, request: controller.DeleteTopicsRequest
    ) -> controller.DeleteTopicsResponse:
        answer = controller.DeleteTopicsResponse()
        for name in request.names:
            found = self.logs.pop(name, None)
            code = 0 if found is not None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            answer.topics.add(name=name, error_code=code)
        return answer

    # --- the group coordinator --------------------------------------------------------------------------

    async def _on_FindCoordinator(  # noqa: N802
        self, request: pb.FindCoordinatorRequest
    ) -> pb.FindCoordinatorResponse:
        code = self._fault("FindCoordinator")
        return pb.FindCoordinatorResponse(error_code=code, node_id=1, host=self.host, port=self.port)

    async def _on_JoinGroup(self, request: pb.JoinGroupRequest) -> pb.JoinGroupResponse:  # noqa: N802
        code = self._fault("JoinGroup")
        if code:
            return pb.JoinGroupResponse(error_code=code)
        if not request.member_id:
            self.next_id += 1
            member_id = f"{request.client_id}-{self.next_id:04d}"
            return pb.JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id)
        group = self.groups.setdefault(request.group_id, FakeGroup())
        group.joining[request.member_id] = request.protocols[0].metadata
        if group.rebalance is None:
            group.rebalance = asyncio.create_task(self._rebalance(group))
        await asyncio.shield(group.rebalance)
        leader = min(group.members)
        answer = pb.JoinGroupResponse(
            generation_id=group.generation,
            protocol_type="consumer",
            protocol_name=request.protocols[0].name,
            leader=leader,
            member_id=request.member_id,
        )
        if leader == request.member_id:
            for member_id, metadata in group.members.items():
                answer.members.add(member_id=member_id, metadata=metadata)
        return answer

    async def _rebalance(self, group: FakeGroup) -> None:
        await asyncio.sleep(_JOIN_WINDOW_S)
        while set(group.members) - set(group.joining):  # noqa: ASYNC110 - simple beats quick here
            await asyncio.sleep(_POLL_S)
        group.members, group.joining = group.joining, {}
        group.assignments = {}
        group.generation += 1
        group.rebalance = None

    def _check(self, group_id: str, generation: int, member_id: str, name: str) -> int:
        fault = self._fault(name)
        group = self.groups.get(group_id, FakeGroup())
        if fault or member_id not in group.members:
            return fault or int(ErrorCode.UNKNOWN_MEMBER_ID)
        if generation != group.generation:
            return int(ErrorCode.ILLEGAL_GENERATION)
        return 0

    async def _on_SyncGroup(self, request: pb.SyncGroupRequest) -> pb.SyncGroupResponse:  # noqa: N802
        code = self._check(request.group_id, request.generation_id, request.member_id, "SyncGroup")
        if code:
            return pb.SyncGroupResponse(error_code=code)
        group = self.groups[request.group_id]
        for item in request.assignments:
            group.assignments[item.member_id] = item.assignment
        while not group.assignments:  # noqa: ASYNC110 - simple beats quick here
            await asyncio.sleep(_POLL_S)
        return pb.SyncGroupResponse(assignment=group.assignments.get(request.member_id, b""))

    async def _on_Heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:  # noqa: N802
        code = self._check(request.group_id, request.generation_id, request.member_id, "Heartbeat")
        if not code and self.groups[request.group_id].rebalance is not None:
            code = int(ErrorCode.REBALANCE_IN_PROGRESS)
        return pb.HeartbeatResponse(error_code=code)

    async def _heartbeats(self, stream: Stream, peer: Peer) -> None:
        messages = aiter(stream)
        request, told = pb.HeartbeatRequest(), 0
        while True:
            try:
                async with asyncio.timeout(_POLL_S):
                    message = await anext(messages)
            except TimeoutError:
                if not request.group_id:
                    continue
                code = self._check(request.group_id, request.generation_id, request.member_id, "")
                if not code and self.groups[request.group_id].rebalance is not None:
                    code = int(ErrorCode.REBALANCE_IN_PROGRESS)
                wants_answer = code != told
            except StopAsyncIteration:
                return
            else:
                self.calls["Heartbeats"] = self.calls.get("Heartbeats", 0) + 1
                request = pb.HeartbeatRequest.FromString(message)
                code = (await self._on_Heartbeat(request)).error_code
                wants_answer = request.wants_answer or code != 0
            told = code
            if wants_answer:
                await stream.send(pb.HeartbeatResponse(error_code=code).SerializeToString())

    async def _on_LeaveGroup(self, request: pb.LeaveGroupRequest) -> pb.LeaveGroupResponse:  # noqa: N802
        group = self.groups[request.group_id]
        for member in request.members:
            group.members.pop(member.member_id, None)
        if group.members and group.rebalance is None:
            group.rebalance = asyncio.create_task(self._rebalance(group))
        return pb.LeaveGroupResponse()

    async def _on_OffsetCommit(  # noqa: N802
        self, request: pb.OffsetCommitRequest
    ) -> pb.OffsetCommitResponse:
        code = 0
        if request.member_id:
            code = self._check(request.group_id, request.generation_id, request.member_id, "OffsetCommit")
        group = self.groups.setdefault(request.group_id, FakeGroup())
        answer = pb.OffsetCommitResponse()
        for item in request.partitions:
            if not code:
                group.offsets[item.topic, item.partition] = item
            answer.partitions.add(topic=item.topic, partition=item.partition, error_code=code)
        return answer

    async def _on_OffsetFetch(self, request: pb.OffsetFetchRequest) -> pb.OffsetFetchResponse:  # noqa: N802
        group = self.groups.setdefault(request.group_id, FakeGroup())
        answer = pb.OffsetFetchResponse(error_code=self._fault("OffsetFetch"))
        wanted = [(item.topic, item.partition) for item in request.partitions]
        for key in sorted(group.offsets) if request.all_partitions else wanted:
            item = group.offsets.get(key)
            answer.partitions.add(
                topic=key[0],
                partition=key[1],
                offset=-1 if item is None else item.offset,
                leader_epoch=-1 if item is None else item.leader_epoch,
                metadata="" if item is None else item.metadata,
            )
        return answer
