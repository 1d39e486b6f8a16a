"""KIP-392: who reads from the follower in its rack sees what it would see at the leader, whatever happens."""

import asyncio

from glasslog.common.ids import TopicPartition
from glasslog.common.node_config import RACK_AWARE_SELECTOR
from glasslog.simulator.clients import RecordingConsumer, RecordingProducer
from glasslog.simulator.convergence import recover
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_ROUNDS = 4
_PAUSE_MS = 10
_RACKS = {"broker-1": "r1", "broker-2": "r2", "broker-3": "r3"}


async def _write(stage: Stage, producer: RecordingProducer, partition: TopicPartition) -> None:
    while True:
        await producer.send(partition)
        await stage.wait(stage.random.uniform(0, 2 * _PAUSE_MS))


async def _read(reader: RecordingConsumer, seen: list[int]) -> None:
    while True:
        seen += [record.offset for record in await reader.poll(timeout_ms=200)]


async def _harm(stage: Stage, follower: str, leader: str) -> None:
    """One of what may come between a consumer and its replica, or the replica and its leader."""
    match stage.random.randrange(5):
        case 0:
            await stage.kill(follower)
        case 1:
            stage.pause(follower)
        case 2:
            stage.cut(follower, leader)
        case 3:
            stage.cut("reader", follower)
        case _:
            await stage.kill(leader)


async def _closest_replica(stage: Stage) -> None:
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    leader, follower, _ = stage.replicas(partition)
    reader = stage.clients.consumer("reader", client_rack=_RACKS[follower], metadata_max_age_ms=1_000)
    reader.assign([partition])
    await reader.consumer.start()
    seen: list[int] = []
    async with stage.clients.producer("producer") as producer:
        work = [
            asyncio.create_task(_write(stage, producer, partition)),
            asyncio.create_task(_read(reader, seen)),
        ]
        await stage.until(lambda: len(seen) > 5, "the reader has read, and by now from the follower")
        stage.cut("reader", leader)
        before = len(seen)
        await stage.until(lambda: len(seen) > before + 5, "the follower alone serves", within_ms=500)
        stage.heal()
        for _ in range(_ROUNDS):
            await stage.wait(stage.random.uniform(20, 200))
            await _harm(stage, follower, stage.leader(partition) or leader)
            await stage.wait(stage.random.uniform(0, 1_500))
            stage.make_whole()
            await recover(stage.cluster)
        before = len(seen)
        await stage.until(lambda: len(seen) > before, "the reader reads on")
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    await reader.consumer.close()
    stage.expect(seen == list(range(len(seen))), f"offsets {seen} are not one after the other")


CLOSEST_REPLICA = Scenario(
    name="closest-replica",
    description="A consumer reads from the follower in its rack, which dies, is cut off and changes leaders.",
    origin="KIP-392",
    script=_closest_replica,
    settings={"replica.selector.class": RACK_AWARE_SELECTOR},
    racks=_RACKS,
)
