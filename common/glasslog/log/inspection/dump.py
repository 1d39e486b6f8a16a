"""One file, piece by piece: what it is, what is in it, what is wrong with it.

This module knows which walk suits which file; it refuses to know how pieces are shown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import CorruptBatch
from glasslog.log.inspection.control_records import decode_control_record
from glasslog.log.inspection.index_walk import (
    AbortedEntry,
    OffsetEntry,
    TimeEntry,
    walk_offset_index,
    walk_time_index,
    walk_transaction_index,
)
from glasslog.log.inspection.items import (
    Fields,
    FileEnd,
    FileStart,
    Finding,
    Item,
    RecordDecoder,
    Row,
    SeenBatch,
    SeenRecord,
)
from glasslog.log.inspection.kinds import FileKind, FileName, parse_name
from glasslog.log.inspection.record_walk import expand, walk_records
from glasslog.log.inspection.segment_walk import MAX_BODY_BYTES, SegmentWalk
from glasslog.log.inspection.small_files import read_rows, reason_of
from glasslog.log.inspection.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpOptions:
    """What to look at. ``records`` looks into batches; ``decoder`` makes sense of what records say."""

    records: bool = False
    decoder: RecordDecoder | None = None
    from_offset: int = 0
    max_batches: int | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    """A batch larger than this, or that expands beyond it, is not looked into."""


@dataclass(slots=True)
class _Tally:
    """What was met in a file."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: int = 0
    facts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def note(self, item: Item) -> None:
        if isinstance(item, Finding):
            self.problems += item.severity.value != "note"


def dump_file(files: FileSystem, path: str, options: DumpOptions) -> Iterator[Item]:
    """Every piece of the file at ``path``: first its ``FileStart``, last its ``FileEnd``.

    Raises ``StorageError`` when it can not be read, ``ValueError`` for a name that says nothing.
    """
    name = parse_name(path.rpartition("/")[2])
    if name is None:
        raise ValueError(f"{path}: a name that no file of a log has")
    with Source(files, path) as source:
        facts: Fields = {} if name.offset is None else {"base_offset": name.offset}
        yield FileStart(path=path, kind=name.kind.value, size_bytes=source.size_bytes, facts=facts)
        tally = _Tally()
        for item in _pieces(files, source, name, options, tally):
            tally.note(item)
            yield item
        yield FileEnd(path=path, counts=tally.counts, problems=tally.problems, facts=tally.facts)


def _pieces(
    files: FileSystem, source: Source, name: FileName, options: DumpOptions, tally: _Tally
) -> Iterator[Item]:
    match name.kind:
        case FileKind.SEGMENT | FileKind.METADATA_SNAPSHOT:
            base_offset = name.offset if name.kind is FileKind.SEGMENT else 0
            return _segment(source, base_offset, options, tally)
        case FileKind.OFFSET_INDEX | FileKind.TIME_INDEX | FileKind.TRANSACTION_INDEX:
            return _index(source, name, tally)
        case _:
            return _small(files, source.path, name.kind, tally)


# --- segments ---------------------------------------------------------------------------------------------


def _segment(source: Source, base_offset: int | None, options: DumpOptions, tally: _Tally) -> Iterator[Item]:
    walk = SegmentWalk(
        source,
        base_offset=base_offset,
        from_offset=options.from_offset,
        want_body=options.records,
        max_body_bytes=options.max_body_bytes,
    )
    for item in walk:
        if isinstance(item, Finding):
            yield item
            continue
        if options.max_batches is not None and tally.counts.get("batches", 0) >= options.max_batches:
            break
        _tally_batch(tally, item)
        yield item
        if options.records and item.crc_holds:
            yield from look_into(source.path, item, options)


def _tally_batch(tally: _Tally, batch: SeenBatch) -> None:
    tally.count("batches")
    tally.count("records", batch.header.record_count)
    tally.count("bytes", batch.header.size_bytes)
    tally.facts.setdefault("first_offset", batch.header.base_offset)
    tally.facts["last_offset"] = batch.header.last_offset


def look_into(path: str, batch: SeenBatch, options: DumpOptions) -> Iterator[SeenRecord | Finding]:
    """The records of a batch that was taken into memory, and what is wrong with them."""
    header, position = batch.header, batch.position
    if batch.body is None:
        text = f"{header.size_bytes} bytes are more than this looks into (at most {options.max_body_bytes})"
        yield Finding(path=path, text=text, position=position, offset=header.base_offset)
        return
    offset = header.base_offset
    try:
        data = expand(header, batch.body, max_bytes=options.max_body_bytes)
        for record in walk_records(header, data):
            yield from _decoded(path, batch, record, options)
            offset = record.offset + 1
    except CorruptBatch as error:
        yield Finding(path=path, text=str(error), position=position, offset=offset)


def _decoded(
    path: str, batch: SeenBatch, record: SeenRecord, options: DumpOptions
) -> Iterator[SeenRecord | Finding]:
    decoder = decode_control_record if batch.header.is_control else options.decoder
    if decoder is None:
        yield record
        return
    try:
        yield record._replace(decoded=decoder(record.key, record.value))
    except ValueError as error:
        yield record
        text = f"the record says nothing that this log may hold: {error}"
        yield Finding(path=path, text=text, position=batch.position, offset=record.offset)


# --- indexes and small files ------------------------------------------------------------------------------


def _index(source: Source, name: FileName, tally: _Tally) -> Iterator[Item]:
    if name.offset is None:
        yield Finding(path=source.path, text="its name does not say where its segment begins (20 digits)")
        return
    walks: Mapping[FileKind, Iterator[OffsetEntry | TimeEntry | AbortedEntry | Finding]] = {
        FileKind.OFFSET_INDEX: walk_offset_index(source, base_offset=name.offset),
        FileKind.TIME_INDEX: walk_time_index(source, base_offset=name.offset),
        FileKind.TRANSACTION_INDEX: walk_transaction_index(source, base_offset=name.offset),
    }
    for item in walks[name.kind]:
        if isinstance(item, Finding):
            yield item
            continue
        tally.count("entries")
        yield _index_row(item)


def _index_row(entry: OffsetEntry | TimeEntry | AbortedEntry) -> Row:
    match entry:
        case OffsetEntry():
            return Row(kind="offset_entry", fields={"offset": entry.offset, "position": entry.target})
        case TimeEntry():
            return Row(kind="time_entry", fields={"timestamp": entry.timestamp, "offset": entry.offset})
        case AbortedEntry():
            fields: Fields = {
                "producer_id": entry.producer_id,
                "first_offset": entry.first_offset,
                "last_offset": entry.last_offset,
                "last_stable_offset": entry.last_stable_offset,
            }
            return Row(kind="aborted_transaction", fields=fields)


def _small(files: FileSystem, path: str, kind: FileKind, tally: _Tally) -> Iterator[Item]:
    try:
        for row in read_rows(kind, files, path):
            tally.count("entries")
            yield row
    except (StorageError, ValueError, RecursionError) as error:
        yield Finding(path=path, text=reason_of(error, path))
