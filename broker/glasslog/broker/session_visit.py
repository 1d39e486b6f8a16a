"""One request of a fetch session: it looks only at the partitions that have news.

This module connects a session to the broker's way of fetching; it refuses to know wires.  See
``session_news.py`` beside the sessions for what is news.
"""

from collections.abc import Callable, Sequence

from glasslog.broker.fetch_path import FetchTerms, Target, Targets, readable_bytes
from glasslog.broker.partition.fetch_session import FetchSession
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.purgatory import DelayedFetch
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey, ReadOutcome
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import Consumer, Follower, IsolationLevel
from glasslog.common.ids import NO_NODE

Find = Callable[[PartitionKey, PartitionAsk], Target]


class SessionVisit:
    """See ``FetchSource``. ``keys`` are those of the targets it gave last."""

    def __init__(self, session: FetchSession, *, replicas: Replicas, terms: FetchTerms, find: Find) -> None:
        self.keys: list[PartitionKey] = []
        self._session = session
        self._find = find
        self._reader = terms.reader
        purgatory = replicas.purgatory
        self._watchers = purgatory.appended if isinstance(terms.reader, Follower) else purgatory.committed
        self._targets: Targets = ()
        self._unsaid: list[PartitionKey] = []
        replica_id = terms.reader.replica_id if isinstance(terms.reader, Follower) else NO_NODE
        session.news.on_fetch(replica_id, replicas.runtime.clock.now_ms())

    @property
    def is_empty(self) -> bool:
        return not self._session.partitions

    def targets(self) -> Targets:
        """Of what was looked at when the request came, and not told since it waits, there may be news too."""
        partitions = self._session.partitions
        wanted = self._session.news.pending
        if self._unsaid:
            wanted = {**wanted, **dict.fromkeys(self._unsaid)}
        self.keys = [key for key in wanted if key in partitions]
        self._targets = [self._find(key, partitions[key]) for key in self.keys]
        return self._targets

    def wait(self, operation: DelayedFetch, outcomes: Sequence[ReadOutcome]) -> None:
        self._settle(outcomes)
        self._unsaid = self.keys
        self._session.news.waiting = operation

    def answered(self, outcomes: Sequence[ReadOutcome]) -> None:
        """With the outcomes of the last targets."""
        self._unsaid = []
        self._session.news.waiting = None
        self._settle(outcomes)

    def given_up(self) -> None:
        """It waits no more, and nothing was told."""
        self._session.news.waiting = None
        self._session.news.pending.update(dict.fromkeys(self._unsaid))

    def _settle(self, outcomes: Sequence[ReadOutcome]) -> None:
        news, is_follower = self._session.news, isinstance(self._reader, Follower)
        for key, (ask, partition), outcome in zip(self.keys, self._targets, outcomes, strict=True):
            if isinstance(partition, Partition):
                total_bytes = readable_bytes(partition, is_follower=is_follower)
                news.watch(self._watchers, partition, key, total_bytes=total_bytes)
            news.settle(
                key,
                is_quiet=isinstance(partition, Partition) and self._is_quiet(ask, partition, outcome),
                is_served=len(outcome.records) > 0,
            )

    def _is_quiet(self, ask: PartitionAsk, partition: Partition, outcome: ReadOutcome) -> bool:
        if outcome.is_answer or len(outcome.records) > 0:
            return False
        match self._reader:
            case Follower(replica_id=replica_id):
                return partition.is_quiet_for(replica_id, ask.fetch_offset)
            case Consumer(isolation_level=IsolationLevel.READ_COMMITTED):
                return ask.fetch_offset >= outcome.last_stable_offset
            case Consumer():
                return ask.fetch_offset >= outcome.high_watermark
