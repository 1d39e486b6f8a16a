"""Which group has something to do next, without looking at all of them.

What is known of a group is a lower bound: sessions that are extended by heartbeats are looked at again only
when the bound is reached.  Refuses to know what is due in a group.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

_SLACK = 64


class GroupTimers:
    """``due_of`` says when a group is due, ``None`` for never and for one that is gone.

    ``touch`` whatever may be due earlier than before; what is due later needs no word.
    """

    def __init__(self, due_of: Callable[[str], int | None]) -> None:
        self._due_of = due_of
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._touched: dict[str, None] = {}

    def touch(self, group_id: str) -> None:
        self._touched[group_id] = None

    def next_ms(self) -> int | None:
        """Nothing is due before."""
        touched, self._touched = self._touched, {}
        for group_id in touched:
            self._note(group_id)
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now_ms: int) -> list[str]:
        """The groups that have something to do by now, in the order of their times; each is given once."""
        found = []
        while (bound_ms := self.next_ms()) is not None and bound_ms <= now_ms:
            _, group_id = heappop(self._heap)
            del self._due[group_id]
            due_ms = self._due_of(group_id)
            if due_ms is not None and due_ms <= now_ms:
                found.append(group_id)
            else:
                self._note(group_id)
        return found

    def _note(self, group_id: str) -> None:
        due_ms = self._due_of(group_id)
        if due_ms is None:
            self._due.pop(group_id, None)
        elif self._due.get(group_id) != due_ms:
            self._due[group_id] = due_ms
            heappush(self._heap, (due_ms, group_id))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [(due_ms, name) for name, due_ms in self._due.items()]
            heapify(self._heap)
