"""What consumers cost that have nothing to read: one of ours, and the heartbeats of ten thousand members.

The members are bare calls from one process, each in a group of its own: join, sync, then a heartbeat every
three seconds, as clients send them by default.  Knows the calls of the group protocol, and where brokers are.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.connections import Connections
from glasslog.client.consumer import Consumer
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.addresses import join_address
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime
from glasslog.v1 import broker_pb2 as pb
from google.protobuf.message import Message

from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, running_cluster
from benchmarks.report import Figure, Line, Skipped

_TOPIC = "rest"
_PARTITIONS, _REPLICAS = 6, 3
_MEMBERS, _QUICK_MEMBERS = 10_000, 300
_JOINING_AT_ONCE = 200
_BEAT_EVERY_S, _TICKS_PER_BEAT = 3.0, 100
_MEASURE_S, _QUICK_MEASURE_S, _SETTLE_S = 15.0, 3.0, 3.0
_TIMEOUT_S, _CALL_TIMEOUT_MS, _PAUSE_S = 300, 30_000, 0.1

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """What a heartbeat needs: where to, and the request."""

    address: str
    beat: pb.HeartbeatRequest


def run(*, quick: bool) -> Sequence[Line]:
    """A consumer that waits, then the members."""
    if not HAS_PROC:
        return [Skipped(what="consumers at rest", reason=NO_PROC)]
    seconds, members = (_QUICK_MEASURE_S, _QUICK_MEMBERS) if quick else (_MEASURE_S, _MEMBERS)
    with running_cluster() as cluster:
        return run_in_process(lambda runtime: _measure(runtime, cluster, seconds, members))


async def _measure(runtime: Runtime, cluster: LocalCluster, seconds: float, members: int) -> list[Line]:
    async with asyncio.timeout(_TIMEOUT_S):
        async with Admin(cluster.bootstrap, runtime=runtime) as admin:
            await admin.create_topics(
                [NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=_REPLICAS)]
            )
        share = await _waiting_consumer(runtime, cluster, seconds)
        used, beats = await _heartbeats(runtime, cluster, seconds, members)
        return [
            Figure(
                what="a consumer at rest",
                value=100 * share,
                unit="% of a core",
                aim="< 1",
                note=f"in a group, {_PARTITIONS} partitions on three brokers",
            ),
            Figure(
                what=f"heartbeats of {members:,} members",
                value=100 * used / seconds,
                unit="% of a core",
                aim="< 25",
                note=f"all three brokers together, beyond what they need at rest; {beats / seconds:,.0f}/s",
            ),
            Figure(what="one heartbeat", value=used / beats * 1e6, unit="us of a broker's core"),
        ]


async def _waiting_consumer(runtime: Runtime, cluster: LocalCluster, seconds: float) -> float:
    async with Consumer(
        _TOPIC, bootstrap_servers=cluster.bootstrap, group_id="at-rest", runtime=runtime
    ) as consumer:
        while len(consumer.assignment) < _PARTITIONS:
            await consumer.poll(timeout_ms=100)
        await consumer.poll(timeout_ms=int(_SETTLE_S * 1_000))
        began_s = time.process_time()
        await consumer.poll(timeout_ms=int(seconds * 1_000))
        return (time.process_time() - began_s) / seconds


async def _heartbeats(
    runtime: Runtime, cluster: LocalCluster, seconds: float, count: int
) -> tuple[float, int]:
    """The brokers' seconds of processor time for them, and how many there were."""
    scope = TaskScope(lambda error: None)
    await scope.open("members")
    connections = Connections(runtime, scope)
    try:
        members = await _join_all(connections, cluster.bootstrap[0], count)
        brokers = cluster.state().brokers
        before_ms = processor_ms(brokers)
        await asyncio.sleep(seconds)
        at_rest_ms = processor_ms(brokers) - before_ms
        before_ms = processor_ms(brokers)
        beats = await _beat(connections, members, seconds)
        return (processor_ms(brokers) - before_ms - at_rest_ms) / 1_000, beats
    finally:
        await connections.close()
        await scope.close()


async def _beat(connections: Connections, members: Sequence[_Member], seconds: float) -> int:
    """Each in its turn, at an even rate."""
    tick_s = _BEAT_EVERY_S / _TICKS_PER_BEAT
    started_s, beats = time.perf_counter(), 0
    async with asyncio.TaskGroup() as tasks:
        for tick in range(round(seconds / tick_s)):
            for member in members[tick % _TICKS_PER_BEAT :: _TICKS_PER_BEAT]:
                tasks.create_task(_beat_once(connections, member))
                beats += 1
            await asyncio.sleep(max(0.0, started_s + (tick + 1) * tick_s - time.perf_counter()))
    return beats


async def _beat_once(connections: Connections, member: _Member) -> None:
    reply = await _ask(connections, member.address, "Heartbeat", member.beat, pb.HeartbeatResponse)
    if reply.error_code:
        raise GlasslogError(ErrorCode(reply.error_code), "a member was not known")


async def _join_all(connections: Connections, bootstrap: str, count: int) -> list[_Member]:
    gate = asyncio.Semaphore(_JOINING_AT_ONCE)

    async def enter(number: int) -> _Member:
        group_id = f"members-{number}"
        async with gate:
            address = await _coordinator(connections, bootstrap, group_id)
            joined = await _join(connections, address, group_id)
            return await _sync(connections, address, group_id, joined)

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
        session_timeout_ms=45_000,
        rebalance_timeout_ms=45_000,
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
) -> _Member:
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
    beat = pb.HeartbeatRequest(
        group_id=group_id, generation_id=joined.generation_id, member_id=joined.member_id
    )
    return _Member(address=address, beat=beat)


async def _ask(
    connections: Connections, address: str, method: str, request: Message, reply: type[Reply]
) -> Reply:
    return await connections.unary(address, method, request, reply, timeout_ms=_CALL_TIMEOUT_MS)
