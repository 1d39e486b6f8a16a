"""A file that is read through a window, so that its size does not matter.

This module knows positions and bytes; it refuses to know what they mean.  The file may grow meanwhile: a
node may be using it.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import File, FileSystem
from glasslog.log.checksum import crc32c

WINDOW_BYTES = 1024 * 1024

_Result = TypeVar("_Result")


class Source:
    """One file, opened for reading only; a context manager. Raises ``StorageError`` that names it."""

    __slots__ = ("_file", "_start", "_window", "path", "size_bytes")

    def __init__(self, files: FileSystem, path: str) -> None:
        self.path = path
        self._file: File = _attempt(path, lambda: files.open(path, read_only=True))
        self._window = b""
        self._start = 0
        self.size_bytes = 0
        self.measure()

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def measure(self) -> int:
        """Look how large the file is now."""
        self.size_bytes = _attempt(self.path, self._file.size)
        return self.size_bytes

    def forget(self) -> None:
        """Read again what was read before: it may have been written since."""
        self._window = b""

    def read(self, position: int, length: int) -> bytes:
        """Bytes at ``position``; fewer than ``length`` only where the file ends."""
        start = position - self._start
        if start < 0 or start + length > len(self._window):
            wanted = max(WINDOW_BYTES, length)
            self._window = _attempt(self.path, lambda: self._file.pread(wanted, position))
            self._start, start = position, 0
        if start == 0 and length >= len(self._window):
            return self._window
        return self._window[start : start + length]

    def checksum(self, position: int, length: int) -> int:
        """CRC-32C of a range of any size."""
        crc, end = 0, position + length
        while position < end:
            part = self.read(position, min(WINDOW_BYTES, end - position))
            if not part:
                break
            crc = crc32c(part, crc)
            position += len(part)
        return crc


def _attempt(path: str, action: Callable[[], _Result]) -> _Result:
    try:
        return action()
    except OSError as error:
        raise StorageError(f"{path}: can not be read: {error.strerror or error}") from error
