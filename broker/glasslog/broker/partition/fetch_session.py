"""Incremental fetch sessions, the leader's side: who asked for what, and what they were told last.

This module knows which partitions a session holds and what of them is worth mentioning again; it refuses to
know how records are read.  The number of sessions is bounded; a replica's session may push out a
consumer's.  Source: KIP-227, Kafka's ``FetchSession.scala``.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.broker.partition.session_news import SessionNews
from glasslog.common.errors import ErrorCode

NO_SESSION = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 0x7FFF_FFFF

EVICTABLE_AFTER_MS = 120_000
"""A session unused for so long makes room for any other."""


class Told(NamedTuple):
    """What the fetcher was last told of a partition besides records."""

    high_watermark: int
    log_start_offset: int


def next_epoch(epoch: int) -> int:
    """The session epoch after ``epoch``; after the largest comes 1, since 0 opens a session."""
    return 1 if epoch >= _MAX_EPOCH else epoch + 1


class FetchSession:
    """One fetcher's memory on the leader. ``news`` knows which partitions the next answer has to look at."""

    __slots__ = ("_told", "epoch", "is_replica", "last_used_ms", "news", "partitions", "session_id")

    def __init__(
        self,
        session_id: int,
        *,
        is_replica: bool,
        partitions: Mapping[PartitionKey, PartitionAsk],
        now_ms: int,
    ) -> None:
        self.session_id = session_id
        self.is_replica = is_replica
        self.epoch = next_epoch(INITIAL_EPOCH)
        self.partitions = dict(partitions)
        self.last_used_ms = now_ms
        self._told: dict[PartitionKey, Told] = {}
        self.news = SessionNews()
        self.news.pending = dict.fromkeys(partitions)

    def update(self, asks: Mapping[PartitionKey, PartitionAsk], forgotten: Sequence[PartitionKey]) -> None:
        """Take in an incremental request; what it asks for otherwise is mentioned again in any case.

        A fetcher with several requests under way may have dropped an answer that no longer fitted its log.
        """
        for key, ask in asks.items():
            if self.partitions.get(key) != ask:
                self._told.pop(key, None)
                self.partitions[key] = ask
            self.news.pending[key] = None
        for key in forgotten:
            self.partitions.pop(key, None)
            self._told.pop(key, None)
            self.news.forget(key)

    def is_news(self, key: PartitionKey, told: Told, *, has_records: bool, is_answer: bool) -> bool:
        """Whether an incremental answer has to mention ``key``; remembers what is said.

        After an error, or another ``is_answer``, the partition is mentioned again whatever happens.
        """
        if is_answer:
            self._told.pop(key, None)
            return True
        if not has_records and self._told.get(key) == told:
            return False
        self._told[key] = told
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class FullFetch:
    """Answer for everything asked; ``session`` was opened for the requests to come, if there is room."""

    session: FetchSession | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalFetch:
    """Answer only what is news to the session."""

    session: FetchSession


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFetch:
    """The session does not exist, or the request is out of its order."""

    error: ErrorCode


FetchContext = FullFetch | IncrementalFetch | RefusedFetch


class FetchSessionCache:
    """At most ``slots`` sessions, the least recently used first. ``new_id`` gives random positive numbers."""

    def __init__(self, *, slots: int, new_id: Callable[[], int]) -> None:
        self._slots = slots
        self._new_id = new_id
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self,
        *,
        session_id: int,
        session_epoch: int,
        asks: Mapping[PartitionKey, PartitionAsk],
        forgotten: Sequence[PartitionKey],
        is_replica: bool,
        now_ms: int,
    ) -> FetchContext:
        """What a request means: a new session, the next step of one, or an error."""
        if session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self.close(session_id)
            wants_session = session_epoch == INITIAL_EPOCH
            session = self._create(asks, is_replica=is_replica, now_ms=now_ms) if wants_session else None
            return FullFetch(session=session)
        session = self._sessions.get(session_id)
        if session is None:
            return RefusedFetch(error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != session_epoch:
            return RefusedFetch(error=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        session.epoch = next_epoch(session.epoch)
        session.update(asks, forgotten)
        session.last_used_ms = now_ms
        self._sessions.move_to_end(session_id)
        return IncrementalFetch(session=session)

    def close(self, session_id: int) -> None:
        """Forget a session, if it exists."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.news.close()

    def _create(
        self, asks: Mapping[PartitionKey, PartitionAsk], *, is_replica: bool, now_ms: int
    ) -> FetchSession | None:
        if not asks or not self._make_room(is_replica=is_replica, now_ms=now_ms):
            return None
        session_id = self._new_id()
        while session_id in self._sessions or session_id == NO_SESSION:
            session_id = self._new_id()
        session = FetchSession(session_id, is_replica=is_replica, partitions=asks, now_ms=now_ms)
        self._sessions[session_id] = session
        return session

    def _make_room(self, *, is_replica: bool, now_ms: int) -> bool:
        if len(self._sessions) < self._slots:
            return True
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if now_ms - oldest.last_used_ms < EVICTABLE_AFTER_MS:
            if not is_replica:
                return False
            consumers = (session for session in self._sessions.values() if not session.is_replica)
            pushed_out = next(consumers, None)
            if pushed_out is None:
                return False
            oldest = pushed_out
        self.close(oldest.session_id)
        return True
