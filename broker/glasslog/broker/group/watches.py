"""Who wants to hear of it when a heartbeat would be answered otherwise than it was.

Refuses to know what makes the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.group.types import MemberIdentity
from glasslog.common.errors import ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A member's, with what it was told last."""

    identity: MemberIdentity
    told: ErrorCode


class Watches:
    """By the number of who waits, in each group. Every watch ends with the first news."""

    def __init__(self) -> None:
        self._of_group: dict[str, dict[int, Watch]] = {}

    def add(self, waiter: int, watch: Watch) -> None:
        self._of_group.setdefault(watch.identity.group_id, {})[waiter] = watch

    def remove(self, group_id: str, waiter: int) -> None:
        """Idempotent."""
        watches = self._of_group.get(group_id, {})
        watches.pop(waiter, None)
        if not watches:
            self._of_group.pop(group_id, None)

    def take_news(
        self, group_id: str, answer_to: Callable[[MemberIdentity], ErrorCode]
    ) -> list[tuple[int, ErrorCode]]:
        """Whose answer has changed, and to what."""
        news = [
            (waiter, answer)
            for waiter, watch in self._of_group.get(group_id, {}).items()
            if (answer := answer_to(watch.identity)) is not watch.told
        ]
        for waiter, _ in news:
            self.remove(group_id, waiter)
        return news

    def take_all(self) -> list[int]:
        """Everybody, and nobody is left."""
        waiters = [waiter for watches in self._of_group.values() for waiter in watches]
        self._of_group.clear()
        return waiters
