"""Records as lines, from standard input, to standard output. Refuses to know topics."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json
from glasslog.client.types import ConsumerRecord

Pair = tuple[bytes | None, bytes]


class LineSplitter:
    """Lines out of blocks of bytes; each with its key if there is a separator. Line ends do not count."""

    def __init__(self, *, key_separator: str | None) -> None:
        self._separator = None if key_separator is None else key_separator.encode()
        self._rest = b""
        self._count = 0

    def feed(self, block: bytes) -> list[Pair]:
        """The lines that this block completes. Raises ``CommandError`` for one without the separator."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [self._pair(line) for line in lines]

    def end(self) -> list[Pair]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest, b""
        return [self._pair(rest)] if rest else []

    def _pair(self, line: bytes) -> Pair:
        self._count += 1
        line = line.removesuffix(b"\r")
        if self._separator is None:
            return None, line
        key, found, value = line.partition(self._separator)
        if not found:
            raise CommandError(
                f"line {self._count} has no key: {self._separator.decode()!r} does not stand in it"
            )
        return key, value


def as_json(record: ConsumerRecord) -> dict[str, Json]:
    """Bytes that are not UTF-8 stand under the same name with ``_base64``, and null under the plain one."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **bytes_fields("key", record.key),
        **bytes_fields("value", record.value),
        "headers": [{"name": name, **bytes_fields("value", value)} for name, value in record.headers],
    }


def as_text(record: ConsumerRecord) -> str:
    """One line: place, time, key, value, headers, with tabs between; control characters are escaped."""
    parts = [
        f"{record.topic}-{record.partition}@{record.offset}",
        time_text(record.timestamp),
        readable(record.key),
        readable(record.value),
        *_headers(record.headers),
    ]
    return "\t".join(parts)


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> list[str]:
    return [",".join(f"{name}={readable(value)}" for name, value in headers)] if headers else []


def bytes_fields(name: str, value: bytes | None) -> dict[str, Json]:
    """Under ``name`` if it is text or null, else under ``name_base64``."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}


def readable(value: bytes | None) -> str:
    """Text on one line, whatever the bytes."""
    if value is None:
        return "null"
    text = value.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def time_text(timestamp_ms: int) -> str:
    """UTC with milliseconds; the number where it is no time that a calendar has."""
    if timestamp_ms < 0:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{timestamp_ms % 1_000:03d}Z"
