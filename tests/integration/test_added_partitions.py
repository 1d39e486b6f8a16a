"""Partitions are added under load: producers use them, a group reads them, nothing is lost."""

import asyncio

from glasslog.client.admin import Admin, MorePartitions, NewTopic
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
RECORDS = 600


def test_clients_find_new_partitions_while_they_work() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=5) as cluster:
            runtime = cluster.world.runtime("client")
            values: dict[int, int] = {}

            async def read() -> None:
                async with Consumer(
                    "t",
                    bootstrap_servers=BOOTSTRAP,
                    group_id="g",
                    auto_offset_reset="earliest",
                    metadata_max_age_ms=500,
                    runtime=cluster.world.runtime("reader"),
                ) as consumer:
                    while len(values) < RECORDS:
                        for partition, records, _ in await consumer.poll_batches(timeout_ms=100):
                            for _, _, _, value, _ in records:
                                assert value is not None
                                values[int(value)] = partition.partition

            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(BOOTSTRAP, runtime=runtime, metadata_max_age_ms=500) as producer,
            ):
                await admin.create_topics([NewTopic(name="t", partitions=1, replication_factor=3)])
                reading = asyncio.create_task(read())
                for number in range(RECORDS):
                    if number == RECORDS // 3:
                        await admin.create_partitions({"t": MorePartitions(count=4)})
                    await producer.send("t", b"%d" % number, key=b"%d" % number)
                    await asyncio.sleep(0.01)
                await producer.flush()
                async with asyncio.timeout(60):
                    await reading
            assert sorted(values) == list(range(RECORDS))
            assert {values[number] for number in range(RECORDS // 3)} == {0}
            assert {values[number] for number in range(RECORDS // 2, RECORDS)} == {0, 1, 2, 3}

    run_virtual(main, timeout_ms=300_000)
