"""A member's signs of life on its stream: how few they are, and that no silence goes unnoticed."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from glasslog.client.consumer import Consumer
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Peer, Stream
from glasslog.v1 import broker_pb2 as pb

from tests.unit.client.fake_broker import FakeBroker

SESSION_MS = 45_000


class ListeningBroker(FakeBroker):
    """Notes when heartbeats came and which asked for an answer; ``deaf``, it takes them and says nothing."""

    deaf = False
    streams = 0
    find_another = ""

    def __init__(self, world: MemoryWorld, host: str = "broker-1") -> None:
        super().__init__(world, host)
        self.beats: list[tuple[float, bool]] = []

    async def _on_Heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:  # noqa: N802
        self.beats.append((asyncio.get_running_loop().time(), request.wants_answer))
        if self.deaf:
            await asyncio.Event().wait()
        return await super()._on_Heartbeat(request)

    async def _on_FindCoordinator(  # noqa: N802
        self, request: pb.FindCoordinatorRequest
    ) -> pb.FindCoordinatorResponse:
        found = await super()._on_FindCoordinator(request)
        if self.find_another:
            found.host = self.find_another
        return found

    async def _heartbeats(self, stream: Stream, peer: Peer) -> None:
        self.streams += 1
        await super()._heartbeats(stream, peer)


Make = Callable[..., Consumer]
Scene = Callable[[ListeningBroker, Make], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with ListeningBroker(world) as broker:
            broker.create("t")

            def make(**options: object) -> Consumer:
                runtime = world.runtime("client")
                return Consumer(
                    "t",
                    bootstrap_servers=broker.address,
                    runtime=runtime,
                    group_id="g",
                    **options,  # type: ignore[arg-type]  # tests mix types
                )

            await scene(broker, make)

    run_virtual(main, timeout_ms=3_600_000)


def test_a_member_at_rest_says_little_and_wants_to_hear_less() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make() as consumer:
            await consumer.poll(timeout_ms=10 * SESSION_MS)
            assert broker.streams == 1
            times = [time for time, _ in broker.beats]
            pauses = [round(later - earlier) for earlier, later in pairwise(times)]
            assert set(pauses) == {SESSION_MS // 3 // 1_000}
            asked = [wants_answer for _, wants_answer in broker.beats]
            assert asked[:6] == [True, False, True, False, True, False]
            assert broker.calls["JoinGroup"] == 2

    play(scene)


def test_an_interval_that_was_asked_for_is_kept() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make(heartbeat_interval_ms=1_000) as consumer:
            await consumer.poll(timeout_ms=60_000)
            assert 58 <= len(broker.beats) <= 61
            assert 2 <= sum(wants_answer for _, wants_answer in broker.beats) <= 3

    play(scene)


def test_a_rebalance_is_noticed_between_two_heartbeats() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make() as first:
            await first.poll(timeout_ms=1_000)
            assert len(first.assignment) == 1
            began_s = asyncio.get_running_loop().time()
            async with make() as second:
                await asyncio.gather(first.poll(timeout_ms=5_000), second.poll(timeout_ms=5_000))
                assert broker.groups["g"].generation == 2
                assert len(first.assignment) + len(second.assignment) == 1
            assert asyncio.get_running_loop().time() - began_s < SESSION_MS / 3 / 1_000

    play(scene)


def test_a_coordinator_that_falls_silent_is_left_before_the_session_could_end() -> None:
    """Its process hangs: the connection stays, and heartbeats go nowhere. Another broker has the group by
    then, and would take a member that does not come for dead.
    """

    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make() as consumer, ListeningBroker(broker.world, "broker-2") as other:
            await consumer.poll(timeout_ms=1_000)
            other.logs, other.groups = broker.logs, broker.groups
            broker.deaf, broker.find_another = True, "broker-2"
            fell_silent_s = asyncio.get_running_loop().time()
            await consumer.poll(timeout_ms=2 * SESSION_MS)
            assert other.beats[0][0] - fell_silent_s < SESSION_MS / 1_000
            assert other.groups["g"].generation == 1, "it is the same member as before"

    play(scene)


def test_a_coordinator_that_moved_is_followed_at_once() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make() as consumer, ListeningBroker(broker.world, "broker-2") as other:
            await consumer.poll(timeout_ms=1_000)
            other.logs, other.groups = broker.logs, broker.groups
            broker.find_another = "broker-2"
            broker.faults[""] = [ErrorCode.NOT_COORDINATOR]
            await consumer.poll(timeout_ms=1_000)
            assert len(other.beats) == 1
            assert other.groups["g"].generation == 1

    play(scene)


def test_a_coordinator_that_still_loads_is_waited_for() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        broker.faults["Heartbeat"] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 3
        async with make() as consumer:
            await consumer.poll(timeout_ms=3_000)
            assert [wants_answer for _, wants_answer in broker.beats] == [True] * 4
            assert broker.calls["FindCoordinator"] == 1
            assert broker.groups["g"].generation == 1

    play(scene)


def test_an_answer_that_makes_no_sense_ends_the_stream_and_not_the_membership() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        serve, told = broker._heartbeats, False

        async def nonsense(stream: Stream, peer: Peer) -> None:
            nonlocal told
            if not told:
                told = True
                await stream.send(b"\xff\xff")
            await serve(stream, peer)

        broker._heartbeats = nonsense  # type: ignore[method-assign]  # for the length of this test
        await broker.stop()
        await broker.start()
        async with make() as consumer:
            await consumer.poll(timeout_ms=3_000)
            assert broker.streams >= 1
            assert told
            assert broker.beats
            assert broker.groups["g"].generation == 1

    play(scene)


def test_waiting_in_a_poll_is_polling_however_seldom_heartbeats_are() -> None:
    """A poll that waited looked after its membership as often as heartbeats went out; with a third of a long
    session between them, whoever has to poll more often was taken for one that does not.
    """

    async def scene(broker: ListeningBroker, make: Make) -> None:
        async with make(max_poll_interval_ms=2_000) as consumer:
            await consumer.poll(timeout_ms=60_000)
            assert len(consumer.assignment) == 1
            assert broker.groups["g"].generation == 1
            assert "LeaveGroup" not in broker.calls

    play(scene)


def test_a_closed_consumer_leaves_no_stream_and_no_task() -> None:
    async def scene(broker: ListeningBroker, make: Make) -> None:
        before = {task.get_name() for task in asyncio.all_tasks()}
        async with make() as consumer:
            await consumer.poll(timeout_ms=1_000)
            assert "consumer heartbeats" in {task.get_name() for task in asyncio.all_tasks()}
        await asyncio.sleep(1)
        left = {task.get_name() for task in asyncio.all_tasks()} - before
        assert not {name for name in left if "consumer" in name or "eartbeat" in name}, left

    play(scene)
