"""The in-sync replicas of a partition as its leader knows them, and how a change of them is asked for.

This module knows the three states of an ISR and the seam through which the controller confirms a change; it
refuses to know why a follower is in or out of sync.  Source: Kafka's ``Partition.scala`` (KIP-497).
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedIsr:
    """What the controller has said last; nothing is under way."""

    members: tuple[NodeId, ...]

    @property
    def committed(self) -> tuple[NodeId, ...]:
        return self.members

    @property
    def maximal(self) -> tuple[NodeId, ...]:
        return self.members


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingExpand:
    """``added`` was proposed: it may already count for an election, so it counts for the high watermark."""

    committed: tuple[NodeId, ...]
    added: NodeId

    @property
    def maximal(self) -> tuple[NodeId, ...]:
        return (*self.committed, self.added)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingShrink:
    """``removed`` were proposed to leave: until that is confirmed they still count."""

    committed: tuple[NodeId, ...]
    removed: tuple[NodeId, ...]

    @property
    def maximal(self) -> tuple[NodeId, ...]:
        return self.committed


IsrState = CommittedIsr | PendingExpand | PendingShrink


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrProposal:
    """A change to ask the controller for, valid for one leader epoch and one partition epoch."""

    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    new_isr: tuple[NodeId, ...]
    new_isr_broker_epochs: tuple[BrokerEpoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionOutcome:
    """The controller's answer for one partition; without ``error`` it carries the partition's new state."""

    error: ErrorCode
    leader: NodeId
    leader_epoch: LeaderEpoch
    isr: tuple[NodeId, ...]
    partition_epoch: PartitionEpoch
    elr: tuple[NodeId, ...] = ()


class AlterPartitionSender(Protocol):
    """Asks the active controller for ISR changes, several partitions in one request where it can."""

    def submit(
        self,
        topic_id: TopicId,
        partition: int,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        new_isr: tuple[NodeId, ...],
        new_isr_broker_epochs: tuple[BrokerEpoch, ...],
    ) -> Awaitable[AlterPartitionOutcome]:
        """Raises ``GlasslogError`` when the controller could not be asked; the caller tries again."""
        ...
