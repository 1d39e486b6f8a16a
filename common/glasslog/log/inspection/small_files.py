"""Producer snapshots, checkpoints and the other small files, entry by entry.

This module knows formats; it refuses to know what a log does with them.  Each function yields rows, and
raises ``StorageError`` or ``ValueError`` for a file that can not be what its name says.
Source: Kafka's ``ProducerStateManager``, ``CheckpointFile``, ``PartitionMetadataFile`` and their like.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from struct import error as struct_error

from glasslog.common.errors import StorageError
from glasslog.common.ids import format_uuid
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.checkpoint import read_epochs, read_meta_properties, read_offsets, read_topic_id
from glasslog.log.inspection.items import Fields, Row
from glasslog.log.inspection.kinds import FileKind
from glasslog.log.inspection.source import Source
from glasslog.log.producer_snapshot import CorruptSnapshot, decode_snapshot

MAX_SMALL_FILE_BYTES = 64 * 1024 * 1024
"""No file of these kinds grows so large: a larger one is refused rather than read."""

_SNAPSHOT_HEAD = Struct(">hIi")
_PRODUCER = Struct(">qhiqiqiq")


def read_rows(kind: FileKind, files: FileSystem, path: str) -> Iterator[Row]:
    """The rows of one small file; see the module for what it raises."""
    with Source(files, path) as source:
        if source.size_bytes > MAX_SMALL_FILE_BYTES:
            raise ValueError(f"{source.size_bytes} bytes are too many for such a file")
    yield from _READERS[kind](files, path)


def _producers(files: FileSystem, path: str) -> Iterator[Row]:
    """Kafka's entries as they are; what our extension adds comes as the earlier batches of each producer."""
    data = files.read(path)
    states = decode_snapshot(data)
    try:
        _, _, count = _SNAPSHOT_HEAD.unpack_from(data)
        for number in range(count):
            entry = _PRODUCER.unpack_from(data, _SNAPSHOT_HEAD.size + number * _PRODUCER.size)
            producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, first_offset = entry
            state = states.get(producer_id)
            earlier = () if state is None else state.batches[:-1]
            fields: Fields = {
                "producer_id": producer_id,
                "producer_epoch": epoch,
                "last_sequence": sequence,
                "last_offset": offset,
                "offset_delta": delta,
                "timestamp": timestamp,
                "coordinator_epoch": coordinator_epoch,
                "current_transaction_first_offset": None if first_offset < 0 else first_offset,
                "earlier_batches": [
                    {"first_offset": batch.first_offset, "last_offset": batch.last_offset}
                    for batch in earlier
                ],
            }
            yield Row(kind="producer", fields=fields)
    except struct_error:
        raise CorruptSnapshot("it ends too early") from None


def _epochs(files: FileSystem, path: str) -> Iterator[Row]:
    for epoch, start_offset in read_epochs(files, path):
        yield Row(kind="epoch", fields={"epoch": epoch, "start_offset": start_offset})


def _offsets(files: FileSystem, path: str) -> Iterator[Row]:
    for partition, offset in read_offsets(files, path).items():
        fields: Fields = {"topic": partition.topic, "partition": partition.partition, "offset": offset}
        yield Row(kind="offset", fields=fields)


def _partition(files: FileSystem, path: str) -> Iterator[Row]:
    topic_id = read_topic_id(files, path)
    if topic_id is not None:
        yield Row(kind="partition", fields={"topic_id": format_uuid(topic_id)})


def _directory(files: FileSystem, path: str) -> Iterator[Row]:
    found = read_meta_properties(files, path)
    if found is not None:
        fields: Fields = {
            "cluster_id": found.cluster_id,
            "node_id": found.node_id,
            "directory_id": found.directory_id,
        }
        yield Row(kind="directory", fields=fields)


def _json_object(kind: str) -> Callable[[FileSystem, str], Iterator[Row]]:
    def read(files: FileSystem, path: str) -> Iterator[Row]:
        data = files.read(path)
        content: object = json.loads(data) if data.strip() else {}
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        yield Row(kind=kind, fields=content)

    return read


def _limit(files: FileSystem, path: str) -> Iterator[Row]:
    text = files.read(path).decode("ascii", errors="replace").strip()
    if not text.isdecimal():
        raise ValueError(f"not an offset: {text[:40]!r}")
    yield Row(kind="limit", fields={"offset": int(text)})


_READERS: Mapping[FileKind, Callable[[FileSystem, str], Iterator[Row]]] = {
    FileKind.PRODUCER_SNAPSHOT: _producers,
    FileKind.LEADER_EPOCHS: _epochs,
    FileKind.OFFSETS: _offsets,
    FileKind.PARTITION_METADATA: _partition,
    FileKind.META_PROPERTIES: _directory,
    FileKind.CLEAN_SHUTDOWN: _json_object("shutdown"),
    FileKind.QUORUM_STATE: _json_object("quorum"),
    FileKind.RECOVERY_LIMIT: _limit,
}


def reason_of(error: Exception, path: str) -> str:
    """What is wrong, without the path: whoever reports it says where."""
    text = str(error).removeprefix(f"{path}: ")
    return text if isinstance(error, StorageError | CorruptSnapshot) else f"it can not be read: {text}"
