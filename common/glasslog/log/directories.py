"""All of ``log.dirs`` together: which of them a node can use, and which it has to do without.

A directory that can not be read or written is left out, the others serve; what is somebody else's, or in use,
is a mistake that the operator has to solve.  This module refuses to know what lies in a directory.
Source: Kafka's ``LogManager`` and ``MetaPropertiesEnsemble`` (KIP-112, KIP-858).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.checkpoint import META_PROPERTIES_FILE
from glasslog.log.directory import LogDirectory, MisplacedDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDirectory:
    """One of ``log.dirs`` that could not be opened: what it holds is not known."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDirectories:
    """``usable`` in the order of ``log.dirs``, locked; at least one."""

    usable: tuple[LogDirectory, ...]
    missing: tuple[MissingDirectory, ...] = ()


def open_directories(
    *,
    files: FileSystem,
    paths: Sequence[str],
    cluster_id: str,
    node_id: int,
    new_directory_id: Callable[[], bytes],
    required: Collection[str] = (),
) -> OpenedDirectories:
    """Open each of ``paths``, in order.

    Where others were used before, a path that does not exist is taken for a disk that is not mounted; one
    that is empty is a new disk.  Raises ``StorageError`` when a directory is another node's or in use, when
    one of ``required`` can not be used, and when none can.
    """
    opened: list[LogDirectory] = []
    missing: list[MissingDirectory] = []
    was_used = any(_exists(files, f"{path}/{META_PROPERTIES_FILE}") for path in paths)
    try:
        for path in paths:
            try:
                if was_used:
                    _check_present(files, path)
                opened.append(
                    LogDirectory.open(
                        files=files,
                        path=path,
                        cluster_id=cluster_id,
                        node_id=node_id,
                        new_directory_id=new_directory_id(),
                    )
                )
            except MisplacedDirectory:
                raise
            except StorageError as error:
                if path in required or len(missing) + 1 == len(paths):
                    raise
                missing.append(MissingDirectory(path=path, reason=str(error)))
    except BaseException:
        for directory in opened:
            directory.abandon()
        raise
    return OpenedDirectories(usable=tuple(opened), missing=tuple(missing))


def _check_present(files: FileSystem, path: str) -> None:
    """Data without an identity is what is left of a directory; it must not be taken for a new one."""
    if not _exists(files, path):
        raise StorageError(f"{path}: does not exist, though other data directories do: is it mounted?")
    if _exists(files, f"{path}/{META_PROPERTIES_FILE}"):
        return
    try:
        names = files.list(path)
    except OSError as error:
        raise StorageError(f"{path}: can not be listed: {error.strerror or error}") from error
    if any(files.exists(f"{path}/{name}/leader-epoch-checkpoint") for name in names):
        raise StorageError(f"{path}: holds partitions, but no {META_PROPERTIES_FILE} says whose")


def _exists(files: FileSystem, path: str) -> bool:
    try:
        return files.exists(path)
    except OSError:
        return False
