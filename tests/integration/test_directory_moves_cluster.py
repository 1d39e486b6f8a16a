"""Replicas that move between the data directories of their brokers in a whole cluster, under load."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from glasslog.broker.replica_moves import DirectoryWish
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.protocols import TransportError
from glasslog.simulator.cluster import MemoryCluster

from tests.integration.test_failing_directories import (
    PARTITIONS,
    TWO_DIRECTORIES,
    are_placed,
    directories,
    placed,
    produce_until_taken,
    values,
    with_topic,
)


def run(scenario: Callable[[MemoryCluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with MemoryCluster(settings=TWO_DIRECTORIES) as cluster:
            await scenario(cluster)

    run_virtual(main, timeout_ms=600_000)


async def move_all(cluster: MemoryCluster, name: str, path: str) -> None:
    """As soon as the broker, which may just have begun, has its replicas."""
    wishes = [DirectoryWish(TopicPartition("t", number), path) for number in range(PARTITIONS)]
    async with asyncio.timeout(20):
        while True:
            replicas = cluster.broker(name).replicas
            if replicas is not None and set(await replicas.alter_log_dirs(wishes)) == {ErrorCode.NONE}:
                return
            await asyncio.sleep(0.05)


def lie_in(cluster: MemoryCluster, name: str, path: str) -> bool:
    return set(directories(cluster, name).values()) == {path}


def test_all_replicas_move_to_and_fro_while_they_are_written_and_brokers_die() -> None:
    """Leaders and followers alike; a broker that dies half-way goes on with its moves when it is back."""

    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        taken: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
        is_over = asyncio.Event()

        async def load() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                partition, value = number % PARTITIONS, b"%d" % number * 50
                with suppress(TransportError):
                    await produce_until_taken(cluster, partition, value)
                    taken[partition].append(value)

        writing = asyncio.create_task(load())
        chance = random.Random(8)
        for turn, path in enumerate(("/d1", "/d2", "/d1")):
            names = cluster.broker_names
            for name in names:
                await move_all(cluster, name, path)
            dying = names[turn % len(names)]
            await asyncio.sleep(chance.random() * 0.1)
            await cluster.kill(dying)
            await asyncio.sleep(1)
            await cluster.restart(dying)
            for name in names:
                await cluster.until(partial(lie_in, cluster, name, path), what=f"all of {name} in {path}")
        is_over.set()
        await writing
        await cluster.until(lambda: are_placed(cluster), what="the controller knows where all lie")
        for each in placed(cluster):
            await cluster.until(
                lambda: all(set(one.isr) == set(one.replicas) for one in placed(cluster)), what="all in sync"
            )
            found = await values(cluster, each.partition)
            assert len(taken[each.partition]) > 10
            # What was not answered in time was sent again, and may be there twice.
            assert set(taken[each.partition]) <= set(found)

    run(scenario)
