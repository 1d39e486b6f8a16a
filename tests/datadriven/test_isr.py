"""Runs the scripts in ``isr/`` on a leader's core: offsets of followers in, high watermark and ISR out.

Commands:
  leader isr=1,2,3 [replicas=1,2,3] [end=0] [hw=0] [min=1] [epoch=1]    node 1 leads; lag time is 100 ms
  append count=5                          the leader's log grows
  fetch node=2 offset=5 [broker-epoch=1]  a follower asks from there: it has everything below
  advance ms=10                           time passes
  shrink                                  look for members that lag
  confirm | refuse error=NAME             the controller's answer to what is pending
  metadata isr=1,2 [replicas=..] [partition-epoch=9]    the metadata log's word
  broker node=2 [fenced] [epoch=2]        what the metadata says of a broker
  min replicas=2                          min.insync.replicas changes
"""

from pathlib import Path

import pytest
from glasslog.broker.partition.isr import (
    AlterPartitionOutcome,
    CommittedIsr,
    IsrProposal,
    PendingExpand,
    PendingShrink,
)
from glasslog.broker.partition.leader_state import LeaderState, LeaderTerms
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch

from tests.datadriven.scripts import run_script

SCRIPTS = sorted((Path(__file__).parent / "isr").glob("*.txt"))


def numbers(text: str) -> tuple[NodeId, ...]:
    return tuple(NodeId(int(each)) for each in text.split(",") if each)


class IsrScript:
    """One script's leader."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.end = 0
        self.leader: LeaderState | None = None
        self.proposal: IsrProposal | None = None
        self.fenced: set[int] = set()
        self.broker_epochs: dict[int, int] = {}

    def execute(self, command: str) -> str:
        name, *words = command.split()
        given = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        if name == "leader":
            return self.make(given)
        assert self.leader is not None
        before = self.leader.high_watermark
        lines = [self.run(self.leader, name, given)]
        if self.leader.high_watermark != before:
            lines.append(f"high watermark {before} -> {self.leader.high_watermark}")
        return "\n".join(line for line in lines if line)

    def make(self, given: dict[str, str]) -> str:
        isr = numbers(given["isr"])
        self.end = int(given.get("end", "0"))
        self.proposal = None
        self.leader = LeaderState(
            LeaderTerms(
                node_id=NodeId(1),
                broker_epoch=BrokerEpoch(1),
                replicas=numbers(given.get("replicas", given["isr"])),
                isr=isr,
                leader_epoch=LeaderEpoch(int(given.get("epoch", "1"))),
                partition_epoch=PartitionEpoch(0),
                elr=numbers(given.get("elr", "")),
            ),
            epoch_start_offset=Offset(self.end),
            high_watermark=Offset(int(given.get("hw", "0"))),
            min_insync_replicas=int(given.get("min", "1")),
            lag_time_max_ms=100,
            eligible=self.is_eligible,
            now_ms=self.now_ms,
        )
        self.leader.advance_high_watermark(
            leader_end_offset=Offset(self.end), counted_end_offset=Offset(self.end), now_ms=self.now_ms
        )
        return f"{self.describe(self.leader)} high watermark {self.leader.high_watermark}"

    def is_eligible(self, node: NodeId, broker_epoch: BrokerEpoch) -> bool:
        return node not in self.fenced and broker_epoch == self.broker_epochs.get(node, 1)

    def run(self, leader: LeaderState, name: str, given: dict[str, str]) -> str:
        match name:
            case "append":
                self.end += int(given["count"])
                self.advance(leader)
                return f"end {self.end}"
            case "fetch":
                return self.fetch(leader, given)
            case "advance":
                self.now_ms += int(given["ms"])
                return ""
            case "shrink":
                proposal = leader.maybe_shrink_isr(leader_end_offset=Offset(self.end), now_ms=self.now_ms)
                return self.proposed(leader, proposal) or "nobody lags"
            case "confirm" | "refuse":
                return self.decide(leader, given)
            case "metadata":
                return self.metadata(leader, given)
            case "broker":
                node = int(given["node"])
                (self.fenced.add if "fenced" in given else self.fenced.discard)(node)
                self.broker_epochs[node] = int(given.get("epoch", self.broker_epochs.get(node, 1)))
                return ""
            case "min":
                leader.min_insync_replicas = int(given["replicas"])
                self.advance(leader)
                return ""
            case _:
                raise ValueError(f"no such command: {name}")

    def advance(self, leader: LeaderState) -> None:
        leader.advance_high_watermark(
            leader_end_offset=Offset(self.end), counted_end_offset=Offset(self.end), now_ms=self.now_ms
        )

    def fetch(self, leader: LeaderState, given: dict[str, str]) -> str:
        follower = leader.followers[NodeId(int(given["node"]))]
        leader.on_follower_fetch(
            follower,
            fetch_offset=Offset(int(given["offset"])),
            log_start_offset=Offset(0),
            broker_epoch=BrokerEpoch(int(given.get("broker-epoch", "1"))),
            leader_end_offset=Offset(self.end),
            counted_end_offset=Offset(self.end),
            now_ms=self.now_ms,
        )
        return self.proposed(leader, leader.maybe_expand_isr(follower))

    def proposed(self, leader: LeaderState, proposal: IsrProposal | None) -> str:
        if proposal is None:
            return ""
        self.proposal = proposal
        return f"ask for ISR {show(proposal.new_isr)}; {self.describe(leader)}"

    def decide(self, leader: LeaderState, given: dict[str, str]) -> str:
        assert self.proposal is not None
        proposal = self.proposal
        outcome = AlterPartitionOutcome(
            error=ErrorCode[given.get("error", "NONE")],
            leader=NodeId(1),
            leader_epoch=proposal.leader_epoch,
            isr=proposal.new_isr,
            partition_epoch=PartitionEpoch(proposal.partition_epoch + 1),
            elr=numbers(given.get("elr", "")),
        )
        after = leader.on_outcome(proposal, outcome)
        self.advance(leader)
        return f"{after.value}; {self.describe(leader)}"

    def metadata(self, leader: LeaderState, given: dict[str, str]) -> str:
        is_news = leader.on_metadata(
            replicas=numbers(given["replicas"]) if "replicas" in given else leader.replicas,
            isr=numbers(given["isr"]),
            elr=numbers(given.get("elr", "")),
            partition_epoch=PartitionEpoch(int(given.get("partition-epoch", leader.partition_epoch + 1))),
            now_ms=self.now_ms,
        )
        self.advance(leader)
        return self.describe(leader) if is_news else "no news"

    def describe(self, leader: LeaderState) -> str:
        match leader.isr_state:
            case CommittedIsr(members=members):
                text = f"ISR {show(members)}"
            case PendingExpand(committed=committed, added=added):
                text = f"ISR {show(committed)} expanding by {added}"
            case PendingShrink(committed=committed, removed=removed):
                text = f"ISR {show(committed)} shrinking by {show(removed)}"
        return text + (" under min ISR" if leader.is_under_min_isr else "")


def show(nodes: tuple[NodeId, ...]) -> str:
    return "{" + ",".join(map(str, nodes)) + "}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_isr_script(path: Path) -> None:
    run_script(path, IsrScript().execute)
