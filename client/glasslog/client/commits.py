"""What a consumer stores in its group: positions, when it is told to and, if so set, of itself.

Refuses to know joining, and which partitions come and go.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from glasslog.client.interceptors import ConsumerInterceptor, tell_all
from glasslog.client.membership import Membership
from glasslog.client.options import ConsumerOptions
from glasslog.client.session import Session
from glasslog.client.subscription import PositionOf, SubscriptionState, processed_of
from glasslog.client.types import OffsetAndMetadata, positions_of
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition

_AUTO_COMMIT_TIMEOUT_MS = 5_000
"""Short, since a rebalance and ``close`` wait for it, and the next one says the same and more."""

_LOG = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int | OffsetAndMetadata]


class Commits:
    """One consumer's. ``on_free`` is called when an automatic commit is over, so that the next may be due."""

    def __init__(
        self,
        session: Session,
        options: ConsumerOptions,
        subscription: SubscriptionState,
        membership: Membership,
        interceptors: Sequence[ConsumerInterceptor],
        on_free: Callable[[], None],
    ) -> None:
        self._session = session
        self._clock = session.runtime.clock
        self._options = options
        self._subscription = subscription
        self._membership = membership
        self._listeners = tuple(each.on_commit for each in interceptors)
        self._on_free = on_free
        self._asked_for: dict[asyncio.Task[None], None] = {}
        self._stored_upto: dict[TopicPartition, int] = {}
        self._next_ms = 0
        self._storing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._next_ms = self._clock.now_ms() + self._options.auto_commit_interval_ms

    # --- when told to -----------------------------------------------------------------------------------

    async def commit(self, offsets: Offsets | None) -> None:
        """Raises as ``Consumer.commit``."""
        await self._store(self._wanted(offsets), self._options.default_api_timeout_ms)

    def commit_later(
        self, offsets: Offsets | None, on_done: Callable[[GlasslogError | None], None] | None
    ) -> None:
        """As ``commit``, in the order asked for; ``on_done`` or, without it, the log is told of a failure."""
        work = self._commit_later(self._wanted(offsets), on_done)
        task = self._session.scope.spawn(work, "consumer commit")
        self._asked_for[task] = None
        task.add_done_callback(lambda done: self._asked_for.pop(task, None))

    async def finish(self) -> None:
        """Wait for those asked for, but not for long."""
        if self._asked_for:
            await asyncio.wait(list(self._asked_for), timeout=_AUTO_COMMIT_TIMEOUT_MS / 1_000)

    async def _commit_later(
        self,
        wanted: Mapping[TopicPartition, OffsetAndMetadata],
        on_done: Callable[[GlasslogError | None], None] | None,
    ) -> None:
        failure: GlasslogError | None = None
        try:
            await self._store(wanted, self._options.default_api_timeout_ms)
        except GlasslogError as error:
            failure = error
        if on_done is not None:
            tell_all([on_done], failure)
        elif failure is not None:
            _LOG.warning("commit failed: %s", failure)

    def _wanted(self, offsets: Offsets | None) -> Mapping[TopicPartition, OffsetAndMetadata]:
        return self._subscription.positions() if offsets is None else positions_of(offsets)

    async def _store(self, wanted: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        await self._membership.commit(wanted, timeout_ms=timeout_ms)
        tell_all(self._listeners, wanted)

    # --- automatically ----------------------------------------------------------------------------------

    def due_in_ms(self) -> int | None:
        """Until the next automatic commit; ``None`` while there will be none."""
        if not self._options.enable_auto_commit or self._storing is not None:
            return None
        return max(0, self._next_ms - self._clock.now_ms())

    def store_if_due(self) -> None:
        """Begin an automatic commit of what the user has dealt with."""
        if self.due_in_ms() != 0:
            return
        self._next_ms = self._clock.now_ms() + self._options.auto_commit_interval_ms
        news = self._news(processed_of)
        if news:
            self._storing = self._session.scope.spawn(
                self._store_in_background(news), "consumer automatic commit"
            )

    async def store_last(self, position_of: PositionOf) -> None:
        """An automatic commit before partitions go."""
        if self._options.enable_auto_commit:
            await self._store_quietly(self._news(position_of))

    def keep_only(self, partitions: Collection[TopicPartition]) -> None:
        """What others may commit for from now on is not known to be stored."""
        for gone in [each for each in self._stored_upto if each not in partitions]:
            del self._stored_upto[gone]

    def _news(self, position_of: PositionOf) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            partition: position
            for partition, position in self._subscription.positions(position_of).items()
            if self._stored_upto.get(partition) != position.offset
        }

    async def _store_in_background(self, positions: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        try:
            await self._store_quietly(positions)
        finally:
            self._storing = None
            # A poll that waits may find that the next one is due already.
            self._on_free()

    async def _store_quietly(self, positions: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """A commit that fails costs nothing but records that are delivered again."""
        try:
            await self._store(positions, _AUTO_COMMIT_TIMEOUT_MS)
            for partition, position in positions.items():
                self._stored_upto[partition] = position.offset
        except GlasslogError as error:
            _LOG.warning("automatic commit failed: %s", error)
