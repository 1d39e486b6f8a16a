"""Snapshots of nodes in the in-memory world: taken, fetched, loaded, damaged, the log cut behind them."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.controller.raft.snapshot_rules import Kept, SnapshotConfig, is_due, new_base
from glasslog.controller.raft.types import QuorumConfig
from glasslog.metadata.snapshot import SnapshotId

from tests.unit.raft.quorum import Member, Quorum, until

FOLDER = "metadata/__cluster_metadata-0"
EAGER = SnapshotConfig(max_new_bytes=2_000, retention_bytes=0)
KEEPING = SnapshotConfig(max_new_bytes=2_000)


def checkpoints(world: MemoryWorld, host: str) -> list[str]:
    return [name for name in world.disk(host).list(FOLDER) if name.endswith(".checkpoint")]


def snapshots_of(world: MemoryWorld, host: str) -> list[str]:
    return [name for name in checkpoints(world, host) if name[0].isdigit()]


async def fill(leader: Member, count: int, *, first: int = 0) -> list[bytes]:
    """Values one by one, all committed."""
    values = [b"value %06d" % number for number in range(first, first + count)]
    for value in values:
        leader.node.propose([value])
        await asyncio.sleep(0.002)
    await until(lambda: leader.recorder.values[-1:] == values[-1:])
    return values


def all_have(quorum: Quorum, values: Sequence[bytes]) -> bool:
    return all(member.recorder.values == list(values) for member in quorum.members.values())


def test_a_log_is_cut_behind_its_snapshots_and_all_starts_from_them() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        quorum = Quorum(world, config=QuorumConfig(snapshots=EAGER))
        quorum.start()
        leader = await quorum.leader()
        values = await fill(leader, 200)
        await until(lambda: all_have(quorum, values))
        await asyncio.sleep(1)
        for member in quorum.members.values():
            assert member.node.core is not None
            assert member.node.core.log.start_offset > 100
            assert len(snapshots_of(world, member.host)) == 1
            segments = [name for name in world.disk(member.host).list(FOLDER) if name.endswith(".log")]
            assert "00000000000000000000.log" not in segments
        await quorum.stop_all()
        quorum.start()
        leader = await quorum.leader(after_epoch=1)
        values += await fill(leader, 3, first=1000)
        await until(lambda: all_have(quorum, values))
        assert all(len(member.recorder.snapshots) == 1 for member in quorum.members.values())
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_who_was_away_too_long_gets_a_snapshot_in_small_parts() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=2)
        quorum = Quorum(world, config=QuorumConfig(snapshots=EAGER, max_fetch_bytes=300))
        quorum.start()
        leader = await quorum.leader()
        await quorum.all_know(leader)
        away = next(i for i, member in quorum.members.items() if member is not leader)
        values = await fill(leader, 5)
        await quorum.kill(away, power_loss="none")
        values += await fill(leader, 300, first=5)
        await asyncio.sleep(1)
        quorum.start(away)
        world.network.drop_probability = 0.1
        await until(lambda: quorum.members[away].recorder.values == values, within_ms=30_000)
        world.network.drop_probability = 0.0
        assert quorum.members[away].recorder.snapshots
        values += await fill(leader, 5, first=1000)
        await until(lambda: all_have(quorum, values))
        # Killed at once after it: the log that was replaced must not come back.
        await quorum.kill(away, power_loss="none")
        quorum.start(away)
        await until(lambda: all_have(quorum, values))
        await quorum.stop_all()

    run_virtual(main, timeout_ms=90_000)


def test_a_crash_at_any_moment_of_a_snapshots_arrival_is_survived() -> None:
    """The file is whole before the log goes, and whichever of the two a crash leaves is understood."""

    async def main() -> None:
        world = MemoryWorld(seed=3, blocking_delay_ms=7)
        quorum = Quorum(world, config=QuorumConfig(snapshots=EAGER, max_fetch_bytes=500))
        quorum.start()
        leader = await quorum.leader()
        away = next(i for i, member in quorum.members.items() if member is not leader)
        values = await fill(leader, 2)
        await quorum.kill(away, power_loss="none")
        values += await fill(leader, 150, first=2)
        await asyncio.sleep(1)
        for lived_ms in range(0, 400, 9):
            quorum.start(away)
            await asyncio.sleep(lived_ms / 1000)
            task = quorum.members[away].task
            assert not task.done(), task.exception()
            await quorum.kill(away, power_loss="torn")
        quorum.start(away)
        await until(lambda: all_have(quorum, values))
        await quorum.stop_all()

    run_virtual(main, timeout_ms=90_000)


def damage(world: MemoryWorld, host: str, name: str) -> None:
    path = f"{FOLDER}/{name}"
    disk = world.disk(host)
    data = bytearray(disk.read(path))
    data[len(data) // 2] ^= 0x10
    disk.write_atomic(path, bytes(data))


def test_a_damaged_snapshot_makes_nobody_delete_data() -> None:
    """nats-server 7556: a leader with a damaged snapshot loaded nothing, its followers deleted their data.

    Here the damaged file is thrown away at the start, and the one before it with the log after it says all.
    """

    async def main() -> None:
        world = MemoryWorld(seed=4)
        quorum = Quorum(world, config=QuorumConfig(snapshots=KEEPING))
        quorum.start()
        leader = await quorum.leader()
        values = await fill(leader, 200)
        await until(lambda: all_have(quorum, values))
        await asyncio.sleep(1)
        await quorum.stop_all()
        for node_id in (1, 2, 3):
            host = f"controller-{node_id}"
            names = snapshots_of(world, host)
            assert len(names) >= 2
            damage(world, host, names[-1])
        quorum.start()
        await quorum.leader(after_epoch=1)
        await until(lambda: all_have(quorum, values))
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_without_any_sound_snapshot_a_cut_log_is_refused() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=5)
        quorum = Quorum(world, size=1, config=QuorumConfig(snapshots=EAGER))
        quorum.start()
        await fill(await quorum.leader(), 200)
        await asyncio.sleep(1)
        await quorum.stop(1)
        before = [name for name in world.disk("controller-1").list(FOLDER) if name.endswith(".log")]
        for name in snapshots_of(world, "controller-1"):
            damage(world, "controller-1", name)
        quorum.start(1)
        with pytest.raises(StorageError, match="no sound snapshot reaches so far"):
            await quorum.members[1].task
        after = [name for name in world.disk("controller-1").list(FOLDER) if name.endswith(".log")]
        assert before == after

    run_virtual(main, timeout_ms=60_000)


def test_a_snapshot_that_rots_on_the_leader_is_replaced_before_a_follower_gets_it() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=6)
        quorum = Quorum(world, config=QuorumConfig(snapshots=EAGER))
        quorum.start()
        leader = await quorum.leader()
        away = next(i for i, member in quorum.members.items() if member is not leader)
        values = await fill(leader, 2)
        await quorum.kill(away, power_loss="none")
        values += await fill(leader, 200, first=2)
        await asyncio.sleep(1)
        damage(world, leader.host, snapshots_of(world, leader.host)[-1])
        quorum.start(away)
        await until(lambda: all_have(quorum, values), within_ms=20_000)
        assert leader.recorder.leads
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_a_full_disk_costs_a_snapshot_and_not_the_node() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=7)
        quorum = Quorum(world, size=1, config=QuorumConfig(snapshots=EAGER))
        quorum.start()
        leader = await quorum.leader()
        world.disk(leader.host).fail_next("pwrite", "*.checkpoint.part", OSError(28, "no space left"))
        values = await fill(leader, 200)
        assert snapshots_of(world, leader.host) == []
        await asyncio.sleep(61)
        assert len(snapshots_of(world, leader.host)) == 1
        assert leader.recorder.values == values
        await quorum.stop_all()

    run_virtual(main, timeout_ms=120_000)


def test_the_quorum_goes_on_while_a_snapshot_is_encoded() -> None:
    """A thread that encoded 10,000 partitions kept the interpreter from the loop: commits waited 60 ms."""

    async def main() -> None:
        world = MemoryWorld(seed=9)
        quorum = Quorum(world, size=1, config=QuorumConfig(snapshots=KEEPING))
        quorum.start()
        leader = await quorum.leader()
        recorder, committed = leader.recorder, list[int]()

        def encoded() -> Iterator[tuple[bytes, ...]]:
            for value in [*recorder.values]:
                committed.append(len(recorder.values))
                yield (value,)

        recorder.take_snapshot = lambda: encoded  # type: ignore[method-assign]  # to see each batch asked for
        await fill(leader, 200)
        assert snapshots_of(world, leader.host)
        first, *_, last = committed
        assert last > first + 5
        await quorum.stop_all()

    run_virtual(main, timeout_ms=60_000)


def test_after_the_interval_a_little_is_enough() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=8)
        rules = SnapshotConfig(max_interval_ms=5_000)
        quorum = Quorum(world, size=1, config=QuorumConfig(snapshots=rules))
        quorum.start()
        leader = await quorum.leader()
        await fill(leader, 3)
        await asyncio.sleep(4)
        assert snapshots_of(world, leader.host) == []
        await asyncio.sleep(2)
        taken = snapshots_of(world, leader.host)
        assert len(taken) == 1
        await asyncio.sleep(60)
        assert snapshots_of(world, leader.host) == taken
        await quorum.stop_all()

    run_virtual(main, timeout_ms=120_000)


def test_rules() -> None:
    rules = SnapshotConfig(max_new_bytes=100, max_interval_ms=10, retention_bytes=1000, retention_ms=50)
    assert not is_due(rules, new_bytes=0, waited_ms=1000)
    assert not is_due(rules, new_bytes=99, waited_ms=9)
    assert is_due(rules, new_bytes=100, waited_ms=0)
    assert is_due(rules, new_bytes=1, waited_ms=10)
    ids = [SnapshotId(end_offset=end, epoch=1) for end in (10, 20, 30)]
    nothing = SnapshotId(end_offset=0, epoch=-1)

    def base_of(log_bytes: int, now_ms: int, base: SnapshotId = nothing) -> SnapshotId | None:
        kept = [Kept(id=each, size_bytes=100, timestamp_ms=each.end_offset) for each in ids]
        return new_base(rules, kept, base=base, log_bytes=log_bytes, now_ms=now_ms)

    assert base_of(700, 40) is None
    assert base_of(701, 40) == ids[2]
    assert base_of(0, 70) == ids[1]
    assert base_of(0, 1000) == ids[2]
    assert base_of(9999, 1000, base=ids[2]) is None
