"""The seam between glasslog and the world: clock, randomness, files, network, blocking work.

Everything outside this package reaches the world only through these protocols; the production
implementation is made of asyncio, uvloop, the OS and gRPC, the in-memory one of virtual time, a seeded
generator, a disk that loses un-synced data and a network that can be cut.  The shells run unchanged on both:
they may use asyncio's tasks, queues, events and timeouts freely (its loop is virtual in memory).

This module refuses to know what is sent or stored: payloads are bytes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


class Clock(Protocol):
    """Time in whole milliseconds."""

    def now_ms(self) -> int:
        """Monotonic: for timeouts and deadlines. Its zero means nothing."""
        ...

    def monotonic_ns(self) -> int:
        """As ``now_ms``, in nanoseconds: for how long work takes. Virtual time stands still meanwhile."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC: for record timestamps only, it may jump."""
        ...


class Random(Protocol):
    """A source of randomness; seeded in the simulator."""

    def randrange(self, stop: int) -> int:
        """A uniform integer in ``[0, stop)``."""
        ...

    def uniform(self, low: float, high: float) -> float: ...

    def uuid(self) -> bytes:
        """Sixteen random bytes."""
        ...


# --- files ------------------------------------------------------------------------------------------------


class File(Protocol):
    """An open file. All calls are synchronous (page cache); only ``sync`` may block for long.

    Raise ``OSError`` as the OS does (the in-memory disk raises the same classes and errno).
    """

    def size(self) -> int: ...

    def pread(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; shorter only at the end of the file."""
        ...

    def pread_cached(self, length: int, offset: int) -> Buffer | None:
        """As ``pread``, but None where it would have to wait for the disk; may claim never to."""
        ...

    def pwrite(self, data: Buffer, offset: int) -> int:
        """Write all of ``data`` at ``offset``, growing the file if needed; returns its length in bytes."""
        ...

    def pwritev(self, parts: Sequence[Buffer], offset: int) -> int:
        """Write ``parts`` one after the other as ``pwrite`` does, without joining them first."""
        ...

    def truncate(self, size: int) -> None: ...

    def begin_sync(self) -> None:
        """Have the OS begin to write, where it can be asked to: a ``sync`` of many files waits for less."""
        ...

    def sync(self) -> None:
        """Make data and size durable (``fdatasync``). Run it through ``Runtime.blocking`` off a hot loop."""
        ...

    def close(self) -> None: ...


class FileLock(Protocol):
    """An exclusive lock on a path; released by ``release`` or by the death of the process."""

    def release(self) -> None: ...


class DiskSpace(NamedTuple):
    """Of the volume that a path lies on: all of it, and what this process may still write."""

    total_bytes: int
    usable_bytes: int


class FileSystem(Protocol):
    """Files by absolute or working-directory-relative path, ``/`` between parts.

    Creations, renames and removals are durable only after ``sync_dir`` on the folder.
    """

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Open for reading and writing; ``FileNotFoundError`` if missing and ``create`` is not set."""
        ...

    def read(self, path: str) -> bytes:
        """A whole small file."""
        ...

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a small file durably: temporary file beside it, sync, rename, sync of the folder."""
        ...

    def exists(self, path: str) -> bool: ...

    def is_dir(self, path: str) -> bool: ...

    def list(self, path: str) -> Sequence[str]:
        """Names (not paths) in a folder, sorted."""
        ...

    def make_dirs(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def space(self, path: str) -> DiskSpace: ...

    def lock(self, path: str) -> FileLock:
        """Take the lock or raise ``BlockingIOError`` at once."""
        ...


# --- network ----------------------------------------------------------------------------------------------


class TransportError(GlasslogError):
    """The peer could not be reached, the connection broke, or the call ran out of time."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.NETWORK_EXCEPTION) -> None:
        super().__init__(code, message)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: ``address`` is ``host:port`` as the OS sees it."""

    address: str


UnaryHandler = Callable[[bytes, Peer], Awaitable[bytes]]
"""Answers one call. A ``GlasslogError`` it raises reaches the caller as one with the same code and text."""


class Stream(Protocol):
    """One end of a long-lived bidirectional stream of byte messages, in order within a direction."""

    async def send(self, message: bytes) -> None:
        """Waits while the peer's window is full; raises ``TransportError`` once the stream is broken."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The peer's messages; ends when the peer closes, raises ``TransportError`` when it breaks."""
        ...

    async def close(self) -> None:
        """Say that no more is coming (client: then cancels what is left). Idempotent."""
        ...


StreamHandler = Callable[[Stream, Peer], Awaitable[None]]
"""Serves one stream; closed when the handler returns. The handler is cancelled when the peer goes."""


class Channel(Protocol):
    """A lazily connected, self-healing path to one server."""

    async def unary(self, method: str, request: bytes, *, timeout_ms: int) -> bytes:
        """One call of ``/package.Service/Method``. Raises ``TransportError`` or the handler's error."""
        ...

    def stream(self, method: str) -> Stream: ...

    async def close(self) -> None: ...


class FrameHandler(Protocol):
    """Receives a framed connection's events, on the event loop, never concurrently."""

    def on_frame(self, frame: memoryview) -> None:
        """One frame's payload without its length prefix; valid only during the call unless copied."""
        ...

    def on_closed(self, error: Exception | None) -> None:
        """Exactly once, after the last frame; ``None`` for an orderly end."""
        ...


class FrameConnection(Protocol):
    """A TCP connection of frames, each with a 4-byte big-endian length prefix (Kafka's framing)."""

    @property
    def peer(self) -> Peer: ...

    def send(self, parts: Sequence[Buffer]) -> None:
        """Queue one frame made of ``parts`` (the prefix is added). Never blocks; see ``writable``."""
        ...

    async def writable(self) -> None:
        """Returns when the outgoing buffer is below its bound; ``TransportError`` if closed."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


FrameAcceptor = Callable[[FrameConnection], FrameHandler]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a plain HTTP GET gets."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


HttpHandler = Callable[[str], Awaitable[HttpAnswer]]
"""From a path such as ``/readyz`` to its answer."""


class Listener(Protocol):
    """A listening endpoint."""

    @property
    def port(self) -> int:
        """The port really bound (``0`` was asked for a free one)."""
        ...

    async def close(self, *, grace_ms: int = 0) -> None:
        """Stop accepting, let calls in flight end for ``grace_ms``, then cut them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What an RPC endpoint serves, keyed by ``/package.Service/Method``.

    ``names`` are the full service names for the standard health and reflection services.
    """

    unary: Mapping[str, UnaryHandler] = field(default_factory=dict)
    streams: Mapping[str, StreamHandler] = field(default_factory=dict)
    names: Sequence[str] = ()


class Transport(Protocol):
    """Dial and listen. ``OSError`` (address in use, permission) comes out of the ``listen_*`` calls."""

    def dial(self, address: str) -> Channel:
        """A channel to ``host:port``; connects on first use."""
        ...

    async def listen(self, address: str, services: Services) -> Listener:
        """Serve RPC (gRPC in production) on ``host:port``."""
        ...

    async def dial_frames(
        self, address: str, handler: FrameHandler, *, timeout_ms: int, max_frame_bytes: int
    ) -> FrameConnection: ...

    async def listen_frames(
        self, address: str, accept: FrameAcceptor, *, max_frame_bytes: int
    ) -> Listener: ...

    async def listen_http(self, address: str, handler: HttpHandler) -> Listener: ...


# --- the bundle -------------------------------------------------------------------------------------------


class Blocking(Protocol):
    """Runs blocking work off the event loop (inline in the simulator)."""

    async def __call__(self, function: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything a shell may use of the world."""

    clock: Clock
    random: Random
    files: FileSystem
    transport: Transport
    blocking: Blocking
