"""Whom the demo kills: always the node it says."""

from glasslog.client.cli.demo.narrator import PartitionView, Snapshot
from glasslog.client.cli.demo.plan import Kill, choose
from glasslog.client.cli.demo.screen import Progress

CONTROLLERS = {101: "controller-1", 102: "controller-2", 103: "controller-3"}


def snapshot(leader: int = 2, controller: int = 102) -> Snapshot:
    return Snapshot(partitions={0: PartitionView(leader, 0, (2, 3, 1), (2, 3, 1))}, controller=controller)


def victims(kill: Kill, at: Snapshot) -> tuple[int, ...] | None:
    chosen = choose(kill, at, CONTROLLERS)
    return None if chosen is None else chosen.node_ids


def test_the_leader_and_a_follower_of_partition_0() -> None:
    assert victims(Kill.LEADER, snapshot()) == (2,)
    assert victims(Kill.FOLLOWER, snapshot()) == (1,)
    assert victims(Kill.NONE, snapshot()) == ()


def test_the_active_controller_and_the_quorum() -> None:
    assert victims(Kill.CONTROLLER, snapshot()) == (102,)
    assert victims(Kill.CONTROLLERS, snapshot()) == (102, 101)


def test_nobody_is_killed_in_place_of_a_node_that_is_not_known_yet() -> None:
    assert victims(Kill.LEADER, snapshot(leader=-1)) is None
    assert victims(Kill.CONTROLLER, snapshot(controller=-1)) is None
    assert victims(Kill.LEADER, Snapshot(partitions={}, controller=101)) is None
    alone = Snapshot(partitions={0: PartitionView(1, 0, (1,), (1,))}, controller=101)
    assert victims(Kill.FOLLOWER, alone) is None


def test_progress_in_one_line() -> None:
    progress = Progress(
        elapsed_s=1,
        fraction=0.5,
        written=1000,
        read=900,
        records_per_s=1234,
        mb_per_s=5.6,
        partitions=[("0", PartitionView(2, 0, (2,), (2,))), ("1", PartitionView(-1, 0, (3, 1), (1, 2, 3)))],
    )
    assert progress.line().endswith("0:2{2} 1:-{1,3}")
