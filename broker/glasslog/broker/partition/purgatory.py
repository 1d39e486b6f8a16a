"""Where requests wait: produce for its replicas, fetch for enough bytes. Each completes exactly once.

This module knows offsets, byte counts and deadlines; it refuses to know what is answered: completion is a
callback.  Times are milliseconds of the monotonic clock.  Source: Kafka's ``DelayedOperationPurgatory``,
``DelayedProduce``, ``DelayedFetch``; unlike there a wake-up costs only what it completes, because produces
wait in order of their offsets and fetches count bytes instead of reading again.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from glasslog.common.errors import ErrorCode

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
_SWEEP_ABOVE = 1024
_AS_MUCH_AS_ANYBODY_WAITS_FOR = 1 << 62


def _nothing() -> None:
    """What a fetch does after it was answered."""


def _ignore(errors: Sequence[ErrorCode]) -> None:
    """What a produce does after it was answered."""


class DelayedOperation:
    """Something that waits until it is completed or its deadline passes."""

    __slots__ = ("deadline_ms", "is_done")

    def __init__(self, deadline_ms: int) -> None:
        self.deadline_ms = deadline_ms
        self.is_done = False

    def on_expiration(self) -> None:
        """The deadline passed first."""
        raise NotImplementedError


class DelayedProduce(DelayedOperation):
    """Waits until each of ``count`` partitions has replicated what was appended, or has failed.

    ``on_done`` gets one error code per partition, in the order in which they were numbered.
    """

    __slots__ = ("_errors", "_left", "_on_done")

    def __init__(
        self, count: int, *, deadline_ms: int, on_done: Callable[[Sequence[ErrorCode]], None]
    ) -> None:
        super().__init__(deadline_ms)
        self._errors: list[ErrorCode | None] = [None] * count
        self._left = count
        self._on_done = on_done

    def complete_partition(self, index: int, error: ErrorCode) -> None:
        """Partition number ``index`` is decided; nothing happens if it already was."""
        if self.is_done or self._errors[index] is not None:
            return
        self._errors[index] = error
        self._left -= 1
        if not self._left:
            self._finish()

    def on_expiration(self) -> None:
        """Whatever is undecided by now timed out."""
        if not self.is_done:
            self._finish()

    def _finish(self) -> None:
        self.is_done = True
        on_done, self._on_done = self._on_done, _ignore
        late = ErrorCode.REQUEST_TIMED_OUT
        on_done([late if error is None else error for error in self._errors])


class ProduceWatchers(Generic[K]):
    """Waiting produces by partition, in order of the offset that the high watermark must reach.

    A retry of an older batch may stand behind a newer one and then waits for that too.
    """

    def __init__(self) -> None:
        self._waiting: dict[K, deque[tuple[int, DelayedProduce, int]]] = {}

    def watch(self, key: K, required_offset: int, operation: DelayedProduce, index: int) -> None:
        """Complete partition ``index`` of ``operation`` once ``key`` has reached ``required_offset``."""
        queue = self._waiting.get(key)
        if queue is None:
            queue = self._waiting[key] = deque()
        queue.append((required_offset, operation, index))

    def complete_up_to(self, key: K, high_watermark: int, error: ErrorCode) -> None:
        """The high watermark of ``key`` advanced: everything at or below is answered with ``error``."""
        queue = self._waiting.get(key)
        while queue:
            required_offset, operation, index = queue[0]
            if required_offset > high_watermark and not operation.is_done:
                return
            queue.popleft()
            operation.complete_partition(index, error)

    def complete_all(self, key: K, error: ErrorCode) -> None:
        """Nothing that waits on ``key`` can succeed any more."""
        for _, operation, index in self._waiting.pop(key, ()):
            operation.complete_partition(index, error)

    def waiting_on(self, key: K) -> tuple[Sequence[int], int | None]:
        """The offsets that ``key`` has to reach, and the soonest deadline in ms."""
        entries = [entry for entry in self._waiting.get(key, ()) if not entry[1].is_done]
        return [offset for offset, _, _ in entries], min(
            (each.deadline_ms for _, each, _ in entries), default=None
        )

    def sweep(self) -> None:
        """Forget those that timed out."""
        for key in list(self._waiting):
            kept = deque(entry for entry in self._waiting[key] if not entry[1].is_done)
            if kept:
                self._waiting[key] = kept
            else:
                del self._waiting[key]

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


class FetchWatcher(Protocol[K_contra]):
    """Who wants to know when more becomes readable."""

    def on_readable(self, key: K_contra, size_bytes: int, /) -> None:
        """``size_bytes`` more became readable on ``key``; none when something else of it is news."""
        ...

    def on_news(self, key: K_contra, /) -> None:
        """``on_readable`` will say the same of ``key``; an answer to another partition's has it already."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether there is a request that it would answer."""
        ...

    def on_look(self, key: K_contra, /) -> None:
        """Somebody is about to look at who reads ``key``: whatever was not noted there yet has to be."""
        ...

    def on_changed(self, key: K_contra, /) -> None:
        """``key`` changed its leader or is gone, and is watched no more."""
        ...


class _Leavable(Protocol):
    def pop(self, watcher: "DelayedFetch", absent: None, /) -> object: ...


class DelayedFetch(DelayedOperation):
    """Waits until ``min_bytes`` more have become readable on the partitions it watches.

    ``on_done`` is called once: by enough bytes, by a partition's change of state, or by the deadline.
    """

    __slots__ = ("_on_done", "_watched", "missing_bytes")

    def __init__(self, missing_bytes: int, *, deadline_ms: int, on_done: Callable[[], None]) -> None:
        super().__init__(deadline_ms)
        self.missing_bytes = missing_bytes
        self._on_done = on_done
        self._watched: list[_Leavable] = []

    def watched_in(self, watchers: "_Leavable") -> None:
        """Leave ``watchers`` when it is over."""
        self._watched.append(watchers)

    def on_readable(self, key: object, size_bytes: int) -> None:
        """See ``FetchWatcher``."""
        if not self.is_done:
            self.missing_bytes -= size_bytes
            if self.missing_bytes <= 0:
                self.complete()

    def on_news(self, key: object) -> None:
        """See ``FetchWatcher``: it looks at all of its partitions anyway."""

    @property
    def is_waiting(self) -> bool:
        """See ``FetchWatcher``."""
        return not self.is_done

    def on_look(self, key: object) -> None:
        """See ``FetchWatcher``: it noted everything when it came."""

    def on_changed(self, key: object) -> None:
        """See ``FetchWatcher``: whoever reads has to look elsewhere."""
        self.complete()

    def on_expiration(self) -> None:
        """What there is has to do."""
        self.complete()

    def complete(self) -> None:
        """Answer now; nothing happens the second time."""
        if not self.is_done:
            on_done = self._on_done
            self.cancel()
            on_done()

    def cancel(self) -> None:
        """Never answer: whoever asked is gone."""
        self.is_done = True
        # What it would have answered must not live on in the queue of deadlines.
        self._on_done = _nothing
        for watchers in self._watched:
            watchers.pop(self, None)
        self._watched.clear()


Watchers = dict[FetchWatcher[K], int]
"""Who watches one partition, and how many bytes of it each has heard of."""


class FetchWatchers(Generic[K]):
    """Who waits for fetches, by partition. ``total_bytes`` only grows while a partition keeps its leader."""

    def __init__(self) -> None:
        self._waiting: dict[K, Watchers[K]] = {}

    def watch(self, key: K, watcher: FetchWatcher[K], *, total_bytes: int) -> Watchers[K]:
        """Count what becomes readable on ``key`` beyond ``total_bytes``; ends when it leaves the result."""
        watchers = self._waiting.get(key)
        if watchers is None:
            watchers = self._waiting[key] = {}
        watchers[watcher] = total_bytes
        return watchers

    def has(self, key: K) -> bool:
        """Whether anybody watches ``key``."""
        return bool(self._waiting.get(key))

    def on_news(self, key: K) -> None:
        """``on_readable`` follows, once everybody has heard of every partition that there is news of."""
        for watcher in self._waiting.get(key, ()):
            watcher.on_news(key)

    def on_readable(self, key: K, *, total_bytes: int, is_urgent: bool = False) -> None:
        """More became readable on ``key``, or something else of it is news; ``is_urgent``: told at once."""
        watchers = self._waiting.get(key)
        if not watchers:
            return
        for watcher, seen_bytes in list(watchers.items()):
            if watcher not in watchers:
                # Answered with one of those before it.
                continue
            watchers[watcher] = total_bytes
            size_bytes = _AS_MUCH_AS_ANYBODY_WAITS_FOR if is_urgent else total_bytes - seen_bytes
            watcher.on_readable(key, size_bytes)

    def count_on(self, key: K) -> int:
        """How many wait for ``key``."""
        return sum(watcher.is_waiting for watcher in self._waiting.get(key, ()))

    def look(self, key: K) -> None:
        """Have everything noted of who reads ``key``."""
        for watcher in self._waiting.get(key, ()):
            watcher.on_look(key)

    def complete_all(self, key: K) -> None:
        """``key`` changed its leader or is gone: answer at once, so that the reader looks elsewhere."""
        for watcher in list(self._waiting.pop(key, ())):
            watcher.on_changed(key)


class Deadlines:
    """The deadlines of everything that waits, the soonest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, DelayedOperation]] = []
        self._serial = 0
        self._sweep_at = _SWEEP_ABOVE

    def add(self, operation: DelayedOperation) -> None:
        self._serial += 1
        heappush(self._heap, (operation.deadline_ms, self._serial, operation))
        if len(self._heap) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        # Most operations complete long before their deadline; those left behind must not pile up.
        self._heap = [entry for entry in self._heap if not entry[2].is_done]
        heapify(self._heap)
        self._sweep_at = max(_SWEEP_ABOVE, 2 * len(self._heap))

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline of an operation that still waits."""
        while self._heap and self._heap[0][2].is_done:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def expire(self, now_ms: int) -> int:
        """Expire everything whose deadline is not after ``now_ms``; returns how many."""
        count = 0
        while (deadline_ms := self.next_deadline_ms()) is not None and deadline_ms <= now_ms:
            heappop(self._heap)[2].on_expiration()
            count += 1
        return count

    def count_waiting(self) -> int:
        """How many really wait; sweeps on the way."""
        self._sweep()
        return len(self._heap)


class Purgatory(Generic[K]):
    """All that waits in one broker, at most ``max_operations`` of them."""

    def __init__(self, *, max_operations: int) -> None:
        self._max_operations = max_operations
        self.produces: ProduceWatchers[K] = ProduceWatchers()
        self.appended: FetchWatchers[K] = FetchWatchers()
        """Followers: they wait for the log's end."""
        self.committed: FetchWatchers[K] = FetchWatchers()
        """Consumers: they wait for the high watermark."""
        self._deadlines = Deadlines()
        self._parked = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more may wait; cheap until the bound comes near."""
        if self._parked < self._max_operations:
            return False
        self._parked = self._deadlines.count_waiting()
        self.produces.sweep()
        return self._parked >= self._max_operations

    def park(self, operation: DelayedOperation) -> None:
        """Let ``operation``, which its watchers know already, also meet its deadline."""
        self._parked += 1
        self._deadlines.add(operation)

    def next_deadline_ms(self) -> int | None:
        return self._deadlines.next_deadline_ms()

    def expire(self, now_ms: int) -> None:
        """Answer everything that is late; timed-out produces leave their queues."""
        if self._deadlines.expire(now_ms):
            self.produces.sweep()

    def complete_all(self, key: K, error: ErrorCode) -> None:
        """``key`` changed its leader or is gone."""
        self.produces.complete_all(key, error)
        self.appended.complete_all(key)
        self.committed.complete_all(key)
