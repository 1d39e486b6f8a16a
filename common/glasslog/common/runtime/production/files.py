"""The OS's file system through plain descriptors.

Refuses to know what the files mean; errors are the OS's own.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from itertools import count

from glasslog.common.runtime.protocols import Buffer, DiskSpace, File, FileLock

_CLOSED = 2**31 - 1
"""A number that no open file has: calls on it fail with EBADF (a negative one would be a ValueError)."""

_TELLS_WHAT_IS_CACHED = hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")
_CAN_ADVISE = hasattr(os, "posix_fadvise")
_PROBE = bytearray(1)
_PROBE_BYTES = 128 * 1024
"""As much as Linux reads ahead by default: so much comes into the page cache together."""

_FILE_MODE = 0o644
_TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY_NAMES = 64
"""More than threads that write at one time, and as many leftovers as crashes can make of one file."""
_serials = count()
# Not every Unix has fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)


class OsFile:
    """See ``protocols.File``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        return self._pread_rest(data, length, offset)

    def pread_cached(self, length: int, offset: int) -> Buffer | None:
        if not _TELLS_WHAT_IS_CACHED:
            return self.pread(length, offset)
        try:
            return self._pread_cached(length, offset)
        except BlockingIOError:
            return None
        except OSError as error:
            # Some file systems, tmpfs among them, can not tell; all of tmpfs is in memory anyway.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            return self.pread(length, offset)

    def _pread_cached(self, length: int, offset: int) -> Buffer | None:
        if length > _PROBE_BYTES:
            # A large buffer to read into would be zeroed first, for half of what the read costs.
            for position in range(offset, min(offset + length, self.size()), _PROBE_BYTES):
                os.preadv(self._descriptor, [_PROBE], position, os.RWF_NOWAIT)
            return self.pread(length, offset)
        data = bytearray(length)
        got = os.preadv(self._descriptor, [data], offset, os.RWF_NOWAIT)
        if got < length:
            if offset + got < self.size():
                return None
            del data[got:]
        return data

    def pwrite(self, data: Buffer, offset: int) -> int:
        size_bytes = _size_of(data)
        written = os.pwrite(self._descriptor, data, offset)
        if written < size_bytes:
            self._pwrite_rest(data, offset, written)
        return size_bytes

    def pwritev(self, parts: Sequence[Buffer], offset: int) -> int:
        size_bytes = sum(map(_size_of, parts))
        written = os.pwritev(self._descriptor, parts, offset)
        if written < size_bytes:
            self._pwrite_rest(b"".join(parts), offset, written)
        return size_bytes

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def begin_sync(self) -> None:
        if _CAN_ADVISE:
            # What is not needed is written, without waiting, before it may go from the page cache.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        _sync_data(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            os.close(descriptor)

    def _pread_rest(self, head: bytes, length: int, offset: int) -> bytes:
        """A signal or the 2 GiB limit of one call may cut a read short before the end of the file."""
        parts = [head]
        got = len(head)
        while got < length:
            part = os.pread(self._descriptor, length - got, offset + got)
            if not part:
                break
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def _pwrite_rest(self, data: Buffer, offset: int, written: int) -> None:
        """The OS writes less than asked on a nearly full disk, and raises on the next attempt."""
        with memoryview(data).cast("B") as view:
            while written < len(view):
                written += os.pwrite(self._descriptor, view[written:], offset + written)


def _size_of(data: Buffer) -> int:
    return len(data) if isinstance(data, bytes | bytearray) else data.nbytes


class OsFileLock:
    """See ``protocols.FileLock``; the OS releases it when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            os.close(descriptor)


class OsFileSystem:
    """See ``protocols.FileSystem``."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, _FILE_MODE)
        # A folder can be opened read-only; only the second look tells.
        if read_only and os.path.isdir(path):
            os.close(descriptor)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return OsFile(descriptor)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def write_atomic(self, path: str, data: bytes) -> None:
        # Several threads may replace the same file: each one its own, or one publishes what another began.
        temporary = f"{path}.{next(_serials) % _TEMPORARY_NAMES}{_TEMPORARY_SUFFIX}"
        descriptor = os.open(temporary, os.O_CLOEXEC | os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        file = OsFile(descriptor)
        try:
            file.pwrite(data, 0)
            file.sync()
        finally:
            file.close()
        os.replace(temporary, path)
        self.sync_dir(os.path.dirname(path) or ".")

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def list(self, path: str) -> Sequence[str]:
        return sorted(os.listdir(path))

    def make_dirs(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        os.remove(path)

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    def sync_dir(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def space(self, path: str) -> DiskSpace:
        found = os.statvfs(path)
        return DiskSpace(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def lock(self, path: str) -> FileLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return OsFileLock(descriptor)
