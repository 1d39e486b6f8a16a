"""What walks along batches tell, whichever codec does them. Refuses to know how they are done."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

REMEMBERED_BATCHES = 5
"""Of each producer: as many as it may have in flight."""


class Stop(IntEnum):
    """Why a walk ended: the bytes or the limits did, or what is wrong with the next batch."""

    END = 0
    HEADER = 1
    """It makes no sense."""
    CHECKSUM = 2
    ORDER = 3
    """It begins below the end of the one before: one of the two is damaged."""


class SoundPart(NamedTuple):
    """Where the last sound batch ends, the offset after it, where it begins, and why the walk ended."""

    size_bytes: int
    next_offset: int
    stop: int
    last_position: int


class ScanState(NamedTuple):
    """How far recovery has come in a file. Offsets and timestamps are -1 where there is none yet."""

    position: int
    next_offset: int
    largest_timestamp: int
    largest_offset: int
    """The last of the first batch that has the largest timestamp."""
    indexed_at: int
    """The position that the last entry of the offset index has, 0 at first."""
    epoch: int | None
    """Of the last batch; None before there was one."""


class Indexed(NamedTuple):
    """An entry that the indexes get: a batch's last offset and position, the largest timestamp up to it."""

    last_offset: int
    position: int
    largest_timestamp: int
    largest_offset: int


class Scan(NamedTuple):
    """What some of a file's bytes told; ``notable`` are positions of batches that recovery looks at closer.

    Those are the first batch that is not trusted, batches of another epoch than the one before, and of a
    producer's all that leave a trace in ``ProducerStates`` once the bytes are read: control batches, the
    first of a transaction, the last ones that are remembered.
    """

    state: ScanState
    entries: Sequence[Indexed]
    notable: Sequence[int]
    stop: int
