"""The background tasks of one client: all in one ``TaskGroup`` that lives between its start and its close.

Refuses to know what the tasks do. A task that fails unexpectedly ends the others and is reported once.
"""

import asyncio
from collections.abc import Callable, Coroutine

from glasslog.common.errors import ErrorCode, GlasslogError


class TaskScope:
    """``on_failure`` is called when a task raised what it should have handled: the client is broken then."""

    def __init__(self, on_failure: Callable[[GlasslogError], None]) -> None:
        self._on_failure = on_failure
        self._opened = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._group = asyncio.TaskGroup()

    async def open(self, name: str) -> None:
        self._runner = asyncio.create_task(self._run(), name=name)
        await self._opened.wait()

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Start a task; it is cancelled by ``close`` at the latest."""
        return self._group.create_task(work, name=name)

    async def close(self) -> None:
        """Cancel every task and wait until they have ended. Idempotent."""
        if self._runner is not None and not self._runner.done():
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            async with self._group:
                self._opened.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise
        except BaseExceptionGroup as group:
            first = group.exceptions[0]
            error = GlasslogError(
                ErrorCode.UNKNOWN_SERVER_ERROR, f"the client stopped: {type(first).__name__}: {first}"
            )
            error.__cause__ = group
            self._on_failure(error)
