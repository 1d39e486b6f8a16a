"""Kafka's small text files: offset checkpoints, leader epochs, ``partition.metadata``, ``meta.properties``.

This module knows their formats and that they are replaced atomically; it refuses to know what the numbers
mean.  A damaged file is a ``MalformedFile`` that names the file and the line.
Source: Kafka's ``CheckpointFile``, ``PartitionMetadataFile``, ``MetaProperties``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from glasslog.common.errors import StorageError
from glasslog.common.ids import TopicId, TopicPartition, format_uuid, parse_uuid
from glasslog.common.runtime.protocols import FileSystem

RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
HIGH_WATERMARK_FILE = "replication-offset-checkpoint"
LOG_START_OFFSET_FILE = "log-start-offset-checkpoint"
CLEANER_OFFSET_FILE = "cleaner-offset-checkpoint"
LEADER_EPOCH_FILE = "leader-epoch-checkpoint"
PARTITION_METADATA_FILE = "partition.metadata"
META_PROPERTIES_FILE = "meta.properties"

_VERSION = 0
_NEW = ".tmp"
_MAX_DIGITS = 10
"""Of a node's id, a 32-bit integer."""

_Entry = TypeVar("_Entry")


class MalformedFile(StorageError):  # noqa: N818 - the state of things
    """What a file holds is not of its format; the disk gave it without complaint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaProperties:
    """Which cluster, node and directory a data directory belongs to."""

    cluster_id: str
    node_id: int
    directory_id: str


def read_offsets(files: FileSystem, path: str) -> dict[TopicPartition, int]:
    """An offset checkpoint; empty when the file does not exist."""
    return dict(_read_entries(files, path, _parse_offset))


def write_offsets(files: FileSystem, path: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Replace an offset checkpoint atomically and durably."""
    lines = [f"{name.topic} {name.partition} {offset}" for name, offset in sorted(offsets.items())]
    _write_lines(files, path, lines)


def read_epochs(files: FileSystem, path: str) -> list[tuple[int, int]]:
    """Pairs of leader epoch and start offset; empty when the file does not exist."""
    return _read_entries(files, path, _parse_epoch)


def write_epochs(files: FileSystem, path: str, entries: Sequence[tuple[int, int]]) -> None:
    """Replace a leader epoch checkpoint atomically and durably."""
    _write_lines(files, path, [f"{epoch} {start_offset}" for epoch, start_offset in entries])


def read_topic_id(files: FileSystem, path: str) -> TopicId | None:
    """The topic id in a ``partition.metadata`` file; None when there is no file."""
    properties = _read_pairs(files, path, separator=":")
    if properties is None:
        return None
    _require_version(path, properties, "0")
    try:
        return TopicId(parse_uuid(_required(path, properties, "topic_id")))
    except ValueError as error:
        raise MalformedFile(f"{path}: topic_id: {error}") from None


def write_topic_id(files: FileSystem, path: str, topic_id: TopicId) -> None:
    """Write a ``partition.metadata`` file atomically and durably."""
    _write(files, path, _topic_id_text(topic_id))


def begin_topic_id(files: FileSystem, path: str, topic_id: TopicId) -> None:
    """The first half of the same in a folder that is being made; ``finish_topic_id`` is the other."""
    try:
        file = files.open(f"{path}{_NEW}", create=True)
        try:
            file.pwrite(_topic_id_text(topic_id).encode(), 0)
            file.begin_sync()
        finally:
            file.close()
    except OSError as error:
        raise StorageError(f"{path}: can not be written: {error.strerror or error}") from error


def finish_topic_id(files: FileSystem, path: str) -> None:
    """The file is whole or not there, and durable once the folder is synced."""
    try:
        file = files.open(f"{path}{_NEW}")
        try:
            file.sync()
        finally:
            file.close()
        files.rename(f"{path}{_NEW}", path)
    except OSError as error:
        raise StorageError(f"{path}: can not be written: {error.strerror or error}") from error


def _topic_id_text(topic_id: TopicId) -> str:
    return f"version: 0\ntopic_id: {format_uuid(topic_id)}\n"


def read_meta_properties(files: FileSystem, path: str) -> MetaProperties | None:
    """The identity of a data directory; None when there is no file."""
    properties = _read_pairs(files, path, separator="=")
    if properties is None:
        return None
    _require_version(path, properties, "1")
    node_id = _required(path, properties, "node.id")
    if not (node_id.isascii() and node_id.isdigit() and len(node_id) <= _MAX_DIGITS):
        raise MalformedFile(f"{path}: node.id is not a number: {node_id!r}")
    return MetaProperties(
        cluster_id=_required(path, properties, "cluster.id"),
        node_id=int(node_id),
        directory_id=_required(path, properties, "directory.id"),
    )


def write_meta_properties(files: FileSystem, path: str, properties: MetaProperties) -> None:
    """Write the identity of a data directory atomically and durably."""
    _write(
        files,
        path,
        f"version=1\ncluster.id={properties.cluster_id}\nnode.id={properties.node_id}\n"
        f"directory.id={properties.directory_id}\n",
    )


# --- lines ------------------------------------------------------------------------------------------------


def _parse_offset(line: str) -> tuple[TopicPartition, int]:
    topic, partition, offset = line.split(" ")
    return TopicPartition(topic, int(partition)), _natural(offset)


def _parse_epoch(line: str) -> tuple[int, int]:
    epoch, start_offset = line.split(" ")
    return _natural(epoch), _natural(start_offset)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("negative")
    return number


def _read_entries(files: FileSystem, path: str, parse: Callable[[str], _Entry]) -> list[_Entry]:
    text = _read(files, path)
    if text is None:
        return []
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != str(_VERSION):
        raise MalformedFile(f"{path}: line 1: expected version {_VERSION}, found {lines[:1]}")
    entries = lines[2:]
    if lines[1] != str(len(entries)):
        raise MalformedFile(f"{path}: line 2: {lines[1]!r} entries announced, {len(entries)} found")
    parsed = []
    for number, line in enumerate(entries, start=3):
        try:
            parsed.append(parse(line))
        except ValueError:
            raise MalformedFile(f"{path}: line {number}: malformed entry {line!r}") from None
    return parsed


def _write_lines(files: FileSystem, path: str, lines: Sequence[str]) -> None:
    _write(files, path, "\n".join([str(_VERSION), str(len(lines)), *lines]) + "\n")


# --- properties -------------------------------------------------------------------------------------------


def _read_pairs(files: FileSystem, path: str, *, separator: str) -> dict[str, str] | None:
    text = _read(files, path)
    if text is None:
        return None
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, found, value = line.partition(separator)
        if not found:
            raise MalformedFile(f"{path}: line {number}: expected name{separator}value, found {line!r}")
        pairs[name.strip()] = value.strip()
    return pairs


def _required(path: str, properties: Mapping[str, str], name: str) -> str:
    if name not in properties:
        raise MalformedFile(f"{path}: {name} is missing")
    return properties[name]


def _require_version(path: str, properties: Mapping[str, str], version: str) -> None:
    found = _required(path, properties, "version")
    if found != version:
        raise MalformedFile(f"{path}: version {found!r} is not supported, expected {version}")


# --- files ------------------------------------------------------------------------------------------------


def _read(files: FileSystem, path: str) -> str | None:
    try:
        return files.read(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise MalformedFile(f"{path}: not text: {error}") from None
    except OSError as error:
        raise StorageError(f"{path}: can not be read: {error.strerror or error}") from error


def _write(files: FileSystem, path: str, text: str) -> None:
    try:
        files.write_atomic(path, text.encode())
    except OSError as error:
        raise StorageError(f"{path}: can not be written: {error.strerror or error}") from error
