"""What a group must not lose: a position that a member was told to be committed. KIP-1041."""

import asyncio

from glasslog.broker.group.hashing import partition_of_group
from glasslog.client.consumer import Consumer
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_GROUP = "readers"
_OFFSETS_PARTITIONS = 50
_LIVES = 4


async def _dying_coordinators(stage: Stage) -> None:
    """Coordinators are cut off from their followers, asked to store a position, and killed."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    async with stage.clients.producer("producer") as producer:
        for _ in range(_LIVES * 2):
            await producer.put(partition)
    reader = stage.clients.consumer("member", "kept", group=_GROUP, enable_auto_commit=False)
    async with reader.consumer as consumer, asyncio.timeout(120):
        while not consumer.assignment:
            await reader.poll(timeout_ms=100)
        for life in range(_LIVES):
            await _outlive(stage, consumer, partition, 2 * life)


async def _outlive(stage: Stage, consumer: Consumer, partition: TopicPartition, stored: int) -> None:
    """One dies that was asked for one more than is ``stored``; its successor is asked for two."""
    groups = TopicPartition("__consumer_offsets", partition_of_group(_GROUP, _OFFSETS_PARTITIONS))
    replicas = len(stage.replicas(groups))
    await stage.until(lambda: len(stage.in_sync(groups)) == replicas, "all know the group", within_ms=40_000)
    coordinator = stage.leader(groups)
    stage.cut(coordinator, *(name for name in stage.cluster.broker_names if name != coordinator))
    told = stored + 1 if await _commit(stage, consumer, partition, stored + 1) else stored
    await stage.kill(coordinator)
    found = await consumer.committed(partition)
    kept = 0 if found is None else found.offset
    stage.expect(kept >= told, f"{told} is committed, as was told: {kept}")
    await consumer.commit({partition: stored + 2})
    stage.heal()
    stage.start(coordinator)


async def _commit(stage: Stage, consumer: Consumer, partition: TopicPartition, position: int) -> bool:
    """Whether the member was told that it is done."""
    try:
        async with asyncio.timeout(stage.random.uniform(0.1, 0.5)):
            await consumer.commit({partition: position})
    except (TimeoutError, GlasslogError):
        stage.note(f"nobody was told that {position} is committed")
        return False
    stage.note(f"{position} is said to be committed")
    return True


DYING_COORDINATORS = Scenario(
    name="dying-coordinators",
    description="A coordinator dies cut off from its followers, and has promised nothing the next lacks.",
    origin="KIP-1041",
    script=_dying_coordinators,
)
