"""What an inspection sees, piece by piece, and what it finds wrong.

This module knows the pieces; it refuses to know how they are found or shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from glasslog.log.batch import BatchHeader
from glasslog.log.records import Headers

Value: TypeAlias = "bool | int | str | bytes | Sequence[Value] | Mapping[str, Value] | None"
"""What a decoded field may be; bytes are for whoever shows them to turn into text."""

Fields = Mapping[str, Value]

RecordDecoder = Callable[[bytes | None, bytes | None], Fields]
"""From a record's key and value to what they mean. Raises ``ValueError`` for bytes that mean nothing."""


class Severity(Enum):
    """How bad a finding is. ``TORN``: the end of a write is missing, which recovery may cut."""

    DAMAGE = "damage"
    TORN = "torn"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something worth a sentence, in which file and, where it can be said, at which position and offset."""

    path: str
    text: str
    position: int | None = None
    offset: int | None = None
    severity: Severity = Severity.DAMAGE

    def __str__(self) -> str:
        where = [self.path]
        if self.position is not None:
            where.append(f"position {self.position}")
        if self.offset is not None:
            where.append(f"offset {self.offset}")
        return f"{', '.join(where)}: {self.text}"


class SeenBatch(NamedTuple):
    """One batch whose frame makes sense. ``body`` is the whole batch, None where it was not wanted.

    ``computed_crc`` is None where the checksum was not computed.
    """

    header: BatchHeader
    position: int
    computed_crc: int | None
    body: bytes | None

    @property
    def crc_holds(self) -> bool:
        return self.computed_crc is None or self.computed_crc == self.header.crc


class SeenRecord(NamedTuple):
    """One record as it lies in its batch. ``size_bytes`` is uncompressed, its own length included.

    ``headers`` are the first ``MAX_SHOWN_HEADERS`` of ``header_count``.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    header_count: int
    sequence: int
    size_bytes: int
    decoded: Fields | None = None
    """What a decoder made of it; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStart:
    """A file is being looked into."""

    path: str
    kind: str
    size_bytes: int
    facts: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry of a file that is no segment."""

    kind: str
    fields: Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEnd:
    """All of a file was looked at, or all that was asked for."""

    path: str
    counts: Mapping[str, int]
    problems: int
    facts: Fields = field(default_factory=dict)


Item = FileStart | SeenBatch | SeenRecord | Row | Finding | FileEnd
