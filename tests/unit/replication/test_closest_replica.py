"""Consumers read from the replica in their rack, and see no more and nothing else than at the leader."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.partition.replica_selector import ReplicaView, closest_replica
from glasslog.broker.requests import ACKS_LEADER
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.node_config import RACK_AWARE_SELECTOR
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.replication.replica_cluster import ReplicaCluster, batch, until

Story = Callable[[ReplicaCluster], Awaitable[None]]


def play(story: Story, *, selector: str = RACK_AWARE_SELECTOR) -> None:
    """Brokers 1, 2 and 3 in the racks r1, r2 and r3."""

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7), replica_selector_class=selector)
        for node_id in (1, 2, 3):
            await cluster.start(node_id)
        await story(cluster)
        await cluster.stop_all()
        assert cluster.fatal == []

    run_virtual(main, timeout_ms=120_000)


def view(node_id: int, rack: str, end: int = 10, caught_up_ms: int = 0) -> ReplicaView:
    return ReplicaView(NodeId(node_id), rack, end, caught_up_ms)


@pytest.mark.parametrize(
    ("rack", "followers", "expected"),
    [
        ("r1", [view(2, "r1", 20)], 1),
        ("r2", [view(2, "r2"), view(3, "r3")], 2),
        ("r2", [view(2, "r2", 5), view(3, "r2", 7)], 3),
        ("r2", [view(2, "r2", 7, 100), view(3, "r2", 7, 90)], 2),
        ("r2", [view(3, "r2"), view(2, "r2")], 2),
        ("r9", [view(2, "r2"), view(3, "r3")], 1),
        ("r2", [], 1),
    ],
)
def test_the_furthest_in_the_rack_is_the_closest(
    rack: str, followers: list[ReplicaView], expected: int
) -> None:
    assert closest_replica(rack, view(1, "r1"), followers) == expected


def test_a_leader_names_the_follower_in_the_consumers_rack_at_once() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        found = await asyncio.wait_for(cluster.fetched(1, 0, rack="r2", max_wait_ms=60_000), 1)
        assert (found.error, found.preferred_read_replica, len(found.records)) == (ErrorCode.NONE, 2, 0)
        assert found.high_watermark == found.last_stable_offset == 1
        for rack in ("r1", "r9", ""):
            found = await cluster.fetched(1, 0, rack=rack)
            assert (found.preferred_read_replica, len(found.records)) == (NO_NODE, len(batch("a")))

    play(story)


def test_nobody_is_named_unless_the_setting_asks_for_it() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        found = await cluster.fetched(1, 0, rack="r2")
        assert (found.preferred_read_replica, len(found.records)) == (NO_NODE, len(batch("a")))

    play(story, selector="")


def test_only_who_is_in_sync_alive_and_has_the_offset_is_named() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.world.network.partition("b1", "b2")
        await cluster.produced(1, batch("b"), acks=ACKS_LEADER)
        await until(lambda: cluster.partition(3).log_end_offset == 2)
        assert (await cluster.fetched(1, 1, rack="r2")).preferred_read_replica == 2
        assert (await cluster.fetched(1, 2, rack="r2")).preferred_read_replica == NO_NODE
        cluster.world.network.heal()
        await until(lambda: cluster.partition(2).log_end_offset == 2)
        cluster.set_isr((1, 3))
        assert (await cluster.fetched(1, 0, rack="r2")).preferred_read_replica == NO_NODE
        cluster.set_isr((1, 2, 3))
        cluster.fence(2)
        assert (await cluster.fetched(1, 0, rack="r2")).preferred_read_replica == NO_NODE

    play(story)


def test_a_follower_serves_up_to_its_high_watermark() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.fetched(1, 0, rack="r2")
        await until(lambda: cluster.partition(2).high_watermark == 1)
        cluster.world.network.partition("b1", "b3")
        await cluster.produced(1, batch("b"), acks=ACKS_LEADER)
        await until(lambda: cluster.partition(2).log_end_offset == 2)
        found = await cluster.fetched(2, 0, rack="r2", leader_epoch=0)
        assert (found.error, found.high_watermark, len(found.records)) == (ErrorCode.NONE, 1, len(batch("a")))
        found = await cluster.fetched(2, 2, rack="r2", leader_epoch=0)
        assert (found.error, len(found.records)) == (ErrorCode.NONE, 0), "it is there, but not committed yet"
        assert (await cluster.fetched(2, 3, rack="r2")).error is ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await cluster.fetched(2, 0)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER, "no rack was told"
        cluster.world.network.heal()

    play(story)


def test_a_follower_knows_its_leaders_epoch() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        cluster.elect(3, (1, 2, 3))
        await cluster.produced(3, batch("a"))
        found = await cluster.fetched(2, 0, rack="r2", leader_epoch=0)
        assert (found.error, found.current_leader_id) == (ErrorCode.FENCED_LEADER_EPOCH, 3)
        found = await cluster.fetched(2, 0, rack="r2", leader_epoch=2)
        assert found.error is ErrorCode.UNKNOWN_LEADER_EPOCH

    play(story)


def test_a_follower_that_is_behind_does_not_call_it_a_truncation() -> None:
    """What a follower lacks its leader may well have: only the leader can tell where histories part."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        cluster.elect(1, (1, 2, 3))
        await cluster.produced(1, batch("a"))
        await until(lambda: cluster.partition(2).high_watermark == 1)
        cluster.world.network.partition("b1", "b2")
        await cluster.produced(1, batch("b"), acks=ACKS_LEADER)
        found = await cluster.fetched(2, 2, rack="r2", last_fetched_epoch=1)
        assert (found.error, found.diverging_epoch) == (ErrorCode.OFFSET_OUT_OF_RANGE, None)
        found = await cluster.fetched(2, 1, rack="r2", last_fetched_epoch=0)
        assert (found.error, found.diverging_epoch) == (ErrorCode.OFFSET_OUT_OF_RANGE, None)
        found = await cluster.fetched(1, 1, rack="r2", last_fetched_epoch=0)
        assert found.diverging_epoch is not None, "the leader looks before it sends anybody elsewhere"
        cluster.world.network.heal()

    play(story)


def test_a_follower_knows_no_epochs_of_what_was_before_its_log() -> None:
    """A new replica's log begins without any: a consumer at its start was sent back to the leader."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        cluster.elect(1, (1, 2, 3))
        await until(lambda: cluster.partition(2).leader_epoch == 1)
        found = await cluster.fetched(2, 0, rack="r2", leader_epoch=1, last_fetched_epoch=0)
        assert (found.error, found.diverging_epoch) == (ErrorCode.NONE, None)

    play(story)


def test_who_waits_at_a_follower_hears_of_the_high_watermark_at_once() -> None:
    """A follower learns what is committed with the leader's next answer, which used to wait until there was
    something to copy: half a second later for a consumer that reads from a follower."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        assert (await cluster.fetched(1, 1, rack="r2")).preferred_read_replica == 2
        await until(lambda: cluster.partition(2).high_watermark == 1)
        for number in range(3):
            waiting = asyncio.ensure_future(cluster.fetched(2, 1 + number, rack="r2", max_wait_ms=5_000))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await cluster.produced(1, batch("b"))
            found = await asyncio.wait_for(waiting, 0.05)
            assert len(found.records) == len(batch("b"))

    play(story)


def test_who_waits_at_a_follower_is_told_when_it_gets_another_leader() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        waiting = asyncio.ensure_future(cluster.fetched(2, 1, rack="r2", leader_epoch=0, max_wait_ms=60_000))
        await asyncio.sleep(0.01)
        cluster.elect(3, (1, 2, 3))
        found = await asyncio.wait_for(waiting, 1)
        assert found.error is ErrorCode.FENCED_LEADER_EPOCH

    play(story)
