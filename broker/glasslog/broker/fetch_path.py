"""The way of a fetch request: note what a follower has, read, wait for more if it is too little, answer.

This module knows when an answer may leave; it refuses to know transports and sessions.  A fetch that waits is
no task: the append, high watermark or deadline that completes it calls back.  Source: Kafka's
``ReplicaManager.fetchMessages``.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from glasslog.broker.closest_replica import ClosestReplica
from glasslog.broker.cold_reads import ColdReads
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.purgatory import DelayedFetch, FetchWatchers
from glasslog.broker.partition.reads import PartitionAsk, ReadOutcome
from glasslog.broker.replicas import Replicas
from glasslog.broker.replication_throttle import ReplicationThrottle
from glasslog.broker.requests import (
    Consumer,
    FetchPartition,
    FetchPartitionResult,
    FetchRequest,
    Follower,
    IsolationLevel,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, LeaderEpoch, NodeId, Offset
from glasslog.log.damage import DamagedLog
from glasslog.log.segment import ColdRead

_COLD_ROUNDS = 4
"""The index, the search and the records may be cold one after the other; then the read waits after all."""

_ALL = IsolationLevel.READ_UNCOMMITTED

Target = tuple[PartitionAsk, Partition | GlasslogError]
Targets = Sequence[Target]
FetchResults = tuple[FetchPartitionResult, ...]


class FetchTerms(NamedTuple):
    """How a fetch wants to be answered, apart from its partitions."""

    reader: Consumer | Follower
    max_wait_ms: int
    min_bytes: int
    max_bytes: int


class FetchSource(Protocol):
    """The partitions of one request."""

    @property
    def is_empty(self) -> bool:
        """Whether there are none, so that there is nothing to wait for."""
        ...

    def targets(self) -> Targets:
        """Those to look at now. Asked again when a request that waited is answered."""
        ...

    def wait(self, operation: DelayedFetch, outcomes: Sequence[ReadOutcome]) -> None:
        """The targets gave too little: let ``operation`` hear of what becomes readable from now on."""
        ...


class _Listed:
    """Partitions that are all looked at each time."""

    def __init__(self, watchers: FetchWatchers[Partition], targets: Targets, *, is_follower: bool) -> None:
        self._watchers = watchers
        self._targets = targets
        self._is_follower = is_follower

    @property
    def is_empty(self) -> bool:
        return not self._targets

    def targets(self) -> Targets:
        return self._targets

    def wait(self, operation: DelayedFetch, outcomes: Sequence[ReadOutcome]) -> None:
        for _, partition in self._targets:
            if isinstance(partition, Partition):
                total_bytes = readable_bytes(partition, is_follower=self._is_follower)
                watchers = self._watchers.watch(partition, operation, total_bytes=total_bytes)
                operation.watched_in(watchers)


def readable_bytes(partition: Partition, *, is_follower: bool) -> int:
    """What ``FetchWatchers`` count: followers read to the log's end, others what is committed."""
    return partition.ledger.appended if is_follower else partition.ledger.committed


class FetchPath:
    """See the module."""

    def __init__(self, replicas: Replicas, cold_reads: ColdReads, throttle: ReplicationThrottle) -> None:
        self._replicas = replicas
        self._throttle = throttle
        self._cold_reads = cold_reads
        self._closest = ClosestReplica(replicas)

    # --- for clients ---

    def fetch(self, request: FetchRequest) -> "asyncio.Future[FetchResults]":
        """One result per partition, in order; every refusal is in a result, never raised.

        Cancelling the future frees what waits.
        """
        answer: asyncio.Future[FetchResults] = asyncio.get_running_loop().create_future()
        partitions = request.partitions

        def on_done(outcomes: Sequence[ReadOutcome]) -> None:
            if not answer.done():
                answer.set_result(tuple(map(_result, partitions, outcomes)))

        terms = FetchTerms(
            reader=request.reader,
            max_wait_ms=request.max_wait_ms,
            min_bytes=request.min_bytes,
            max_bytes=request.max_bytes,
        )
        waiting = self.start(terms, self.listed(terms, [self._target(each) for each in partitions]), on_done)
        if waiting is not None:
            operation = waiting
            answer.add_done_callback(lambda _: operation.cancel())
        return answer

    def _target(self, each: FetchPartition) -> Target:
        ask = PartitionAsk(
            each.fetch_offset,
            each.max_bytes,
            each.current_leader_epoch,
            each.last_fetched_epoch,
            each.log_start_offset,
        )
        try:
            return ask, self._replicas.get(each.partition)
        except GlasslogError as error:
            return ask, error

    # --- for every listener ---

    def listed(self, terms: FetchTerms, targets: Targets) -> FetchSource:
        """A request that knows no session."""
        is_follower = isinstance(terms.reader, Follower)
        return _Listed(self._watchers(terms), targets, is_follower=is_follower)

    def _watchers(self, terms: FetchTerms) -> FetchWatchers[Partition]:
        purgatory = self._replicas.purgatory
        return purgatory.appended if isinstance(terms.reader, Follower) else purgatory.committed

    def start(
        self,
        terms: FetchTerms,
        source: FetchSource,
        on_done: Callable[[Sequence[ReadOutcome]], None],
    ) -> DelayedFetch | None:
        """Answer at once through ``on_done``, or return what waits to be completed or cancelled."""
        replicas = self._replicas
        replicas.counters.fetch_requests += 1
        reader = terms.reader
        targets = source.targets()
        found = self._note_follower(reader, targets) if isinstance(reader, Follower) else None
        cold: list[ColdRead] = []
        outcomes, size_bytes, is_urgent = self._read(terms, targets, found, cold)
        if cold:
            return self._read_later(terms, targets, cold, on_done)
        is_enough = is_urgent or size_bytes >= terms.min_bytes
        if is_enough or terms.max_wait_ms <= 0 or source.is_empty or replicas.purgatory.is_full:
            self._finish(terms, targets, outcomes, size_bytes, on_done)
            return None
        operation = self._park(terms, source, terms.min_bytes - size_bytes, on_done)
        source.wait(operation, outcomes)
        return operation

    def _read_later(
        self,
        terms: FetchTerms,
        targets: Targets,
        cold: Sequence[ColdRead],
        on_done: Callable[[Sequence[ReadOutcome]], None],
    ) -> DelayedFetch:
        """The disk has to be waited for, and not by everybody on this event loop."""
        operation = DelayedFetch(0, deadline_ms=0, on_done=_nothing)

        def read_again(rounds_left: int) -> None:
            if operation.is_done:
                return
            still_cold: list[ColdRead] | None = [] if rounds_left else None
            outcomes, size_bytes, _ = self._read(terms, targets, None, still_cold)
            if still_cold:
                self._cold_reads.warm(still_cold, partial(read_again, rounds_left - 1))
            else:
                operation.cancel()
                self._finish(terms, targets, outcomes, size_bytes, on_done)

        self._cold_reads.warm(cold, partial(read_again, _COLD_ROUNDS))
        return operation

    def _park(
        self,
        terms: FetchTerms,
        source: FetchSource,
        missing_bytes: int,
        on_done: Callable[[Sequence[ReadOutcome]], None],
    ) -> DelayedFetch:
        replicas = self._replicas

        def answer() -> None:
            targets = source.targets()
            outcomes, size_bytes, _ = self._read(terms, targets)
            self._finish(terms, targets, outcomes, size_bytes, on_done)

        deadline_ms = replicas.runtime.clock.now_ms() + terms.max_wait_ms
        operation = DelayedFetch(missing_bytes, deadline_ms=deadline_ms, on_done=answer)
        replicas.park(operation)
        return operation

    def _finish(
        self,
        terms: FetchTerms,
        targets: Targets,
        outcomes: Sequence[ReadOutcome],
        size_bytes: int,
        on_done: Callable[[Sequence[ReadOutcome]], None],
    ) -> None:
        counters = self._replicas.counters
        if isinstance(terms.reader, Follower):
            counters.replication_bytes_out += size_bytes
            if self._throttle.limits_leaders:
                for (_, partition), outcome in zip(targets, outcomes, strict=True):
                    if isinstance(partition, Partition):
                        self._throttle.on_sent(partition, terms.reader.replica_id, len(outcome.records))
        else:
            counters.bytes_out += size_bytes
        on_done(outcomes)

    # --- followers ---

    def _note_follower(self, follower: Follower, targets: Targets) -> list[ReadOutcome | None]:
        """Before anything is read, so that the answer already carries the high watermark that follows.

        Returns the outcomes that are decided by that: there is nothing to read where the fetch is refused or
        the follower has to cut its log first.
        """
        replicas = self._replicas
        now_ms = replicas.runtime.clock.now_ms()
        found: list[ReadOutcome | None] = []
        for ask, partition in targets:
            outcome = self._check(ask, partition, follower)
            if outcome is None and isinstance(partition, Partition):
                try:
                    if partition.on_follower_fetch(follower, ask, now_ms=now_ms):
                        replicas.on_high_watermark(partition)
                    self._maybe_expand_isr(partition, follower.replica_id)
                    replicas.on_log_start(partition)
                except GlasslogError as error:
                    outcome = self._failed(partition, error)
            found.append(outcome)
        return found

    def _maybe_expand_isr(self, partition: Partition, node: NodeId) -> None:
        state = partition.role
        if isinstance(state, LeaderState) and node not in state.maximal_isr:
            proposal = state.maybe_expand_isr(state.followers[node])
            if proposal is not None:
                self._replicas.propose(partition, proposal)

    # --- reading ---

    def _read(
        self,
        terms: FetchTerms,
        targets: Targets,
        found: Sequence[ReadOutcome | None] | None = None,
        cold: list[ColdRead] | None = None,
    ) -> tuple[list[ReadOutcome], int, bool]:
        """What there is now, its size in bytes, and whether it must be told at once.

        ``found`` has what earlier checks decided, one per target; without it they are made here.  With
        ``cold`` nothing waits for the disk: what would have to is noted there.
        """
        reader = terms.reader
        is_follower = isinstance(reader, Follower)
        isolation = reader.isolation_level if isinstance(reader, Consumer) else _ALL
        is_free = is_follower and not self._throttle.limits_leaders
        left_bytes = limit_bytes = min(terms.max_bytes, self._replicas.config.fetch_max_bytes)
        outcomes: list[ReadOutcome] = []
        minimum_one, is_urgent, total_bytes = True, False, 0
        for number, (ask, partition) in enumerate(targets):
            outcome = self._check(ask, partition, reader) if found is None else found[number]
            if outcome is None and not is_free and isinstance(partition, Partition):
                outcome = self._instead_of_records(reader, ask, partition)
            if outcome is None:
                limit = min(ask.max_bytes, left_bytes)
                outcome = self._read_one(
                    ask,
                    partition,
                    is_follower=is_follower,
                    max_bytes=limit,
                    minimum_one=minimum_one,
                    isolation=isolation,
                    cold=cold,
                )
            outcomes.append(outcome)
            size_bytes = len(outcome.records)
            if size_bytes:
                minimum_one = False
                total_bytes += size_bytes
                left_bytes = max(left_bytes - size_bytes, 0)
            elif outcome.is_answer:
                is_urgent = True
        return outcomes, total_bytes, is_urgent or total_bytes >= limit_bytes

    def _instead_of_records(
        self, reader: Consumer | Follower, ask: PartitionAsk, partition: Partition
    ) -> ReadOutcome | None:
        """A throttled follower gets nothing for now, a consumer may be sent to a closer replica."""
        if isinstance(reader, Follower):
            named = NO_NODE
            if not self._throttle.holds_back(partition, reader.replica_id):
                return None
        else:
            named = self._closest.named_for(reader, partition, ask)
            if named == NO_NODE:
                return None
        return ReadOutcome(
            ErrorCode.NONE,
            partition.high_watermark,
            partition.log_start_offset,
            last_stable_offset=partition.last_stable_offset,
            preferred_read_replica=named,
        )

    def _check(
        self, ask: PartitionAsk, partition: Partition | GlasslogError, reader: Consumer | Follower
    ) -> ReadOutcome | None:
        """Why there is nothing to read, if so."""
        if not isinstance(partition, Partition):
            return self._failed(None, partition)
        try:
            if isinstance(reader, Consumer) and reader.any_replica:
                partition.check_copy(ask)
                return None
            takes_follower = isinstance(reader, Consumer) and bool(reader.rack)
            check = partition.check_closest_fetch if takes_follower else partition.check_fetch
            diverging = check(ask)
        except GlasslogError as error:
            return self._failed(partition, error)
        if diverging is None:
            return None
        return ReadOutcome(
            ErrorCode.NONE,
            partition.high_watermark,
            partition.log_start_offset,
            diverging_epoch=diverging,
        )

    def _read_one(
        self,
        ask: PartitionAsk,
        partition: Partition | GlasslogError,
        *,
        is_follower: bool,
        max_bytes: int,
        minimum_one: bool,
        isolation: IsolationLevel,
        cold: list[ColdRead] | None,
    ) -> ReadOutcome:
        if not isinstance(partition, Partition):
            return self._failed(None, partition)
        # Nothing is appended or cut meanwhile: what one follower is told is right for the next one.
        shared = self._replicas.shared_reads if is_follower else None
        key = partition, ask.fetch_offset, max_bytes, minimum_one
        if shared is not None and (outcome := shared.get(key)) is not None:
            return outcome
        try:
            outcome = partition.read(
                ask,
                is_follower=is_follower,
                max_bytes=max_bytes,
                minimum_one=minimum_one,
                isolation=isolation,
                cached_only=cold is not None,
            )
        except ColdRead as error:
            assert cold is not None
            cold.append(error)
            return ReadOutcome(ErrorCode.NONE)
        except GlasslogError as error:
            return self._failed(partition, error)
        if shared is not None:
            shared[key] = outcome
        return outcome

    def _failed(self, partition: Partition | None, error: GlasslogError) -> ReadOutcome:
        self._replicas.counters.failed_fetches += 1
        code = error.code
        if partition is not None and isinstance(error, DamagedLog):
            code = self._replicas.on_damage(partition, error)
        elif partition is not None:
            self._replicas.on_error(partition, error)
        if partition is None or not partition.is_online:
            return ReadOutcome(code, message=str(error))
        return ReadOutcome(
            code,
            log_start_offset=partition.log_start_offset,
            leader_id=partition.leader_id,
            leader_epoch=partition.leader_epoch,
            message=str(error),
        )


def _nothing() -> None:
    """It is answered by whoever has read."""


def _result(each: FetchPartition, outcome: ReadOutcome) -> FetchPartitionResult:
    return FetchPartitionResult(
        partition=each.partition,
        error=outcome.error,
        high_watermark=Offset(outcome.high_watermark),
        last_stable_offset=Offset(outcome.last_stable_offset),
        aborted_transactions=outcome.aborted_transactions,
        log_start_offset=Offset(outcome.log_start_offset),
        records=outcome.records,
        diverging_epoch=outcome.diverging_epoch,
        preferred_read_replica=NodeId(outcome.preferred_read_replica),
        current_leader_id=NodeId(outcome.leader_id),
        current_leader_epoch=LeaderEpoch(outcome.leader_epoch),
    )
