"""Snapshots on disk, ``<end offset>-<epoch>.checkpoint`` beside the log: whole and sound or not at all.

A snapshot gets its name only once it is complete and durable; what is found damaged is thrown away, never
trusted, and never a reason to delete anything else.  All calls block.  This module refuses to know when
snapshots are taken and what is in them.  Source: KIP-630, Kafka's ``Snapshots``, ``FileRawSnapshotWriter``.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.controller.raft.messages import SnapshotPart
from glasslog.log.batch import HEADER_BYTES, parse_header
from glasslog.metadata.snapshot import CorruptSnapshot, Snapshot, SnapshotId, decode_snapshot

_LOGGER = logging.getLogger(__name__)
_NAME = re.compile(r"([0-9]{20})-([0-9]{10})\.checkpoint")
_WRITTEN_SUFFIX = ".part"
_FETCHED_SUFFIX = ".fetched"

_Result = TypeVar("_Result")


class SnapshotFiles:
    """The snapshots in one folder. What the OS refuses is ``StorageError``."""

    def __init__(self, files: FileSystem, directory: str) -> None:
        self._files = files
        self._directory = directory

    def path(self, snapshot_id: SnapshotId) -> str:
        return f"{self._directory}/{snapshot_id.file_name}"

    def ids(self) -> list[SnapshotId]:
        """Oldest first."""
        matches = map(_NAME.fullmatch, self._names())
        return sorted(SnapshotId(end_offset=int(m[1]), epoch=int(m[2])) for m in matches if m)

    def remove_leftovers(self) -> None:
        """What a crash left half-written or half-fetched."""
        for name in self._names():
            if name.endswith((_WRITTEN_SUFFIX, _FETCHED_SUFFIX)):
                path = f"{self._directory}/{name}"
                self._attempt(path, "removed", partial(self._files.remove, path))

    # --- reading --------------------------------------------------------------------------------------------

    def load(self, snapshot_id: SnapshotId) -> Snapshot:
        """All of it, checked. Raises ``CorruptSnapshot``."""
        path = self.path(snapshot_id)
        return decode_snapshot(snapshot_id, self._attempt(path, "read", lambda: self._files.read(path)))

    def load_newest(self) -> Snapshot | None:
        """The newest sound one; damaged ones on the way are thrown away."""
        for snapshot_id in reversed(self.ids()):
            snapshot = self.load_or_discard(snapshot_id)
            if snapshot is not None:
                return snapshot
        return None

    def load_or_discard(self, snapshot_id: SnapshotId) -> Snapshot | None:
        """The snapshot, or None after it was found damaged, and removed."""
        try:
            return self.load(snapshot_id)
        except CorruptSnapshot as error:
            _LOGGER.error("%s is damaged and not used any more: %s", self.path(snapshot_id), error)
            self.remove(snapshot_id)
            return None

    def read_part(self, snapshot_id: SnapshotId, *, position: int, max_bytes: int) -> SnapshotPart:
        """Some bytes, for a fetcher. Raises ``GlasslogError``: SNAPSHOT_NOT_FOUND, POSITION_OUT_OF_RANGE."""
        try:
            file = self._files.open(self.path(snapshot_id), read_only=True)
        except FileNotFoundError:
            raise GlasslogError(ErrorCode.SNAPSHOT_NOT_FOUND, f"there is no snapshot {snapshot_id}") from None
        except OSError as error:
            raise StorageError(f"{self.path(snapshot_id)}: can not be read: {error.strerror}") from error
        try:
            size_bytes = file.size()
            if not 0 <= position < size_bytes:
                text = f"position {position} of snapshot {snapshot_id}, which has {size_bytes} bytes"
                raise GlasslogError(ErrorCode.POSITION_OUT_OF_RANGE, text)
            data = file.pread(max_bytes, position)
        except OSError as error:
            raise StorageError(f"{self.path(snapshot_id)}: can not be read: {error.strerror}") from error
        finally:
            file.close()
        return SnapshotPart(snapshot_id=snapshot_id, position=position, size_bytes=size_bytes, data=data)

    def measure(self, snapshot_id: SnapshotId) -> tuple[int, int]:
        """Its size in bytes, and when its last entry was written (ms since 1970)."""
        path = self.path(snapshot_id)

        def measure() -> tuple[int, int]:
            file = self._files.open(path, read_only=True)
            try:
                head = file.pread(HEADER_BYTES, 0)
                return file.size(), parse_header(head).max_timestamp if len(head) == HEADER_BYTES else 0
            finally:
                file.close()

        return self._attempt(path, "read", measure)

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, snapshot_id: SnapshotId, data: bytes, *, position: int) -> None:
        """The next bytes of a snapshot that is being taken; those at position 0 begin it anew."""
        self._write_at(self.path(snapshot_id) + _WRITTEN_SUFFIX, data, position)

    def finish_written(self, snapshot_id: SnapshotId) -> None:
        """All of it was written: make it durable, and give it its name."""
        self._finish(self.path(snapshot_id), _WRITTEN_SUFFIX)

    def write_part(self, part: SnapshotPart) -> None:
        """A part of a snapshot that is being fetched; the first one begins it anew."""
        self._write_at(self.path(part.snapshot_id) + _FETCHED_SUFFIX, part.data, part.position)

    def _write_at(self, path: str, data: bytes, position: int) -> None:
        def write() -> None:
            file = self._files.open(path, create=True)
            try:
                file.truncate(position)
                file.pwrite(data, position)
            finally:
                file.close()

        self._attempt(path, "written", write)

    def finish_fetched(self, snapshot_id: SnapshotId) -> Snapshot | None:
        """The snapshot that the parts make, durably; None for a damaged one, of which nothing stays."""
        path = self.path(snapshot_id)
        fetched = path + _FETCHED_SUFFIX
        try:
            snapshot = decode_snapshot(
                snapshot_id, self._attempt(fetched, "read", lambda: self._files.read(fetched))
            )
        except CorruptSnapshot as error:
            _LOGGER.error("the snapshot that was fetched is damaged: %s", error)
            self._attempt(fetched, "removed", lambda: self._files.remove(fetched))
            return None
        self._finish(path, _FETCHED_SUFFIX)
        return snapshot

    def remove(self, snapshot_id: SnapshotId) -> None:
        path = self.path(snapshot_id)
        self._attempt(path, "removed", lambda: self._files.remove(path))

    def _finish(self, path: str, suffix: str) -> None:
        def finish() -> None:
            file = self._files.open(path + suffix)
            try:
                file.sync()
            finally:
                file.close()
            self._files.rename(path + suffix, path)
            self._files.sync_dir(self._directory)

        self._attempt(path, "written", finish)

    def _names(self) -> list[str]:
        directory = self._directory
        return list(self._attempt(directory, "listed", lambda: self._files.list(directory)))

    def _attempt(self, path: str, what: str, action: Callable[[], _Result]) -> _Result:
        try:
            return action()
        except OSError as error:
            raise StorageError(f"{path}: can not be {what}: {error.strerror or error}") from error
