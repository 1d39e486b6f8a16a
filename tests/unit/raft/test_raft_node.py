"""Real nodes in the in-memory world: elections, commits, deaths, restarts, partitions, bad disks."""

import asyncio
import errno

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.network import MemoryNetwork
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.controller.raft import wire
from glasslog.controller.raft.types import CommittedBatch, QuorumConfig
from glasslog.v1 import quorum_pb2 as pb

from tests.unit.raft.quorum import CLUSTER, PORT, Quorum, until


def test_three_nodes_elect_a_leader_and_commit() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=1))
        quorum.start()
        started = asyncio.get_running_loop().time()
        leader = await quorum.leader()
        assert asyncio.get_running_loop().time() - started < 1.0
        await quorum.all_know(leader)
        first = leader.node.propose([b"a", b"b"])
        second = leader.node.propose([b"c"])
        assert (first, second) == (1, 3)
        assert leader.node.next_offset == 4
        committed = asyncio.get_running_loop().time()
        await until(lambda: all(m.recorder.values == [b"a", b"b", b"c"] for m in quorum.members.values()))
        assert asyncio.get_running_loop().time() - committed < 0.05
        assert leader.recorder.batches == [
            CommittedBatch(base_offset=first, epoch=1, records=(b"a", b"b")),
            CommittedBatch(base_offset=second, epoch=1, records=(b"c",)),
        ]
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_killed_leader_is_replaced_quickly_and_returns_as_follower() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=2))
        quorum.start()
        old = await quorum.leader()
        await quorum.all_know(old)
        old.node.propose([b"before"])
        await until(lambda: all(m.recorder.values == [b"before"] for m in quorum.members.values()))
        old_id, old_epoch = old.node.leader_id, old.node.epoch
        killed = asyncio.get_running_loop().time()
        await quorum.kill(old_id)
        new = await quorum.leader(after_epoch=old_epoch)
        # A refused connection tells that the process is dead, before the fetch timeout of 800 ms is over.
        assert asyncio.get_running_loop().time() - killed < 0.7
        new.node.propose([b"after"])
        quorum.start(old_id)
        returned = quorum.members[old_id]
        await until(lambda: returned.recorder.values == [b"before", b"after"])
        assert returned.node.leader_id == new.node.leader_id
        assert not returned.recorder.leads
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


@pytest.mark.parametrize("keep", ["none", "torn"])
def test_all_lose_power_and_keep_what_was_committed(keep: str) -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=3, blocking_delay_ms=5))
        quorum.start()
        committed: list[bytes] = []
        epoch = 0
        for life in range(3):
            leader = await quorum.leader(after_epoch=epoch)
            epoch = leader.node.epoch
            value = f"life {life}".encode()
            leader.node.propose([value])
            await until(lambda: value in leader.recorder.values)  # noqa: B023
            committed.append(value)
            leader.node.propose([b"perhaps"])
            await asyncio.sleep(0.002)
            for node_id in list(quorum.members):
                await quorum.kill(node_id, power_loss="torn" if keep == "torn" else "none")
            quorum.start()
        leader = await quorum.leader(after_epoch=epoch)
        kept = [value for value in leader.recorder.values if value != b"perhaps"]
        assert kept == committed
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_isolated_leader_resigns_and_a_returning_node_does_not_disturb() -> None:
    """A leader cut from the majority must not stay leader in its own eyes, and must not depose its successor
    when it returns (KAFKA-15489, KIP-996)."""

    async def main() -> None:
        world = MemoryWorld(seed=4)
        quorum = Quorum(world)
        quorum.start()
        old = await quorum.leader()
        await quorum.all_know(old)
        old_epoch = old.node.epoch
        world.network.isolate(old.host)
        old.node.propose([b"lost"])
        new = await quorum.leader(after_epoch=old_epoch)
        await until(lambda: not old.recorder.leads)
        new.node.propose([b"kept"])
        new_epoch = new.node.epoch
        await asyncio.sleep(5)
        world.network.heal()
        await until(lambda: old.recorder.values == [b"kept"])
        assert new.recorder.leads
        assert {m.node.epoch for m in quorum.members.values()} == {new_epoch}
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_orderly_shutdown_hands_over_at_once() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=5))
        quorum.start()
        old = await quorum.leader()
        await quorum.all_know(old)
        stopped = asyncio.get_running_loop().time()
        await quorum.stop(old.node.leader_id)
        await quorum.leader(after_epoch=1)
        assert asyncio.get_running_loop().time() - stopped < 0.2
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_resign_moves_leadership_and_the_node_goes_on() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=6))
        quorum.start()
        old = await quorum.leader()
        await quorum.all_know(old)
        await old.node.resign()
        with pytest.raises(GlasslogError) as refused:
            old.node.propose([b"x"])
        assert refused.value.code is ErrorCode.NOT_CONTROLLER
        new = await quorum.leader(after_epoch=1)
        assert new is not old
        await quorum.all_know(new)
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_single_voter_leads_at_once_and_remembers() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=7), size=1)
        for life in range(3):
            quorum.start(1)
            leader = await quorum.leader()
            assert leader.node.epoch == life + 1
            await until(lambda: len(leader.recorder.values) == life)  # noqa: B023
            leader.node.propose([b"value %d" % life])
            await until(lambda: len(leader.recorder.values) == life + 1)  # noqa: B023
            if life == 1:
                await quorum.kill(1, power_loss="none")
            else:
                await quorum.stop(1)

    run_virtual(main, timeout_ms=30_000)


def test_a_single_voter_may_be_killed_at_any_moment_of_its_election() -> None:
    """It wrote its new epoch's first entry before its vote was on disk.

    Killed between the two it found a log of an epoch that its quorum-state did not know, and refused to start
    ever again.
    """

    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=14, blocking_delay_ms=20), size=1)
        for lived_ms in range(0, 150, 5):
            quorum.start(1)
            await asyncio.sleep(lived_ms / 1000)
            assert not quorum.members[1].task.done(), quorum.members[1].task.exception()
            await quorum.kill(1)
        quorum.start(1)
        leader = await quorum.leader()
        leader.node.propose([b"x"])
        await until(lambda: leader.recorder.values == [b"x"])
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


@pytest.mark.parametrize(("linger_ms", "share_a_sync"), [(0, False), (50, True)])
def test_proposals_that_come_while_the_leader_lingers_share_a_sync(
    linger_ms: int, share_a_sync: bool
) -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=9), size=1, config=QuorumConfig(append_linger_ms=linger_ms))
        quorum.start()
        leader = await quorum.leader()
        leader.node.propose([b"first"])
        await asyncio.sleep(0.03)
        assert leader.recorder.values == ([] if share_a_sync else [b"first"])
        leader.node.propose([b"second"])
        await asyncio.sleep(0.03)
        assert leader.recorder.values == [b"first", b"second"]
        leader.node.propose([b"third"])
        await until(lambda: leader.recorder.values[-1] == b"third")
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_calm_under_drops_and_duplicates() -> None:
    """Lost and doubled calls delay commits, but do not make leadership flap."""

    async def main() -> None:
        world = MemoryWorld(seed=8)
        quorum = Quorum(world)
        quorum.start()
        leader = await quorum.leader()
        world.network.drop_probability = 0.03
        world.network.duplicate_probability = 0.05
        epoch = leader.node.epoch
        for number in range(200):
            leader.node.propose([b"%d" % number])
            await asyncio.sleep(0.02)
        await until(lambda: all(len(m.recorder.values) == 200 for m in quorum.members.values()))
        assert leader.node.epoch == epoch
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_slow_disks_do_not_cost_the_leader_its_office() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=9, blocking_delay_ms=150))
        quorum.start()
        leader = await quorum.leader()
        epoch = leader.node.epoch
        for number in range(100):
            leader.node.propose([b"%d" % number])
            await asyncio.sleep(0.05)
        await until(lambda: all(len(m.recorder.values) == 100 for m in quorum.members.values()))
        assert {m.node.epoch for m in quorum.members.values()} == {epoch}
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_an_observer_gets_committed_batches_only_and_is_described() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=10)
        quorum = Quorum(world)
        quorum.start()
        leader = await quorum.leader()
        leader.node.propose([b"a"])
        await until(lambda: leader.recorder.values == [b"a"])
        channel = world.runtime("broker-7").transport.dial(f"{leader.host}:{PORT}")

        async def fetch(offset: int, known: int, max_wait_ms: int = 500) -> pb.QuorumFetchResponse:
            request = pb.QuorumFetchRequest(
                cluster_id=CLUSTER,
                replica_id=7,
                current_leader_epoch=-1,
                fetch_offset=offset,
                last_fetched_epoch=1 if offset else -1,
                max_wait_ms=max_wait_ms,
                max_bytes=1024,
                observer=True,
                known_high_watermark=known,
            )
            answer = await channel.unary(wire.FETCH, request.SerializeToString(), timeout_ms=2000)
            return pb.QuorumFetchResponse.FromString(answer)

        first = await fetch(0, -1)
        assert (first.error_code, first.leader_id, first.high_watermark) == (0, leader.node.leader_id, 2)
        assert first.records
        for member in quorum.members.values():
            if member is not leader:
                world.network.partition(member.host, leader.host)
        leader.node.propose([b"not committed"])
        started = asyncio.get_running_loop().time()
        second = await fetch(2, 2, max_wait_ms=300)
        assert not second.records
        assert 0.3 <= asyncio.get_running_loop().time() - started < 0.31
        description = pb.DescribeQuorumResponse.FromString(
            await channel.unary(wire.DESCRIBE, b"", timeout_ms=1000)
        )
        assert [replica.id for replica in description.voters] == [1, 2, 3]
        assert [replica.id for replica in description.observers] == [7]
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_two_lives_of_the_log_with_a_torn_tail() -> None:
    """A follower loses power in the middle of a write: it cuts the torn batch and fetches it again."""

    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=11, blocking_delay_ms=3))
        quorum.start()
        leader = await quorum.leader()
        await quorum.all_know(leader)
        victim = next(NodeId(i) for i in quorum.members if i != leader.node.leader_id)
        for number in range(30):
            leader.node.propose([b"%d" % number * 200])
            await asyncio.sleep(0.001)
        await quorum.kill(victim, power_loss="torn")
        quorum.start(victim)
        await until(lambda: len(quorum.members[victim].recorder.values) == 30)
        assert quorum.members[victim].recorder.values == leader.recorder.values
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_a_disk_that_refuses_to_sync_stops_the_node() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=12)
        quorum = Quorum(world, size=1)
        quorum.start()
        leader = await quorum.leader()
        world.disk(leader.host).fail_next("sync", "*.log", OSError(errno.EIO, "broken"))
        leader.node.propose([b"x"])
        with pytest.raises(StorageError, match=r"00000000000000000000\.log"):
            await leader.task
        assert leader.recorder.values == []
        with pytest.raises(GlasslogError, match="not running"):
            leader.node.propose([b"y"])

    run_virtual(main, timeout_ms=30_000)


def test_another_clusters_folder_is_refused() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=13)
        quorum = Quorum(world, size=1)
        quorum.start()
        await quorum.leader()
        await quorum.stop(1)
        path = "metadata/__cluster_metadata-0/quorum-state"
        disk = world.disk("controller-1")
        disk.write_atomic(path, disk.read(path).replace(CLUSTER.encode(), b"elsewhere"))
        quorum.start(1)
        with pytest.raises(StorageError, match="of cluster 'elsewhere'"):
            await quorum.members[1].task

    run_virtual(main, timeout_ms=30_000)


def test_a_listener_that_fails_stops_the_node() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=14), size=1)
        quorum.start()
        leader = await quorum.leader()

        def fail(batch: CommittedBatch) -> None:
            raise RuntimeError("replay failed")

        leader.recorder.on_committed = fail  # type: ignore[method-assign]  # that is the fault
        leader.node.propose([b"x"])
        with pytest.raises(RuntimeError, match="replay failed"):
            await leader.task

    run_virtual(main, timeout_ms=30_000)


def test_proposals_have_bounds() -> None:
    async def main() -> None:
        quorum = Quorum(MemoryWorld(seed=15), size=1)
        quorum.start()
        leader = await quorum.leader()
        with pytest.raises(GlasslogError) as empty:
            leader.node.propose([])
        assert empty.value.code is ErrorCode.INVALID_REQUEST
        with pytest.raises(GlasslogError) as large:
            leader.node.propose([bytes(8 * 1024 * 1024 + 1)])
        assert large.value.code is ErrorCode.MESSAGE_TOO_LARGE
        leader.node.propose([bytes(8 * 1024 * 1024)])
        with pytest.raises(GlasslogError) as many:
            leader.node.propose([b""] * 200_001)
        assert many.value.code is ErrorCode.THROTTLING_QUOTA_EXCEEDED
        await until(lambda: len(leader.recorder.values) == 1)
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)


def test_requests_that_are_none_are_refused() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=16, network=MemoryNetwork())
        quorum = Quorum(world, size=1)
        quorum.start()
        leader = await quorum.leader()
        channel = world.runtime("stranger").transport.dial(f"{leader.host}:{PORT}")
        with pytest.raises(GlasslogError) as refused:
            await channel.unary(wire.VOTE, b"\xff\xff\xff", timeout_ms=1000)
        assert refused.value.code is ErrorCode.INVALID_REQUEST
        await quorum.stop_all()

    run_virtual(main, timeout_ms=30_000)
