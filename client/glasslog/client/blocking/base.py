"""What the blocking clients of ``glasslog.client.sync`` share: a client on a background loop, waited for.

Refuses to know which client it is.
"""

import atexit
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.production.thread import Calls, LoopThread

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient(Protocol):
    """A client for asyncio."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


Inner = TypeVar("Inner", bound=AsyncClient, covariant=True)


class _Closable:
    """What is open as long as nobody closes it."""

    def close(self) -> None:
        raise NotImplementedError


class BlockingClient(_Closable, Generic[Inner]):
    """A client whose calls wait. Start it with ``start`` or ``with``; Ctrl-C ends any wait.

    Its work is done by a thread that all blocking clients of the process share, and that ends when the last
    of them is closed.  What a script leaves open is closed when it ends.
    """

    def __init__(self, inner: Inner, name: str) -> None:
        self._inner = inner
        self._name = name
        self._thread = LoopThread()
        self._calls: Calls | None = None
        self._was_started = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        if self._was_started:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"this {self._name} was started before: make a new one"
            )
        self._was_started = True
        self._thread.acquire()
        _OPEN.add(self)
        try:
            self._wait(self._inner.start)
        except BaseException:
            self._stop(self._inner.close)
            raise

    def close(self) -> None:
        """Stop. Idempotent."""
        self._stop(self._inner.close)

    def _stop(self, end: Callable[[], Coroutine[object, object, None]]) -> None:
        if not self._thread.is_held:
            return
        try:
            self._wait(end)
        finally:
            _OPEN.discard(self)
            self._thread.release()

    def _wait(self, work: Callable[[], Coroutine[object, object, T]]) -> T:
        """The result of a coroutine on the loop."""
        if not self._thread.is_held:
            state = "closed" if self._was_started else "not started"
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"the {self._name} is {state}")
        return self._thread.run(work, self._calls)


_OPEN: "weakref.WeakSet[_Closable]" = weakref.WeakSet()


def waiting(
    method: Callable[Concatenate[Inner, P], Awaitable[T]],
) -> Callable[Concatenate[BlockingClient[Inner], P], T]:
    """The method of a blocking client that calls this one of the client within, and waits for it."""

    @wraps(method)
    def call(self: BlockingClient[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def work() -> T:
            return await method(self._inner, *args, **kwargs)

        return self._wait(work)

    return call


def on_loop(
    method: Callable[Concatenate[Inner, P], T],
) -> Callable[Concatenate[BlockingClient[Inner], P], T]:
    """As ``waiting``, for one that does not wait itself: it is still the loop that has to call it."""

    @wraps(method)
    def call(self: BlockingClient[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def work() -> T:
            return method(self._inner, *args, **kwargs)

        return self._wait(work)

    return call


@atexit.register
def _close_all() -> None:
    for client in list(_OPEN):
        client.close()
