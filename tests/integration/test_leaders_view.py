"""What a leader tells of its partition, on real brokers in memory: followers, ISR, requests that wait."""

import asyncio
from collections.abc import Callable

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.producer import Producer
from glasslog.client.replication import ReplicationDescription
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
PLACE = TopicPartition("orders", 0)


async def seen(admin: Admin, condition: Callable[[ReplicationDescription], bool]) -> ReplicationDescription:
    async with asyncio.timeout(60):
        while True:
            view = await admin.describe_replication(PLACE)
            if condition(view):
                return view
            await asyncio.sleep(0.05)


def test_a_follower_that_dies_is_seen_to_be_waited_for_and_then_left_out() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=4) as cluster:
            runtime = cluster.world.runtime("writer")
            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(BOOTSTRAP, runtime=runtime) as producer,
            ):
                topic = NewTopic(
                    name="orders", assignment={0: [1, 2, 3]}, configs={"min.insync.replicas": "2"}
                )
                await admin.create_topics([topic])
                await (await producer.send("orders", b"v" * 100, partition=0))
                view = await seen(
                    admin, lambda view: all(each.log_end_offset == 1 for each in view.followers)
                )
                assert (view.leader, view.isr, view.high_watermark, view.log_end_offset) == (
                    1,
                    (1, 2, 3),
                    1,
                    1,
                )
                assert (view.min_insync_replicas, view.waiting_produces) == (2, 0)
                assert [each.broker_id for each in view.followers] == [2, 3]
                assert all(each.in_isr and each.is_active for each in view.followers)

                await cluster.kill("broker-3")
                delivery = await producer.send("orders", b"w", partition=0)
                view = await seen(admin, lambda view: len(view.isr) == 2)
                await delivery
                (gone,) = [each for each in view.followers if each.broker_id == 3]
                assert not gone.in_isr
                assert not gone.is_active
                assert gone.log_end_offset == 1
                cluster.start("broker-3")
                view = await seen(admin, lambda view: len(view.isr) == 3)
                assert view.leading_for_ms > 0

    run_virtual(main, timeout_ms=300_000)


def test_a_produce_that_waits_is_told_with_what_it_waits_for() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=5) as cluster:
            runtime = cluster.world.runtime("writer")
            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(BOOTSTRAP, runtime=runtime) as producer,
            ):
                await admin.create_topics([NewTopic(name="orders", assignment={0: [1, 2, 3]})])
                await (await producer.send("orders", b"v", partition=0))
                cluster.pause("broker-2")
                delivery = await producer.send("orders", b"w", partition=0)
                view = await seen(admin, lambda view: view.waiting_produces > 0)
                assert (view.lowest_required_offset, view.highest_required_offset) == (2, 2)
                assert view.high_watermark == 1
                assert view.first_expires_in_ms > 0
                (paused,) = [each for each in view.followers if each.broker_id == 2]
                assert (paused.in_isr, paused.log_end_offset) == (True, 1)
                cluster.resume("broker-2")
                await delivery
                view = await seen(admin, lambda view: view.waiting_produces == 0)

    run_virtual(main, timeout_ms=300_000)


def test_only_the_leader_answers_and_what_does_not_exist_is_said() -> None:
    async def main() -> None:
        async with (
            MemoryCluster(seed=6) as cluster,
            Admin(BOOTSTRAP, runtime=cluster.world.runtime("asker"), default_api_timeout_ms=3_000) as admin,
        ):
            await admin.create_topics([NewTopic(name="orders", partitions=1, replication_factor=2)])
            with pytest.raises(GlasslogError) as caught:
                await admin.describe_replication(TopicPartition("orders", 7))
            assert caught.value.code is ErrorCode.LEADER_NOT_AVAILABLE
            view = await admin.describe_replication(PLACE)
            assert view.leader in (NodeId(1), NodeId(2), NodeId(3))

    run_virtual(main, timeout_ms=300_000)


def test_groups_are_moved_and_deleted() -> None:
    async def main() -> None:
        async with (
            MemoryCluster(seed=7) as cluster,
            Admin(BOOTSTRAP, runtime=cluster.world.runtime("asker")) as admin,
        ):
            await admin.create_topics([NewTopic(name="orders", partitions=1, replication_factor=3)])
            await admin.commit_group_offsets("billing", {PLACE: 0})
            assert (await admin.group_offsets("billing"))[PLACE].offset == 0
            await admin.delete_groups(["billing"])
            assert await admin.group_offsets("billing") == {}
            with pytest.raises(GlasslogError, match="there is no group 'billing'") as caught:
                await admin.delete_groups(["billing"])
            assert caught.value.code is ErrorCode.GROUP_ID_NOT_FOUND

    run_virtual(main, timeout_ms=300_000)
