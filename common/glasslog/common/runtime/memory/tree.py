"""The in-memory disk's folders: names to nodes, and which of the names a power loss may take back.

Each folder keeps its durable names and the changes since its last sync, in order.  Refuses to know what a
file holds beyond asking its content to lose power too.
"""

import errno
import os
import posixpath
from collections.abc import Iterator
from functools import lru_cache

from glasslog.common.runtime.memory.content import FileContent, Keep
from glasslog.common.runtime.protocols import Random

_REMEMBERED_PATHS = 4096
_Changes = dict[str, "Folder | FileContent | None"]


def os_error(number: int, path: str, other: str | None = None) -> OSError:
    """The ``OSError`` subclass that the OS would raise for ``number``."""
    if other is None:
        return OSError(number, os.strerror(number), path)
    return OSError(number, os.strerror(number), path, None, other)


@lru_cache(maxsize=_REMEMBERED_PATHS)
def normal_path(path: str) -> str:
    """Absolute form; a relative path counts from the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


class Folder:
    """A folder: its names now, its names on disk, and the un-synced changes between the two."""

    def __init__(self) -> None:
        self.entries: dict[str, Folder | FileContent] = {}
        self._durable: dict[str, Folder | FileContent] = {}
        self._unsynced: list[_Changes] = []

    def change(self, changes: _Changes) -> None:
        """Apply name changes as one atomic step; ``None`` removes a name."""
        _apply(self.entries, changes)
        self._unsynced.append(changes)

    def sync(self) -> None:
        self._durable = dict(self.entries)
        self._unsynced.clear()

    def lose_power(self, keep: Keep, random: Random) -> None:
        """Go back to the durable names, here and below."""
        if keep == "none":
            self.entries = dict(self._durable)
        elif keep == "torn":
            self.entries = dict(self._durable)
            for changes in self._unsynced[: random.randrange(len(self._unsynced) + 1)]:
                _apply(self.entries, changes)
        self.sync()
        for name in sorted(self.entries):
            self.entries[name].lose_power(keep, random)


def _apply(entries: dict[str, Folder | FileContent], changes: _Changes) -> None:
    for name, node in changes.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Tree:
    """Looks paths up, raising what the OS would."""

    def __init__(self) -> None:
        self.root = Folder()

    def find(self, path: str) -> Folder | FileContent | None:
        node: Folder | FileContent = self.root
        for part in _parts(path):
            if not isinstance(node, Folder):
                return None
            child = node.entries.get(part)
            if child is None:
                return None
            node = child
        return node

    def get(self, path: str) -> Folder | FileContent:
        node = self.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        return node

    def folder(self, path: str) -> Folder:
        node = self.get(path)
        if not isinstance(node, Folder):
            raise os_error(errno.ENOTDIR, path)
        return node

    def parent(self, path: str) -> tuple[Folder, str]:
        """The folder that holds ``path``'s last name, and that name."""
        head, name = posixpath.split(path)
        if not name:
            raise os_error(errno.EBUSY, path)
        node = self.find(head)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if not isinstance(node, Folder):
            raise os_error(errno.ENOTDIR, path)
        return node, name

    def files(self) -> Iterator[tuple[str, FileContent]]:
        """Every file with its path, in order of names."""
        yield from _walk("", self.root)


def _walk(prefix: str, folder: Folder) -> Iterator[tuple[str, FileContent]]:
    for name in sorted(folder.entries):
        node = folder.entries[name]
        path = f"{prefix}/{name}"
        if isinstance(node, Folder):
            yield from _walk(path, node)
        else:
            yield path, node


@lru_cache(maxsize=_REMEMBERED_PATHS)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)
