"""The files of one segment: their names, and the handle of its log.

This module knows when the log's file is open, and how all of them are renamed together; it refuses to know
what is in them.  Handles are opened on first use; whoever works in another thread pins the one there is.  An
operation that the OS refuses is a ``StorageError`` that names the file.
"""

from contextlib import suppress

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import File, FileSystem
from glasslog.log.segment_indexes import INDEX_SUFFIX, INDEX_SUFFIXES, SegmentIndexes

LOG_SUFFIX = ".log"
CLEANED_SUFFIX = ".cleaned"
"""Of a segment that the cleaner writes; an opening log removes such files."""
SWAP_SUFFIX = ".swap"
"""Of a rewritten segment that takes the place of others; an opening log completes that."""
DELETED_SUFFIX = ".deleted"
"""Of a segment that has left its log; an opening log removes such files."""


def file_name(offset: int, suffix: str) -> str:
    """A segment file's name: twenty digits and a suffix."""
    return f"{offset:020d}{suffix}"


class SegmentFile:
    """A segment's ``.log``, and the names of what lies beside it; ``Segment`` knows the rest."""

    __slots__ = ("_file", "_files", "_pins", "_release_when_unpinned", "indexes", "size_bytes")

    def __init__(self, files: FileSystem, indexes: SegmentIndexes) -> None:
        self._files = files
        self.indexes = indexes
        self._file: File | None = None
        self._pins = 0
        self._release_when_unpinned = False
        self.size_bytes = 0

    @property
    def path(self) -> str:
        return self.indexes.path(LOG_SUFFIX)

    @property
    def index_path(self) -> str:
        return self.indexes.path(INDEX_SUFFIX)

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def create(self) -> None:
        """Make the file, empty, without indexes. The caller syncs the folder."""
        try:
            for suffix in INDEX_SUFFIXES:
                if self._files.exists(self.indexes.path(suffix)):
                    self._files.remove(self.indexes.path(suffix))
            self._file = self._files.open(self.path, create=True)
            self._file.truncate(0)
        except OSError as error:
            raise self._refused("created", error) from error
        self.indexes.begin()

    def measure(self) -> None:
        """Learn the file's size from the OS."""
        try:
            self.size_bytes = self._handle().size()
        except OSError as error:
            raise self._refused("read", error) from error

    def sync(self) -> None:
        """Make all appended bytes durable; may block, may run in another thread while pinned."""
        try:
            (self._file or self._handle()).sync()
        except OSError as error:
            raise self._refused("synced", error) from error

    def pin(self) -> None:
        """Keep the handle open until ``unpin``, whatever happens to the segment.

        A handle that only this opened goes again then, unless somebody used it meanwhile.
        """
        was_closed = self._file is None
        try:
            self._handle()
        except OSError as error:
            raise self._refused("opened", error) from error
        self._release_when_unpinned = was_closed
        self._pins += 1

    def unpin(self) -> None:
        self._pins -= 1
        if self._release_when_unpinned and not self._pins:
            self._close_file()

    def _handle(self) -> File:
        if self._file is None:
            self._file = self._files.open(self.path)
        self._release_when_unpinned = False
        return self._file

    def _close_file(self) -> None:
        self._release_when_unpinned = False
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _drop_partial_write(self) -> None:
        """After a failed write; if even this fails, recovery or the next write overwrites the rest."""
        try:
            self._handle().truncate(self.size_bytes)
        except OSError:
            return

    def _refused(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self.path}: can not be {what}: {_reason(error)}")

    def change_suffix(self, suffix: str) -> None:
        """Let the files' names end with ``suffix``; whoever reads here may go on.

        The log's file is the last of them, so that its name tells of all.  The caller syncs the folder.
        Raises ``StorageError``; then the names are as they were, as far as the OS lets them.
        """
        before = self.indexes.name_suffix
        renamed: list[tuple[str, str]] = []
        try:
            for path in filter(self._files.exists, self._paths()):
                target = path.removesuffix(before) + suffix
                self._files.rename(path, target)
                renamed.append((path, target))
        except OSError as error:
            with suppress(OSError):
                for path, target in reversed(renamed):
                    self._files.rename(target, path)
            raise self._refused("renamed", error) from error
        self.indexes.name_suffix = suffix

    def _paths(self) -> list[str]:
        """The log's own is the last one."""
        return [*map(self.indexes.path, INDEX_SUFFIXES), self.path]


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
