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
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

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

_GRAIN_S = 1e-9
"""Timers are due together that lie no further apart."""

_FEWEST_CANCELLED = 100
_CLOSED = "the event loop is closed"
_ROUNDS_WITHOUT_TIME = 1_000_000
_FINISH_LIMIT_MS = 600_000
_PRUNE_EVERY_TASKS = 4_096
_LISTED_TASKS = 50


class Deadlock(Exception):  # noqa: N818 - the name of the situation
    """Every task waits, no timer is set: nothing can happen any more. The text lists the tasks."""


class VirtualTimeExceeded(Exception):  # noqa: N818 - the name of the situation
    """The run used up its virtual time, or span without time passing. The text lists the tasks."""


class _Handle(asyncio.Handle):
    """As asyncio's, made at half the cost: it does not ask for the debug mode."""

    __slots__ = ()
    _callback: Callable[..., object]
    _context: Context
    _loop: AbstractEventLoop
    _repr: str | None
    _source_traceback: None

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[object],
        loop: AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _TimerHandle(_Handle, asyncio.TimerHandle):
    """See ``_Handle``."""

    __slots__ = ()
    _when: float
    _scheduled: bool

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[object],
        loop: AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True


_Timer = tuple[float, int, _TimerHandle]
"""When, and for those of the same moment in which order."""


class _NoSelector(selectors.BaseSelector):
    """Takes the wake-up pipe that asyncio registers first, and no other file. Nobody ever waits for it."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(
        self, fileobj: "FileDescriptorLike", events: int, data: object = None
    ) -> selectors.SelectorKey:
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
        return []


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
    """See the module. ``run_virtual`` is the usual way in.

    What the base class does in a round is done here without looking for I/O; timers of the same moment
    run in the order in which they were set.
    """

    _ready: deque[_Handle]
    """The base class's queue of what runs next."""

    _closed: bool
    _stopping: bool

    def __init__(self, *, limit_ms: int | None = None) -> None:
        super().__init__(_NoSelector())
        self._now_ns = _START_NS
        self._now_s = _START_NS / _NANOSECONDS
        self._limit_ns: int | None = None
        self._rounds_without_time = 0
        self._timers: list[_Timer] = []
        self._timer_serial = 0
        self._timers_cancelled = 0
        self._serial = 0
        self._tasks: dict[int, _VirtualTask[object]] = {}
        self._failures: list[Exception] = []
        self._frozen: dict[str, list[_Handle]] = {}
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._on_failure)
        if limit_ms is not None:
            self._limit(limit_ms)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def now_ms(self) -> int:
        """Virtual time in whole milliseconds, free of rounding."""
        return self._now_ns // _NANOSECONDS_PER_MS

    # --- rounds -----------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Round after round, until the loop is to stop: the base class asks after each call."""
        ready, timers = self._ready, self._timers
        while True:
            if ready:
                self._rounds_without_time += 1
                if self._rounds_without_time > _ROUNDS_WITHOUT_TIME:
                    self._give_up_spinning()
            elif not self._stopping:
                self._advance()
            due_s = self._now_s + _GRAIN_S
            while timers and timers[0][0] < due_s:
                ready.append(heapq.heappop(timers)[2])
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.call_exception_handler({"message": f"exception in {handle!r}", "exception": error})
            if self._stopping:
                return

    def _advance(self) -> None:
        """Nothing is ready: let time jump to the next timer."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
            self._timers_cancelled -= 1
        if not timers:
            raise Deadlock(f"deadlock: every task waits and no timer is set; {self._describe_tasks()}")
        self._rounds_without_time = 0
        # Rounded up, so that a timer is never found to be a fraction of a nanosecond in the future.
        self._now_ns += max(0, -int((self._now_s - timers[0][0]) * _NANOSECONDS // 1))
        self._now_s = self._now_ns / _NANOSECONDS
        if self._limit_ns is not None and self._now_ns > self._limit_ns:
            limit, self._limit_ns = self._limit_ns, None
            span_ms = (limit - _START_NS) // _NANOSECONDS_PER_MS
            raise VirtualTimeExceeded(f"not done after {span_ms} virtual ms; {self._describe_tasks()}")

    def _give_up_spinning(self) -> None:
        self._rounds_without_time = 0
        raise VirtualTimeExceeded(
            f"livelock: {_ROUNDS_WITHOUT_TIME} rounds without time passing; {self._describe_tasks()}"
        )

    def call_soon(
        self,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._closed:
            raise RuntimeError(_CLOSED)
        handle = _Handle(callback, args, self, context)
        if self._frozen and (held := self._frozen.get(_host_of(handle))) is not None:
            held.append(handle)
        else:
            self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if self._closed:
            raise RuntimeError(_CLOSED)
        timer = _TimerHandle(when, callback, args, self, context)
        if self._frozen and (held := self._frozen.get(_host_of(timer))) is not None:
            held.append(timer)
        else:
            self._set_timer(timer)
        return timer

    def _set_timer(self, timer: _TimerHandle) -> None:
        self._timer_serial += 1
        heapq.heappush(self._timers, (timer._when, self._timer_serial, timer))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by a timer when it is cancelled: not too many such are kept."""
        self._timers_cancelled += 1
        if self._timers_cancelled > _FEWEST_CANCELLED and 2 * self._timers_cancelled > len(self._timers):
            self._timers[:] = [
                each for each in self._timers if each[2] is not handle and not each[2]._cancelled
            ]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    # --- freezing hosts ---------------------------------------------------------------------------------

    def freeze(self, host: str) -> None:
        """Let nothing of ``host`` run, timers included, until it thaws; as a stopped process."""
        held = self._frozen.setdefault(host, [])
        timers = sorted(self._timers)
        held += [timer for _, _, timer in timers if _host_of(timer) == host]
        self._timers[:] = [each for each in timers if _host_of(each[2]) != host]

    def thaw(self, host: str) -> None:
        """What was held runs now, what is due later then."""
        for handle in self._frozen.pop(host, []):
            if handle.cancelled():
                continue
            if isinstance(handle, _TimerHandle):
                self._set_timer(handle)
            else:
                self._ready.append(handle)

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
        self._limit_ns = self._now_ns + limit_ms * _NANOSECONDS_PER_MS

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


def _host_of(handle: _Handle) -> str:
    return handle._context.get(HOST, "")


def _matters(task: asyncio.Task[object]) -> bool:
    return not task.done() or task._log_traceback


def _where(task: asyncio.Task[object]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "not started"
    frame = stack[-1]
    return f"{frame.f_code.co_qualname} at {frame.f_code.co_filename}:{frame.f_lineno}"
