"""Which folders below a path are data directories or partitions, and what a directory says of its partitions.

This module knows how data directories are laid out, those of a local cluster included; it refuses to look
into partitions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from glasslog.common.errors import StorageError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.checkpoint import (
    HIGH_WATERMARK_FILE,
    LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE,
    RECOVERY_POINT_FILE,
)
from glasslog.log.inspection.findings import Findings
from glasslog.log.inspection.items import Fields, Finding
from glasslog.log.inspection.kinds import (
    CLEAN_SHUTDOWN_FILE,
    CLEANER_OFFSET_FILE,
    FileKind,
    parse_name,
    partition_of_folder,
)
from glasslog.log.inspection.partition_check import Claims
from glasslog.log.inspection.small_files import read_rows, reason_of

_MAX_DEPTH = 3
"""A local cluster's folder holds nodes, and a node's folder its data directory."""

_Offsets = Mapping[TopicPartition, int]


@dataclass(slots=True, kw_only=True)
class DataDirectory:
    """One of ``log.dirs``. ``identity`` is its ``meta.properties``; ``partitions`` are paths of folders."""

    path: str
    is_clean: bool = False
    identity: Fields = field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    findings: Findings = field(default_factory=Findings)
    recovery_points: _Offsets | None = None
    high_watermarks: _Offsets = field(default_factory=dict)
    start_offsets: _Offsets = field(default_factory=dict)
    cleaned: _Offsets = field(default_factory=dict)

    def claims_of(self, folder: str) -> Claims:
        """What the directory says of the partition in ``folder``."""
        partition = partition_of_folder(folder.rpartition("/")[2])
        if partition is None:
            return Claims(is_clean=self.is_clean)
        points = self.recovery_points
        return Claims(
            is_clean=self.is_clean,
            recovery_point=None if points is None else points.get(partition, 0),
            high_watermark=self.high_watermarks.get(partition),
            log_start_offset=self.start_offsets.get(partition, 0),
            is_cleaned=partition in self.cleaned,
        )


def find_directories(files: FileSystem, path: str) -> list[DataDirectory]:
    """The data directories at or below ``path``; a partition's folder alone comes with its parent's claims.

    Raises ``StorageError`` when there are none.
    """
    path = path.rstrip("/") or "/"
    if not files.is_dir(path):
        raise StorageError(f"{path}: there is no such folder")
    if _is_partition(files, path):
        directory = read_directory(files, path.rpartition("/")[0] or ".")
        directory.partitions = (path,)
        directory.findings = Findings()
        return [directory]
    found = list(_search(files, path, _MAX_DEPTH))
    if not found:
        raise StorageError(f"{path}: holds neither partitions nor data directories")
    return found


def _search(files: FileSystem, path: str, depth: int) -> Iterator[DataDirectory]:
    names = _listed(files, path)
    folders = [f"{path}/{name}" for name in names if files.is_dir(f"{path}/{name}")]
    if META_PROPERTIES_FILE in names or any(_is_partition(files, folder) for folder in folders):
        yield read_directory(files, path)
    elif depth:
        for folder in folders:
            yield from _search(files, folder, depth - 1)


def _is_partition(files: FileSystem, path: str) -> bool:
    """By what is in it: ``broker-1`` would be a name for one as well."""
    names = (parse_name(name) for name in _listed(files, path))
    return any(
        name is not None and name.kind is FileKind.SEGMENT and name.offset is not None for name in names
    )


def read_directory(files: FileSystem, path: str) -> DataDirectory:
    """What lies at the top of the data directory at ``path``; what can not be read is a finding."""
    directory = DataDirectory(path=path)
    findings = directory.findings
    names = set(_listed(files, path))
    directory.is_clean = CLEAN_SHUTDOWN_FILE in names
    directory.partitions = tuple(
        f"{path}/{name}"
        for name in sorted(names)
        if partition_of_folder(name) is not None and files.is_dir(f"{path}/{name}")
    )
    for name in (META_PROPERTIES_FILE, CLEAN_SHUTDOWN_FILE):
        if name in names:
            directory.identity = directory.identity or _first_row(files, f"{path}/{name}", findings)
    if names & {RECOVERY_POINT_FILE, META_PROPERTIES_FILE}:
        # Without an entry, or without a checkpoint at all, nothing counts as synced.
        directory.recovery_points = _offsets(files, path, RECOVERY_POINT_FILE, directory)
    directory.high_watermarks = _offsets(files, path, HIGH_WATERMARK_FILE, directory)
    directory.start_offsets = _offsets(files, path, LOG_START_OFFSET_FILE, directory)
    directory.cleaned = _offsets(files, path, CLEANER_OFFSET_FILE, directory)
    return directory


def _first_row(files: FileSystem, path: str, findings: Findings) -> Fields:
    name = parse_name(path.rpartition("/")[2])
    assert name is not None
    try:
        return next(read_rows(name.kind, files, path)).fields
    except (StorageError, ValueError, RecursionError, OSError) as error:
        findings.add(Finding(path=path, text=reason_of(error, path)))
        return {}


def _offsets(files: FileSystem, path: str, name: str, directory: DataDirectory) -> _Offsets:
    """A checkpoint, empty when it is not there."""
    where = f"{path}/{name}"
    offsets: dict[TopicPartition, int] = {}
    if not files.exists(where):
        return offsets
    try:
        for row in read_rows(FileKind.OFFSETS, files, where):
            match row.fields:
                case {"topic": str(topic), "partition": int(partition), "offset": int(offset)}:
                    offsets[TopicPartition(topic, partition)] = offset
                case _:
                    continue
    except (StorageError, ValueError, OSError) as error:
        directory.findings.add(Finding(path=where, text=reason_of(error, where)))
    folders = {folder.rpartition("/")[2] for folder in directory.partitions}
    for name_of_partition in map(str, offsets):
        if name_of_partition not in folders:
            directory.findings.note(where, f"names {name_of_partition}, which has no folder here")
    return offsets


def _listed(files: FileSystem, path: str) -> list[str]:
    try:
        return list(files.list(path))
    except OSError as error:
        raise StorageError(f"{path}: can not be listed: {error.strerror or error}") from error
