"""The in-memory file system: what the OS promises about durability, and no more.

Written data is durable after ``sync`` on its file, names after ``sync_dir`` on their folder; a power loss
takes the rest, keeps it, or tears it.  A killed process loses its handles and locks, never its data.  Faults
are injected by operation and path.  Refuses to know what the files mean.
"""

import errno
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.content import FileContent, Keep
from glasslog.common.runtime.memory.tree import Folder, Tree, normal_path, os_error
from glasslog.common.runtime.protocols import Buffer, DiskSpace, File, FileLock, FileSystem, Random

Operation = Literal[
    "open", "read", "pread", "pwrite", "truncate", "sync", "make_dirs", "rename", "remove", "remove_tree",
    "sync_dir", "list", "lock", "space",
]  # fmt: skip
_BOUNDLESS_BYTES = 1 << 40
"""How large a disk without a bound says it is."""

OperationHook = Callable[[Operation, str], None]


@dataclass(slots=True, kw_only=True)
class _Fault:
    operation: Operation | Literal["*"]
    path_glob: str
    error: OSError
    left: int | None


class MemoryFile:
    """An open file; see ``protocols.File``. A kill or crash of its process makes every call fail (EBADF)."""

    def __init__(
        self, files: "MemoryFileSystem", path: str, content: FileContent, *, read_only: bool
    ) -> None:
        self._files = files
        self._path = path
        self._content = content
        self._read_only = read_only
        self._generation = files.generation
        self._closed = False

    def size(self) -> int:
        self._check_open()
        return len(self._content.data)

    def pread(self, length: int, offset: int) -> bytes:
        self._check_open()
        self._check_not_negative(length, offset)
        self._files.enter("pread", self._path)
        self._content.is_cached = True
        return bytes(memoryview(self._content.data)[offset : offset + length])

    def pread_cached(self, length: int, offset: int) -> bytes | None:
        return self.pread(length, offset) if self._content.is_cached else None

    def pwrite(self, data: Buffer, offset: int) -> int:
        self._check_open()
        self._check_not_negative(offset)
        if self._read_only:
            raise os_error(errno.EBADF, self._path)
        self._files.enter("pwrite", self._path)
        size_bytes = len(data) if isinstance(data, bytes | bytearray) else data.nbytes
        allowed = self._files.claim(self._content, offset + size_bytes)
        if allowed < offset + size_bytes:
            # As the OS does: what fits is written, then the next write fails.
            self._content.write(memoryview(data).cast("B")[: max(0, allowed - offset)], offset)
            raise os_error(errno.ENOSPC, self._path)
        return self._content.write(data, offset)

    def pwritev(self, parts: Sequence[Buffer], offset: int) -> int:
        return self.pwrite(b"".join(parts), offset)

    def truncate(self, size: int) -> None:
        self._check_open()
        self._check_not_negative(size)
        if self._read_only:
            raise os_error(errno.EINVAL, self._path)
        self._files.enter("truncate", self._path)
        if self._files.claim(self._content, size) < size:
            raise os_error(errno.ENOSPC, self._path)
        self._content.truncate(size)

    def begin_sync(self) -> None:
        self._check_open()

    def sync(self) -> None:
        self._check_open()
        self._files.enter("sync", self._path)
        self._content.sync()

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed or self._generation != self._files.generation:
            raise os_error(errno.EBADF, self._path)

    def _check_not_negative(self, *numbers: int) -> None:
        if min(numbers) < 0:
            raise os_error(errno.EINVAL, self._path)


class MemoryLock:
    """A held lock; releasing it twice, or after its process died, does nothing."""

    def __init__(self, locks: dict[str, "MemoryLock"], path: str) -> None:
        self._locks = locks
        self._path = path
        locks[path] = self

    def release(self) -> None:
        if self._locks.get(self._path) is self:
            del self._locks[self._path]


class MemoryFileSystem:
    """A disk and the operating system over it; see the module and ``protocols.FileSystem``.

    ``capacity_bytes`` bounds the sum of all files' sizes (``None``: no bound) and may be changed at any time.
    ``on_operation`` is called before each operation on its path; it may raise, which is how a test stops a
    node between two steps.
    """

    def __init__(self, *, random: Random | None = None, capacity_bytes: int | None = None) -> None:
        self._random: Random = random or SeededRandom("disk")
        self._tree = Tree()
        self._locks: dict[str, MemoryLock] = {}
        self._faults: list[_Fault] = []
        self.generation = 0
        self.capacity_bytes = capacity_bytes
        self.on_operation: OperationHook | None = None

    # --- protocols.FileSystem ---------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemoryFile:
        path = normal_path(path)
        self.enter("open", path)
        node = self._tree.find(path)
        if isinstance(node, Folder):
            raise os_error(errno.EISDIR, path)
        if node is None:
            folder, name = self._tree.parent(path)
            if not create:
                raise os_error(errno.ENOENT, path)
            node = FileContent()
            folder.change({name: node})
        return MemoryFile(self, path, node, read_only=read_only)

    def read(self, path: str) -> bytes:
        path = normal_path(path)
        self.enter("read", path)
        return bytes(self._file(path).data)

    def write_atomic(self, path: str, data: bytes) -> None:
        temporary = f"{normal_path(path)}.tmp"
        file = self.open(temporary, create=True)
        try:
            file.truncate(0)
            file.pwrite(data, 0)
            file.sync()
        finally:
            file.close()
        self.rename(temporary, path)
        self.sync_dir(posixpath.dirname(normal_path(path)))

    def exists(self, path: str) -> bool:
        return self._tree.find(normal_path(path)) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self._tree.find(normal_path(path)), Folder)

    def list(self, path: str) -> Sequence[str]:
        path = normal_path(path)
        self.enter("list", path)
        return sorted(self._tree.folder(path).entries)

    def make_dirs(self, path: str) -> None:
        path = normal_path(path)
        self.enter("make_dirs", path)
        folder = self._tree.root
        for part in path.split("/")[1:]:
            if not part:
                continue
            child = folder.entries.get(part)
            if child is None:
                child = Folder()
                folder.change({part: child})
            if not isinstance(child, Folder):
                raise os_error(errno.EEXIST if path.endswith("/" + part) else errno.ENOTDIR, path)
            folder = child

    def rename(self, source: str, target: str) -> None:
        source, target = normal_path(source), normal_path(target)
        self.enter("rename", source)
        node = self._tree.get(source)
        if source == target:
            return
        source_folder, source_name = self._tree.parent(source)
        target_folder, target_name = self._tree.parent(target)
        self._check_rename(node, source, target)
        if source_folder is target_folder:
            source_folder.change({target_name: node, source_name: None})
        else:
            target_folder.change({target_name: node})
            source_folder.change({source_name: None})

    def remove(self, path: str) -> None:
        path = normal_path(path)
        self.enter("remove", path)
        self._file(path)
        folder, name = self._tree.parent(path)
        folder.change({name: None})

    def remove_tree(self, path: str) -> None:
        path = normal_path(path)
        self.enter("remove_tree", path)
        self._tree.folder(path)
        folder, name = self._tree.parent(path)
        folder.change({name: None})

    def sync_dir(self, path: str) -> None:
        path = normal_path(path)
        self.enter("sync_dir", path)
        self._tree.folder(path).sync()

    def space(self, path: str) -> DiskSpace:
        path = normal_path(path)
        self.enter("space", path)
        self._tree.folder(path)
        total = _BOUNDLESS_BYTES if self.capacity_bytes is None else self.capacity_bytes
        return DiskSpace(total, max(0, total - self.used_bytes()))

    def lock(self, path: str) -> FileLock:
        path = normal_path(path)
        self.enter("lock", path)
        self.open(path, create=True).close()
        if path in self._locks:
            raise os_error(errno.EAGAIN, path)
        return MemoryLock(self._locks, path)

    # --- death ------------------------------------------------------------------------------------------

    def process_kill(self) -> None:
        """The process died, the machine lives: all data stays; handles and locks are gone."""
        self.generation += 1
        self._locks.clear()

    def crash(self, random: Random | None = None, *, keep: Keep = "none") -> None:
        """The machine lost power: what was not synced is lost, kept or torn. Handles and locks are gone."""
        self.process_kill()
        self._tree.root.lose_power(keep, random or self._random)

    def drop_caches(self) -> None:
        """The page cache was needed for something else: ``pread_cached`` has to wait for the disk once."""
        for _, content in self._tree.files():
            content.is_cached = False

    def wipe(self) -> None:
        """The disk was replaced by an empty one."""
        self.process_kill()
        self._tree = Tree()

    def process_view(self) -> FileSystem:
        """This disk for one process: after a kill or crash each operation through the view fails (EIO)."""
        return _ProcessView(self)

    # --- faults -----------------------------------------------------------------------------------------

    def fail_next(
        self, operation: Operation | Literal["*"], path_glob: str, error: OSError, *, times: int | None = 1
    ) -> None:
        """Raise ``error`` from the next ``times`` (``None``: all) matching operations, before any effect."""
        self._faults.append(_Fault(operation=operation, path_glob=path_glob, error=error, left=times))

    def clear_failures(self) -> None:
        """Forget every injected failure that has not happened."""
        self._faults.clear()

    def flip_bit(self, path: str, offset: int, *, bit: int = 0) -> None:
        """Corrupt one bit of a file, on disk and in the page cache."""
        self._file(normal_path(path)).flip_bit(offset, bit)

    def used_bytes(self) -> int:
        """The sum of all files' sizes in bytes."""
        return sum(len(content.data) for _, content in self._tree.files())

    def enter(self, operation: Operation, path: str) -> None:
        """Announce an operation; raises the injected failure for it."""
        if self.on_operation is not None:
            self.on_operation(operation, path)
        if self._faults:
            self._maybe_fail(operation, path)

    def claim(self, content: FileContent, size: int) -> int:
        """How far ``content`` may grow towards ``size`` bytes within the capacity."""
        growth = size - len(content.data)
        if self.capacity_bytes is None or growth <= 0:
            return size
        return size - max(0, growth - max(0, self.capacity_bytes - self.used_bytes()))

    def _maybe_fail(self, operation: Operation, path: str) -> None:
        for fault in self._faults:
            if fault.operation in (operation, "*") and fnmatchcase(path, fault.path_glob):
                if fault.left is not None:
                    fault.left -= 1
                    if fault.left <= 0:
                        self._faults.remove(fault)
                raise type(fault.error)(*fault.error.args)

    def _file(self, path: str) -> FileContent:
        node = self._tree.get(path)
        if isinstance(node, Folder):
            raise os_error(errno.EISDIR, path)
        return node

    def _check_rename(self, node: Folder | FileContent, source: str, target: str) -> None:
        if target.startswith(f"{source}/"):
            raise os_error(errno.EINVAL, source, target)
        existing = self._tree.find(target)
        if existing is None:
            return
        if isinstance(node, Folder):
            if not isinstance(existing, Folder):
                raise os_error(errno.ENOTDIR, source, target)
            if existing.entries:
                raise os_error(errno.ENOTEMPTY, source, target)
        elif isinstance(existing, Folder):
            raise os_error(errno.EISDIR, source, target)


class _ProcessView:
    """The file system as one process sees it: useless once that process is dead."""

    def __init__(self, files: MemoryFileSystem) -> None:
        self._files = files
        self._generation = files.generation

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        return self._alive(path).open(path, create=create, read_only=read_only)

    def read(self, path: str) -> bytes:
        return self._alive(path).read(path)

    def write_atomic(self, path: str, data: bytes) -> None:
        self._alive(path).write_atomic(path, data)

    def exists(self, path: str) -> bool:
        return self._alive(path).exists(path)

    def is_dir(self, path: str) -> bool:
        return self._alive(path).is_dir(path)

    def list(self, path: str) -> Sequence[str]:
        return self._alive(path).list(path)

    def make_dirs(self, path: str) -> None:
        self._alive(path).make_dirs(path)

    def rename(self, source: str, target: str) -> None:
        self._alive(source).rename(source, target)

    def remove(self, path: str) -> None:
        self._alive(path).remove(path)

    def remove_tree(self, path: str) -> None:
        self._alive(path).remove_tree(path)

    def sync_dir(self, path: str) -> None:
        self._alive(path).sync_dir(path)

    def space(self, path: str) -> DiskSpace:
        return self._alive(path).space(path)

    def lock(self, path: str) -> FileLock:
        return self._alive(path).lock(path)

    def _alive(self, path: str) -> MemoryFileSystem:
        if self._generation != self._files.generation:
            raise os_error(errno.EIO, path)
        return self._files
