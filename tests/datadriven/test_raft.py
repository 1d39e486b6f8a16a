"""Runs the scripts in ``raft/`` on Raft cores, every message and every sync under the script's control.

Commands (``node=`` takes one id):
  cluster nodes=3                         new voters 1..3, not started
  cluster nodes=3 spare=2 disks           likewise; 4 and 5 are none, but ask 1; each disk has an id
  log node=1 epochs=1,1,2                 entries that node 1 has on disk before it starts
  disk node=1 epoch=2 voted=3 leader=3    its hard state before it starts
  start [node=1]                          start one, or all that are down
  crash node=1 [keep=1]                   lose power; so many un-synced batches survive
  deliver [count=3] [quiet]               deliver so many, or all until none is left; time stands still
  advance ms=100                          let time pass without delivering anything
  run ms=1000                             let time pass and deliver; shows no messages
  drop                                    lose every message that was not delivered
  cut node=1 | cut nodes=1,2 | heal       isolate a node, or cut two from each other; end all cuts
  hold node=1 | sync node=1               keep its syncs from ending; end the one that is held, and holding
  propose node=1 values=a,b               one batch
  snapshot node=1 [trim]                  of all that it has delivered; cut its log behind it
  damage node=1                           its newest snapshot
  resign node=1
  add at=1 node=4 | remove at=1 node=2    a change of the voters, asked of node 1
  transfer at=1 node=2                    leadership
  replace node=2                          node 2, which is down, comes back with an empty disk
  move node=2                             node 2, which is down, comes back at another address
  voters at=1                             whom node 1's log names: id, address, disk
  ask node=1 vote|prevote|begin|end|fetch from=2 epoch=1 ...    a request made by hand; shows the answer
  status                                  role, epoch, log and high watermark of each
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId
from glasslog.controller.raft.batches import encode_data
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.messages import (
    BeginQuorumEpochRequest,
    Committed,
    DataAppend,
    EndQuorumEpochRequest,
    FetchRequest,
    LeaderChanged,
    LeaderReady,
    Request,
    RequestFailed,
    SnapshotInstalled,
    VoteRequest,
)
from glasslog.controller.raft.types import HardState, QuorumConfig
from glasslog.controller.raft.voters import VoterSet
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY

from tests.datadriven.scripts import run_script
from tests.unit.raft.cores import CLUSTER, Packet, Voter, describe_packet

SCRIPTS = sorted((Path(__file__).parent / "raft").glob("*.txt"))
_BY_HAND = -1


class SteadyRandom:
    """The lower a node's id, the lower its draws: scripts know who is first."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id

    def randrange(self, stop: int) -> int:
        return min(stop - 1, (self._node_id - 1) * stop // 5)

    def uniform(self, low: float, high: float) -> float:
        return low

    def uuid(self) -> bytes:
        return bytes(16)


class Stage:
    """The voters of a script, the messages between them, and what is shown."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.voters: dict[int, Voter] = {}
        self.packets: list[Packet] = []
        self.timeouts: dict[tuple[int, int, int, int], int] = {}
        self.cuts: set[frozenset[int]] = set()
        self.holding: set[int] = set()
        self.shown: list[str] = []
        self.is_quiet = False
        self._roles: dict[int, str] = {}

    def execute(self, command: str) -> str:
        name, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        flags = [word for word in words if "=" not in word]
        self.shown, self.is_quiet = [], "quiet" in flags or name == "run"
        getattr(self, f"do_{name}")(options, flags)
        return "\n".join(self.shown)

    # --- commands -------------------------------------------------------------------------------------------

    def do_cluster(self, options: dict[str, str], flags: list[str]) -> None:
        ids = range(1, int(options["nodes"]) + 1)
        self.__init__()  # type: ignore[misc]  # a new stage, under the same name
        self.voters = {i: Voter(i, ids, QuorumConfig(), SteadyRandom(i)) for i in ids}
        for i in range(len(ids) + 1, len(ids) + 1 + int(options.get("spare", 0))):
            self.voters[i] = Voter(i, (), QuorumConfig(), SteadyRandom(i))
            self.voters[i].bootstrap_servers = ("1:1",)
        if "disks" in flags:
            for i, voter in self.voters.items():
                voter.directory_id = bytes([i]) * 16

    def do_log(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        for epoch in map(int, options["epochs"].split(",")):
            offset = voter.log.end_offset
            value = f"{epoch}.{offset}".encode()
            append = DataAppend(base_offset=offset, epoch=epoch, values=(value,))
            voter.log.append(bytes(encode_data(append, timestamp_ms=0)))
            voter.disk = HardState(epoch=epoch)

    def do_disk(self, options: dict[str, str], flags: list[str]) -> None:
        self._voter(options).disk = HardState(
            epoch=int(options["epoch"]),
            voted_for=NodeId(int(options.get("voted", -1))),
            leader_id=NodeId(int(options.get("leader", -1))),
        )

    def do_start(self, options: dict[str, str], flags: list[str]) -> None:
        named = [self._voter(options)] if options else list(self.voters.values())
        for voter in named:
            if voter.core is None:
                voter.start(self.now_ms)
                self._pump(voter)

    def do_crash(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        voter.crash(keep=int(options.get("keep", 0)))
        self.holding.discard(voter.node_id)
        # Whoever has a connection to it notices at once.
        for node_id, life, correlation_id, receiver in sorted(self.timeouts):
            if receiver == voter.node_id:
                self._fail(node_id, life, correlation_id, receiver, refused=True)

    def do_deliver(self, options: dict[str, str], flags: list[str]) -> None:
        limit = int(options.get("count", 1_000))
        for _ in range(limit):
            packet = next(filter(self._is_deliverable, self.packets), None)
            if packet is None:
                return
            self.packets.remove(packet)
            self._deliver(packet)
        assert "count" in options, "messages without end"

    def do_advance(self, options: dict[str, str], flags: list[str]) -> None:
        self._pass_time(self.now_ms + int(options["ms"]), deliver=False)

    def do_run(self, options: dict[str, str], flags: list[str]) -> None:
        self._pass_time(self.now_ms + int(options["ms"]), deliver=True)

    def do_drop(self, options: dict[str, str], flags: list[str]) -> None:
        self.packets.clear()

    def do_cut(self, options: dict[str, str], flags: list[str]) -> None:
        if "nodes" in options:
            self.cuts.add(frozenset(map(int, options["nodes"].split(","))))
        else:
            node_id = int(options["node"])
            self.cuts |= {frozenset({node_id, other}) for other in self.voters if other != node_id}

    def do_heal(self, options: dict[str, str], flags: list[str]) -> None:
        self.cuts.clear()

    def do_hold(self, options: dict[str, str], flags: list[str]) -> None:
        self.holding.add(self._voter(options).node_id)

    def do_sync(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        self.holding.discard(voter.node_id)
        self._pump(voter)

    def do_propose(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        assert voter.core is not None
        try:
            offset = voter.core.propose(
                [value.encode() for value in options["values"].split(",")], self.now_ms
            )
        except GlasslogError as error:
            self.shown.append(f"{error.code.name}: {error}")
            return
        self.shown.append(f"offset {offset}")
        self._pump(voter)

    def do_snapshot(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        self.shown.append(f"snapshot {voter.take_snapshot()}")
        if "trim" in flags:
            self.shown.append(f"the log begins with {voter.trim()}")
        self._pump(voter)

    def do_damage(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        newest = max(voter.snapshots)
        data = bytearray(voter.snapshots[newest])
        data[len(data) // 2] ^= 1
        voter.snapshots[newest] = bytes(data)

    def _change(self, options: dict[str, str], change: Callable[[RaftCore], object]) -> None:
        voter = self.voters[int(options["at"])]
        assert voter.core is not None
        try:
            change(voter.core)
        except GlasslogError as error:
            self.shown.append(f"{error.code.name}: {error}")
            return
        self._pump(voter)

    def do_add(self, options: dict[str, str], flags: list[str]) -> None:
        node_id = NodeId(int(options["node"]))
        self._change(options, lambda core: core.add_voter(node_id, UNKNOWN_DIRECTORY, self.now_ms))

    def do_remove(self, options: dict[str, str], flags: list[str]) -> None:
        node_id = NodeId(int(options["node"]))
        self._change(options, lambda core: core.remove_voter(node_id, UNKNOWN_DIRECTORY, self.now_ms))

    def do_transfer(self, options: dict[str, str], flags: list[str]) -> None:
        node_id = NodeId(int(options["node"]))
        self._change(options, lambda core: core.transfer(node_id, self.now_ms))

    def do_replace(self, options: dict[str, str], flags: list[str]) -> None:
        self._voter(options).lose_disk()
        self.do_start(options, flags)

    def do_move(self, options: dict[str, str], flags: list[str]) -> None:
        self._voter(options).port += 1
        self.do_start(options, flags)

    def do_voters(self, options: dict[str, str], flags: list[str]) -> None:
        core = self.voters[int(options["at"])].core
        assert core is not None
        for voter in core.voters.voters:
            self.shown.append(f"voter {voter.node_id} at {voter.address} disk {voter.directory_id[:2].hex()}")

    def do_resign(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        assert voter.core is not None
        voter.core.resign(self.now_ms)
        self._pump(voter)

    def do_ask(self, options: dict[str, str], flags: list[str]) -> None:
        voter = self._voter(options)
        request = _request_by_hand(flags[0], options, voter.node_id)
        packet = Packet(int(options["from"]), voter.node_id, _BY_HAND, request, (0, 0), True)
        voter.receive(packet, self.now_ms)
        self._pump(voter)

    def do_status(self, options: dict[str, str], flags: list[str]) -> None:
        for node_id, voter in self.voters.items():
            if voter.core is None:
                self.shown.append(f"{node_id}: down, log={voter.log.end_offset}")
                continue
            core = voter.core
            self.shown.append(
                f"{node_id}: {type(core.role).__name__} epoch={core.epoch} leader={core.leader_id} "
                f"log={_extent(voter)} starts={_starts(voter)} hw={core.high_watermark}"
                f"{_named(core.voters)}"
            )

    # --- the machinery --------------------------------------------------------------------------------------

    def _voter(self, options: dict[str, str]) -> Voter:
        return self.voters[int(options["node"])]

    def _pump(self, voter: Voter) -> None:
        """Let a node do everything it can."""
        while voter.core is not None:
            if voter.held is None:
                self._send(voter.take())
                self._show_changes(voter)
            if voter.held is None:
                return
            if voter.node_id in self.holding:
                return
            self._send(voter.sync())

    def _send(self, packets: list[Packet]) -> None:
        for packet in packets:
            self._show_packet(packet)
            if packet.correlation_id == _BY_HAND:
                continue
            self.packets.append(packet)
            if packet.is_request:
                key = (packet.sender, packet.lives[0], packet.correlation_id, packet.receiver)
                self.timeouts[key] = self.now_ms + 600

    def _is_deliverable(self, packet: Packet) -> bool:
        return self.voters[packet.receiver].held is None

    def _deliver(self, packet: Packet) -> None:
        if frozenset({packet.sender, packet.receiver}) in self.cuts:
            return
        receiver = self.voters[packet.receiver]
        if packet.is_request:
            if receiver.core is None:
                self._fail(
                    packet.sender, packet.lives[0], packet.correlation_id, packet.receiver, refused=True
                )
                return
        else:
            key = (packet.receiver, packet.lives[1], packet.correlation_id, packet.sender)
            if receiver.core is None or self.timeouts.pop(key, None) is None:
                return
        receiver.receive(packet, self.now_ms)
        self._pump(receiver)

    def _fail(self, node_id: int, life: int, correlation_id: int, receiver: int, *, refused: bool) -> None:
        self.timeouts.pop((node_id, life, correlation_id, receiver), None)
        voter = self.voters[node_id]
        if voter.core is not None and voter.life == life:
            failed = RequestFailed(sender=NodeId(receiver), correlation_id=correlation_id, refused=refused)
            voter.core.step(failed, self.now_ms)
            self._pump(voter)

    def _pass_time(self, end_ms: int, *, deliver: bool) -> None:
        while True:
            if deliver:
                self.do_deliver({}, [])
            due_ms = self._next_ms()
            if due_ms > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, due_ms)
            for (node_id, life, correlation_id, receiver), at_ms in sorted(self.timeouts.items()):
                if at_ms <= self.now_ms:
                    self._fail(node_id, life, correlation_id, receiver, refused=False)
            for voter in self.voters.values():
                if voter.core is not None and voter.held is None:
                    voter.core.tick(self.now_ms)
                    self._pump(voter)

    def _next_ms(self) -> int:
        deadlines = list(self.timeouts.values())
        for voter in self.voters.values():
            if voter.core is not None and voter.held is None:
                deadline_ms = voter.core.next_deadline_ms()
                if deadline_ms is not None:
                    deadlines.append(deadline_ms)
        return min(deadlines, default=1 << 60)

    # --- showing --------------------------------------------------------------------------------------------

    def _show_packet(self, packet: Packet) -> None:
        if not self.is_quiet:
            self.shown.append(f"  {describe_packet(packet)}")

    def _show_changes(self, voter: Voter) -> None:
        assert voter.core is not None
        if voter.held is not None and voter.held.truncate_to is not None:
            self.shown.append(f"{voter.node_id} truncates to {voter.held.truncate_to}")
        role = f"{type(voter.core.role).__name__} epoch={voter.core.epoch}"
        if self._roles.get(voter.node_id) != role:
            self._roles[voter.node_id] = role
            self.shown.append(f"{voter.node_id} is {role}")
        for notice in voter.notices:
            match notice:
                case Committed(high_watermark=high_watermark):
                    self.shown.append(f"{voter.node_id} commits up to {high_watermark}")
                case LeaderReady(epoch=epoch):
                    self.shown.append(f"{voter.node_id} is ready to lead epoch {epoch}")
                case SnapshotInstalled(snapshot_id=snapshot_id):
                    self.shown.append(f"{voter.node_id} begins with snapshot {snapshot_id}")
                case LeaderChanged():
                    pass
        voter.notices.clear()


def _named(voters: VoterSet) -> str:
    """Whom the log names as voters; nothing where only settings do."""
    return f" voters={','.join(map(str, voters.ids))}" if voters.is_recorded else ""


def _extent(voter: Voter) -> str:
    """Where the log ends, and where it begins unless at 0."""
    begin, end = voter.log.base.end_offset, voter.log.end_offset
    return f"{begin}..{end}" if begin else f"{end}"


def _starts(voter: Voter) -> str:
    return ",".join(f"{epoch}:{start}" for epoch, start in voter.log.epoch_starts) or "none"


def _request_by_hand(kind: str, options: dict[str, str], node_id: NodeId) -> Request:
    sender, epoch = NodeId(int(options["from"])), int(options.get("epoch", 0))
    cluster_id, voter_id = options.get("cluster", CLUSTER), NodeId(int(options.get("voter", node_id)))
    offset, _, last_epoch = options.get("log", "0@-1").partition("@")
    match kind:
        case "vote" | "prevote":
            return VoteRequest(
                cluster_id=cluster_id,
                candidate_epoch=epoch,
                candidate_id=sender,
                voter_id=voter_id,
                last_epoch=int(last_epoch),
                log_end_offset=int(offset),
                pre_vote=kind == "prevote",
            )
        case "begin":
            return BeginQuorumEpochRequest(
                cluster_id=cluster_id, leader_id=sender, leader_epoch=epoch, voter_id=voter_id
            )
        case "end":
            successors = tuple(NodeId(int(each)) for each in options["successors"].split(","))
            return EndQuorumEpochRequest(
                cluster_id=cluster_id, leader_id=sender, leader_epoch=epoch, preferred_successors=successors
            )
        case "fetch":
            return FetchRequest(
                cluster_id=cluster_id,
                replica_id=sender,
                current_leader_epoch=epoch,
                fetch_offset=int(offset),
                last_fetched_epoch=int(last_epoch),
                max_wait_ms=int(options.get("wait", 0)),
                max_bytes=int(options.get("bytes", 1_000_000)),
                observer="observer" in options,
                known_high_watermark=int(options.get("hw", -1)),
            )
        case _:
            raise AssertionError(f"no request is called {kind}")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    run_script(path, Stage().execute)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 8
