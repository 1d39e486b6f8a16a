"""A consumer reads from the follower in its rack, on real brokers in memory, and bears its failures."""

import asyncio

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.ids import TopicPartition
from glasslog.common.node_config import RACK_AWARE_SELECTOR
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
PLACE = TopicPartition("orders", 0)


async def read(consumer: Consumer, count: int, within_s: float) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            found += [record.value or b"" for record in await consumer.poll()]
    return found


def test_a_consumer_reads_from_its_rack_and_goes_back_to_the_leader_when_that_fails() -> None:
    """Each step cuts the consumer from one broker, so that only another one can have served it."""

    async def main() -> None:
        settings = {"replica.selector.class": RACK_AWARE_SELECTOR}
        async with MemoryCluster(seed=5, settings=settings) as cluster:
            network = cluster.world.network
            writer = cluster.world.runtime("writer")
            async with (
                Admin(BOOTSTRAP, runtime=writer) as admin,
                Producer(BOOTSTRAP, runtime=writer) as producer,
                Consumer(
                    bootstrap_servers=BOOTSTRAP,
                    runtime=cluster.world.runtime("reader"),
                    auto_offset_reset="earliest",
                    client_rack="r2",
                ) as consumer,
            ):
                await admin.create_topics([NewTopic(name="orders", assignment={0: [1, 2, 3]})])
                consumer.assign([PLACE])
                await (await producer.send("orders", b"first", partition=0))
                assert await read(consumer, 1, 5) == [b"first"]

                network.partition("reader", "broker-1")
                await (await producer.send("orders", b"of the follower", partition=0))
                assert await read(consumer, 1, 0.1) == [b"of the follower"]
                network.heal()

                await cluster.kill("broker-2")
                await (await producer.send("orders", b"of the leader", partition=0))
                assert await read(consumer, 1, 2) == [b"of the leader"]

    run_virtual(main, timeout_ms=300_000)


def test_a_paused_follower_holds_a_consumer_back_for_a_moment_only() -> None:
    """It stays in the ISR for ``replica.lag.time.max.ms``, so the leader would name it again and again: after
    a first silence the consumer does not tell its rack for a while."""

    async def main() -> None:
        settings = {"replica.selector.class": RACK_AWARE_SELECTOR}
        async with MemoryCluster(seed=6, settings=settings) as cluster:
            writer = cluster.world.runtime("writer")
            async with (
                Admin(BOOTSTRAP, runtime=writer) as admin,
                Producer(BOOTSTRAP, runtime=writer) as producer,
                Consumer(
                    bootstrap_servers=BOOTSTRAP,
                    runtime=cluster.world.runtime("reader"),
                    auto_offset_reset="earliest",
                    max_partition_fetch_bytes=1,
                    client_rack="r2",
                ) as consumer,
            ):
                await admin.create_topics([NewTopic(name="orders", assignment={0: [1, 2, 3]})])
                for number in range(50):
                    await (await producer.send("orders", b"%d" % number, partition=0))
                cluster.pause("broker-2")
                consumer.assign([PLACE])
                assert await read(consumer, 50, 3) == [b"%d" % number for number in range(50)]

    run_virtual(main, timeout_ms=300_000)
