"""Starting a process: allocator, environment, event loop, signals, and the production ``Runtime``.

``import`` this before gRPC is imported anywhere: the allocator must be told first.  Refuses to know what the
process does.
"""

import asyncio
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TypeVar

from glasslog.common.runtime.production.clock import SystemClock, SystemRandom, ThreadBlocking
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.common.runtime.protocols import Runtime

T = TypeVar("T")

_MALLOC_OPTIONS = (
    # glibc maps and faults in each buffer above 128 KiB anew, which costs gRPC two thirds of its throughput.
    (-3, 32 << 20),  # M_MMAP_THRESHOLD
    (-1, 256 << 20),  # M_TRIM_THRESHOLD
    (-2, 16 << 20),  # M_TOP_PAD
)
_ENVIRONMENT = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}
_SIGNAL_EXIT_BASE = 128


def prepare_process() -> None:
    """Set the allocator and gRPC's environment; harmless when repeated, and where glibc is not."""
    for name, default in _ENVIRONMENT.items():
        os.environ.setdefault(name, default)
    libc = _glibc()
    if libc is not None:
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(ctypes.c_int(option), ctypes.c_int(value))


def settle_process() -> None:
    """Give back what starting up left unused; keep what stays out of the collector's rounds. Call it once."""
    gc.collect()
    gc.freeze()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is the one whose allocator has these options."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def production_runtime(
    *, max_message_bytes: int | None = None, blocking: ThreadBlocking | None = None
) -> Runtime:
    """The real world, for the running event loop."""
    prepare_process()
    # Imported here: gRPC must come after the allocator's options, and not every command needs it.
    from glasslog.common.runtime.production.transport import DEFAULT_MAX_MESSAGE_BYTES, SystemTransport

    return Runtime(
        clock=SystemClock(),
        random=SystemRandom(),
        files=OsFileSystem(),
        transport=SystemTransport(max_message_bytes=max_message_bytes or DEFAULT_MAX_MESSAGE_BYTES),
        blocking=blocking or ThreadBlocking(),
    )


def run(main: Callable[[Runtime], Awaitable[T]], *, max_message_bytes: int | None = None) -> T:
    """Run ``main`` to its end on a fresh event loop, uvloop where there is one; returns its result.

    Ctrl-C cancels it, and raises ``KeyboardInterrupt`` once it has ended; a second one does so at once.
    """
    prepare_process()
    blocking = ThreadBlocking()
    interrupts = _Interrupts()

    async def enter() -> T:
        interrupts.attend()
        return await main(production_runtime(max_message_bytes=max_message_bytes, blocking=blocking))

    try:
        with interrupts, asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(enter())
    finally:
        blocking.close()


class _Interrupts:
    """SIGINT while an event loop lives, if it means ``KeyboardInterrupt`` outside of it.

    ``asyncio.Runner`` looks after that only while its task runs, and forgets it if the task ends in order:
    it was raised within the loop's own code then, or never.
    """

    def __init__(self) -> None:
        self._count = 0
        self._cancel: Callable[[], object] = _nothing_to_cancel
        self._is_ours = False

    def attend(self) -> None:
        """From now on the current task is what an interrupt cancels."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel = partial(loop.call_soon_threadsafe, task.cancel)
        if self._count:
            task.cancel()

    def __enter__(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self._is_ours = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_ours:
            signal.signal(signal.SIGINT, self._on_signal)

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._count:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        # The loop may be closed already: then there is nothing to be cancelled any more.
        with suppress(RuntimeError):
            self._cancel()


def _nothing_to_cancel() -> None:
    return


async def wait_for_termination() -> None:
    """Return at the first SIGTERM or SIGINT. A second one ends the process at once, whatever it is doing."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if asked.is_set():
            os._exit(_SIGNAL_EXIT_BASE + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await asked.wait()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
