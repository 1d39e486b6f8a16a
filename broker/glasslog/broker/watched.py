"""A value that tasks can wait on until it satisfies a condition.

Refuses to know what the value means. A waiter sees the newest value only: steps in between may be missed.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """Holds ``value``; ``set`` wakes everyone who waits for a condition on it."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        return self._value

    def set(self, value: T) -> None:
        self._value = value
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, condition: Callable[[T], bool]) -> T:
        """The first value seen, the present one included, for which ``condition`` holds."""
        while not condition(self._value):
            await self._changed.wait()
        return self._value
