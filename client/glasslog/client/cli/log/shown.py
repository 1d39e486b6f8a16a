"""The pieces of an inspection as lines of text and as JSON objects, one a line.

Refuses to know how pieces are found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from glasslog.client.cli.output import Json
from glasslog.client.cli.records import bytes_fields, readable, time_text
from glasslog.log.batch import BatchHeader, Compression, TimestampType
from glasslog.log.inspection.items import (
    Fields,
    FileEnd,
    FileStart,
    Finding,
    Item,
    Row,
    SeenBatch,
    SeenRecord,
    Severity,
    Value,
)
from glasslog.log.inspection.segment_walk import DELETE_HORIZON_BIT

_TIMES = ("timestamp", "Timestamp", "TimestampMs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """``max_bytes`` of each key and value are shown, all of them with 0."""

    records: bool
    max_bytes: int

    def cut(self, data: bytes | None) -> bytes | None:
        return data if data is None or not self.max_bytes else data[: self.max_bytes]


# --- text -------------------------------------------------------------------------------------------------


def as_text(item: Item, showing: Showing) -> str | None:
    """One line, None for what is not to be shown."""
    match item:
        case FileStart():
            return f"{item.path}: {item.kind}{_facts(item.facts)}, {item.size_bytes} bytes"
        case SeenBatch():
            return _batch_text(item)
        case SeenRecord():
            return _record_text(item, showing) if showing.records else None
        case Row():
            return "  " + "  ".join(_row_text(name, value) for name, value in item.fields.items())
        case Finding():
            return f"  {_SEVERITIES[item.severity]}: {item}"
        case FileEnd():
            return _end_text(item)
        case _:
            assert_never(item)


_SEVERITIES: Mapping[Severity, str] = {
    Severity.DAMAGE: "UNSOUND",
    Severity.TORN: "UNSOUND (torn)",
    Severity.NOTE: "note",
}


def _facts(facts: Fields) -> str:
    return "".join(f", {_row_text(name, value)}" for name, value in facts.items())


def _batch_text(batch: SeenBatch) -> str:
    header = batch.header
    parts = [
        f"batch {header.base_offset}-{header.last_offset}",
        f"position {batch.position}",
        f"{header.size_bytes} bytes",
        counted(header.record_count, "records"),
        f"leader epoch {header.partition_leader_epoch}",
        f"crc {header.crc:08x} {'ok' if batch.crc_holds else 'WRONG'}",
        _compression(header),
        f"{_timestamp_type(header)} {time_text(header.max_timestamp)}",
    ]
    if header.has_producer:
        parts.append(f"producer {header.producer_id} epoch {header.producer_epoch}")
    if header.base_sequence >= 0:
        parts.append(f"sequence {header.base_sequence}-{header.last_sequence}")
    if header.attributes & DELETE_HORIZON_BIT:
        parts.append(f"delete horizon {time_text(header.base_timestamp)}")
    parts += [name for name, is_set in _flags(header).items() if is_set]
    return "  " + "  ".join(parts)


def _record_text(record: SeenRecord, showing: Showing) -> str:
    parts = [f"record {record.offset}", time_text(record.timestamp)]
    if record.decoded is None:
        parts += [f"key {_shown(record.key, showing)}", f"value {_shown(record.value, showing)}"]
    else:
        parts += [_row_text(name, value) for name, value in record.decoded.items()]
    if record.header_count:
        shown = ", ".join(
            f"{readable(name.encode())}={_shown(value, showing)}" for name, value in record.headers
        )
        more = record.header_count - len(record.headers)
        parts.append(f"headers {shown}" + (f" and {more} more" if more else ""))
    return "    " + "  ".join(parts)


def _shown(data: bytes | None, showing: Showing) -> str:
    if data is None:
        return "null"
    cut = showing.cut(data) or b""
    return f'"{readable(cut)}"' + (f" and {len(data) - len(cut)} bytes more" if len(cut) < len(data) else "")


def _row_text(name: str, value: Value) -> str:
    shown = time_text(value) if name.endswith(_TIMES) and isinstance(value, int) else _value_text(value)
    return f"{name.replace('_', ' ')} {shown}"


def _value_text(value: Value) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return readable(value.encode("utf-8", "surrogatepass")) or '""'
        case bytes():
            return f'"{readable(value)}"'
        case int():
            return str(value)
        case Mapping():
            return "{" + ", ".join(f"{name} {_value_text(each)}" for name, each in value.items()) + "}"
        case _:
            return "[" + ", ".join(_value_text(each) for each in value) + "]"


def _end_text(end: FileEnd) -> str:
    counts = ", ".join(counted(number, name) for name, number in end.counts.items()) or "nothing in it"
    facts = ""
    if "first_offset" in end.facts:
        first, last = (_value_text(end.facts[name]) for name in ("first_offset", "last_offset"))
        facts = f", offsets {first} to {last}"
    verdict = "sound" if not end.problems else f"UNSOUND, {counted(end.problems, 'problems')}"
    return f"  {counts}{facts}: {verdict}"


def counted(number: int, plural: str) -> str:
    """The number and what it counts, which is given as a plural."""
    return f"{number:,} {_SINGULARS.get(plural, plural.removesuffix('s')) if number == 1 else plural}"


_SINGULARS = {"batches": "batch", "entries": "entry", "directories": "directory"}


# --- JSON -------------------------------------------------------------------------------------------------


def as_json(item: Item, showing: Showing) -> dict[str, Json] | None:
    """One object; its ``type`` says what it is. None for what is not to be shown."""
    match item:
        case FileStart():
            start: dict[str, Json] = {"type": "file", "path": item.path, "kind": item.kind}
            return {**start, "size_bytes": item.size_bytes, **fields_as_json(item.facts)}
        case SeenBatch():
            return _batch_json(item)
        case SeenRecord():
            return _record_json(item, showing) if showing.records else None
        case Row():
            return {"type": item.kind, **fields_as_json(item.fields)}
        case Finding():
            return finding_as_json(item)
        case FileEnd():
            end: dict[str, Json] = {"type": "end", "path": item.path, **item.counts}
            return {**end, **fields_as_json(item.facts), "problems": item.problems}
        case _:
            assert_never(item)


def finding_as_json(finding: Finding) -> dict[str, Json]:
    """One object; ``type`` is problem or note."""
    return {
        "type": "note" if finding.severity is Severity.NOTE else "problem",
        "path": finding.path,
        "position": finding.position,
        "offset": finding.offset,
        "torn": finding.severity is Severity.TORN,
        "text": finding.text,
    }


def _batch_json(batch: SeenBatch) -> dict[str, Json]:
    header = batch.header
    return {
        "type": "batch",
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "position": batch.position,
        "size_bytes": header.size_bytes,
        "records": header.record_count,
        "leader_epoch": header.partition_leader_epoch,
        "crc": header.crc,
        "crc_holds": batch.crc_holds,
        "compression": _compression(header),
        "timestamp_type": _timestamp_type(header),
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "last_sequence": header.last_sequence,
        "has_delete_horizon": bool(header.attributes & DELETE_HORIZON_BIT),
        **_flags(header),
    }


def _record_json(record: SeenRecord, showing: Showing) -> dict[str, Json]:
    shown: dict[str, Json] = {
        "type": "record",
        "offset": record.offset,
        "timestamp": record.timestamp,
        "sequence": record.sequence,
        "size_bytes": record.size_bytes,
        "key_bytes": None if record.key is None else len(record.key),
        "value_bytes": None if record.value is None else len(record.value),
        **bytes_fields("key", showing.cut(record.key)),
        **bytes_fields("value", showing.cut(record.value)),
        "headers": [
            {"name": name, **bytes_fields("value", showing.cut(value))} for name, value in record.headers
        ],
        "header_count": record.header_count,
    }
    if record.decoded is not None:
        shown["decoded"] = fields_as_json(record.decoded)
    return shown


def fields_as_json(fields: Fields) -> dict[str, Json]:
    """Decoded fields; bytes as ``bytes_fields`` shows them."""
    shown: dict[str, Json] = {}
    for name, value in fields.items():
        if isinstance(value, bytes):
            shown.update(bytes_fields(name, value))
        else:
            shown[name] = _json_value(value)
    return shown


def _json_value(value: Value) -> Json:
    match value:
        case None | bool() | int():
            return value
        case str():
            # A JSON file may name half a character, which no terminal can print.
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes():
            return readable(value)
        case Mapping():
            return fields_as_json(value)
        case _:
            return [_json_value(each) for each in value]


# --- what both need ---------------------------------------------------------------------------------------


def _compression(header: BatchHeader) -> str:
    number = header.attributes & 0x07
    return Compression(number).name.lower() if number <= Compression.ZSTD else f"codec {number}"


def _timestamp_type(header: BatchHeader) -> str:
    return "LogAppendTime" if header.timestamp_type is TimestampType.LOG_APPEND_TIME else "CreateTime"


def _flags(header: BatchHeader) -> dict[str, bool]:
    return {"transactional": header.is_transactional, "control": header.is_control}
