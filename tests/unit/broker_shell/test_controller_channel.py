import asyncio

import pytest
from glasslog.broker.controller_channel import ControllerChannel
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import TransportError
from glasslog.v1 import controller_pb2 as pb

from tests.unit.broker_shell.fake_quorum import CONTROLLER, FakeQuorum, channel_to

ALLOCATE = CONTROLLER + "AllocateProducerIds"


async def allocate(channel: ControllerChannel, *, timeout_ms: int = 5_000) -> int:
    request = pb.AllocateProducerIdsRequest(broker_id=1)
    answer = await channel.call(ALLOCATE, request, pb.AllocateProducerIdsResponse, timeout_ms=timeout_ms)
    return answer.first_producer_id


def test_the_active_controller_is_found_and_remembered() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        quorum.leader_id = 3
        await quorum.start()
        channel = channel_to(quorum)
        assert await allocate(channel) == 0
        assert await allocate(channel) == 10
        assert [node for node, _ in quorum.asked] == [1, 2, 3, 3]
        assert channel.leader_id == 3

    run_virtual(main)


def test_a_dead_controller_is_passed_over() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        channel = channel_to(quorum)
        await allocate(channel)
        quorum.kill(1)
        quorum.elect(2)
        started = asyncio.get_running_loop().time()
        await allocate(channel)
        assert asyncio.get_running_loop().time() - started < 0.05
        assert channel.leader_id == 2

    run_virtual(main)


def test_an_election_is_waited_for() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        quorum.leader_id = -1
        await quorum.start()
        asyncio.get_running_loop().call_later(2, quorum.elect, 2)
        channel = channel_to(quorum)
        started = asyncio.get_running_loop().time()
        await allocate(channel)
        assert 2 <= asyncio.get_running_loop().time() - started < 2.6
        assert len(quorum.asked) < 40

    run_virtual(main)


def test_a_hint_ends_the_pause() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        quorum.leader_id = -1
        await quorum.start()
        channel = channel_to(quorum)
        waiting = asyncio.create_task(allocate(channel))
        await asyncio.sleep(1.5)
        quorum.elect(3)
        channel.on_leader(leader_id=NodeId(3), epoch=2)
        started = asyncio.get_running_loop().time()
        await waiting
        assert asyncio.get_running_loop().time() - started < 0.02

    run_virtual(main)


def test_giving_up_says_who_said_what() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        quorum.leader_id = -1
        await quorum.start()
        with pytest.raises(TransportError, match=r"Ids within 1000 ms \(controller") as caught:
            await allocate(channel_to(quorum), timeout_ms=1_000)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT

    run_virtual(main)


def test_a_refusal_of_the_active_controller_is_not_retried() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        quorum.heartbeat_error = ErrorCode.STALE_BROKER_EPOCH
        channel = channel_to(quorum)
        with pytest.raises(GlasslogError) as caught:
            await channel.call(
                CONTROLLER + "BrokerHeartbeat",
                pb.BrokerHeartbeatRequest(),
                pb.BrokerHeartbeatResponse,
                timeout_ms=1_000,
            )
        assert caught.value.code is ErrorCode.STALE_BROKER_EPOCH
        assert len(quorum.asked) == 1

    run_virtual(main)


def test_a_frozen_controller_costs_one_attempt_not_the_whole_call() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        channel = channel_to(quorum, attempt_timeout_ms=300)
        await allocate(channel)
        quorum.world.network.pause_host("c1")
        quorum.elect(2)
        await allocate(channel, timeout_ms=1_000)

    run_virtual(main)
