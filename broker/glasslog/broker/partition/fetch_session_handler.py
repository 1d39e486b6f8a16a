"""Incremental fetch sessions, the fetcher's side: which partitions the next request has to name.

This module knows what the leader has been told already; it refuses to know logs and connections.  Requests
are numbered by the caller, upwards; several may be under way at once.  Source: KIP-227, Kafka's
``FetchSessionHandler``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from glasslog.broker.partition.fetch_session import INITIAL_EPOCH, NO_SESSION, next_epoch
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.common.errors import ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """What a request says of its session; a full one has epoch 0 and names every partition."""

    session_id: int
    session_epoch: int
    asks: Mapping[PartitionKey, PartitionAsk]
    forgotten: tuple[PartitionKey, ...]


class FetchSessionHandler:
    """One fetcher's session with one leader."""

    def __init__(self) -> None:
        self._asks: dict[PartitionKey, PartitionAsk] = {}
        self._changed: dict[PartitionKey, None] = {}
        self._forgotten: dict[PartitionKey, None] = {}
        self._session_id = NO_SESSION
        self._epoch = INITIAL_EPOCH
        self._full_request = -1

    def __contains__(self, key: PartitionKey) -> bool:
        return key in self._asks

    def __len__(self) -> int:
        return len(self._asks)

    @property
    def is_established(self) -> bool:
        """Whether the leader has opened a session, so that another request may follow before its answer."""
        return self._epoch != INITIAL_EPOCH

    @property
    def has_changes(self) -> bool:
        """Whether there is something that the leader has not been told."""
        return bool(self._changed or self._forgotten)

    def want(self, key: PartitionKey, ask: PartitionAsk) -> None:
        """Fetch ``key`` from now on as ``ask`` says."""
        if self._asks.get(key) == ask and key not in self._forgotten:
            return
        self._asks[key] = ask
        self._changed[key] = None
        self._forgotten.pop(key, None)

    def forget(self, key: PartitionKey) -> None:
        """Do not fetch ``key`` any more."""
        if self._asks.pop(key, None) is not None:
            self._changed.pop(key, None)
            self._forgotten[key] = None

    def next_request(self, number: int) -> SessionRequest:
        """The content of request ``number``; what it says counts as said."""
        asks = self._asks if self._epoch == INITIAL_EPOCH else {key: self._asks[key] for key in self._changed}
        is_full = self._epoch == INITIAL_EPOCH
        request = SessionRequest(
            session_id=self._session_id,
            session_epoch=self._epoch,
            asks=dict(asks),
            forgotten=() if is_full else tuple(self._forgotten),
        )
        self._changed.clear()
        self._forgotten.clear()
        if is_full:
            self._full_request = number
            self._session_id = NO_SESSION
        else:
            self._epoch = next_epoch(self._epoch)
        return request

    def on_response(self, number: int, *, session_id: int, error: ErrorCode) -> bool:
        """The answer to request ``number``; False when it belongs to a session given up meanwhile."""
        if number < self._full_request:
            return False
        if error is not ErrorCode.NONE:
            self.reset()
        elif number == self._full_request:
            self._session_id = session_id
            self._epoch = INITIAL_EPOCH if session_id == NO_SESSION else next_epoch(INITIAL_EPOCH)
        return True

    def reset(self) -> None:
        """Begin a new session with the next request. The old one, if the leader has it, is closed by that."""
        self._epoch = INITIAL_EPOCH
