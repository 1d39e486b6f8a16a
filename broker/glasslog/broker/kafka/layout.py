"""Kafka's messages as dataclasses whose fields say how they lie on the wire, and the codec that follows.

A field is declared with ``wire(kind, since=..., ...)``: the versions that have it, from which on it may be
null, its tag.  ``ApiLayout`` makes of a request's and a response's dataclass a codec for every version; the
functions of one version are put together once, when it is first met.  This module knows fields and versions;
it refuses to know any API.  It is for the many messages that are not hot: Produce and Fetch have modules of
their own.  Source: the message definitions in Kafka's ``clients/src/main/resources/common/message`` and the
rules of their generator (KIP-482 for tagged fields).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from glasslog.broker.kafka.codec import (
    INT16,
    INT32,
    INT64,
    MalformedFrame,
    Reader,
    compact_string,
    unsigned_varint,
)
from glasslog.common.errors import require

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Q = TypeVar("Q", bound="DataclassInstance")
R = TypeVar("R", bound="DataclassInstance")

NEWEST = 0x7FFF
"""``until`` of a field that no version has dropped."""

_FLOAT64 = Struct(">d")
_INT8 = Struct(">b")
_UINT16 = Struct(">H")
_UUID_BYTES = 16

Read = Callable[[Reader], Any]
Write = Callable[[bytearray, Any], None]


@dataclass(frozen=True, slots=True)
class Codec:
    """How one field is read and written. ``min_bytes`` is the least that it takes."""

    read: Read
    write: Write
    min_bytes: int


@dataclass(frozen=True, slots=True)
class Context:
    """What a field's codec depends on besides its kind."""

    version: int
    is_flexible: bool
    is_nullable: bool = False


class Kind:
    """A type on the wire. ``initial`` is what a field of it is when nothing was said."""

    initial: ClassVar[object]

    def codec(self, context: Context) -> Codec:
        """Its codec in one version."""
        raise NotImplementedError


class _Number(Kind):
    initial = 0

    def __init__(self, layout: Struct) -> None:
        self._layout = layout

    def codec(self, context: Context) -> Codec:
        layout = self._layout

        def read(reader: Reader) -> Any:
            return reader.unpack(layout)[0]

        def write(out: bytearray, value: Any) -> None:
            out += layout.pack(value)

        return Codec(read, write, layout.size)


class _Boolean(Kind):
    initial = False

    def codec(self, context: Context) -> Codec:
        def write(out: bytearray, value: Any) -> None:
            out.append(1 if value else 0)

        return Codec(lambda reader: reader.byte() != 0, write, 1)


class _Uuid(Kind):
    initial = bytes(_UUID_BYTES)

    def codec(self, context: Context) -> Codec:
        def write(out: bytearray, value: Any) -> None:
            require(len(value) == _UUID_BYTES, f"an id of {len(value)} bytes")
            out += value

        return Codec(Reader.uuid, write, _UUID_BYTES)


class _String(Kind):
    initial = ""

    def codec(self, context: Context) -> Codec:
        read: Read = Reader.compact_nullable_string if context.is_flexible else Reader.nullable_string
        if context.is_flexible:

            def write(out: bytearray, value: Any) -> None:
                out += b"\0" if value is None else compact_string(value)

        else:

            def write(out: bytearray, value: Any) -> None:
                if value is None:
                    out += b"\xff\xff"
                else:
                    data = value.encode()
                    out += INT16.pack(len(data))
                    out += data

        return _checked(Codec(read, write, 1 if context.is_flexible else 2), context, "a string")


class _Bytes(Kind):
    initial = b""

    def codec(self, context: Context) -> Codec:
        is_flexible = context.is_flexible

        def read(reader: Reader) -> bytes | None:
            length = reader.unsigned_varint() - 1 if is_flexible else reader.int32()
            return None if length == -1 else bytes(reader.view(length))

        def write(out: bytearray, value: Any) -> None:
            length = -1 if value is None else len(value)
            out += unsigned_varint(length + 1) if is_flexible else INT32.pack(length)
            out += value or b""

        return _checked(Codec(read, write, 1 if is_flexible else 4), context, "bytes")


class _Array(Kind):
    initial = ()

    def __init__(self, item: "Kind | type[DataclassInstance]") -> None:
        self._item = item if isinstance(item, Kind) else _Record(item)

    def codec(self, context: Context) -> Codec:
        is_flexible = context.is_flexible
        item = self._item.codec(Context(context.version, is_flexible))
        read_item, write_item, item_bytes = item.read, item.write, item.min_bytes

        def read(reader: Reader) -> tuple[object, ...] | None:
            length = reader.unsigned_varint() - 1 if is_flexible else reader.int32()
            if length == -1:
                return None
            reader.expect_items(length, item_bytes=item_bytes)
            return tuple([read_item(reader) for _ in range(length)])

        def write(out: bytearray, value: Any) -> None:
            length = -1 if value is None else len(value)
            out += unsigned_varint(length + 1) if is_flexible else INT32.pack(length)
            for each in value or ():
                write_item(out, each)

        return _checked(Codec(read, write, 1 if is_flexible else 4), context, "an array")


class _Record(Kind):
    """A dataclass in a dataclass; where it may be null a byte before it says whether it is."""

    initial = None

    def __init__(self, kind: "type[DataclassInstance]") -> None:
        self._kind = kind

    def codec(self, context: Context) -> Codec:
        inner = record_codec(self._kind, context.version, is_flexible=context.is_flexible)
        if not context.is_nullable:
            return inner

        def read(reader: Reader) -> Any:
            return None if reader.int8() < 0 else inner.read(reader)

        def write(out: bytearray, value: Any) -> None:
            if value is None:
                out += b"\xff"
            else:
                out.append(1)
                inner.write(out, value)

        return Codec(read, write, 1)


def _checked(codec: Codec, context: Context, what: str) -> Codec:
    """``codec`` where null is allowed, else one that refuses null."""
    if context.is_nullable:
        return codec
    read_any, write_any = codec.read, codec.write

    def read(reader: Reader) -> Any:
        value = read_any(reader)
        if value is None:
            raise MalformedFrame(f"{what} before position {reader.position} is null")
        return value

    def write(out: bytearray, value: Any) -> None:
        require(value is not None, f"{what} of an answer is null in version {context.version}")
        write_any(out, value)

    return Codec(read, write, codec.min_bytes)


INT8_FIELD: Kind = _Number(_INT8)
INT16_FIELD: Kind = _Number(INT16)
UINT16_FIELD: Kind = _Number(_UINT16)
INT32_FIELD: Kind = _Number(INT32)
INT64_FIELD: Kind = _Number(INT64)
FLOAT64_FIELD: Kind = _Number(_FLOAT64)
BOOLEAN: Kind = _Boolean()
UUID: Kind = _Uuid()
STRING: Kind = _String()
BYTES: Kind = _Bytes()


def array(item: "Kind | type[DataclassInstance]") -> Kind:
    """Any number of ``item``, as a tuple."""
    return _Array(item)


def record(kind: "type[DataclassInstance]") -> Kind:
    """A dataclass in a dataclass."""
    return _Record(kind)


@dataclass(frozen=True, slots=True)
class Wire:
    """What a field's declaration says."""

    kind: Kind
    since: int
    until: int
    null_since: int
    tag: int
    tag_since: int

    def is_in(self, version: int) -> bool:
        return self.since <= version <= self.until

    def is_tagged(self, version: int) -> bool:
        return self.tag >= 0 and version >= self.tag_since


def wire(
    kind: Kind,
    *,
    since: int = 0,
    until: int = NEWEST,
    null_since: int = NEWEST,
    tag: int = -1,
    tag_since: int = NEWEST,
    default: object = MISSING,
) -> Any:
    """A dataclass field that lies on the wire in the versions ``since`` to ``until``."""
    about = Wire(kind=kind, since=since, until=until, null_since=null_since, tag=tag, tag_since=tag_since)
    return field(default=kind.initial if default is MISSING else default, metadata={"wire": about})


def _about(item: "Field[Any]") -> Wire:
    about = item.metadata["wire"]
    assert isinstance(about, Wire)
    return about


@dataclass(frozen=True, slots=True)
class Encoded:
    """Stands for a record of an answer whose bytes, in the very version of the answer, are there already."""

    data: bytes | bytearray


@cache
def record_codec(kind: "type[DataclassInstance]", version: int, *, is_flexible: bool) -> Codec:
    """The codec of one dataclass in one version."""
    plain: list[tuple[str, Codec]] = []
    tagged: dict[int, tuple[str, Codec, object]] = {}
    for item in fields(kind):
        about = _about(item)
        if about.is_in(version):
            codec = about.kind.codec(Context(version, is_flexible, version >= about.null_since))
            if about.is_tagged(version):
                tagged[about.tag] = (item.name, codec, item.default)
            else:
                plain.append((item.name, codec))
    min_bytes = sum(codec.min_bytes for _, codec in plain) + is_flexible
    read = _reader_of(kind, plain, tagged, is_flexible=is_flexible)
    return Codec(read, _writer_of(plain, tagged, is_flexible=is_flexible), min_bytes)


def _reader_of(
    kind: "type[DataclassInstance]",
    plain: Sequence[tuple[str, Codec]],
    tagged: Mapping[int, tuple[str, Codec, object]],
    *,
    is_flexible: bool,
) -> Read:
    reads = [(name, codec.read) for name, codec in plain]

    def read(reader: Reader) -> Any:
        values = {name: read_field(reader) for name, read_field in reads}
        if is_flexible:
            for tag, content in reader.tagged_fields():
                if tag in tagged:
                    name, codec, _ = tagged[tag]
                    values[name] = codec.read(content)
        return kind(**values)

    return read


def _writer_of(
    plain: Sequence[tuple[str, Codec]],
    tagged: Mapping[int, tuple[str, Codec, object]],
    *,
    is_flexible: bool,
) -> Write:
    writes = [(name, codec.write) for name, codec in plain]
    in_order = sorted(tagged.items())

    def write(out: bytearray, message: Any) -> None:
        if isinstance(message, Encoded):
            out += message.data
            return
        for name, write_field in writes:
            write_field(out, getattr(message, name))
        if is_flexible:
            _write_tags(out, message)

    def _write_tags(out: bytearray, message: Any) -> None:
        present = [
            (tag, codec, value)
            for tag, (name, codec, default) in in_order
            if (value := getattr(message, name)) != default
        ]
        out += unsigned_varint(len(present))
        for tag, codec, value in present:
            content = bytearray()
            codec.write(content, value)
            out += unsigned_varint(tag) + unsigned_varint(len(content))
            out += content

    return write


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLayout(Generic[Q, R]):
    """One API's request and response. Versions from ``flexible_from`` on have compact and tagged fields."""

    key: int
    name: str
    min_version: int
    max_version: int
    flexible_from: int
    request: type[Q]
    response: type[R]

    def decode_request(self, reader: Reader, version: int) -> Q:
        """The request whose body ``reader`` is at; raises ``MalformedFrame``. Keeps nothing of the frame."""
        decoded: Q = record_codec(self.request, version, is_flexible=version >= self.flexible_from).read(
            reader
        )
        return decoded

    def encode_request(self, request: Q, version: int) -> bytearray:
        """The body of a request, after its header."""
        return self._encode(request, version)

    def decode_response(self, reader: Reader, version: int) -> R:
        """The response whose body ``reader`` is at; raises ``MalformedFrame``."""
        decoded: R = record_codec(self.response, version, is_flexible=version >= self.flexible_from).read(
            reader
        )
        return decoded

    def encode_response(self, response: R, version: int) -> bytearray:
        """The body of a response, after its header."""
        return self._encode(response, version)

    def _encode(self, message: "DataclassInstance", version: int) -> bytearray:
        out = bytearray()
        record_codec(type(message), version, is_flexible=version >= self.flexible_from).write(out, message)
        return out
