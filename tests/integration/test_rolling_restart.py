"""Brokers restarted in order, one after the other, as for an upgrade.

On virtual time, where computing takes none: a stall is one of the protocol, a timeout or a pause too much.
"""

import asyncio
from collections import defaultdict
from itertools import pairwise

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.producer import Producer
from glasslog.client.types import RecordMetadata
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
PARTITIONS, LINGER_MS, PAUSE_MS = 6, 5, 2
LONGEST_STALL_MS = 100
"""Beyond the linger; about 3 are seen, which is what a record takes without any restart."""


class Acknowledgements:
    """When each partition's were."""

    def __init__(self) -> None:
        self.at_ms: dict[int, list[float]] = defaultdict(list)
        self.errors: list[GlasslogError] = []

    def note(self, outcome: RecordMetadata | GlasslogError) -> None:
        if isinstance(outcome, GlasslogError):
            self.errors.append(outcome)
        else:
            self.at_ms[outcome.partition].append(asyncio.get_running_loop().time() * 1_000)

    def longest_gap_ms(self) -> float:
        return max(later - earlier for times in self.at_ms.values() for earlier, later in pairwise(times))


@pytest.mark.parametrize("seed", range(3))
def test_a_rolling_restart_stalls_no_producer(seed: int) -> None:
    async def main() -> None:
        async with MemoryCluster(seed=seed) as cluster:
            runtime = cluster.world.runtime("writer")
            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(BOOTSTRAP, runtime=runtime, linger_ms=LINGER_MS) as producer,
            ):
                topic = NewTopic(
                    name="orders",
                    partitions=PARTITIONS,
                    replication_factor=3,
                    configs={"min.insync.replicas": "2"},
                )
                await admin.create_topics([topic])
                seen, is_over = Acknowledgements(), asyncio.Event()

                async def write() -> None:
                    while not is_over.is_set():
                        for partition in range(PARTITIONS):
                            delivery = await producer.send("orders", b"v", partition=partition)
                            delivery.add_done_callback(seen.note)
                        await asyncio.sleep(PAUSE_MS / 1_000)
                    await producer.flush()

                writing = asyncio.create_task(write())
                await asyncio.sleep(0.5)
                for name in cluster.broker_names:
                    await cluster.stop(name)
                    cluster.start(name)
                    await cluster.healthy()
                    await cluster.until(
                        lambda: all(len(cluster.partition("orders", n).isr) == 3 for n in range(PARTITIONS)),
                        what="all in sync",
                    )
                    await asyncio.sleep(0.5)
                is_over.set()
                await writing
                assert seen.errors == []
                assert seen.longest_gap_ms() <= LONGEST_STALL_MS + LINGER_MS

    run_virtual(main, timeout_ms=120_000)
