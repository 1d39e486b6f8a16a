"""Kafka's failure matrix: a node is stopped or killed, once or five times, while records are written.

Kafka's own system tests of replication do the same; every acknowledged record must be consumed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from glasslog.common.ids import TopicPartition
from glasslog.simulator.clients import RecordingProducer
from glasslog.simulator.convergence import recover
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

How = Literal["stop", "kill"]
Whom = Literal["leader", "follower", "controller"]
_PAUSE_MS = 10


def _target(stage: Stage, whom: Whom, partition: TopicPartition) -> str:
    match whom:
        case "leader":
            return stage.leader(partition)
        case "follower":
            return next(name for name in stage.in_sync(partition) if name != stage.leader(partition))
        case "controller":
            return stage.cluster.active_controller()


async def _write(stage: Stage, producer: RecordingProducer, partition: TopicPartition) -> None:
    while True:
        await producer.send(partition)
        await stage.wait(stage.random.uniform(0, 2 * _PAUSE_MS))


async def _bounce(stage: Stage, *, how: How, whom: Whom, times: int) -> None:
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    async with stage.clients.producer("producer") as producer:
        writing = asyncio.create_task(_write(stage, producer, partition))
        for _ in range(times):
            await stage.wait(stage.random.uniform(20, 200))
            name = _target(stage, whom, partition)
            end: Callable[[str], Awaitable[None]] = stage.stop if how == "stop" else stage.kill
            await end(name)
            await stage.wait(stage.random.uniform(0, 400))
            stage.start(name)
            await recover(stage.cluster)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _failure(how: How, whom: Whom, times: int) -> Scenario:
    what = {"leader": "A partition's leader", "follower": "A follower", "controller": "An active controller"}[
        whom
    ]
    often = "once" if times == 1 else f"{times} times"
    return Scenario(
        name=f"{how}-{whom}-{times}",
        description=f"{what} is {'stopped in order' if how == 'stop' else 'killed'} {often} under load.",
        origin="Kafka's replication_test.py",
        script=partial(_bounce, how=how, whom=whom, times=times),
    )


async def _hurry(stage: Stage) -> None:
    """Whoever leads is killed each second, and comes back when the next ones are gone already.

    In the end one replica after the other was the last in sync, and none of them may lead without what was
    acknowledged: below ``min.insync.replicas`` nothing is, and nobody outside ISR and ELR is elected.
    """
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    async with stage.clients.producer("producer") as producer, asyncio.TaskGroup() as returns:
        writing = asyncio.create_task(_write(stage, producer, partition))
        for _ in range(_HURRIED_KILLS):
            await stage.wait(stage.random.uniform(800, 1_200))
            is_left = any(map(stage.cluster.is_alive, stage.cluster.broker_names))
            name = stage.leader(partition) if is_left else ""
            if name and stage.cluster.is_alive(name):
                await stage.kill(name)
                returns.create_task(_return_late(stage, name))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _return_late(stage: Stage, name: str) -> None:
    await stage.wait(stage.random.uniform(*_LATE_MS))
    stage.start(name)


_HURRIED_KILLS, _LATE_MS = 5, (500, 4_000)

HURRIED_KILLS = Scenario(
    name="hurried-kills",
    description="Five leaders are killed, a second from one to the next, and come back late.",
    origin="Kafka's replication_test.py, without its waits",
    script=_hurry,
)

_HOW: tuple[How, ...] = ("stop", "kill")
_WHOM: tuple[Whom, ...] = ("leader", "follower", "controller")

FAILURES = tuple(_failure(how, whom, times) for how in _HOW for whom in _WHOM for times in (1, 5))
