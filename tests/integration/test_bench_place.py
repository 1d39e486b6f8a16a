"""Where ``glasslog bench`` measures: a topic of its own that leaves no trace, or the user's, which stays."""

from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.bench.place import Wanted, place
from glasslog.client.cli.bench.work import read, write
from glasslog.client.options import ConsumerKeywords, ProducerKeywords
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.protocols import Runtime
from glasslog.simulator.cluster import MemoryCluster

SERVERS = "broker-1:9192,broker-2:9192,broker-3:9192"
RECORDS, SIZE_BYTES = 2_500, 10


def wanted(topic: str | None = None) -> Wanted:
    return Wanted(topic=topic, partitions=3, replication_factor=0)


def play(scene: Callable[[Runtime, Admin], Awaitable[None]]) -> None:
    async def main() -> None:
        async with MemoryCluster(seed=1) as cluster:
            runtime = cluster.world.runtime("person")
            async with Admin(SERVERS, runtime=runtime) as admin:
                await scene(runtime, admin)

    run_virtual(main, timeout_ms=600_000)


async def write_too_much(runtime: Runtime) -> None:
    async with place(runtime, SERVERS, wanted()) as (_, found):
        options = ProducerKeywords(max_request_size=100)
        await write(runtime, SERVERS, found, options, records=1, size_bytes=1_000)


async def refusal(runtime: Runtime, topic: str) -> ErrorCode:
    try:
        async with place(runtime, SERVERS, wanted(topic)):
            return ErrorCode.NONE
    except GlasslogError as error:
        return error.code


async def topics(admin: Admin) -> list[str]:
    return [topic.name for topic in await admin.describe_topics()]


def test_what_is_written_is_read_and_the_topic_made_for_it_is_gone() -> None:
    async def scene(runtime: Runtime, admin: Admin) -> None:
        async with place(runtime, SERVERS, wanted()) as (_, found):
            assert found.topic in await topics(admin)
            assert (len(found.partitions), found.replication_factor) == (3, 3)
            writing = ProducerKeywords(acks="all")
            await write(runtime, SERVERS, found, writing, records=RECORDS, size_bytes=SIZE_BYTES)
            reading = ConsumerKeywords()
            count, size_bytes, _ = await read(runtime, SERVERS, found, reading, records=1_000_000)
            assert (count, size_bytes) == (RECORDS, RECORDS * SIZE_BYTES), "up to where it ends"
            count, _, _ = await read(runtime, SERVERS, found, reading, records=700)
            assert count == 700
        assert await topics(admin) == []

    play(scene)


def test_the_topic_is_gone_as_well_when_the_work_failed() -> None:
    async def scene(runtime: Runtime, admin: Admin) -> None:
        with pytest.raises(GlasslogError) as caught:
            await write_too_much(runtime)
        assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
        assert await topics(admin) == []

    play(scene)


def test_a_topic_that_was_named_is_kept_and_none_is_made_up() -> None:
    async def scene(runtime: Runtime, admin: Admin) -> None:
        await admin.create_topics([NewTopic(name="mine", partitions=2, replication_factor=2)])
        async with place(runtime, SERVERS, wanted("mine")) as (_, found):
            assert (len(found.partitions), found.replication_factor) == (2, 2)
        assert await topics(admin) == ["mine"]
        assert await refusal(runtime, "yours") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await topics(admin) == ["mine"]

    play(scene)
