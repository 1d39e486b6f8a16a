"""A client that is closed is closed: nothing of it runs on, whatever it was at, and who uses it is told."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.admin import Admin, MorePartitions, NewTopic
from glasslog.client.configs import ConfigResource, ResourceType
from glasslog.client.consumer import Consumer
from glasslog.client.elections import ElectionType
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Runtime

from tests.unit.client.fake_broker import FakeBroker

T0 = TopicPartition("t", 0)
Scene = Callable[[FakeBroker, Runtime], Awaitable[None]]


def play(scene: Scene) -> None:
    """The scene, after which no task is left that was not there before."""

    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", 2)
            before = asyncio.all_tasks()
            await scene(broker, world.runtime("client"))
            # Whoever was cancelled needs a turn to end.
            await asyncio.sleep(0.01)
            left = {task.get_name() for task in asyncio.all_tasks() - before}
            # What the broker still does for a connection is not the client's.
            assert not {name for name in left if name.startswith(("producer", "consumer", "admin"))}, left

    run_virtual(main, timeout_ms=600_000)


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_producer_leaves_nothing_behind(is_dead: bool) -> None:
    """With records that a dead broker never takes: they are given up, and whoever waits is told."""

    async def scene(broker: FakeBroker, runtime: Runtime) -> None:
        producer = Producer(broker.address, runtime=runtime)
        await producer.start()
        await (await producer.send("t", b"1", partition=0))
        if is_dead:
            await broker.stop()
        delivery = await producer.send("t", b"2", partition=0)
        if is_dead:
            with pytest.raises(GlasslogError, match="1 batches were not acknowledged within 200 ms"):
                await producer.close(timeout_ms=200)
            with pytest.raises(GlasslogError, match="given up: the producer was closed"):
                await delivery
        else:
            await producer.close()
            assert (await delivery).offset == 1
        for use in (
            producer.send("t", b"3"),
            producer.send_many("t", [b"3"]),
            producer.send_records("t", [(None, b"3")]),
            producer.send_batch("t", [(None, b"3")], partition=0),
            producer.partitions_for("t"),
            producer.flush(),
        ):
            with pytest.raises(GlasslogError, match="the producer is closed"):
                await use

    play(scene)


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("is_joining", [False, True])
def test_a_consumer_leaves_nothing_behind(is_dead: bool, is_joining: bool) -> None:
    async def scene(broker: FakeBroker, runtime: Runtime) -> None:
        consumer = Consumer("t", bootstrap_servers=broker.address, group_id="g", runtime=runtime)
        await consumer.start()
        await consumer.poll(timeout_ms=0 if is_joining else 500)
        if is_dead:
            await broker.stop()
        async with asyncio.timeout(15):
            await consumer.close()
        for use in (
            consumer.poll(),
            consumer.poll_batches(),
            anext(consumer),
            consumer.commit({T0: 1}),
            consumer.committed(T0),
            consumer.end_offsets([T0]),
        ):
            with pytest.raises(GlasslogError, match="the consumer is closed"):
                await use
        with pytest.raises(GlasslogError, match="the consumer is closed"):
            consumer.commit_async({T0: 1})

    play(scene)


def test_an_admin_leaves_nothing_behind_and_answers_at_once() -> None:
    """Methods that ask a group's coordinator once went on looking for one, until their time was over."""

    async def scene(broker: FakeBroker, runtime: Runtime) -> None:
        admin = Admin(broker.address, runtime=runtime)
        await admin.start()
        await admin.list_topics()
        await admin.close()
        topic = ConfigResource(ResourceType.TOPIC, "t")
        started = asyncio.get_running_loop().time()
        for use in (
            admin.list_topics(),
            admin.create_topics([NewTopic(name="new")]),
            admin.create_partitions({"t": MorePartitions(count=3)}),
            admin.delete_topics(["t"]),
            admin.describe_topics(["t"]),
            admin.describe_cluster(),
            admin.describe_features(),
            admin.elect_leaders(ElectionType.PREFERRED),
            admin.list_offsets({T0: -1}),
            admin.delete_records({T0: 1}),
            admin.end_offsets("t"),
            admin.alter_configs({topic: []}),
            admin.describe_configs(topic),
            admin.alter_partition_reassignments({T0: [1]}),
            admin.list_partition_reassignments(),
            admin.describe_replication(T0),
            admin.unregister_broker(9),
            admin.describe_log_dirs(1),
            admin.list_groups(),
            admin.describe_groups(["g"]),
            admin.group_offsets("g"),
            admin.commit_group_offsets("g", {T0: 1}),
            admin.delete_groups(["g"]),
            admin.describe_quorum(),
            admin.add_voter(9),
        ):
            with pytest.raises(GlasslogError, match="the admin is closed") as caught:
                await use
            assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert asyncio.get_running_loop().time() == started

    play(scene)


@pytest.mark.parametrize("kind", [Producer, Admin])
def test_a_start_that_finds_nobody_leaves_nothing_behind(kind: type[Producer] | type[Admin]) -> None:
    async def scene(broker: FakeBroker, runtime: Runtime) -> None:
        client = kind("nobody:1", runtime=runtime, bootstrap_timeout_ms=500)
        started = asyncio.get_running_loop().time()
        with pytest.raises(GlasslogError, match="no broker could be reached: nobody:1"):
            await client.start()
        assert asyncio.get_running_loop().time() - started < 1.5, "not beyond the stated timeout by much"
        await client.close()

    play(scene)
