"""Random schedules of Raft cores: messages lost, doubled and reordered, nodes cut, crashed and restarted.

After every event Raft's promises are checked; in the end all faults heal and the quorum must converge and
commit.  GLASSLOG_RAFT_SEEDS in the environment sets how many schedules are tried.
"""

import heapq
import itertools
import os
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.messages import Committed, LeaderReady, RequestFailed, SnapshotInstalled
from glasslog.controller.raft.roles import Leader
from glasslog.controller.raft.types import QuorumConfig
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY

from tests.unit.raft.cores import Packet, Voter

SEEDS = int(os.environ.get("GLASSLOG_RAFT_SEEDS", "60"))
FAULTY_MS = 12_000
HEALED_MS = 12_000


class Seeded:
    """The protocol's randomness on the standard library's."""

    def __init__(self, seed: str) -> None:
        self.source = random.Random(seed)

    def randrange(self, stop: int) -> int:
        return self.source.randrange(stop)

    def uniform(self, low: float, high: float) -> float:
        return self.source.uniform(low, high)

    def uuid(self) -> bytes:
        return self.source.randbytes(16)


class Schedule:
    """One run: an event heap in virtual time, and what must hold all along."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        size = self.chance.choice([1, 2, 3, 3, 3, 5])
        self.changes_voters = self.chance.random() < 0.5
        ids = range(1, (5 if self.changes_voters else size) + 1)
        settings = range(1, size + 1)
        config = QuorumConfig(max_fetch_bytes=self.chance.choice([60, 200, 1_000_000]))
        self.voters = {i: Voter(i, settings if i <= size else (), config, Seeded(f"{seed}/{i}")) for i in ids}
        if self.changes_voters:
            for voter in self.voters.values():
                voter.directory_id = bytes([voter.node_id]) * 16
                voter.bootstrap_servers = tuple(f"{i}:1" for i in ids if i != voter.node_id)
        self.lost: Voter | None = None
        self.drop = self.chance.choice([0.0, 0.02, 0.15])
        self.duplicate = self.chance.choice([0.0, 0.1])
        self.delay_ms = self.chance.choice([2, 30, 200])
        self.sync_ms = self.chance.choice([1, 20, 150])
        self.now_ms = 0
        self.cuts: set[tuple[int, int]] = set()
        self.inboxes: dict[int, list[Packet]] = {i: [] for i in ids}
        self.proposed = 0
        self.leaders: dict[int, int] = {}
        self.epochs = dict.fromkeys(ids, 0)
        self.committed: list[tuple[int, int, bytes]] = []
        self.ends: dict[int, int] = {0: 0}
        self.installed = 0
        self.commits_of_leaders = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pending: set[tuple[int, int, int]] = set()

    # --- events ---------------------------------------------------------------------------------------------

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), action))

    def run(self) -> None:
        for voter in self.voters.values():
            self.start(voter)
        self.at(50, self.propose)
        if self.chance.random() < 0.7:
            self.at(300, self.snapshot)
        if self.changes_voters:
            self.at(400, self.change_voters)
        if self.chance.random() < 0.8:
            self.at(500, self.fault)
        self.pass_time(FAULTY_MS)
        self.heal()
        self.pass_time(FAULTY_MS + HEALED_MS)
        self.check_convergence()

    def pass_time(self, end_ms: int) -> None:
        while True:
            event_ms = self._events[0][0] if self._events else end_ms
            deadlines = [
                deadline_ms
                for voter in self.voters.values()
                if voter.core is not None and voter.held is None
                if (deadline_ms := voter.core.next_deadline_ms()) is not None
            ]
            next_ms = min([event_ms, *deadlines])
            if next_ms >= end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, next_ms)
            if self._events and self._events[0][0] <= self.now_ms:
                heapq.heappop(self._events)[2]()
            else:
                self.tick()

    def tick(self) -> None:
        for voter in self.voters.values():
            if voter.core is not None and voter.held is None:
                voter.core.tick(self.now_ms)
                self.pump(voter)

    def start(self, voter: Voter) -> None:
        if voter.core is None:
            self.inboxes[voter.node_id].clear()
            voter.start(self.now_ms)
            self.pump(voter)

    def crash(self, voter: Voter) -> None:
        if voter.core is not None:
            voter.crash(keep=self.chance.choice([0, 0, 1, 5]))

    def propose(self) -> None:
        for voter in self.voters.values():
            if voter.core is not None and isinstance(voter.core.role, Leader):
                values = [b"%d" % (self.proposed + each) for each in range(self.chance.randint(1, 3))]
                self.proposed += len(values)
                voter.core.propose(values, self.now_ms)
                self.pump(voter)
        self.at(self.chance.randint(1, 120), self.propose)

    def snapshot(self) -> None:
        """One node takes a snapshot, and may cut its log; none after all healed, for one may be fetched."""
        if self.now_ms >= FAULTY_MS:
            return
        voter = self.voters[self.chance.choice(list(self.voters))]
        if voter.core is not None and voter.held is None:
            voter.take_snapshot()
            if self.chance.random() < 0.7:
                voter.trim()
            self.pump(voter)
        self.at(self.chance.randint(20, 800), self.snapshot)

    def change_voters(self) -> None:
        """One voter more, or less, or another leader; and now and then a disk is replaced."""
        if self.now_ms >= FAULTY_MS + HEALED_MS // 2:
            return
        for voter in self.voters.values():
            core = voter.core
            if core is not None and voter.held is None and isinstance(core.role, Leader):
                with suppress(GlasslogError):
                    self.change_at(core)
                self.pump(voter)
        if self.now_ms < FAULTY_MS:
            self.maybe_lose_a_disk()
        self.at(self.chance.randint(20, 400), self.change_voters)

    def change_at(self, core: RaftCore) -> None:
        others = [voter for voter in self.voters.values() if voter.node_id not in core.voters.ids]
        if self.lost is not None:
            self.replace_lost(core, self.lost)
        elif others and self.chance.random() < 0.5:
            voter = self.chance.choice(others)
            core.add_voter(voter.node_id, voter.directory_id, self.now_ms)
        elif self.chance.random() < 0.8:
            core.remove_voter(NodeId(self.chance.choice(core.voters.ids)), UNKNOWN_DIRECTORY, self.now_ms)
        else:
            core.transfer(NodeId(self.chance.choice(core.voters.ids)), self.now_ms)

    def replace_lost(self, core: RaftCore, lost: Voter) -> None:
        """The voter that it was goes, the one that it is comes."""
        if core.voters.has(lost.node_id, lost.directory_id):
            self.lost = None
        elif lost.node_id in core.voters.ids:
            core.remove_voter(lost.node_id, UNKNOWN_DIRECTORY, self.now_ms)
        else:
            core.add_voter(lost.node_id, lost.directory_id, self.now_ms)

    def maybe_lose_a_disk(self) -> None:
        """One at a time, and only while all agree on who votes: two lost disks of three are lost data."""
        sets = {voter.core.voters for voter in self.voters.values() if voter.core is not None}
        agreed = len(sets) == 1 and all(voter.core is not None for voter in self.voters.values())
        if self.lost is not None or not agreed or self.chance.random() < 0.8:
            return
        voters = sets.pop()
        if voters.is_recorded and len(voters.ids) >= 3:
            self.lost = self.voters[self.chance.choice(voters.ids)]
            self.crash(self.lost)
            self.lost.lose_disk()
            if self.lost.voters == (self.lost.node_id,):
                # Settings that name nobody else begin a new quorum on an empty disk: that was for once.
                self.lost.voters = ()
            self.epochs[self.lost.node_id] = 0
            self.at(self.chance.randint(1, 500), partial(self.start, self.lost))

    def fault(self) -> None:
        """One of the faults, and the end of some."""
        if self.now_ms >= FAULTY_MS:
            return
        voter = self.voters[self.chance.choice(list(self.voters))]
        match self.chance.choice(["crash", "crash all", "cut", "one-way", "heal", "resign", "leader"]):
            case "crash":
                self.crash(voter)
            case "crash all":
                for each in self.voters.values():
                    self.crash(each)
            case "leader":
                for each in self.voters.values():
                    if each.core is not None and isinstance(each.core.role, Leader):
                        self.crash(each)
            case "cut":
                for other in self.voters:
                    self.cuts |= {(voter.node_id, other), (other, voter.node_id)}
            case "one-way":
                self.cuts.add((voter.node_id, self.chance.choice(list(self.voters))))
            case "heal":
                self.cuts.clear()
            case "resign" if voter.core is not None and voter.held is None:
                voter.core.resign(self.now_ms)
                self.pump(voter)
            case _:
                pass
        for each in self.voters.values():
            if each.core is None:
                self.at(self.chance.randint(1, 2_000), partial(self.start, each))
        self.at(self.chance.randint(50, 2_500), self.fault)

    def heal(self) -> None:
        self.cuts.clear()
        self.drop = self.duplicate = 0.0
        self.delay_ms, self.sync_ms = 5, 5
        for voter in self.voters.values():
            self.start(voter)

    # --- the machinery --------------------------------------------------------------------------------------

    def pump(self, voter: Voter) -> None:
        """Take what the node has to do; its sync ends later, and until then it takes nothing."""
        while voter.is_free:
            packets = voter.take()
            self.observe(voter)
            self.send(packets)
            if voter.held is not None:
                needs_disk = voter.held.needs_sync or voter.held.hard_state is not None
                delay_ms = self.chance.randint(1, self.sync_ms) if needs_disk else 0
                self.at(delay_ms, partial(self.end_sync, voter, voter.life))
                return
            inbox = self.inboxes[voter.node_id]
            if not inbox:
                return
            while inbox:
                self.receive(voter, inbox.pop(0))

    def end_sync(self, voter: Voter, life: int) -> None:
        if voter.core is not None and voter.life == life:
            self.send(voter.sync())
            voter.core.tick(self.now_ms)
            self.pump(voter)

    def send(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.is_request:
                key = (packet.sender, packet.lives[0], packet.correlation_id)
                self._pending.add(key)
                self.at(600, partial(self.fail, packet, refused=False))
            if self.chance.random() >= self.drop:
                self.post(packet)
            if self.chance.random() < self.duplicate:
                self.post(packet)

    def post(self, packet: Packet) -> None:
        self.at(self.chance.randint(1, self.delay_ms), lambda: self.deliver(packet))

    def deliver(self, packet: Packet) -> None:
        receiver = self.voters[packet.receiver]
        if (packet.sender, packet.receiver) in self.cuts:
            return
        if packet.is_request and receiver.core is None:
            self.fail(packet, refused=True)
        elif receiver.core is not None:
            self.inboxes[packet.receiver].append(packet)
            self.pump(receiver)

    def receive(self, voter: Voter, packet: Packet) -> None:
        if not packet.is_request:
            key = (packet.receiver, packet.lives[1], packet.correlation_id)
            if packet.lives[1] != voter.life or key not in self._pending:
                return
            self._pending.discard(key)
        voter.receive(packet, self.now_ms)

    def fail(self, packet: Packet, *, refused: bool) -> None:
        key = (packet.sender, packet.lives[0], packet.correlation_id)
        sender = self.voters[packet.sender]
        if key in self._pending and sender.core is not None and sender.life == packet.lives[0]:
            self._pending.discard(key)
            sender.core.step(
                RequestFailed(
                    sender=NodeId(packet.receiver), correlation_id=packet.correlation_id, refused=refused
                ),
                self.now_ms,
            )
            self.pump(sender)

    # --- what must hold -------------------------------------------------------------------------------------

    def observe(self, voter: Voter) -> None:
        core = voter.core
        assert core is not None
        assert core.epoch >= self.epochs[voter.node_id] or voter.disk.epoch >= self.epochs[voter.node_id]
        self.epochs[voter.node_id] = voter.disk.epoch
        if isinstance(core.role, Leader):
            known = self.leaders.setdefault(core.epoch, voter.node_id)
            assert known == voter.node_id, f"epoch {core.epoch} has leaders {known} and {voter.node_id}"
        for notice in voter.notices:
            if isinstance(notice, Committed):
                self.check_commit(voter, notice.high_watermark)
            elif isinstance(notice, SnapshotInstalled):
                self.installed += 1
                assert notice.snapshot_id.end_offset in self.ends, "a snapshot of what is not committed"
            elif isinstance(notice, LeaderReady):
                self.check_leader_has_all(voter)
        voter.notices.clear()

    def check_commit(self, voter: Voter, high_watermark: int) -> None:
        """Committed entries are the same everywhere, and on a majority's disks, in logs or in snapshots."""
        log = [each for each in entries_of(voter) if each[0] < high_watermark]
        self.check_same(voter, log)
        known = self.committed[-1][0] if self.committed else -1
        new = [each for each in log if each[0] > known]
        if not new:
            return
        assert voter.core is not None
        voters = voter.core.voters
        holders = [
            each
            for each in self.voters.values()
            if voters.has(each.node_id, each.directory_id) and holds(each, new, high_watermark)
        ]
        # One that said that it holds them may have lost its disk since.
        lost = self.lost is not None and self.lost.node_id in voters.ids
        assert len(holders) + lost >= voters.majority, f"of {voters.ids} only {len(holders)} hold it"
        self.committed += new
        self.ends.update({span.end_offset: span.epoch for span, _ in voter.log.batches})

    def check_same(self, voter: Voter, log: list[tuple[int, int, bytes]]) -> None:
        """What the node's log has is what is committed, from where its log begins."""
        begins = voter.log.base.end_offset
        assert begins in self.ends, "a log begins where nothing was committed"
        committed = [each for each in self.committed if each[0] >= begins]
        shared = min(len(log), len(committed))
        assert log[:shared] == committed[:shared], "committed entries differ"

    def check_leader_has_all(self, voter: Voter) -> None:
        log = entries_of(voter)
        self.check_same(voter, log)
        newest = self.committed[-1][0] if self.committed else -1
        assert voter.log.end_offset > newest, "a leader lacks committed entries"

    def check_convergence(self) -> None:
        leaders = [each for each in self.voters.values() if each.core and isinstance(each.core.role, Leader)]
        assert len(leaders) == 1, "no single leader after all faults have healed"
        leader = leaders[0]
        assert leader.core is not None
        for voter in self.voters.values():
            assert voter.core is not None
            assert voter.core.leader_id == leader.node_id
            assert voter.core.epoch == leader.core.epoch
            assert leader.core.high_watermark - voter.core.high_watermark <= 20
            values = [value for batch in voter.committed for value in batch.records]
            assert values == [value for batch in leader.committed for value in batch.records][: len(values)]
        assert len(leader.committed) > 50, "no progress"


def entries_of(voter: Voter) -> list[tuple[int, int, bytes]]:
    """Base offset, epoch and bytes of each batch."""
    return [(span.base_offset, span.epoch, data) for span, data in voter.log.batches]


def holds(voter: Voter, new: list[tuple[int, int, bytes]], end_offset: int) -> bool:
    """Whether the new entries are on the node's disk; a snapshot holds all that is below its end."""
    begins = voter.log.base.end_offset
    wanted = [each for each in new if each[0] >= begins]
    log = [each for each in entries_of(voter)[: voter.log.synced] if new[0][0] <= each[0] < end_offset]
    return log == wanted


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_schedule(seed: int) -> None:
    Schedule(seed).run()


def test_refusals_are_errors_of_kafka() -> None:
    voter = Voter(1, [1, 2, 3], QuorumConfig(), Seeded("1"))
    voter.start(0)
    assert voter.core is not None
    with pytest.raises(GlasslogError, match="node 1 does not lead"):
        voter.core.propose([b"x"], 0)
