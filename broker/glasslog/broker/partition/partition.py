"""One replica on this broker: its log, its role, its high watermark. Leader, follower, or offline.

This module knows how the log and the role go together: what may be appended, read, truncated; it refuses to
know which requests wait and how they arrive.  A follower cuts its log only where the leader's epochs say so,
never at a high watermark (KIP-101, KIP-279).  Source: Kafka's ``Partition.scala``.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.partition.follower_state import FollowerState
from glasslog.broker.partition.isr import CommittedIsr
from glasslog.broker.partition.leader_state import Eligibility, LeaderState, LeaderTerms
from glasslog.broker.partition.reads import PartitionAsk, ReadOutcome
from glasslog.broker.requests import (
    ACKS_ALL,
    TO_HIGH_WATERMARK,
    AbortedRange,
    DivergingEpoch,
    Follower,
    IsolationLevel,
)
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError, require
from glasslog.common.ids import (
    NO_BROKER_EPOCH,
    NO_LEADER_EPOCH,
    NO_NODE,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    TopicId,
    TopicPartition,
)
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.append import AppendInfo
from glasslog.log.batch import iterate_batches, parse_header
from glasslog.log.log import Log

_LOGGER = logging.getLogger(__name__)
_LEDGER_ENTRIES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Copies from ``leader_id``, or from nobody while there is no leader (``NO_NODE``)."""

    leader_id: NodeId
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """The log can not be used: its disk failed, or its topic is gone."""

    error: ErrorCode
    reason: str
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch


Role = LeaderState | Following | Offline


class ByteLedger:
    """How many bytes were appended and how many of them were committed, without asking the disk."""

    __slots__ = ("_pending", "appended", "committed")

    def __init__(self) -> None:
        self.appended = 0
        self.committed = 0
        self._pending: deque[tuple[int, int]] = deque()

    def on_append(self, end_offset: int, size_bytes: int) -> None:
        self.appended += size_bytes
        if len(self._pending) >= _LEDGER_ENTRIES:
            self._pending.pop()
        self._pending.append((end_offset, self.appended))

    def on_truncation(self, end_offset: int) -> None:
        """What was appended beyond will never be committed."""
        pending = self._pending
        while pending and pending[-1][0] > end_offset:
            pending.pop()

    def on_high_watermark(self, high_watermark: int) -> None:
        pending = self._pending
        while pending and pending[0][0] <= high_watermark:
            self.committed = pending.popleft()[1]


class Partition:
    """See the module. Methods that touch the disk raise ``StorageError`` when it refuses."""

    def __init__(
        self,
        *,
        name: TopicPartition,
        topic_id: TopicId,
        log: Log | None,
        high_watermark: Offset,
        offline_reason: str = "",
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.key = (topic_id, name.partition)
        self.ledger = ByteLedger()
        self._log = log
        self._high_watermark: int = high_watermark
        no_epochs = (LeaderEpoch(-1), PartitionEpoch(-1))
        self.role: Role = (
            Offline(
                error=ErrorCode.KAFKA_STORAGE_ERROR,
                reason=offline_reason,
                leader_epoch=no_epochs[0],
                partition_epoch=no_epochs[1],
            )
            if log is None
            else Following(leader_id=NO_NODE, leader_epoch=no_epochs[0], partition_epoch=no_epochs[1])
        )
        if log is not None:
            self._high_watermark = min(max(high_watermark, log.log_start_offset), log.log_end_offset)

    # --- facts ---

    @property
    def log(self) -> Log:
        """Raises ``StorageError`` while offline."""
        if self._log is None:
            reason = self.role.reason if isinstance(self.role, Offline) else "its log is closed"
            raise StorageError(f"{self.name} is offline: {reason}")
        return self._log

    @property
    def is_online(self) -> bool:
        return self._log is not None

    @property
    def leader_epoch(self) -> LeaderEpoch:
        return self.role.leader_epoch

    @property
    def partition_epoch(self) -> PartitionEpoch:
        return self.role.partition_epoch

    @property
    def leader_id(self) -> NodeId:
        """Who leads as far as this broker knows."""
        match self.role:
            case LeaderState(node_id=node_id):
                return node_id
            case Following(leader_id=leader_id):
                return leader_id
            case Offline():
                return NO_NODE

    @property
    def high_watermark(self) -> Offset:
        role = self.role
        return role.high_watermark if isinstance(role, LeaderState) else Offset(self._high_watermark)

    @property
    def log_end_offset(self) -> Offset:
        return Offset(self.log.log_end_offset)

    @property
    def _counted_end_offset(self) -> Offset:
        """Up to where a leader's own log counts for the high watermark.

        What ``flush.messages`` wants synced does only when it is: as in Kafka, whose append syncs before it
        returns, nobody is shown a record that this leader could lose by then.
        """
        log = self.log
        return Offset(log.recovery_point if log.is_flush_due else log.log_end_offset)

    @property
    def log_start_offset(self) -> Offset:
        return Offset(self.log.log_start_offset)

    def leader(self, *, leader_epoch: int = NO_LEADER_EPOCH) -> LeaderState:
        """The leader's state; raises the error that whoever asks the wrong replica gets (KIP-320).

        KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH or NOT_LEADER_OR_FOLLOWER.
        """
        role = self.role
        # Nearly every request: who asks knows the epoch, or does not say.
        if isinstance(role, LeaderState) and leader_epoch in (NO_LEADER_EPOCH, role.leader_epoch):
            return role
        role = self._online_role(leader_epoch)
        if not isinstance(role, LeaderState):
            raise GlasslogError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{self.name} is led by broker {role.leader_id}"
            )
        return role

    def _online_role(self, leader_epoch: int) -> LeaderState | Following:
        role = self.role
        if isinstance(role, Offline):
            raise GlasslogError(role.error, f"{self.name} is offline here: {role.reason}")
        if leader_epoch != NO_LEADER_EPOCH and leader_epoch != role.leader_epoch:
            is_old = leader_epoch < role.leader_epoch
            raise GlasslogError(
                ErrorCode.FENCED_LEADER_EPOCH if is_old else ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"{self.name}: leader epoch {leader_epoch} was asked for, here it is {role.leader_epoch}",
            )
        return role

    # --- roles ---

    def become_leader(
        self,
        terms: LeaderTerms,
        *,
        min_insync_replicas: int,
        lag_time_max_ms: int,
        eligible: Eligibility,
        now_ms: int,
    ) -> LeaderState:
        """Lead under a new leader epoch, which begins at the log's end."""
        log = self.log
        require(
            terms.leader_epoch > self.leader_epoch,
            f"{self.name}: leader epoch {terms.leader_epoch} after {self.leader_epoch}",
        )
        log.start_leader_epoch(terms.leader_epoch)
        self._begin_ledger()
        state = LeaderState(
            terms,
            epoch_start_offset=Offset(log.log_end_offset),
            high_watermark=self.high_watermark,
            min_insync_replicas=min_insync_replicas,
            lag_time_max_ms=lag_time_max_ms,
            eligible=eligible,
            now_ms=now_ms,
        )
        self.role = state
        state.advance_high_watermark(
            leader_end_offset=Offset(log.log_end_offset),
            counted_end_offset=self._counted_end_offset,
            now_ms=now_ms,
        )
        return state

    def become_follower(
        self, *, leader_id: NodeId, leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch
    ) -> None:
        """Follow ``leader_id``; what the log holds beyond it is cut when the leader has been asked."""
        require(leader_epoch >= self.leader_epoch, f"{self.name}: leader epoch {leader_epoch} goes back")
        if leader_epoch > self.leader_epoch:
            self._begin_ledger()
        self._high_watermark = self.high_watermark
        self.role = Following(leader_id=leader_id, leader_epoch=leader_epoch, partition_epoch=partition_epoch)

    def _begin_ledger(self) -> None:
        """Consumers that wait here must notice when what this log had before is committed."""
        self.ledger = ByteLedger()
        if self._log is not None and self.high_watermark < self._log.log_end_offset:
            self.ledger.on_append(self._log.log_end_offset, 1)

    def go_offline(self, error: ErrorCode, reason: str) -> Log | None:
        """Stop using the log; returns it for its handles to be given back."""
        self._high_watermark = self.high_watermark
        self.role = Offline(
            error=error,
            reason=reason,
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
        )
        log, self._log = self._log, None
        return log

    def move_to(self, log: Log) -> None:
        """Go on with a log that holds the same in another data directory."""
        before = self.log
        require(
            (before.log_start_offset, before.log_end_offset) == (log.log_start_offset, log.log_end_offset),
            f"{self.name}: {log.directory} is no copy of {before.directory}",
        )
        self._log = log

    # --- the leader ---

    def append(
        self, records: Buffer, *, acks: int, now_ms: int, wall_ms: int, origin_is_client: bool
    ) -> AppendInfo:
        """Append a producer's batches. The caller tells waiting fetches, and waits for the replicas.

        Raises ``GlasslogError`` as ``leader`` and ``Log.append_as_leader`` do, and NOT_ENOUGH_REPLICAS.
        """
        state = self.leader()
        if acks == ACKS_ALL and state.is_under_min_isr:
            raise GlasslogError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.name}: {len(state.isr)} of {len(state.replicas)} replicas are in sync, "
                f"min.insync.replicas is {state.effective_min_isr}",
            )
        log = self.log
        info = log.append_as_leader(
            records, leader_epoch=state.leader_epoch, now_ms=wall_ms, origin_is_client=origin_is_client
        )
        if not info.duplicate:
            self.ledger.on_append(info.last_offset + 1, len(records))
            if state.advance_high_watermark(
                leader_end_offset=Offset(log.log_end_offset),
                counted_end_offset=self._counted_end_offset,
                now_ms=now_ms,
            ):
                self.ledger.on_high_watermark(state.high_watermark)
        return info

    def check_copy(self, ask: PartitionAsk) -> None:
        """Whether a reader that takes any replica's committed records can be served, leading or following.

        Raises ``GlasslogError``: KAFKA_STORAGE_ERROR and OFFSET_OUT_OF_RANGE.
        """
        if not self.log.log_start_offset <= ask.fetch_offset <= self.high_watermark:
            raise self._out_of_range(ask)

    def check_fetch(self, ask: PartitionAsk) -> DivergingEpoch | None:
        """Whether a fetch can be served here; where the fetcher's log has to be cut first, if it has to.

        Raises ``GlasslogError`` as ``leader`` does, and OFFSET_OUT_OF_RANGE.
        """
        self.leader(leader_epoch=ask.current_leader_epoch)
        log, offset = self.log, ask.fetch_offset
        if offset < log.log_start_offset:
            raise self._out_of_range(ask)
        end = log.log_end_offset
        if offset <= end and ask.last_fetched_epoch == log.latest_epoch:
            return None
        if ask.last_fetched_epoch == NO_LEADER_EPOCH:
            if offset > end:
                raise self._out_of_range(ask)
            return None
        return self._divergence(ask)

    def _divergence(self, ask: PartitionAsk) -> DivergingEpoch | None:
        epoch, end_offset = self.log.end_offset_for_epoch(ask.last_fetched_epoch)
        if epoch < 0:
            raise self._out_of_range(ask)
        if epoch < ask.last_fetched_epoch or end_offset < ask.fetch_offset:
            return DivergingEpoch(epoch=LeaderEpoch(epoch), end_offset=Offset(end_offset))
        return None

    def check_closest_fetch(self, ask: PartitionAsk) -> DivergingEpoch | None:
        """``check_fetch`` for a consumer that a follower will do for as well (KIP-392).

        A follower may be behind its leader and knows only of committed records that they are right: it never
        says where a log parts.  OFFSET_OUT_OF_RANGE of a follower means that the leader has to be asked.
        """
        role = self._online_role(ask.current_leader_epoch)
        if isinstance(role, LeaderState):
            return self.check_fetch(ask)
        log = self.log
        if not log.log_start_offset <= ask.fetch_offset <= log.log_end_offset:
            raise self._out_of_range(ask)
        # Of what was before its log begins it knows no epochs.
        is_known = log.log_start_offset < ask.fetch_offset <= self._high_watermark
        if is_known and ask.last_fetched_epoch != NO_LEADER_EPOCH and self._divergence(ask) is not None:
            raise self._out_of_range(ask)
        return None

    def _out_of_range(self, ask: PartitionAsk) -> GlasslogError:
        return GlasslogError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{self.name}: offset {ask.fetch_offset} in epoch {ask.last_fetched_epoch} is not in "
            f"{self.log_start_offset} to {self.log_end_offset}",
        )

    def check_replica(self, node: NodeId) -> FollowerState:
        """What this leader knows of a follower; UNKNOWN_LEADER_EPOCH for a broker that is no replica."""
        state = self.leader()
        known = state.followers.get(node)
        if known is None:
            raise GlasslogError(
                ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"{self.name}: broker {node} is no replica as far as leader epoch {state.leader_epoch} knows",
            )
        return known

    def on_follower_fetch(self, follower: Follower, ask: PartitionAsk, *, now_ms: int) -> bool:
        """Note how far a follower is, after ``check_fetch``; True when the high watermark advanced.

        STALE_BROKER_EPOCH for a request that an earlier incarnation has left behind.
        """
        state = self.leader()
        known = state.followers.get(follower.replica_id) or self.check_replica(follower.replica_id)
        if NO_BROKER_EPOCH < follower.broker_epoch < known.broker_epoch:
            raise GlasslogError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"{self.name}: broker {follower.replica_id} has fetched with broker epoch "
                f"{known.broker_epoch} since it had {follower.broker_epoch}",
            )
        advanced = state.on_follower_fetch(
            known,
            fetch_offset=Offset(ask.fetch_offset),
            log_start_offset=Offset(ask.log_start_offset),
            broker_epoch=follower.broker_epoch,
            leader_end_offset=Offset(self.log.log_end_offset),
            counted_end_offset=self._counted_end_offset,
            now_ms=now_ms,
        )
        if advanced:
            self.ledger.on_high_watermark(state.high_watermark)
        return advanced

    def follower_was_current(self, node: NodeId, *, at_ms: int) -> None:
        """A follower that had everything asked again at ``at_ms``, before anything was appended."""
        state = self.role
        follower = state.followers.get(node) if isinstance(state, LeaderState) else None
        if follower is not None:
            follower.was_current(at_ms)

    def is_quiet_for(self, follower: NodeId, fetch_offset: int) -> bool:
        """Whether a follower has all that is here, and nothing is to be decided about its being in sync."""
        state = self.role
        if not isinstance(state, LeaderState) or fetch_offset != self.log_end_offset:
            return False
        return isinstance(state.isr_state, CommittedIsr) and follower in state.isr

    def advance_high_watermark(self, *, now_ms: int) -> bool:
        """After a change of the ISR, or a sync: True when the high watermark advanced."""
        state = self.role
        if not isinstance(state, LeaderState):
            return False
        advanced = state.advance_high_watermark(
            leader_end_offset=self.log_end_offset, counted_end_offset=self._counted_end_offset, now_ms=now_ms
        )
        if advanced:
            self.ledger.on_high_watermark(state.high_watermark)
        return advanced

    @property
    def last_stable_offset(self) -> Offset:
        """Below it every transaction is decided and that is committed; at most the high watermark."""
        return Offset(self.log.last_stable_offset(high_watermark=self.high_watermark))

    def read(
        self,
        ask: PartitionAsk,
        *,
        is_follower: bool,
        max_bytes: int,
        minimum_one: bool,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        cached_only: bool = False,
    ) -> ReadOutcome:
        """Records from ``ask.fetch_offset``: for followers to the log's end, else as ``isolation`` says.

        A consumer of committed records is told which of them were aborted: those it has to leave out.  Raises
        ``ColdRead`` with ``cached_only`` when the disk would have to be waited for.
        """
        log = self.log
        high_watermark = self.high_watermark
        stable = log.last_stable_offset(high_watermark=high_watermark)
        is_committed = isolation is IsolationLevel.READ_COMMITTED
        upper = log.log_end_offset if is_follower else stable if is_committed else high_watermark
        offset = ask.fetch_offset
        records: Buffer = b""
        if offset < upper and (max_bytes > 0 or minimum_one):
            records = log.read(
                offset,
                max_bytes=max_bytes,
                upper_offset=upper,
                minimum_one=minimum_one,
                cached_only=cached_only,
            )
        aborted = _aborted_in(log, offset, records) if is_committed else ()
        return ReadOutcome(
            ErrorCode.NONE,
            high_watermark,
            log.log_start_offset,
            records,
            last_stable_offset=stable,
            aborted_transactions=aborted,
        )

    def delete_records(self, offset: int) -> Offset:
        """Let this leader's log begin at ``offset``, -1 for the high watermark; where that is.

        Nothing happens below the log's start.  Raises ``GlasslogError`` as ``leader`` does, and
        OFFSET_OUT_OF_RANGE above the high watermark: what is not committed may come from another leader.
        """
        high_watermark = self.leader().high_watermark
        target = high_watermark if offset == TO_HIGH_WATERMARK else Offset(offset)
        if not 0 <= target <= high_watermark:
            raise GlasslogError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name}: offset {offset} is not between 0 and the high watermark {high_watermark}",
            )
        self.log.advance_start(target)
        return target

    def low_watermark(self, is_alive: Callable[[NodeId], bool]) -> Offset:
        """The lowest log start among this leader and its followers that live."""
        starts = [
            follower.log_start_offset
            for follower in self.leader().followers.values()
            if is_alive(follower.node_id)
        ]
        return Offset(min([self.log.log_start_offset, *starts]))

    # --- the follower ---

    def append_from_leader(
        self,
        records: Buffer,
        *,
        leader_high_watermark: Offset,
        leader_log_start_offset: Offset,
        now_ms: int,
    ) -> int:
        """Take in an answer of the leader, perhaps without records; returns how many bytes were appended."""
        log = self.log
        size_bytes = len(records)
        if size_bytes:
            if log.log_end_offset == log.log_start_offset:
                self._begin_with(records)
            log.append_as_follower(records, now_ms=now_ms)
            self.ledger.on_append(log.log_end_offset, size_bytes)
        known = min(leader_high_watermark, log.log_end_offset)
        if known > self._high_watermark:
            self._high_watermark = known
            self.ledger.on_high_watermark(known)
        if leader_log_start_offset > log.log_start_offset:
            log.advance_start(min(leader_log_start_offset, self._high_watermark))
        return size_bytes

    def _begin_with(self, records: Buffer) -> None:
        """The leader's log may begin within a batch, and batches are sent as a whole: an empty log gives way.

        Source: ``Partition.doAppendRecordsToFollowerOrFutureReplica`` in Kafka.
        """
        log, first = self.log, parse_header(records)
        if not log.size_bytes and first.base_offset < log.log_end_offset < first.next_offset:
            log.truncate_fully_and_start_at(first.base_offset)

    def truncate_to_leader(self, diverging: DivergingEpoch) -> None:
        """Cut the log where it parts from the leader's; a further fetch may tell that more has to go."""
        log = self.log
        before = log.log_end_offset
        own_epoch, own_end = log.end_offset_for_epoch(diverging.epoch)
        if own_epoch == diverging.epoch:
            target = min(own_end, diverging.end_offset)
        else:
            # An epoch that this log has not: everything after the last one that it has before it is foreign.
            target = diverging.end_offset if own_epoch < 0 else own_end
        target = min(target, before)
        log.truncate_to(max(target, 0))
        # A leader that appended nothing left an epoch that begins at the end, and that nobody else knows.
        log.epochs.truncate_from_end(log.log_end_offset)
        self._after_truncation(before)

    def restart_at(self, offset: Offset) -> None:
        """Drop everything: the leader's log begins after the end of this one."""
        before = self.log.log_end_offset
        self.log.truncate_fully_and_start_at(offset)
        self._high_watermark = offset
        self.ledger.on_truncation(offset)
        _LOGGER.warning(
            "%s: nothing left in common with the leader, log %d begins at %d", self.name, before, offset
        )

    def _after_truncation(self, before: int) -> None:
        end = self.log.log_end_offset
        self.ledger.on_truncation(end)
        if end < self._high_watermark:
            _LOGGER.warning(
                "%s: cut to %d, below its high watermark %d: %d offsets that were committed are lost, by an "
                "unclean election or because all replicas in sync lost them",
                self.name,
                end,
                self._high_watermark,
                self._high_watermark - end,
            )
            self._high_watermark = end
        if end < before:
            _LOGGER.info("%s: cut from %d to %d, where the leader's log parts", self.name, before, end)


def _aborted_in(log: Log, offset: int, records: Buffer) -> tuple[AbortedRange, ...]:
    """The aborted transactions with a part in ``records``, which begin at or before ``offset``."""
    last = None
    for last, _ in iterate_batches(records):  # noqa: B007 - only the last one counts
        pass
    if last is None:
        return ()
    found = log.aborted_transactions(offset, upper_offset=last.next_offset)
    return tuple(AbortedRange(each.producer_id, each.first_offset) for each in found)
