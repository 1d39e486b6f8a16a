"""Which kind of file a name stands for, and which offset is in it.

This module knows names only; it refuses to open anything.
"""

import re
from dataclasses import dataclass
from enum import Enum

from glasslog.common.ids import METADATA_TOPIC, OFFSETS_TOPIC, TopicPartition
from glasslog.log.checkpoint import (
    HIGH_WATERMARK_FILE,
    LEADER_EPOCH_FILE,
    LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE,
    PARTITION_METADATA_FILE,
    RECOVERY_POINT_FILE,
)

CLEANER_OFFSET_FILE = "cleaner-offset-checkpoint"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
QUORUM_STATE_FILE = "quorum-state"
RECOVERY_LIMIT_FILE = "recovery-point-limit"
TRANSACTIONS_TOPIC = "__transaction_state"
_DIGITS = 20
_UNDONE = (".cleaned", ".swap", ".deleted")


class FileKind(Enum):
    """Every kind of file that a data directory holds."""

    SEGMENT = "segment"
    OFFSET_INDEX = "offset index"
    TIME_INDEX = "time index"
    TRANSACTION_INDEX = "transaction index"
    PRODUCER_SNAPSHOT = "producer snapshot"
    METADATA_SNAPSHOT = "metadata snapshot"
    LEADER_EPOCHS = "leader epochs"
    OFFSETS = "offset checkpoint"
    PARTITION_METADATA = "partition metadata"
    META_PROPERTIES = "meta properties"
    CLEAN_SHUTDOWN = "clean shutdown marker"
    QUORUM_STATE = "quorum state"
    RECOVERY_LIMIT = "recovery point limit"


_BY_SUFFIX = {
    ".log": FileKind.SEGMENT,
    ".index": FileKind.OFFSET_INDEX,
    ".timeindex": FileKind.TIME_INDEX,
    ".txnindex": FileKind.TRANSACTION_INDEX,
    ".snapshot": FileKind.PRODUCER_SNAPSHOT,
    ".checkpoint": FileKind.METADATA_SNAPSHOT,
}
_BY_NAME = {
    LEADER_EPOCH_FILE: FileKind.LEADER_EPOCHS,
    RECOVERY_POINT_FILE: FileKind.OFFSETS,
    HIGH_WATERMARK_FILE: FileKind.OFFSETS,
    LOG_START_OFFSET_FILE: FileKind.OFFSETS,
    CLEANER_OFFSET_FILE: FileKind.OFFSETS,
    PARTITION_METADATA_FILE: FileKind.PARTITION_METADATA,
    META_PROPERTIES_FILE: FileKind.META_PROPERTIES,
    CLEAN_SHUTDOWN_FILE: FileKind.CLEAN_SHUTDOWN,
    QUORUM_STATE_FILE: FileKind.QUORUM_STATE,
    RECOVERY_LIMIT_FILE: FileKind.RECOVERY_LIMIT,
}


@dataclass(frozen=True, slots=True)
class FileName:
    """What a name says. ``offset`` is None where it has none; ``undone``: left by a deletion or a crash."""

    kind: FileKind
    offset: int | None = None
    undone: bool = False


def parse_name(name: str) -> FileName | None:
    """The kind of file that ``name`` (without folders) stands for; None for a stranger."""
    if name in _BY_NAME:
        return FileName(_BY_NAME[name])
    bare = name
    for suffix in _UNDONE:
        bare = bare.removesuffix(suffix)
    stem, dot, suffix = bare.rpartition(".")
    kind = _BY_SUFFIX.get(dot + suffix)
    if kind is None:
        return None
    digits = stem.partition("-")[0] if kind is FileKind.METADATA_SNAPSHOT else stem
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        return FileName(kind, None, bare != name)
    return FileName(kind, int(digits), bare != name)


_TOPIC_PARTITION = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})")


def partition_of_folder(name: str) -> TopicPartition | None:
    """The partition that a folder of this name (without its parents) is for; None for another folder."""
    match = _TOPIC_PARTITION.fullmatch(name)
    return None if match is None else TopicPartition(match[1], int(match[2]))


class Contents(Enum):
    """What the records of a log mean, as far as its topic's name tells."""

    PLAIN = "none"
    OFFSETS = "offsets"
    TRANSACTIONS = "transactions"
    METADATA = "metadata"


def contents_of(folder: str) -> Contents:
    """By the name of a partition's folder, given by its path."""
    partition = partition_of_folder(folder.rstrip("/").rpartition("/")[2])
    if partition is None:
        return Contents.PLAIN
    return {
        OFFSETS_TOPIC: Contents.OFFSETS,
        TRANSACTIONS_TOPIC: Contents.TRANSACTIONS,
        METADATA_TOPIC: Contents.METADATA,
    }.get(partition.topic, Contents.PLAIN)
