"""Settings changed while the cluster runs act at once: on producers, on old records, on elections."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.configs import (
    ConfigEdit,
    ConfigOperation,
    ConfigResource,
    ConfigSource,
    ResourceType,
)
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
TOPIC = ConfigResource(ResourceType.TOPIC, "t")
EVERY_BROKER = ConfigResource(ResourceType.BROKER, "")
Story = Callable[[MemoryCluster, Admin, Producer], Awaitable[None]]


def run(story: Story, **settings: str) -> None:
    """``story`` on three brokers with topic ``t`` of one partition on all of them."""

    async def main() -> None:
        named = {key.replace("_", "."): value for key, value in settings.items()}
        async with MemoryCluster(seed=4, settings=named) as cluster:
            runtime = cluster.world.runtime("client")
            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(
                    BOOTSTRAP, runtime=runtime, delivery_timeout_ms=3_000, request_timeout_ms=1_000
                ) as producer,
            ):
                await admin.create_topics([NewTopic(name="t", partitions=1, replication_factor=3)])
                await story(cluster, admin, producer)

    run_virtual(main, timeout_ms=300_000)


async def write(producer: Producer, value: bytes = b"x") -> int:
    return (await (await producer.send("t", value))).offset


def edit(key: str, value: str) -> list[ConfigEdit]:
    return [ConfigEdit(key=key, value=value)]


@pytest.mark.parametrize("resource", [TOPIC, EVERY_BROKER])
def test_raised_min_insync_replicas_refuses_and_lowered_accepts(resource: ConfigResource) -> None:
    async def story(cluster: MemoryCluster, admin: Admin, producer: Producer) -> None:
        assert await write(producer) == 0
        leader = cluster.leader_of("t", 0)
        await cluster.kill(next(f"broker-{n}" for n in (1, 2, 3) if f"broker-{n}" != leader))
        assert await write(producer) == 1
        await admin.alter_configs({resource: edit("min.insync.replicas", "3")})
        with pytest.raises(GlasslogError) as refused:
            await write(producer)
        assert refused.value.code in (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT)
        await admin.alter_configs({resource: edit("min.insync.replicas", "2")})
        assert await write(producer) >= 2

    run(story)


def test_shortened_retention_deletes_what_is_old() -> None:
    async def story(cluster: MemoryCluster, admin: Admin, producer: Producer) -> None:
        await admin.alter_configs({EVERY_BROKER: edit("log.segment.bytes", "1024")})
        for _ in range(8):
            await write(producer, b"x" * 600)
        place = TopicPartition("t", 0)
        await asyncio.sleep(5)
        assert (await admin.beginning_offsets("t"))[place] == 0
        await admin.alter_configs({TOPIC: edit("retention.ms", "1000")})
        await asyncio.sleep(5)
        assert (await admin.beginning_offsets("t"))[place] > 0

    run(story, log_retention_check_interval_ms="1000")


def test_every_source_of_a_value_is_told() -> None:
    async def story(cluster: MemoryCluster, admin: Admin, producer: Producer) -> None:
        own = ConfigResource(ResourceType.BROKER, "2")
        edits = {
            TOPIC: edit("retention.ms", "1"),
            EVERY_BROKER: edit("log.retention.ms", "2"),
            own: edit("log.retention.ms", "3"),
        }
        await admin.alter_configs(edits)
        (of_topic,) = await admin.describe_configs(TOPIC, ["retention.ms"])
        assert (of_topic.value, of_topic.source) == ("1", ConfigSource.TOPIC)
        (of_broker,) = await admin.describe_configs(own, ["log.retention.ms"])
        assert (of_broker.value, of_broker.read_only) == ("3", False)
        assert [each.source for each in of_broker.synonyms] == [
            ConfigSource.BROKER,
            ConfigSource.EVERY_BROKER,
            ConfigSource.DEFAULT,
        ]
        (fixed,) = await admin.describe_configs(own, ["node.id"])
        assert (fixed.value, fixed.read_only) == ("2", True)
        assert [each.key for each in await admin.describe_configs(EVERY_BROKER)] == ["log.retention.ms"]
        await admin.alter_configs(
            {own: [ConfigEdit(key="log.retention.ms", operation=ConfigOperation.DELETE)]}
        )
        (of_broker,) = await admin.describe_configs(own, ["log.retention.ms"])
        assert (of_broker.value, of_broker.source) == ("2", ConfigSource.EVERY_BROKER)

    run(story)


def test_a_refusal_says_whose_setting_and_why() -> None:
    async def story(cluster: MemoryCluster, admin: Admin, producer: Producer) -> None:
        with pytest.raises(GlasslogError, match=r"topic 't': .*retention.ms='soon' is not an integer") as bad:
            await admin.alter_configs({TOPIC: edit("retention.ms", "soon")}, validate_only=True)
        assert bad.value.code is ErrorCode.INVALID_CONFIG
        with pytest.raises(GlasslogError, match="broker 9 is not there"):
            await admin.describe_configs(ConfigResource(ResourceType.BROKER, "9"))

    run(story)
