"""What the demo tells while it breaks things: only what was seen, with honest durations."""

from glasslog.client.cli.demo.narrator import Narrator, PartitionView, Snapshot

NAMES = {1: "broker-1", 2: "broker-2", 3: "broker-3", 101: "controller-1", 102: "controller-2"}


def snapshot(leader: int, isr: tuple[int, ...], *, epoch: int = 0, controller: int = 101) -> Snapshot:
    view = PartitionView(leader, epoch, isr, (1, 2, 3))
    return Snapshot(partitions={3: view}, controller=controller)


def test_a_killed_leader_from_kill_to_rejoin() -> None:
    narrator = Narrator(NAMES)
    assert narrator.observe(snapshot(2, (1, 2, 3)), 0.0) == []
    assert narrator.in_sync()
    assert narrator.killed(2, 10.0) == "broker-2, leader of partition 3 killed (SIGKILL)"
    assert narrator.observe(snapshot(1, (1, 3), epoch=1), 10.21) == [
        "partition 3: leader 2 -> 1 after 0.21 s (epoch 1); ISR {1,3}"
    ]
    assert not narrator.in_sync()
    assert narrator.restarted(2, 11.5) == "broker-2 started again, 1.5 s after it was killed"
    assert narrator.observe(snapshot(1, (1, 3), epoch=1), 12.0) == []
    assert narrator.observe(snapshot(1, (1, 3, 2), epoch=1), 13.4) == [
        "broker-2 rejoined every ISR 1.9 s after its restart"
    ]
    assert narrator.observe(snapshot(1, (1, 3, 2), epoch=1), 14.0) == []
    assert narrator.in_sync()
    assert [round(seconds, 2) for seconds in narrator.leader_changes_s] == [0.21]


def test_a_partition_without_a_leader_is_told() -> None:
    narrator = Narrator(NAMES)
    narrator.observe(snapshot(2, (2,)), 0.0)
    assert narrator.observe(snapshot(-1, (2,), epoch=1), 1.0) == [
        "partition 3: leader 2 -> none (epoch 1); ISR {2}"
    ]
    assert not narrator.in_sync()


def test_a_killed_controller() -> None:
    narrator = Narrator(NAMES)
    narrator.observe(snapshot(2, (1, 2, 3)), 0.0)
    assert narrator.killed(101, 1.0) == "controller-1, the active controller killed (SIGKILL)"
    assert narrator.observe(snapshot(2, (1, 2, 3), controller=-1), 1.2) == []
    assert narrator.observe(snapshot(2, (1, 2, 3), controller=102), 1.9) == [
        "active controller: controller-1 -> controller-2 0.90 s after the kill"
    ]
    assert narrator.observe(snapshot(2, (1, 2, 3), controller=101), 2.0) == []


def test_a_broker_that_lags_behind_tells_no_news() -> None:
    """Any broker answers; one that had not heard of the election yet once moved the leader back and forth."""
    narrator = Narrator(NAMES)

    def at(leader: int, leader_epoch: int, partition_epoch: int) -> Snapshot:
        view = PartitionView(leader, leader_epoch, (1, 2, 3), (1, 2, 3), partition_epoch)
        return Snapshot(partitions={0: view}, controller=101)

    narrator.observe(at(2, 0, 0), 0.0)
    assert len(narrator.observe(at(1, 1, 1), 1.0)) == 1
    assert narrator.observe(at(2, 0, 0), 1.1) == []
    assert narrator.observe(at(1, 1, 1), 1.2) == []


def test_the_first_snapshot_tells_nothing_and_no_snapshot_is_not_in_sync() -> None:
    narrator = Narrator(NAMES)
    assert not narrator.in_sync()
    assert narrator.killed(1, 0.0) == "broker-1 killed (SIGKILL)"
