"""An asyncio event loop on virtual time: deterministic, and never really asleep.

Ready callbacks run first-in-first-out; when none is ready, time jumps to the next timer; executor work runs
inline.  When nothing is ready and no timer exists, every task waits for something that can not come: that is
reported as a deadlock with the tasks' names.  A host, by the context variable ``HOST``, can be frozen:
nothing of it runs until it thaws.  It refuses real I/O of any kind.
"""

import asyncio
import heapq
import inspect
import selectors
from asyncio.events import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple, cast

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

HOST: ContextVar[str] = ContextVar("host", default="")
"""The simulated machine on which the running code runs; empty for who looks from outside."""

_NANOSECONDS = 1_000_000_000
_NANOSECONDS_PER_MS = 1_000_000
_START_NS = 1_000 * _NANOSECONDS
"""Not zero: code that takes zero for "never" must not pass by luck."""

_ROUNDS_WITHOUT_TIME = 1_000_000
_FINISH_LIMIT_MS = 600_000
_PRUNE_EVERY_TASKS = 4_096
_LISTED_TASKS = 50


class Deadlock(Exception):  # noqa: N818 - the name of the situation
    """Every task waits, no timer is set: nothing can happen any more. The text lists the tasks."""


class VirtualTimeExceeded(Exception):  # noqa: N818 - the name of the situation
    """The run used up its virtual time, or span without time passing. The text lists the tasks."""


class _WithContext(Protocol):
    """What every handle has; from Python 3.12 on there is ``get_context`` to ask for it."""

    _context: Context


class _VirtualSelector(selectors.BaseSelector):
    """Waits for no file: waiting means moving virtual time forward."""

    def __init__(self, describe_tasks: Callable[[], str]) -> None:
        self._describe_tasks = describe_tasks
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._rounds_without_time = 0
        self.now_ns = _START_NS
        self.limit_ns: int | None = None

    def register(
        self, fileobj: "FileDescriptorLike", events: int, data: object = None
    ) -> selectors.SelectorKey:
        # asyncio registers its own wake-up pipe first and nothing else may follow.
        if self._keys:
            raise RuntimeError("the virtual-time loop does no real I/O: use the runtime's transport")
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._keys[number] = key
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping["FileDescriptorLike", selectors.SelectorKey]:
        return {number: key for number, key in self._keys.items()}  # noqa: C416 - the key type widens

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock(f"deadlock: every task waits and no timer is set; {self._describe_tasks()}")
        if timeout <= 0:
            self._count_round()
            return []
        self._rounds_without_time = 0
        # Rounded up, so that a timer is never found to be a fraction of a nanosecond in the future.
        self.now_ns += -int(-timeout * _NANOSECONDS // 1)
        if self.limit_ns is not None and self.now_ns > self.limit_ns:
            limit, self.limit_ns = self.limit_ns, None
            span_ms = (limit - _START_NS) // _NANOSECONDS_PER_MS
            raise VirtualTimeExceeded(f"not done after {span_ms} virtual ms; {self._describe_tasks()}")
        return []

    def _count_round(self) -> None:
        self._rounds_without_time += 1
        if self._rounds_without_time > _ROUNDS_WITHOUT_TIME:
            self._rounds_without_time = 0
            raise VirtualTimeExceeded(
                f"livelock: {_ROUNDS_WITHOUT_TIME} rounds without time passing; {self._describe_tasks()}"
            )


class _VirtualTask(asyncio.Task[T]):
    """A task hashed by its serial number, so that sets of tasks (``TaskGroup``) iterate alike each run."""

    def __init__(
        self,
        coroutine: Coroutine[object, object, T],
        *,
        loop: AbstractEventLoop,
        serial: int,
        context: Context | None,
    ) -> None:
        self._serial = serial
        super().__init__(coroutine, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._serial


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module. ``run_virtual`` is the usual way in."""

    _scheduled: list[asyncio.TimerHandle]
    """The base class's heap of timers."""

    def __init__(self, *, limit_ms: int | None = None) -> None:
        self._virtual = _VirtualSelector(self._describe_tasks)
        super().__init__(self._virtual)
        self._serial = 0
        self._tasks: dict[int, _VirtualTask[object]] = {}
        self._failures: list[Exception] = []
        self._frozen: dict[str, list[asyncio.Handle]] = {}
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._on_failure)
        if limit_ms is not None:
            self._limit(limit_ms)

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual.now_ns / _NANOSECONDS

    def now_ms(self) -> int:
        """Virtual time in whole milliseconds, free of rounding."""
        return self._virtual.now_ns // _NANOSECONDS_PER_MS

    # --- freezing hosts ---------------------------------------------------------------------------------

    def freeze(self, host: str) -> None:
        """Let nothing of ``host`` run, timers included, until it thaws; as a stopped process."""
        held = self._frozen.setdefault(host, [])
        timers, self._scheduled = self._scheduled, []
        for timer in timers:
            (held if _host_of(timer) == host else self._scheduled).append(timer)
        heapq.heapify(self._scheduled)

    def thaw(self, host: str) -> None:
        """What was held runs now, what is due later then."""
        for handle in self._frozen.pop(host, []):
            if handle.cancelled():
                continue
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(self._scheduled, handle)
            else:
                super().call_soon(handle._run)

    def call_soon(
        self,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._frozen:
            context = context or copy_context()
            held = self._frozen.get(context.get(HOST, ""))
            if held is not None:
                handle = asyncio.Handle(callback, args, self, context)
                held.append(handle)
                return handle
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        if self._frozen and (host := _host_of(timer)) in self._frozen:
            self._scheduled.remove(timer)
            heapq.heapify(self._scheduled)
            self._frozen[host].append(timer)
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Run ``func`` on the next round of the loop, inline."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(work)
        return future

    def finish(self) -> list[Exception]:
        """Cancel what still runs; returns the exceptions that nobody has seen."""
        self._limit(_FINISH_LIMIT_MS)
        for host in list(self._frozen):
            self.thaw(host)
        leftovers = [task for task in self._tasks.values() if not task.done()]
        for task in leftovers:
            task.cancel()
        try:
            self.run_until_complete(_wait_for(leftovers))
            self.run_until_complete(self.shutdown_asyncgens())
        except (Deadlock, VirtualTimeExceeded) as error:
            self._failures.append(error)
        for task in self._tasks.values():
            self._collect(task)
        self._tasks.clear()
        failures, self._failures = self._failures, []
        return failures

    def _limit(self, limit_ms: int) -> None:
        self._virtual.limit_ns = self._virtual.now_ns + limit_ms * _NANOSECONDS_PER_MS

    def _make_task(
        self,
        loop: AbstractEventLoop,
        coroutine: Coroutine[object, object, T] | Generator[object, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Future[T]:
        if not inspect.iscoroutine(coroutine):
            raise TypeError(f"a task needs a coroutine, not {coroutine!r}")
        self._serial += 1
        task = _VirtualTask(coroutine, loop=loop, serial=self._serial, context=context)
        task.set_name(name or f"task-{self._serial}")
        self._tasks[self._serial] = task
        if self._serial % _PRUNE_EVERY_TASKS == 0:
            self._tasks = {key: each for key, each in self._tasks.items() if _matters(each)}
        return task

    def _collect(self, task: asyncio.Task[object]) -> None:
        if task.done() and not task.cancelled() and task._log_traceback:
            error = task.exception()
            if error is not None:
                error.add_note(f"raised in {task.get_name()}, whose result nobody awaited")
                self._failures.append(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _on_failure(self, loop: AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        message = str(context.get("message", "unhandled failure"))
        if isinstance(error, Exception):
            error.add_note(message)
            self._failures.append(error)
        else:
            self._failures.append(RuntimeError(f"{message}: {error!r}" if error else message))

    def _describe_tasks(self) -> str:
        waiting = [task for task in self._tasks.values() if not task.done()]
        lines = [f"{len(waiting)} tasks:"]
        lines += [f"  {task.get_name()}: {_where(task)}" for task in waiting[:_LISTED_TASKS]]
        if len(waiting) > _LISTED_TASKS:
            lines.append(f"  and {len(waiting) - _LISTED_TASKS} more")
        return "\n".join(lines)


def run_virtual(
    main: Coroutine[object, object, T] | Callable[[], Coroutine[object, object, T]],
    *,
    timeout_ms: int = 600_000,
) -> T:
    """Run ``main`` (a coroutine or what makes one) to its end on a fresh virtual loop; returns its result.

    What is still running then is cancelled.  Raises ``main``'s exception, ``Deadlock`` when every task waits,
    ``VirtualTimeExceeded`` after ``timeout_ms`` of virtual time, or an ``ExceptionGroup`` of the failures
    of background tasks and callbacks that nobody awaited.
    """
    loop = VirtualTimeLoop(limit_ms=timeout_ms)
    try:
        try:
            result = loop.run_until_complete(_enter(main))
        except BaseException as error:
            for failure in loop.finish():
                error.add_note(f"a background task failed as well: {failure!r}")
            raise
        failures = loop.finish()
        if failures:
            raise ExceptionGroup("background work failed", failures)
        return result
    finally:
        loop.close()


async def _enter(main: Coroutine[object, object, T] | Callable[[], Coroutine[object, object, T]]) -> T:
    return await (main() if callable(main) else main)


async def _wait_for(tasks: list[_VirtualTask[object]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _host_of(handle: asyncio.Handle) -> str:
    return cast(_WithContext, handle)._context.get(HOST, "")


def _matters(task: asyncio.Task[object]) -> bool:
    return not task.done() or task._log_traceback


def _where(task: asyncio.Task[object]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "not started"
    frame = stack[-1]
    return f"{frame.f_code.co_qualname} at {frame.f_code.co_filename}:{frame.f_lineno}"
