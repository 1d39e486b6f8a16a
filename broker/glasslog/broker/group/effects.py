"""What a coordinator core wants done: answers that may leave, and records that must be replicated first.

A request that has to wait is known by its *waiter*, a number the shell chose; the core answers it once.
Records are appended in the order given and end in the same order; only then does what rests on them happen.
"""

from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.group.records import GroupLogRecord
from glasslog.broker.group.types import CommitResponse, JoinResponse, SyncResponse
from glasslog.common.errors import ErrorCode

Response = JoinResponse | SyncResponse | CommitResponse | ErrorCode
OnStored = Callable[[ErrorCode, int], None]
"""Called with the outcome of an append and the time in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a waiter."""

    waiter: int
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Records to replicate; report the outcome with ``GroupShard.on_stored(token, ...)``."""

    token: int
    records: tuple[GroupLogRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Duties in order: append these records, send these replies (which rest on earlier appends only)."""

    appends: tuple[Append, ...]
    replies: tuple[Reply, ...]


class Effects:
    """Collects duties until they are taken; keeps what has to happen when an append is done."""

    def __init__(self) -> None:
        self._appends: list[Append] = []
        self._replies: list[Reply] = []
        self._stored: dict[int, tuple[tuple[GroupLogRecord, ...], OnStored]] = {}
        self._next_token = 0

    def reply(self, waiter: int | None, response: Response) -> None:
        """Answer a waiter; ``None`` is nobody."""
        if waiter is not None:
            self._replies.append(Reply(waiter=waiter, response=response))

    def append(self, records: tuple[GroupLogRecord, ...], on_stored: OnStored) -> None:
        """Have ``records`` replicated, then do ``on_stored``."""
        self._next_token += 1
        self._stored[self._next_token] = (records, on_stored)
        self._appends.append(Append(token=self._next_token, records=records))

    def take_stored(self, token: int) -> tuple[tuple[GroupLogRecord, ...], OnStored]:
        """The records and the continuation of an append that ended."""
        return self._stored.pop(token)

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Tokens of appends that have not ended, oldest first."""
        return tuple(self._stored)

    def take_ready(self) -> Ready:
        ready = Ready(appends=tuple(self._appends), replies=tuple(self._replies))
        self._appends.clear()
        self._replies.clear()
        return ready
