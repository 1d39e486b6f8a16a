import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from glasslog.broker.controller_channel import ControllerChannel
from glasslog.broker.lifecycle import BrokerIdentity, BrokerMembership
from glasslog.broker.lifecycle_core import CatchingUp, LifecycleSettings, Running
from glasslog.broker.metadata_observer import MetadataObserver
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.metadata.records import Endpoint

from tests.unit.broker_shell.fake_quorum import CLUSTER_ID, FakeQuorum, channel_to

SETTINGS = LifecycleSettings(
    heartbeat_interval_ms=2_000, registration_timeout_ms=10_000, controlled_shutdown_timeout_ms=5_000
)
BROKER = 101


@dataclass(frozen=True)
class Cluster:
    quorum: FakeQuorum
    controllers: ControllerChannel
    observer: MetadataObserver
    membership: BrokerMembership
    running: asyncio.Task[None]


Scenario = Callable[[Cluster], Awaitable[None]]


def join(scenario: Scenario, prepare: Callable[[FakeQuorum], None] = lambda quorum: None) -> None:
    """Run ``scenario`` beside one broker that joins a quorum of three."""

    async def main() -> None:
        world = MemoryWorld()
        quorum = FakeQuorum(world)
        prepare(quorum)
        await quorum.start()
        runtime = world.runtime("b1")
        controllers = channel_to(quorum)
        observer = MetadataObserver(
            runtime, controllers, node_id=NodeId(BROKER), cluster_id=CLUSTER_ID, answer_timeout_ms=500
        )
        identity = BrokerIdentity(
            broker_id=NodeId(BROKER),
            cluster_id=CLUSTER_ID,
            incarnation_id=runtime.random.uuid(),
            endpoints=(Endpoint(name="GRPC", host="b1", port=9192),),
            rack="r1",
            log_dir_ids=(),
        )
        membership = BrokerMembership(runtime, controllers, observer, identity=identity, settings=SETTINGS)
        following = asyncio.create_task(observer.run())
        running = asyncio.create_task(membership.run())
        try:
            await scenario(Cluster(quorum, controllers, observer, membership, running))
        finally:
            running.cancel()
            following.cancel()
            await asyncio.gather(running, following, return_exceptions=True)

    run_virtual(main, timeout_ms=120_000)


async def until_running(cluster: Cluster, *, within_ms: int = 100) -> None:
    async with asyncio.timeout(within_ms / 1000):
        await cluster.membership.state.until(lambda state: isinstance(state, Running))


def sessions_at(cluster: Cluster) -> list[int]:
    return list(cluster.quorum.open_sessions.values())


def test_joining_takes_a_few_round_trips() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster, within_ms=20)
        await asyncio.sleep(0.02)
        assert sessions_at(cluster) == [1]
        own = cluster.observer.image.brokers[NodeId(BROKER)]
        assert (own.fenced, own.rack, own.broker_epoch) == (False, "r1", cluster.membership.broker_epoch)

    join(scenario)


def test_an_idle_broker_is_quiet() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        before = len(cluster.quorum.heartbeats)
        await asyncio.sleep(20)
        assert 9 <= len(cluster.quorum.heartbeats) - before <= 11
        assert len(cluster.quorum.sessions) == 1

    join(scenario)


def test_a_broken_session_is_opened_again_at_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        await asyncio.sleep(5)
        cluster.quorum.break_sessions()
        await asyncio.sleep(0.05)
        assert sessions_at(cluster) == [1]
        assert len(cluster.quorum.sessions) == 2

    join(scenario)


def test_the_session_follows_the_active_controller() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        await asyncio.sleep(5)
        cluster.quorum.elect(3)
        await asyncio.sleep(0.05)
        assert sessions_at(cluster) == [3]

    join(scenario)


def test_the_session_survives_the_active_controllers_death() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        await asyncio.sleep(5)
        cluster.quorum.kill(1)
        cluster.quorum.elect(2)
        await asyncio.sleep(0.1)
        assert cluster.quorum.sessions[-1][0] == 2
        assert isinstance(cluster.membership.state.value, Running)

    join(scenario)


def test_a_forgotten_broker_registers_anew_with_its_incarnation() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        first = cluster.membership.broker_epoch
        cluster.quorum.forget(BROKER)
        await asyncio.sleep(2.5)
        await until_running(cluster)
        assert cluster.membership.broker_epoch > first
        assert cluster.quorum.sessions[-1] == (1, cluster.membership.broker_epoch)
        one, two = cluster.quorum.registrations
        assert one.incarnation_id == two.incarnation_id
        assert (one.previous_broker_epoch, two.previous_broker_epoch) == (-1, first)

    join(scenario)


def test_a_broker_fenced_unawares_is_back_in_milliseconds() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        await asyncio.sleep(0.5)
        cluster.quorum.set_fenced(BROKER, True)
        await cluster.membership.state.until(lambda state: isinstance(state, CatchingUp))
        await until_running(cluster, within_ms=20)

    join(scenario)


def test_a_duplicate_registration_is_retried_until_the_other_is_gone() -> None:
    def prepare(quorum: FakeQuorum) -> None:
        quorum.registration_error = (ErrorCode.DUPLICATE_BROKER_REGISTRATION, "broker 101 is alive")

    async def scenario(cluster: Cluster) -> None:
        await asyncio.sleep(5)
        assert len(cluster.quorum.registrations) < 30
        cluster.quorum.registration_error = None
        await until_running(cluster, within_ms=300)

    join(scenario, prepare)


def test_a_broker_that_can_not_register_stops_and_says_why() -> None:
    def prepare(quorum: FakeQuorum) -> None:
        quorum.registration_error = (ErrorCode.DUPLICATE_BROKER_REGISTRATION, "broker 101 is alive")

    async def scenario(cluster: Cluster) -> None:
        with pytest.raises(GlasslogError, match="not registered within 10000 ms: broker 101 is alive"):
            await cluster.running

    join(scenario, prepare)


def test_controlled_shutdown_ends_when_the_controller_says_so() -> None:
    def prepare(quorum: FakeQuorum) -> None:
        quorum.release_after_heartbeats = 3

    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        cluster.membership.shut_down()
        async with asyncio.timeout(0.5):
            await cluster.running
        assert [beat.want_shut_down for beat in cluster.quorum.heartbeats[-4:]] == [True] * 4
        await asyncio.sleep(0.01)
        assert sessions_at(cluster) == []

    join(scenario, prepare)


def test_controlled_shutdown_does_not_wait_for_dead_controllers() -> None:
    async def scenario(cluster: Cluster) -> None:
        await until_running(cluster)
        for voter in cluster.quorum.voters:
            cluster.quorum.kill(voter.node_id)
        cluster.membership.shut_down()
        async with asyncio.timeout(6):
            await cluster.running

    join(scenario)
