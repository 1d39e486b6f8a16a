"""How far a checkpointed recovery point may be trusted after a log was truncated.

This module knows one small file in a partition's folder; it refuses to know what recovery does.  The recovery
point lives in a checkpoint for the whole data directory, written now and then.  A truncation below it makes
the value on disk a lie until the next checkpoint: offsets above the truncation are written anew and not yet
synced.  The limit is written before such a truncation and removed once the old value is true again.
"""

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem

FILE_NAME = "recovery-point-limit"


_MAX_DIGITS = 19


class RecoveryLimit:
    """The lowest offset truncated to since the checkpointed recovery point was true."""

    __slots__ = ("_checkpointed", "_files", "_limit", "_path")

    def __init__(self, files: FileSystem, path: str, *, checkpointed: int, limit: int | None) -> None:
        self._files = files
        self._path = path
        self._checkpointed = checkpointed
        self._limit = limit

    @classmethod
    def load(cls, files: FileSystem, directory: str, *, checkpointed: int) -> "RecoveryLimit":
        """Read the file, if there is one; a damaged one trusts nothing. May raise ``StorageError``."""
        path = f"{directory}/{FILE_NAME}"
        try:
            text = files.read(path).decode("ascii", errors="replace").strip()
        except FileNotFoundError:
            return cls(files, path, checkpointed=checkpointed, limit=None)
        except OSError as error:
            raise StorageError(f"{path}: can not be read: {error.strerror or error}") from error
        return cls(files, path, checkpointed=checkpointed, limit=_parse(text))

    @property
    def is_set(self) -> bool:
        """Whether the log was truncated since the checkpointed recovery point was true, or is being."""
        return self._limit is not None

    @property
    def recovery_point(self) -> int:
        """The checkpointed recovery point as far as it holds."""
        return self._checkpointed if self._limit is None else min(self._checkpointed, self._limit)

    def lower(self, offset: int) -> None:
        """Before a truncation to ``offset``: no recovery point above it holds. Raises ``StorageError``."""
        if offset < self.recovery_point:
            self._write(offset)

    def note_removal(self, offset: int) -> None:
        """Before segments from ``offset`` on are removed: till the folder is synced they may come back.

        Whoever finds the limit after a crash syncs it. Raises ``StorageError``.
        """
        if self._limit is None or offset < self._limit:
            self._write(offset)

    def _write(self, offset: int) -> None:
        try:
            self._files.write_atomic(self._path, f"{offset}\n".encode())
        except OSError as error:
            raise StorageError(f"{self._path}: can not be written: {error.strerror or error}") from error
        self._limit = offset

    def reached(self, recovery_point: int) -> None:
        """Everything below ``recovery_point`` is durable: the limit goes when it covers the checkpoint."""
        self._checkpointed = max(self._checkpointed, recovery_point)
        if self._limit is None or recovery_point < self._checkpointed:
            return
        try:
            self._files.remove(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{self._path}: can not be removed: {error.strerror or error}") from error
        self._limit = None


def _parse(text: str) -> int:
    """Of more digits than an offset has nothing is read: Python refuses thousands of them."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else 0
