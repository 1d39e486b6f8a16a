"""What the heartbeats of ten thousand members cost three brokers, by the ways in which they may come.

A thousand members stand for all: each in a group of its own, on a connection of its own, and each beating so
often that the brokers get as many heartbeats a second as ten thousand would send. What brokers need for the
same connections while nobody beats is taken off, and shown by itself. Knows the calls of the group protocol.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.messages.members import HEARTBEAT, HeartbeatRequest
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.connections import Connections
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.addresses import join_address
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import FrameConnection, Runtime
from glasslog.v1 import broker_pb2 as pb
from google.protobuf.message import Message

from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, running_cluster
from benchmarks.report import Figure, Line, Skipped

_ALL = 10_000
_MEMBERS, _QUICK_MEMBERS = 1_000, 60
_MEASURE_S, _QUICK_MEASURE_S = 15.0, 3.0
_OURS_EVERY_S, _KAFKAS_EVERY_S = 15.0, 3.0
"""As our consumers beat, a third of the session; and as Kafka's do. Ours are answered every other time."""

_UNARY_SHARE = 0.1
"""So many of the unary heartbeats are really sent: all would need more than this machine may have."""

_TICK_S, _SETTLE_S = 0.005, 3.0
_JOINING_AT_ONCE = 100
_TIMEOUT_S, _CALL_TIMEOUT_MS, _PAUSE_S = 600, 30_000, 0.1
_SESSION_MS = 600_000
"""Longer than it takes to measure everything: nobody is to drop out before its turn."""

_KAFKA_VERSION, _MAX_FRAME_BYTES = 4, 1 << 20
_FLEXIBLE_HEADER_BYTES = 5

Reply = TypeVar("Reply", bound=Message)
Beat = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """Where its coordinator listens, and who it is."""

    grpc: str
    kafka: str
    beat: pb.HeartbeatRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """Shares of a core, of all brokers together."""

    connected: float
    beating: float
    beats_per_s: float


def run(*, quick: bool) -> Sequence[Line]:
    """Our consumers' streams, Kafka's protocol, unary calls."""
    if not HAS_PROC:
        return [Skipped(what="heartbeats", reason=NO_PROC)]
    seconds, members = (_QUICK_MEASURE_S, _QUICK_MEMBERS) if quick else (_MEASURE_S, _MEMBERS)
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, seconds, members))


async def _measure(runtime: Runtime, cluster: LocalCluster, seconds: float, count: int) -> list[Line]:
    async with asyncio.timeout(_TIMEOUT_S):
        scope = TaskScope(lambda error: None)
        await scope.open("members")
        connections = Connections(runtime, scope)
        try:
            members = await _join_all(connections, cluster, count)
            meter = _Meter(cluster, seconds, members, await _at_rest(cluster, seconds))
            streams = await meter.cost(_on_streams(runtime, scope), every_s=_OURS_EVERY_S)
            frames = await meter.cost(_on_frames(runtime), every_s=_KAFKAS_EVERY_S)
            unary = await meter.cost(_unary(connections), every_s=_KAFKAS_EVERY_S, share=_UNARY_SHARE)
        finally:
            await connections.close()
            await scope.close()
    return [
        *_lines("our consumers", streams, f"on streams, every {_OURS_EVERY_S:.0f} s", aim="< 25"),
        *_lines("Kafka's consumers", frames, f"every {_KAFKAS_EVERY_S:.0f} s", aim="< 25"),
        _figure("unary calls", unary, f"every {_KAFKAS_EVERY_S:.0f} s", aim=""),
    ]


def _lines(who: str, cost: _Cost, note: str, *, aim: str) -> list[Line]:
    idle = Figure(
        what=f"connections of {_ALL:,}: {who}",
        value=100 * cost.connected,
        unit="% of a core",
        note="all three brokers together, while nobody beats",
    )
    return [_figure(who, cost, note, aim=aim), idle]


def _figure(who: str, cost: _Cost, note: str, *, aim: str) -> Figure:
    each_us = cost.beating / cost.beats_per_s * 1e6
    return Figure(
        what=f"heartbeats of {_ALL:,}: {who}",
        value=100 * cost.beating,
        unit="% of a core",
        aim=aim,
        note=f"all three brokers together; {note}: {cost.beats_per_s:,.0f}/s, {each_us:,.0f} us each",
    )


async def _at_rest(cluster: LocalCluster, seconds: float) -> float:
    """The brokers' share of a core while nothing is asked of them."""
    await asyncio.sleep(_SETTLE_S)
    brokers = cluster.state().brokers
    before_ms = processor_ms(brokers)
    await asyncio.sleep(seconds)
    return (processor_ms(brokers) - before_ms) / 1_000 / seconds


class _Meter:
    """Measures one way after the other, with the same members."""

    def __init__(
        self, cluster: LocalCluster, seconds: float, members: Sequence[_Member], at_rest: float
    ) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._members = members
        self._at_rest = at_rest

    async def cost(
        self,
        connect: Callable[[AsyncExitStack, _Member], Awaitable[Beat]],
        *,
        every_s: float,
        share: float = 1.0,
    ) -> _Cost:
        """Of ``_ALL`` members; ``share`` of their heartbeats are sent, and stand for the others."""
        async with AsyncExitStack() as opened:
            beats = [await connect(opened, member) for member in self._members]
            for beat in beats:
                await beat()
            connected = await _at_rest(self._cluster, self._seconds)
            began_s, before_ms = time.perf_counter(), processor_ms(self._cluster.state().brokers)
            sent = await _beat_all(beats, self._seconds, per_s=_ALL / every_s * share)
            used_ms = processor_ms(self._cluster.state().brokers) - before_ms
            seconds = time.perf_counter() - began_s
        beating = used_ms / 1_000 / seconds - connected
        return _Cost(
            connected=(connected - self._at_rest) * _ALL / len(self._members),
            # What a slow machine did not get to send counts as well.
            beating=beating * (_ALL / every_s) / (sent / seconds),
            beats_per_s=_ALL / every_s,
        )


async def _beat_all(beats: Sequence[Beat], seconds: float, *, per_s: float) -> int:
    """Each in its turn, at an even rate; how many it were."""
    started_s, sent = time.perf_counter(), 0
    async with asyncio.TaskGroup() as tasks:
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            while sent < elapsed_s * per_s:
                tasks.create_task(_done(beats[sent % len(beats)]()))
                sent += 1
            await asyncio.sleep(_TICK_S)
    return sent


async def _done(beat: Awaitable[None]) -> None:
    await beat


# --- the ways ---------------------------------------------------------------------------------------------


def _on_streams(runtime: Runtime, scope: TaskScope) -> Callable[[AsyncExitStack, _Member], Awaitable[Beat]]:
    async def connect(opened: AsyncExitStack, member: _Member) -> Beat:
        connections = Connections(runtime, scope)
        opened.push_async_callback(connections.close)
        stream = connections.open(member.grpc, "Heartbeats")
        answers, turn = aiter(stream), 0

        async def beat() -> None:
            nonlocal turn
            turn += 1
            member.beat.wants_answer = turn % 2 == 1
            await stream.send(member.beat.SerializeToString())
            if member.beat.wants_answer:
                _check(pb.HeartbeatResponse.FromString(await anext(answers)).error_code)

        return beat

    return connect


def _on_frames(runtime: Runtime) -> Callable[[AsyncExitStack, _Member], Awaitable[Beat]]:
    async def connect(opened: AsyncExitStack, member: _Member) -> Beat:
        answers = _Answers()
        connection: FrameConnection = await runtime.transport.dial_frames(
            member.kafka, answers, timeout_ms=_CALL_TIMEOUT_MS, max_frame_bytes=_MAX_FRAME_BYTES
        )
        opened.callback(connection.close)
        header = encode_request_header(HEARTBEAT.key, _KAFKA_VERSION, correlation_id=1, client_id="member")
        request = HeartbeatRequest(
            group_id=member.beat.group_id,
            generation_id=member.beat.generation_id,
            member_id=member.beat.member_id,
        )
        frame = header + HEARTBEAT.encode_request(request, _KAFKA_VERSION)

        async def beat() -> None:
            connection.send([frame])
            _check(await answers.next())

        return beat

    return connect


def _unary(connections: Connections) -> Callable[[AsyncExitStack, _Member], Awaitable[Beat]]:
    async def connect(opened: AsyncExitStack, member: _Member) -> Beat:
        async def beat() -> None:
            reply = await _ask(connections, member.grpc, "Heartbeat", member.beat, pb.HeartbeatResponse)
            _check(reply.error_code)

        return beat

    return connect


class _Answers:
    """The receiving end of a Kafka connection: the codes of its answers, one after the other."""

    def __init__(self) -> None:
        self._codes: asyncio.Queue[int] = asyncio.Queue()

    def on_frame(self, frame: memoryview) -> None:
        reader = Reader(frame[_FLEXIBLE_HEADER_BYTES:])
        self._codes.put_nowait(HEARTBEAT.decode_response(reader, _KAFKA_VERSION).error_code)

    def on_closed(self, error: Exception | None) -> None:
        self._codes.put_nowait(ErrorCode.NETWORK_EXCEPTION)

    async def next(self) -> int:
        return await self._codes.get()


def _check(code: int) -> None:
    if code:
        raise GlasslogError(ErrorCode(code), "a member was not known")


# --- joining ----------------------------------------------------------------------------------------------


async def _join_all(connections: Connections, cluster: LocalCluster, count: int) -> list[_Member]:
    gate = asyncio.Semaphore(_JOINING_AT_ONCE)
    kafka = {broker.address("GRPC"): broker.address("KAFKA") for broker in cluster.state().brokers}

    async def enter(number: int) -> _Member:
        group_id = f"members-{number}"
        async with gate:
            address = await _coordinator(connections, cluster.bootstrap[0], group_id)
            joined = await _join(connections, address, group_id)
            beat = await _sync(connections, address, group_id, joined)
            return _Member(grpc=address, kafka=kafka[address], beat=beat)

    return list(await asyncio.gather(*(enter(number) for number in range(count))))


async def _coordinator(connections: Connections, bootstrap: str, group_id: str) -> str:
    request = pb.FindCoordinatorRequest(key=group_id, key_type=0)
    while True:
        found = await _ask(connections, bootstrap, "FindCoordinator", request, pb.FindCoordinatorResponse)
        if not found.error_code:
            return join_address(found.host, found.port)
        await asyncio.sleep(_PAUSE_S)


async def _join(connections: Connections, address: str, group_id: str) -> pb.JoinGroupResponse:
    request = pb.JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=_SESSION_MS,
        rebalance_timeout_ms=_SESSION_MS,
        protocol_type="consumer",
        protocols=[pb.JoinGroupRequest.Protocol(name="range", metadata=b"")],
    )
    while True:
        reply = await _ask(connections, address, "JoinGroup", request, pb.JoinGroupResponse)
        if not reply.error_code:
            return reply
        request.member_id = reply.member_id or request.member_id
        await asyncio.sleep(0 if reply.error_code == ErrorCode.MEMBER_ID_REQUIRED else _PAUSE_S)


async def _sync(
    connections: Connections, address: str, group_id: str, joined: pb.JoinGroupResponse
) -> pb.HeartbeatRequest:
    shares = [
        pb.SyncGroupRequest.Assignment(member_id=each.member_id, assignment=b"") for each in joined.members
    ]
    request = pb.SyncGroupRequest(
        group_id=group_id,
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=shares,
    )
    reply = await _ask(connections, address, "SyncGroup", request, pb.SyncGroupResponse)
    if reply.error_code:
        raise GlasslogError(ErrorCode(reply.error_code), f"{group_id} did not get its shares")
    return pb.HeartbeatRequest(
        group_id=group_id, generation_id=joined.generation_id, member_id=joined.member_id
    )


async def _ask(
    connections: Connections, address: str, method: str, request: Message, reply: type[Reply]
) -> Reply:
    return await connections.unary(address, method, request, reply, timeout_ms=_CALL_TIMEOUT_MS)
