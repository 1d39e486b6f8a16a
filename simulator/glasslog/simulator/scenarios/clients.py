"""What clients must not notice: retries, old leaders, power losses, plain use. Redpanda 3039, etcd 20418."""

import asyncio
from functools import partial

from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.content import Keep
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_WINDOW = 5
"""Batches of a producer that may be under way to one partition."""


async def _retried_batches(stage: Stage) -> None:
    """All batches in flight are replicated, no answer arrives, the leader dies: all are sent again."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    leader = stage.leader(partition)
    async with stage.clients.producer("producer", linger_ms=0) as producer:
        for _ in range(stage.random.randrange(1, 10)):
            await producer.put(partition)
        before = stage.end_of(leader, partition)
        stage.cut(leader, "producer", one_way=True)
        for _ in range(_WINDOW):
            await producer.send(partition)
            await stage.wait(stage.random.uniform(2, 5))
        everything = before + _WINDOW
        await stage.until(
            lambda: stage.high_watermark_of(leader, partition) >= everything, "all is replicated"
        )
        await stage.kill(leader)
        await producer.flush()
        stage.heal()
    stage.start(leader)


RETRIED_BATCHES = Scenario(
    name="retried-batches",
    description="An idempotent producer repeats its five batches in flight after the leader was killed.",
    origin="redpanda 3039",
    script=_retried_batches,
)


async def _long_pause(stage: Stage) -> None:
    """A leader and the active controller sleep through their successors' time, and wake up."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    reader = stage.clients.consumer("reader")
    async with reader.consumer, stage.clients.producer("producer") as producer:
        reader.assign([partition])
        for _ in range(10):
            await producer.put(partition)
        await reader.poll(timeout_ms=500)
        sleeping = [stage.leader(partition), stage.cluster.active_controller()]
        for name in sleeping:
            stage.pause(name)
        await stage.until(
            lambda: stage.leader(partition) not in ("", sleeping[0]), "another leads", within_ms=30_000
        )
        for _ in range(stage.random.randrange(10, 30)):
            await producer.put(partition)
        await stage.wait(stage.random.uniform(0, 20_000))
        for name in sleeping:
            stage.resume(name)
        # What it reads and writes now may come to those that have just woken up.
        for _ in range(10):
            await producer.put(partition)
            await reader.poll(timeout_ms=100)
        end = stage.end_of(stage.leader(partition), partition)
        async with asyncio.timeout(30):
            while await reader.consumer.position(partition) < end:
                await reader.poll(timeout_ms=200)


LONG_PAUSE = Scenario(
    name="long-pause",
    description="Leaders wake up after others have taken over, and serve nothing stale.",
    origin="etcd 20418",
    script=_long_pause,
)


async def _calm(stage: Stage) -> None:
    """Producers and a group whose members come and go, and nothing goes wrong."""
    partitions = await stage.create_topic("kept", partitions=3, configs={"min.insync.replicas": "2"})
    producers = [stage.clients.producer(f"producer-{number}") for number in range(2)]
    async with producers[0], producers[1]:
        for life in range(4):
            for _ in range(stage.random.randrange(10, 40)):
                sent = await stage.random.choice(producers).put(stage.random.choice(partitions))
                stage.expect(sent.is_acknowledged, f"{sent.value} is acknowledged: {sent.error}")
            await _read_on(stage, f"member-{life}", partitions)


async def _read_on(stage: Stage, name: str, partitions: list[TopicPartition]) -> None:
    """A new member starts where the last one stopped, and gets to the end."""
    ends = {partition: stage.end_of(stage.leader(partition), partition) for partition in partitions}
    reader = stage.clients.consumer(name, "kept", group="readers", enable_auto_commit=False)
    async with reader.consumer as consumer, asyncio.timeout(30):
        while len(consumer.assignment) < len(partitions):
            await reader.poll(timeout_ms=50)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            await reader.poll(timeout_ms=100)
        await consumer.commit()
        for partition, end in ends.items():
            found = await consumer.committed(partition)
            is_there = found is not None and found.offset == end
            stage.expect(is_there, f"{name} has committed {partition} at {end}: {found}")


CALM = Scenario(
    name="no-faults",
    description="Without any fault nothing is lost, no offset is invented and no client gets stuck.",
    origin="Jepsen on Bufstream",
    script=_calm,
)


async def _power_loss(stage: Stage, *, is_flushed: bool) -> None:
    """All brokers lose power at once, after each record was acknowledged by all replicas."""
    configs = {"min.insync.replicas": "2"} | ({"flush.messages": "1"} if is_flushed else {})
    (partition,) = await stage.create_topic("kept", configs=configs)
    # Without a flush nothing is promised for this, so that loss is then no finding.
    producer = stage.clients.producer("producer", validated=is_flushed, acks="all", enable_idempotence=True)
    async with producer:
        sent = [await producer.put(partition) for _ in range(stage.random.randrange(10, 60))]
        keep: Keep = stage.random.choice(("none", "torn"))
        for name in stage.cluster.broker_names:
            await stage.kill(name, power_loss=keep)
        await stage.wait(stage.random.uniform(100, 2_000))
        for name in stage.cluster.broker_names:
            stage.start(name)
        await stage.led(partition)
        left = stage.end_of(stage.leader(partition), partition)
        stage.note(f"{left} of {len(sent)} acknowledged records are left")
        await producer.put(partition)


POWER_LOSS = Scenario(
    name="coordinated-power-loss",
    description="All brokers lose power at once: what no disk has is lost, acknowledged or not.",
    origin="nats 7564",
    script=partial(_power_loss, is_flushed=False),
    may_lose=True,
)

FLUSHED_POWER_LOSS = Scenario(
    name="flushed-power-loss",
    description="The same with flush.messages=1: what was acknowledged survives.",
    origin="nats 7564",
    script=partial(_power_loss, is_flushed=True),
)
