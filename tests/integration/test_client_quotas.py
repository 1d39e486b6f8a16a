"""Clients with limits, on real brokers in memory: they get what is theirs, later, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.client_quotas import ANYBODY, EVERYBODY, QuotaEntity
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192"
PLACE = TopicPartition("orders", 0)
RATE = 10_000
"""Bytes per second; ten seconds of it may be used at once."""

Story = Callable[[MemoryCluster, Admin], Awaitable[None]]


def play(story: Story) -> None:
    async def main() -> None:
        async with (
            MemoryCluster(seed=3, controllers=1, brokers=1) as cluster,
            Admin(BOOTSTRAP, runtime=cluster.world.runtime("admin")) as admin,
        ):
            await admin.create_topics([NewTopic(name="orders", assignment={0: [1]})])
            await story(cluster, admin)

    run_virtual(main, timeout_ms=3_600_000)


def seconds() -> float:
    return asyncio.get_running_loop().time()


async def produce(cluster: MemoryCluster, client_id: str, size_bytes: int, acks: int = 1) -> float:
    """Send so much in batches of 1 KB; the seconds until all of it is there."""
    began = seconds()
    async with Producer(
        BOOTSTRAP,
        runtime=cluster.world.runtime(f"host of {client_id}"),
        client_id=client_id,
        acks=acks,
        linger_ms=0,
        batch_size=1_100,
        delivery_timeout_ms=3_600_000,
        request_timeout_ms=1_800_000,
        max_block_ms=3_600_000,
    ) as producer:
        replicas = cluster.broker("broker-1").replicas
        partition = None if replicas is None else replicas.find(PLACE)
        assert partition is not None
        end = partition.log_end_offset + size_bytes // 1_000
        for _ in range(size_bytes // 1_000):
            await producer.send("orders", b"v" * 1_000, partition=0)
        await producer.flush()
        await cluster.until(lambda: partition.log_end_offset == end, within_ms=100_000)
        return seconds() - began


async def consume(cluster: MemoryCluster, client_id: str, records: int) -> float:
    began, left = seconds(), records
    async with Consumer(
        bootstrap_servers=BOOTSTRAP,
        runtime=cluster.world.runtime(f"host of {client_id}"),
        client_id=client_id,
        auto_offset_reset="earliest",
    ) as consumer:
        consumer.assign([PLACE])
        while left > 0:
            left -= len(await consumer.poll())
    return seconds() - began


@pytest.mark.parametrize("acks", [0, 1])
def test_a_producer_is_held_to_its_rate_and_others_are_not(acks: int) -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        await admin.alter_client_quotas({QuotaEntity(client_id="slow"): {"producer_byte_rate": RATE}})
        assert await produce(cluster, "slow", 50_000, acks) < 1, "that is less than may be used at once"
        assert 12 <= await produce(cluster, "slow", 250_000, acks) <= 25
        assert await produce(cluster, "quick", 250_000, acks) < 1
        await admin.alter_client_quotas({QuotaEntity(client_id="slow"): {"producer_byte_rate": None}})
        assert await produce(cluster, "slow", 250_000, acks) < 1

    play(story)


def test_a_consumer_is_held_to_its_rate_and_gets_all() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        await produce(cluster, "quick", 300_000)
        await admin.alter_client_quotas({QuotaEntity(client_id=EVERYBODY): {"consumer_byte_rate": RATE}})
        assert 15 <= await consume(cluster, "slow", 300) <= 25
        await admin.alter_client_quotas({QuotaEntity(client_id="quick"): {"consumer_byte_rate": 1_000_000}})
        assert await consume(cluster, "quick", 300) < 2

    play(story)


def test_a_batch_larger_than_what_may_be_used_at_once_is_delivered_all_the_same() -> None:
    """An answer holds at least one batch. One that was over the limit by itself would never have been sent:
    however long the consumer waited, it was more than is allowed at once."""

    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        await produce(cluster, "quick", 3_000)
        await admin.alter_client_quotas({QuotaEntity(client_id="slow"): {"consumer_byte_rate": 50}})
        assert 30 <= await consume(cluster, "slow", 3) <= 90

    play(story)


def test_limits_are_seen_and_bad_ones_refused() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        both = QuotaEntity(user="ann", client_id="c")
        default = QuotaEntity(user=EVERYBODY)
        await admin.alter_client_quotas(
            {both: {"consumer_byte_rate": 7}, default: {"request_percentage": 50}}
        )
        assert await admin.describe_client_quotas() == {
            both: {"consumer_byte_rate": 7},
            default: {"request_percentage": 50},
        }
        assert list(await admin.describe_client_quotas(user=ANYBODY, strict=True)) == [default]
        assert list(await admin.describe_client_quotas(client_id="c")) == [both]
        with pytest.raises(GlasslogError, match="greater than 0") as caught:
            await admin.alter_client_quotas({both: {"consumer_byte_rate": -1}})
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        await admin.alter_client_quotas({both: {"consumer_byte_rate": 9}}, validate_only=True)
        assert (await admin.describe_client_quotas(client_id="c"))[both] == {"consumer_byte_rate": 7}

    play(story)
