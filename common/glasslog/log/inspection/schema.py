"""Kafka's message layouts as tables, and one reader for all of them.

This module knows the primitive types of Kafka's protocol, fixed and flexible; it refuses to know messages.
Source: Kafka's protocol guide, KIP-482 for flexible versions and tagged fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from glasslog.common.ids import format_uuid
from glasslog.log.inspection.items import Fields, Value

MAX_ELEMENTS = 100_000
"""Of all arrays in one message: a declared length must not decide how much memory is taken."""

_NEVER = 1 << 15
_NUMBERS = {
    "int8": Struct(">b"),
    "int16": Struct(">h"),
    "uint16": Struct(">H"),
    "int32": Struct(">i"),
    "int64": Struct(">q"),
}
_UUID_BYTES = 16
_MAX_VARINT_SHIFT = 28


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a type's name, or the fields of a structure. ``tag`` is set for an optional tagged one."""

    name: str
    type: "str | Sequence[Field]"
    is_array: bool = False
    first: int = 0
    last: int = _NEVER
    tag: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message's fields; ``flexible`` is the first flexible version, ``newest`` the last one known here."""

    fields: Sequence[Field]
    flexible: int = _NEVER
    newest: int = 0


def read_message(message: Message, data: bytes, *, version: int) -> Fields:
    """The fields of ``data``, its version already taken off. Raises ``ValueError`` for what it can not be."""
    if not 0 <= version <= message.newest:
        raise ValueError(f"version {version} is not known")
    reader = _Reader(data, version=version, flexible=version >= message.flexible)
    fields = reader.structure(message.fields)
    if reader.left:
        raise ValueError(f"{reader.left} bytes too many")
    return fields


class _Reader:
    def __init__(self, data: bytes, *, version: int, flexible: bool) -> None:
        self._data = data
        self._position = 0
        self._version = version
        self._flexible = flexible
        self._elements = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def structure(self, fields: Sequence[Field]) -> dict[str, Value]:
        found: dict[str, Value] = {
            field.name: self._field(field)
            for field in fields
            if field.tag is None and field.first <= self._version <= field.last
        }
        if self._flexible:
            self._tagged(fields, found)
        return found

    def _tagged(self, fields: Sequence[Field], found: dict[str, Value]) -> None:
        known = {field.tag: field for field in fields if field.tag is not None}
        for _ in range(self._count(self._unsigned())):
            tag, length = self._unsigned(), self._unsigned()
            end = self._position + length
            if length > self.left:
                raise ValueError(f"a tagged field of {length} bytes, {self.left} are left")
            if tag in known:
                found[known[tag].name] = self._field(known[tag])
            self._position = end

    def _field(self, field: Field) -> Value:
        if not field.is_array:
            return self._one(field.type)
        length = self._unsigned() - 1 if self._flexible else self._number("int32")
        if length < 0:
            return None
        return [self._one(field.type) for _ in range(self._count(length))]

    def _one(self, kind: "str | Sequence[Field]") -> Value:
        if not isinstance(kind, str):
            return self.structure(kind)
        match kind:
            case "string":
                data = self._bytes("int16")
                return None if data is None else data.decode()
            case "bytes":
                return self._bytes("int32")
            case "uuid":
                return format_uuid(self._take(_UUID_BYTES))
            case "bool":
                return self._number("int8") != 0
            case _:
                return self._number(kind)

    def _bytes(self, length_type: str) -> bytes | None:
        length = self._unsigned() - 1 if self._flexible else self._number(length_type)
        return None if length < 0 else self._take(length)

    def _count(self, length: int) -> int:
        self._elements += length
        if length > self.left or self._elements > MAX_ELEMENTS:
            raise ValueError(f"{length} elements in {self.left} bytes")
        return length

    def _number(self, kind: str) -> int:
        layout = _NUMBERS[kind]
        number = layout.unpack(self._take(layout.size))[0]
        assert isinstance(number, int)
        return number

    def _unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > _MAX_VARINT_SHIFT:
                raise ValueError("a length of more than five bytes")

    def _take(self, length: int) -> bytes:
        if not 0 <= length <= self.left:
            raise ValueError(f"{length} bytes wanted, {self.left} are left")
        self._position += length
        return self._data[self._position - length : self._position]
