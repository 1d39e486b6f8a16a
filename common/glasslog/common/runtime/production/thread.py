"""An event loop in a thread of its own, for plain code that calls asyncio code and waits for it.

One thread for all who hold it: it begins with the first and ends with the last, so none is left behind.
Refuses to know what runs on it. Whoever waits is interrupted by Ctrl-C at once, and what it waited for is
cancelled.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from glasslog.common.runtime.production.start import new_event_loop, prepare_process

T = TypeVar("T")

_THREAD_NAME = "glasslog event loop"


class _Shared:
    """The thread and those who hold it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None


_SHARED = _Shared()


class Calls:
    """Work that the loop has for the thread which waits for it, such as a user's own callbacks."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()

    async def call(self, function: Callable[[], T]) -> T:
        """Have the waiting thread call ``function``: now, or once one waits; its result or its error."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def settle(set_it: Callable[[], object]) -> None:
            if not outcome.done():
                set_it()

        def work() -> None:
            try:
                result = function()
            except Exception as error:
                failure = error
                loop.call_soon_threadsafe(settle, lambda: outcome.set_exception(failure))
            except BaseException:
                loop.call_soon_threadsafe(settle, lambda: outcome.cancel())
                raise
            else:
                loop.call_soon_threadsafe(settle, lambda: outcome.set_result(result))

        self._inbox.put(work)
        return await outcome

    def serve_until(self, future: "Future[T]") -> T:
        """Do what comes in until ``future`` is done; its result."""
        future.add_done_callback(lambda _: self._inbox.put(lambda: None))
        while not future.done():
            self._inbox.get()()
        return future.result()


class LoopThread:
    """One holder of the thread. Any thread may call it, but not the loop's own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def acquire(self) -> None:
        """Have the thread running until ``release``. Once for each holder."""
        with _SHARED.lock:
            if _SHARED.loop is None:
                _SHARED.loop, _SHARED.thread = _started()
            _SHARED.holders += 1
            self._loop = _SHARED.loop

    def release(self) -> None:
        """Let go; the last one ends the thread and waits until it has ended. Idempotent."""
        with _SHARED.lock:
            if self._loop is None:
                return
            self._loop = None
            _SHARED.holders -= 1
            if _SHARED.holders or _SHARED.loop is None or _SHARED.thread is None:
                return
            loop, thread = _SHARED.loop, _SHARED.thread
            _SHARED.loop = _SHARED.thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    @property
    def is_held(self) -> bool:
        return self._loop is not None

    def run(self, work: Callable[[], Coroutine[object, object, T]], calls: Calls | None = None) -> T:
        """Wait for a coroutine to end on the loop; meanwhile do what ``calls`` brings.

        An interrupt (``KeyboardInterrupt``) cancels it.
        """
        loop = self._loop
        assert loop is not None, "acquire it first"
        future = asyncio.run_coroutine_threadsafe(work(), loop)
        try:
            return future.result() if calls is None else calls.serve_until(future)
        finally:
            future.cancel()

    def post(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on the loop soon."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)


class HandOver(Generic[T]):
    """Items from any thread to a coroutine on the loop, in order, many at a time.

    ``take`` gets what has gathered meanwhile.  ``put`` says when more than ``limit`` items wait: whoever put
    them then waits for ``drained``.
    """

    def __init__(
        self, thread: LoopThread, take: Callable[[Iterable[T]], Awaitable[None]], *, limit: int
    ) -> None:
        self._thread = thread
        self._take = take
        self._limit = limit
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._is_taking = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, item: T) -> bool:
        """False when it is time to wait."""
        items = self._items
        items.append(item)
        # Looked at only now: either we see that nobody takes any more, or whoever ceases to sees the item.
        if not self._is_taking:
            with self._lock:
                begins, self._is_taking = not self._is_taking, True
            if begins:
                self._thread.post(self._begin)
        return len(items) < self._limit

    async def drained(self) -> None:
        """Everything put before has been taken. On the loop only."""
        while self._is_taking:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _gathered(self) -> Iterator[T]:
        while self._items:
            yield self._items.popleft()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hand-over")

    async def _run(self) -> None:
        while self._is_taking:
            await self._take(self._gathered())
            with self._lock:
                self._is_taking = False
                self._is_taking = bool(self._items)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _started() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    prepare_process()
    loop = new_event_loop()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    # A daemon: a script that forgets to close its clients can still end.
    thread = threading.Thread(target=serve, name=_THREAD_NAME, daemon=True)
    thread.start()
    return loop, thread
