"""A consumer's part in its group's rebalances: what it gives up and takes over, and when.

Partitions are given up only inside a call that asks for records, so never while the user is busy with some.
Refuses to know the group's protocol, and how records are fetched.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from glasslog.client.commits import Commits
from glasslog.client.membership import Membership
from glasslog.client.options import ConsumerOptions
from glasslog.client.session import Session
from glasslog.client.subscription import PositionOf, SubscriptionState, processed_of
from glasslog.common.ids import TopicPartition


class RebalanceListener(Protocol):
    """Told of partitions that come and go, inside the consumer's poll, before the next records."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """About to be given up: the last chance to commit for them."""
        ...

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None: ...

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else has them already: nothing can be committed for them."""
        ...


class Participation:
    """One consumer's. ``take_over`` reads exactly these partitions; ``on_change`` wakes a poll that waits."""

    def __init__(
        self,
        session: Session,
        options: ConsumerOptions,
        subscription: SubscriptionState,
        membership: Membership,
        commits: Commits,
        *,
        listener: RebalanceListener | None,
        take_over: Callable[[Iterable[TopicPartition]], None],
        on_change: Callable[[], None],
    ) -> None:
        self._session = session
        self._clock = session.runtime.clock
        self._options = options
        self._subscription = subscription
        self._take_over = take_over
        self._on_change = on_change
        self.membership = membership
        self.commits = commits
        self.listener = listener
        self._joining: asyncio.Task[None] | None = None
        self._may_read_on = False
        """While joining: what is held stays this member's until the group has decided (KIP-429)."""

        self._decided: tuple[TopicPartition, ...] | None = None
        """What the group decided, until a poll acts on it."""

        self._join_error: Exception | None = None

    def start(self) -> None:
        self.commits.start()
        self.membership.start()

    @property
    def may_hand_out(self) -> bool:
        """Records of partitions that are being given up would be another member's too."""
        return self._joining is None or self._may_read_on

    def longest_wait_ms(self) -> int:
        """How long a poll may wait until it has to see to the group again."""
        # To wait in a poll is to poll: the membership has to hear of it.
        longest_ms, due_ms = self.membership.look_every_ms, self.commits.due_in_ms()
        return longest_ms if due_ms is None else min(longest_ms, max(1, due_ms))

    async def see_to(self, deadline_ms: int) -> None:
        """What a poll owes the group: a sign of life, its part in a rebalance, an automatic commit."""
        self.membership.polled_ms = self._clock.now_ms()
        await self._rejoin_if_needed(deadline_ms)
        self.commits.store_if_due()

    async def leave(self, position: PositionOf, reason: str) -> None:
        """Give up everything, committing ``position`` where commits are automatic, and leave the group."""
        await self._give_up(self._subscription.assignment, position)
        if self._subscription.topics:
            await self.membership.leave(reason)

    async def end_joining(self) -> None:
        """Whatever the group decides now is not for this member."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait({self._joining})
            # A task that had not begun yet could not say so itself.
            self._joining, self._may_read_on = None, False
        self._decided = None

    # --- rebalances -------------------------------------------------------------------------------------

    async def _rejoin_if_needed(self, deadline_ms: int) -> None:
        """Take part in a rebalance. It goes on in the background when the poll's time is over."""
        if self._joining is None:
            if self._decided is not None:
                decided, self._decided = self._decided, None
                self._start_joining(partial(self._settle, decided), may_read_on=False)
            elif self.membership.needs_join:
                keeps = self._keeps and bool(self._subscription.assignment)
                self._start_joining(self._rejoin, may_read_on=keeps)
        if self._joining is not None and not self._may_read_on:
            left_ms = max(0, deadline_ms - self._clock.now_ms())
            await asyncio.wait({self._joining}, timeout=left_ms / 1_000)
        error, self._join_error = self._join_error, None
        if error is not None:
            self.membership.needs_join = True
            self._on_change()
            raise error

    @property
    def _keeps(self) -> bool:
        return self.membership.is_cooperative and not self.membership.lost

    def _start_joining(self, work: Callable[[], Awaitable[None]], *, may_read_on: bool) -> None:
        self._may_read_on = may_read_on
        self._joining = self._session.scope.spawn(self._joined(work), "consumer join")

    async def _joined(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            # Also what a user's listener raised: the next poll raises it.
            self._join_error = error
        finally:
            self._joining, self._may_read_on = None, False
            self._on_change()

    async def _rejoin(self) -> None:
        """Join with what may be kept, and have the group's decision acted upon: by a poll if some is kept."""
        topics, owned = self._subscription.topics, self._subscription.assignment
        kept = [each for each in owned if self._keeps and each.topic in topics]
        await self._give_up(_without(owned, kept), processed_of)
        decided = await self.membership.join(kept)
        if decided is not None and kept:
            self._decided = decided
        elif decided is not None:
            await self._take_given(decided, decided)

    async def _settle(self, decided: tuple[TopicPartition, ...]) -> None:
        """Give up what is somebody else's now, and say so by joining again; take what is new."""
        if self.membership.lost:
            return
        owned = self._subscription.assignment
        gone = _without(owned, decided)
        await self._give_up(gone, processed_of)
        if gone:
            self.membership.needs_join = True
        await self._take_given(decided, _without(decided, owned))

    async def _take_given(self, partitions: Iterable[TopicPartition], new: Iterable[TopicPartition]) -> None:
        self._take_over(partitions)
        if self.listener is not None:
            await self.listener.on_assigned(tuple(sorted(new)))

    async def _give_up(self, partitions: Sequence[TopicPartition], position: PositionOf) -> None:
        """Commit for these partitions and let go of them."""
        if partitions and self.membership.lost:
            if self.listener is not None:
                await self.listener.on_lost(partitions)
        elif partitions:
            await self.commits.store_last(position)
            if self.listener is not None:
                await self.listener.on_revoked(partitions)
        self._take_over(_without(self._subscription.assignment, partitions))


def _without(some: Iterable[TopicPartition], others: Iterable[TopicPartition]) -> list[TopicPartition]:
    excluded = frozenset(others)
    return [each for each in some if each not in excluded]
