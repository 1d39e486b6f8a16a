"""Tells what happens to the cluster, from snapshots of it: who leads, who is in sync, who rules.

Pure: snapshots and times in, sentences out. It refuses to know how snapshots are taken, and says nothing it
did not see: durations are from the fault to the first snapshot that shows the change.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition as an administrator sees it; leader -1 is none, ``partition_epoch`` counts changes."""

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    replicas: tuple[int, ...]
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The topic and the active controller (-1: unknown) at one moment."""

    partitions: Mapping[int, PartitionView]
    controller: int


@dataclass(slots=True, kw_only=True)
class _Fault:
    """A node that was killed. Times in seconds."""

    node_id: int
    killed_at: float
    restarted_at: float | None = None


class Narrator:
    """Compares each snapshot with the one before. ``names`` are the nodes' names by id."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._last: Snapshot | None = None
        self._faults: dict[int, _Fault] = {}
        self.leader_changes_s: list[float] = []

    def name(self, node_id: int) -> str:
        return self._names.get(node_id, str(node_id))

    def killed(self, node_id: int, now: float) -> str:
        """The node was just killed; returns the sentence for it."""
        self._faults[node_id] = _Fault(node_id=node_id, killed_at=now)
        last = self._last
        led = [] if last is None else [n for n, p in last.partitions.items() if p.leader == node_id]
        leading = f", leader of {_partitions(led)}" if led else ""
        ruling = ", the active controller" if last is not None and last.controller == node_id else ""
        return f"{self.name(node_id)}{leading}{ruling} killed (SIGKILL)"

    def restarted(self, node_id: int, now: float) -> str:
        """The node was just started again; returns the sentence for it."""
        fault = self._faults[node_id]
        fault.restarted_at = now
        return f"{self.name(node_id)} started again, {now - fault.killed_at:.1f} s after it was killed"

    def in_sync(self) -> bool:
        """Whether the last snapshot shows a leader and every replica in the ISR, for each partition."""
        last = self._last
        return last is not None and all(
            set(p.isr) == set(p.replicas) and p.leader in p.isr for p in last.partitions.values()
        )

    def observe(self, snapshot: Snapshot, now: float) -> list[str]:
        """What is new since the last snapshot."""
        last = self._last
        snapshot = snapshot if last is None else self._without_old_news(last, snapshot)
        self._last = snapshot
        if last is None:
            return []
        told = self._leaders(last, snapshot, now)
        told += self._controller(last, snapshot, now)
        return told + self._rejoined(snapshot, now)

    def _without_old_news(self, last: Snapshot, snapshot: Snapshot) -> Snapshot:
        """Brokers learn one after the other and any of them answers: what another knew better stays."""
        partitions = {
            number: old
            if (old := last.partitions.get(number)) and old.partition_epoch > new.partition_epoch
            else new
            for number, new in snapshot.partitions.items()
        }
        dead = [fault.node_id for fault in self._faults.values() if fault.restarted_at is None]
        known = snapshot.controller >= 0 and snapshot.controller not in dead
        return Snapshot(partitions=partitions, controller=snapshot.controller if known else last.controller)

    def _leaders(self, last: Snapshot, snapshot: Snapshot, now: float) -> list[str]:
        told = []
        for number, new in snapshot.partitions.items():
            old = last.partitions.get(number)
            if old is None or (old.leader, old.leader_epoch) == (new.leader, new.leader_epoch):
                continue
            told.append(
                f"partition {number}: leader {_leader(old.leader)} -> {_leader(new.leader)}"
                f"{self._since_kill(old.leader, now)} (epoch {new.leader_epoch}); ISR {_isr(new.isr)}"
            )
        return told

    def _since_kill(self, node_id: int, now: float) -> str:
        fault = self._faults.get(node_id)
        if fault is None:
            return ""
        self.leader_changes_s.append(now - fault.killed_at)
        return f" after {now - fault.killed_at:.2f} s"

    def _controller(self, last: Snapshot, snapshot: Snapshot, now: float) -> list[str]:
        if snapshot.controller == last.controller:
            return []
        before = "nobody" if last.controller < 0 else self.name(last.controller)
        since = self._since_last_fault(now)
        return [f"active controller: {before} -> {self.name(snapshot.controller)}{since}"]

    def _since_last_fault(self, now: float) -> str:
        times = [fault.killed_at for fault in self._faults.values()]
        return f" {now - max(times):.2f} s after the kill" if times else ""

    def _rejoined(self, snapshot: Snapshot, now: float) -> list[str]:
        told = []
        for fault in list(self._faults.values()):
            mine = [p for p in snapshot.partitions.values() if fault.node_id in p.replicas]
            if fault.restarted_at is None or not mine or any(fault.node_id not in p.isr for p in mine):
                continue
            took = now - fault.restarted_at
            told.append(f"{self.name(fault.node_id)} rejoined every ISR {took:.1f} s after its restart")
            del self._faults[fault.node_id]
        return told


def _leader(node_id: int) -> str:
    return "none" if node_id < 0 else str(node_id)


def _isr(isr: tuple[int, ...]) -> str:
    return "{" + ",".join(str(node) for node in sorted(isr)) + "}"


def _partitions(numbers: list[int]) -> str:
    listed = ", ".join(str(number) for number in sorted(numbers))
    return f"partition{'s' if len(numbers) > 1 else ''} {listed}"
