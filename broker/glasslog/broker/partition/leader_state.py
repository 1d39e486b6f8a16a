"""A leader's core: who is in sync, how far the high watermark is, which ISR change to ask for.

This module knows followers' offsets and the controller's word; it refuses to know logs, sockets and waiting
requests.  The high watermark covers the *maximal* ISR, never goes back, and stands still while the committed
ISR is below ``min.insync.replicas``, or while there are eligible leader replicas (KIP-966): those may be
elected for having everything that is committed, and whether there are any is the controller's word, which
may go by another ``min.insync.replicas`` for a moment.  ISR changes take effect only when confirmed
(KIP-497).  Source: Kafka's ``Partition.scala``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from glasslog.broker.partition.follower_state import FollowerState
from glasslog.broker.partition.isr import (
    AlterPartitionOutcome,
    CommittedIsr,
    IsrProposal,
    IsrState,
    PendingExpand,
    PendingShrink,
)
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch

Eligibility = Callable[[NodeId, BrokerEpoch], bool]
"""Whether the metadata lets this incarnation of a broker into an ISR: registered, active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderTerms:
    """What the metadata says when a leader is made."""

    node_id: NodeId
    broker_epoch: BrokerEpoch
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    adding_replicas: tuple[NodeId, ...] = ()
    elr: tuple[NodeId, ...] = ()


class AfterOutcome(Enum):
    """What remains to do once the controller has answered."""

    DONE = "done"
    RETRY = "retry"
    WAIT_FOR_METADATA = "wait for metadata"


_GIVE_UP = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NEW_LEADER_ELECTED,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.STALE_BROKER_EPOCH,
    }
)
_ROLL_BACK = frozenset({ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.INELIGIBLE_REPLICA})


class LeaderState:
    """One partition's leadership in one leader epoch.

    ``epoch_start_offset`` is the log's end when the epoch began: a follower below it can not be in sync.
    """

    def __init__(
        self,
        terms: LeaderTerms,
        *,
        epoch_start_offset: Offset,
        high_watermark: Offset,
        min_insync_replicas: int,
        lag_time_max_ms: int,
        eligible: Eligibility,
        now_ms: int,
    ) -> None:
        self.node_id = terms.node_id
        self._own_broker_epoch = terms.broker_epoch
        self.leader_epoch = terms.leader_epoch
        self.partition_epoch = terms.partition_epoch
        self.replicas = terms.replicas
        self._adding = terms.adding_replicas
        self._elr = terms.elr
        self.epoch_start_offset = epoch_start_offset
        self.high_watermark = high_watermark
        self.min_insync_replicas = min_insync_replicas
        self._lag_time_max_ms = lag_time_max_ms
        self._eligible = eligible
        self._isr: IsrState = CommittedIsr(members=terms.isr)
        self._maximal = terms.isr
        self.since_ms = now_ms
        self.names_followers = False
        """Whether consumers were sent to followers, which then want to hear of every high watermark."""
        self.followers: dict[NodeId, FollowerState] = {}
        self._set_followers(now_ms)

    def _set_followers(self, now_ms: int) -> None:
        isr = self._isr.committed
        self.followers = {
            node: self.followers.get(node) or FollowerState(node, in_sync=node in isr, now_ms=now_ms)
            for node in self.replicas
            if node != self.node_id
        }

    # --- reading ---

    @property
    def isr_state(self) -> IsrState:
        return self._isr

    @property
    def isr(self) -> tuple[NodeId, ...]:
        """The committed ISR."""
        return self._isr.committed

    @property
    def maximal_isr(self) -> tuple[NodeId, ...]:
        return self._maximal

    @property
    def effective_min_isr(self) -> int:
        """``min.insync.replicas``, but never more than there are replicas."""
        return min(self.min_insync_replicas, len(self.replicas))

    @property
    def is_under_min_isr(self) -> bool:
        """Whether nothing can be committed now."""
        return len(self._isr.committed) < self.effective_min_isr or bool(self._elr)

    @property
    def is_under_replicated(self) -> bool:
        """Replicas that a reassignment is only adding are not missed yet."""
        return len(self._isr.committed) < len(self.replicas) - len(self._adding)

    # --- followers ---

    def on_follower_fetch(
        self,
        follower: FollowerState,
        *,
        fetch_offset: Offset,
        log_start_offset: Offset,
        broker_epoch: BrokerEpoch,
        leader_end_offset: Offset,
        counted_end_offset: Offset,
        now_ms: int,
    ) -> bool:
        """Take in how far a follower is; True when the high watermark advanced."""
        before = follower.log_end_offset
        follower.on_fetch(
            fetch_offset=fetch_offset,
            log_start_offset=log_start_offset,
            leader_end_offset=leader_end_offset,
            broker_epoch=broker_epoch,
            now_ms=now_ms,
        )
        if fetch_offset == before:
            return False
        return self.advance_high_watermark(
            leader_end_offset=leader_end_offset, counted_end_offset=counted_end_offset, now_ms=now_ms
        )

    def advance_high_watermark(
        self, *, leader_end_offset: Offset, counted_end_offset: Offset, now_ms: int
    ) -> bool:
        """Move the high watermark as far as the maximal ISR allows; True when it moved.

        ``counted_end_offset`` is where the leader's own log counts as ending: at what is durable while
        ``flush.messages`` waits for a sync.

        A follower that is caught up but not yet in the ISR holds it back as well, else it could chase the
        high watermark of a fast leader forever and never be let in.
        """
        if self.is_under_min_isr:
            return False
        lowest = counted_end_offset
        maximal = self._maximal
        for follower in self.followers.values():
            if follower.log_end_offset < lowest and (
                follower.node_id in maximal or self._is_about_to_join(follower, leader_end_offset, now_ms)
            ):
                lowest = Offset(follower.log_end_offset)
        if lowest <= self.high_watermark:
            return False
        self.high_watermark = lowest
        return True

    def _is_about_to_join(self, follower: FollowerState, leader_end_offset: Offset, now_ms: int) -> bool:
        return follower.is_caught_up(
            leader_end_offset=leader_end_offset, now_ms=now_ms, lag_time_max_ms=self._lag_time_max_ms
        ) and self._eligible(follower.node_id, follower.broker_epoch)

    # --- proposing ISR changes ---

    def maybe_expand_isr(self, follower: FollowerState) -> IsrProposal | None:
        """Propose a follower that reached the high watermark and this epoch's start (KIP-841, KIP-903)."""
        state = self._isr
        if not isinstance(state, CommittedIsr) or follower.node_id in state.members:
            return None
        reached = max(self.high_watermark, self.epoch_start_offset)
        if follower.log_end_offset < reached:
            return None
        if not self._eligible(follower.node_id, follower.broker_epoch):
            return None
        self._set_isr(PendingExpand(committed=state.members, added=follower.node_id))
        return self._propose(self._maximal)

    def maybe_shrink_isr(self, *, leader_end_offset: Offset, now_ms: int) -> IsrProposal | None:
        """Propose to drop every member that has not been caught up for ``replica.lag.time.max.ms``."""
        state = self._isr
        if not isinstance(state, CommittedIsr):
            return None
        late = tuple(
            follower.node_id
            for follower in self.followers.values()
            if follower.node_id in state.members
            and not follower.is_caught_up(
                leader_end_offset=leader_end_offset, now_ms=now_ms, lag_time_max_ms=self._lag_time_max_ms
            )
        )
        if not late:
            return None
        self._set_isr(PendingShrink(committed=state.members, removed=late))
        return self._propose(tuple(node for node in state.members if node not in late))

    def _propose(self, members: tuple[NodeId, ...]) -> IsrProposal:
        return IsrProposal(
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
            new_isr=members,
            new_isr_broker_epochs=tuple(self._broker_epoch(node) for node in members),
        )

    def _broker_epoch(self, node: NodeId) -> BrokerEpoch:
        if node == self.node_id:
            return self._own_broker_epoch
        follower = self.followers.get(node)
        return NO_BROKER_EPOCH if follower is None else follower.broker_epoch

    def is_pending(self, proposal: IsrProposal) -> bool:
        """Whether ``proposal`` is still what this leader waits for."""
        return proposal.partition_epoch == self.partition_epoch and not isinstance(self._isr, CommittedIsr)

    # --- the controller's word ---

    def on_outcome(self, proposal: IsrProposal, outcome: AlterPartitionOutcome) -> AfterOutcome:
        """Take in the controller's answer to ``proposal``; the high watermark may advance afterwards."""
        if not self.is_pending(proposal):
            return AfterOutcome.DONE
        if outcome.error is ErrorCode.NONE:
            return self._on_confirmed(outcome)
        if outcome.error in _ROLL_BACK:
            self._set_isr(CommittedIsr(members=self._isr.committed))
            return AfterOutcome.DONE
        return AfterOutcome.WAIT_FOR_METADATA if outcome.error in _GIVE_UP else AfterOutcome.RETRY

    def _on_confirmed(self, outcome: AlterPartitionOutcome) -> AfterOutcome:
        if outcome.leader_epoch != self.leader_epoch or outcome.partition_epoch < self.partition_epoch:
            return AfterOutcome.WAIT_FOR_METADATA
        self.partition_epoch = outcome.partition_epoch
        self._elr = outcome.elr
        self._set_isr(CommittedIsr(members=outcome.isr))
        return AfterOutcome.DONE

    def on_metadata(
        self,
        *,
        replicas: Sequence[NodeId],
        isr: Sequence[NodeId],
        adding_replicas: Sequence[NodeId] = (),
        elr: Sequence[NodeId] = (),
        partition_epoch: PartitionEpoch,
        now_ms: int,
    ) -> bool:
        """The metadata log's word within the same leader epoch; False when it is no news.

        It replaces whatever was pending: a proposal for the older partition epoch can not succeed any more.
        """
        if partition_epoch <= self.partition_epoch:
            return False
        self.partition_epoch = partition_epoch
        self.replicas = tuple(replicas)
        self._adding = tuple(adding_replicas)
        self._elr = tuple(elr)
        self._set_isr(CommittedIsr(members=tuple(isr)))
        self._set_followers(now_ms)
        return True

    def _set_isr(self, state: IsrState) -> None:
        self._isr = state
        self._maximal = state.maximal
