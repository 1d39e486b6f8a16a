"""The driver: answers wait for the commit, lost leadership ends what waits, broken streams fence in time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, Offset, TopicId
from glasslog.common.runtime.memory.basics import MemoryClock
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.driver import Controller
from glasslog.controller.heartbeats import Heartbeats
from glasslog.controller.raft.types import CommittedBatch
from glasslog.controller.requests import (
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    LostBroker,
    NewTopic,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
)
from glasslog.metadata.features import SUPPORTED

from tests.unit.controller.controller_bench import CLUSTER, ENDPOINTS, incarnation


class FakeLog:
    """Commits when told to, or at once."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.proposed: list[tuple[Offset, tuple[bytes, ...]]] = []
        self.next = 10
        self.at_once = True
        self.refusal: GlasslogError | None = None

    @property
    def next_offset(self) -> Offset:
        return Offset(self.next)

    def propose(self, records: Sequence[bytes]) -> Offset:
        if self.refusal is not None:
            raise self.refusal
        base = Offset(self.next)
        self.next += len(records)
        self.proposed.append((base, tuple(records)))
        if self.at_once:
            asyncio.get_running_loop().call_soon(self.commit)
        return base

    def commit(self) -> None:
        pending, self.proposed = self.proposed, []
        for base, records in pending:
            self.controller.on_committed(CommittedBatch(base_offset=base, epoch=1, records=records))


class JumpingClock(MemoryClock):
    """Shows ``ahead_ms`` more than virtual time, as after a pause of this process."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class World:
    def __init__(self) -> None:
        settings = ControllerSettings(cluster_id=CLUSTER)
        self.clock = JumpingClock()
        self.controller = Controller(clock=self.clock, node_id=NodeId(100), settings=settings)
        self.log = FakeLog(self.controller)
        self.controller.attach(self.log)

    async def register(self, broker_id: int) -> BrokerEpoch:
        request = RegisterBrokerRequest(
            cluster_id=CLUSTER,
            broker_id=NodeId(broker_id),
            incarnation_id=incarnation(broker_id),
            features=SUPPORTED,
            endpoints=ENDPOINTS,
        )
        return (await self.controller.submit(request, RegisterBrokerResponse)).broker_epoch

    async def heartbeat(self, broker_id: int, epoch: BrokerEpoch) -> BrokerHeartbeatResponse:
        request = BrokerHeartbeatRequest(
            broker_id=NodeId(broker_id), broker_epoch=epoch, current_metadata_offset=Offset(self.log.next)
        )
        return await self.controller.submit(request, BrokerHeartbeatResponse)

    def creation(self, name: str, *, replication_factor: int = 1) -> CreateTopicsRequest:
        topic_id = TopicId(name.ljust(16).encode())
        topic = NewTopic(name=name, topic_id=topic_id, partitions=2, replication_factor=replication_factor)
        return CreateTopicsRequest(topics=(topic,))

    async def create(self, name: str, *, timeout_ms: int = 0) -> ErrorCode:
        request = self.creation(name, replication_factor=2)
        response = await self.controller.submit(request, CreateTopicsResponse, timeout_ms=timeout_ms)
        return response.topics[0].error_code


Body = Callable[[World], Awaitable[None]]


def play(body: Body) -> None:
    async def main() -> None:
        world = World()
        running = asyncio.create_task(world.controller.run())
        world.controller.on_leader(1)
        try:
            await body(world)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_virtual(main, timeout_ms=600_000)


def fails_with(code: ErrorCode, words: str) -> Callable[[GlasslogError], bool]:
    return lambda error: error.code is code and words in str(error)


def test_an_answer_leaves_when_its_records_are_committed() -> None:
    async def body(world: World) -> None:
        world.log.at_once = False
        asked = asyncio.create_task(world.register(1))
        await asyncio.sleep(1)
        assert not asked.done()
        world.log.commit()
        assert await asked == 10

    play(body)


def test_an_answer_says_up_to_where_metadata_shows_what_was_decided() -> None:
    async def body(world: World) -> None:
        epoch = await world.register(1)
        await world.heartbeat(1, epoch)
        changed = await world.controller.change(world.creation("t"), CreateTopicsResponse)
        assert changed.offset == world.log.next - 1 == world.controller.committed.offset
        again = await world.controller.change(world.creation("t"), CreateTopicsResponse)
        assert again.response.topics[0].error_code is ErrorCode.TOPIC_ALREADY_EXISTS
        assert again.offset == changed.offset

    play(body)


def test_an_answer_without_records_waits_for_what_it_was_based_on() -> None:
    """A heartbeat's answer said "unfenced" before that was committed; the controller lost its leadership,
    the broker
    served, and nobody knew."""

    async def body(world: World) -> None:
        epoch = await world.register(1)
        world.log.at_once = False
        first = asyncio.create_task(world.heartbeat(1, epoch))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(world.heartbeat(1, epoch))
        await asyncio.sleep(1)
        assert not first.done()
        assert not second.done()
        world.log.commit()
        assert not (await first).is_fenced
        assert not (await second).is_fenced

    play(body)


def test_lost_leadership_fails_what_waits_and_says_who_leads() -> None:
    async def body(world: World) -> None:
        world.log.at_once = False
        asked = asyncio.create_task(world.register(1))
        await asyncio.sleep(0.01)
        world.controller.on_not_leader(2, NodeId(200))
        with pytest.raises(GlasslogError, match="controller 200 is") as raised:
            await asked
        assert raised.value.code is ErrorCode.NOT_CONTROLLER
        with pytest.raises(GlasslogError, match="controller 100 is not the active one; controller 200 is"):
            await world.register(1)
        world.controller.on_not_leader(3, NO_NODE)
        with pytest.raises(GlasslogError, match="none is known"):
            await world.register(1)

    play(body)


def test_a_request_gives_up_after_its_timeout() -> None:
    async def body(world: World) -> None:
        for broker in (1, 2):
            epoch = await world.register(broker)
            await world.heartbeat(broker, epoch)
        world.log.at_once = False
        with pytest.raises(GlasslogError, match="within 50 ms") as raised:
            await world.create("t", timeout_ms=50)
        assert raised.value.code is ErrorCode.REQUEST_TIMED_OUT
        world.log.commit()
        assert await world.create("t") is ErrorCode.TOPIC_ALREADY_EXISTS

    play(body)


def test_too_many_waiting_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasslog.controller.driver.MAX_WAITING_REQUESTS", 2)

    async def body(world: World) -> None:
        world.log.at_once = False
        waiting = [asyncio.create_task(world.register(broker)) for broker in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(GlasslogError, match="wait for the quorum") as raised:
            await world.register(3)
        assert raised.value.code is ErrorCode.THROTTLING_QUOTA_EXCEEDED
        world.log.commit()
        await asyncio.gather(*waiting)

    play(body)


async def never() -> None:
    await asyncio.Event().wait()


async def three_brokers(world: World) -> dict[int, BrokerEpoch]:
    epochs = {broker: await world.register(broker) for broker in (1, 2, 3)}
    for broker, epoch in epochs.items():
        assert not (await world.heartbeat(broker, epoch)).is_fenced
    return epochs


def test_a_broken_stream_fences_within_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="glasslog.controller")

    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        sessions = {each: world.controller.open_session(NodeId(each), epochs[each]) for each in epochs}
        assert await world.create("t") is ErrorCode.NONE
        sessions[1].close()
        await asyncio.sleep(0.149)
        assert world.controller.status().active_brokers == 3
        await asyncio.sleep(0.005)
        assert world.controller.status().active_brokers == 2
        assert world.controller.status().offline_partitions == 0

    play(body)
    text = caplog.text
    assert "fencing broker 1: its session stream has been broken for 15" in text
    assert "broker 1 fenced" in text
    assert "leader 1 -> " in text


def test_silence_fences_after_the_session_timeout() -> None:
    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        for each in epochs:
            world.controller.open_session(NodeId(each), epochs[each])
        for _ in range(10):
            await asyncio.sleep(1)
            for broker in (1, 2):
                await world.heartbeat(broker, epochs[broker])
        assert world.controller.status().active_brokers == 2
        assert (await world.heartbeat(3, epochs[3])).is_fenced is False, "it holds its stream and is back"

    play(body)


def test_a_stream_of_an_unknown_incarnation_is_refused() -> None:
    async def body(world: World) -> None:
        await world.register(1)
        with pytest.raises(GlasslogError, match="epoch 99") as raised:
            world.controller.open_session(NodeId(1), BrokerEpoch(99))
        assert raised.value.code is ErrorCode.STALE_BROKER_EPOCH

    play(body)


def test_streams_end_with_the_leadership_and_do_not_count_in_the_next_term() -> None:
    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        old = world.controller.open_session(NodeId(1), epochs[1])
        held = asyncio.create_task(old.hold(never()))
        await asyncio.sleep(0.01)
        world.controller.on_not_leader(2, NodeId(200))
        with pytest.raises(GlasslogError, match="controller 200 is"):
            await held
        world.controller.on_leader(3)
        for each in epochs:
            world.controller.open_session(NodeId(each), epochs[each])
        old.close()
        await asyncio.sleep(5)
        assert world.controller.status().active_brokers == 3

    play(body)


def test_a_broker_that_does_not_come_to_the_new_controller_is_fenced_after_the_window() -> None:
    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        world.controller.on_not_leader(2, NO_NODE)
        world.controller.on_leader(3)
        for each in (1, 2):
            world.controller.open_session(NodeId(each), epochs[each])
        await asyncio.sleep(1.99)
        assert world.controller.status().active_brokers == 3
        await asyncio.sleep(0.02)
        assert world.controller.status().active_brokers == 2

    play(body)


def test_fencing_is_tried_again_when_the_log_refuses() -> None:
    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        sessions = {each: world.controller.open_session(NodeId(each), epochs[each]) for each in epochs}
        world.log.refusal = GlasslogError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "full")
        sessions[1].close()
        await asyncio.sleep(1)
        assert world.controller.status().active_brokers == 3
        world.log.refusal = None
        await asyncio.sleep(0.3)
        assert world.controller.status().active_brokers == 2

    play(body)


def test_a_log_that_refuses_is_not_taken_for_a_stall(caplog: pytest.LogCaptureFixture) -> None:
    """A fencing that had to wait made its own deadline seem missed, and every other session was prolonged."""

    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        sessions = {each: world.controller.open_session(NodeId(each), epochs[each]) for each in epochs}
        world.log.refusal = GlasslogError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "full")
        sessions[1].close()
        await asyncio.sleep(1)
        assert "fencing has to wait" in caplog.text
        assert "stood still" not in caplog.text

    play(body)


def test_a_controller_that_was_paused_itself_does_not_fence_for_what_it_did_not_hear() -> None:
    """A suspended machine wakes: every session seems to have run out, the heartbeats still in the sockets."""

    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        for each in epochs:
            world.controller.open_session(NodeId(each), epochs[each])
        await asyncio.sleep(8.9)
        world.clock.ahead_ms = 20_000
        await asyncio.sleep(0.2)
        for each in epochs:
            await world.heartbeat(each, epochs[each])
        assert world.controller.status().active_brokers == 3
        await asyncio.sleep(9.1)
        assert world.controller.status().active_brokers == 0, "now they had every chance"

    play(body)


def test_a_violated_invariant_ends_the_controller_and_not_only_the_request() -> None:
    async def main() -> None:
        world = World()
        running = asyncio.create_task(world.controller.run())
        world.controller.on_leader(1)
        world.log.next = -5
        with pytest.raises(InvariantViolation, match="offset"):
            await world.register(1)
        with pytest.raises(InvariantViolation, match="offset"):
            await running

    run_virtual(main, timeout_ms=10_000)


def test_an_idle_controller_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats must not wake the fencing task: with many brokers it would never rest."""
    wakes = 0
    expired = Heartbeats.expired

    def counted(heartbeats: Heartbeats, now_ms: int) -> tuple[LostBroker, ...]:
        nonlocal wakes
        wakes += 1
        return expired(heartbeats, now_ms)

    async def body(world: World) -> None:
        epochs = await three_brokers(world)
        for each in epochs:
            world.controller.open_session(NodeId(each), epochs[each])
        monkeypatch.setattr(Heartbeats, "expired", counted)
        for _ in range(60):
            await asyncio.sleep(1)
            for broker, epoch in epochs.items():
                await world.heartbeat(broker, epoch)
        assert 0 < wakes < 12

    play(body)
