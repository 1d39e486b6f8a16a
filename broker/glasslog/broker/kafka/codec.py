"""Primitives of Kafka's wire protocol in its flexible versions: read with bounds checks, write into parts.

This module knows integers, varints, compact strings and arrays and tagged fields; it refuses to know any API.
A length that does not fit the frame is a ``MalformedFrame``, never an allocation.
Source: Kafka's protocol guide, KIP-482.
"""

from collections.abc import Iterator
from struct import Struct
from struct import error as struct_error

from glasslog.common.errors import ErrorCode, GlasslogError

INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
_MAX_VARINT_SHIFT = 28
_UUID_BYTES = 16

MAX_ITEMS_PER_FRAME = 500_000
"""Items of all arrays of one request: each becomes an object many times the size of its bytes."""


class MalformedFrame(GlasslogError):  # noqa: N818 - says what the frame is
    """Bytes that are not what the protocol says; the text names what and where."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_REQUEST, message)


class Reader:
    """Reads one frame from the front. Every method raises ``MalformedFrame`` past the end."""

    __slots__ = ("_end", "_frame", "_items_left", "position")

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._end = len(frame)
        self._items_left = MAX_ITEMS_PER_FRAME
        self.position = 0

    @property
    def left_bytes(self) -> int:
        return self._end - self.position

    def int8(self) -> int:
        value = self.byte()
        return value - 256 if value > 127 else value

    def byte(self) -> int:
        if self.position >= self._end:
            raise MalformedFrame(f"a byte is missing at position {self.position}")
        value = self._frame[self.position]
        self.position += 1
        return value

    def int16(self) -> int:
        return int(self.unpack(INT16)[0])

    def int32(self) -> int:
        return int(self.unpack(INT32)[0])

    def int64(self) -> int:
        return int(self.unpack(INT64)[0])

    def unpack(self, layout: Struct) -> tuple[int, ...]:
        """Several fixed-size fields in one step."""
        try:
            values = layout.unpack_from(self._frame, self.position)
        except struct_error:
            raise MalformedFrame(
                f"{layout.size} bytes expected at position {self.position}, {self.left_bytes} are left"
            ) from None
        self.position += layout.size
        return values

    def unsigned_varint(self) -> int:
        # Nearly all are of one byte: without a call for it.
        position = self.position
        if position < self._end and (first := self._frame[position]) < 0x80:
            self.position = position + 1
            return first
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > _MAX_VARINT_SHIFT:
                raise MalformedFrame(f"a varint of more than five bytes before position {self.position}")

    def view(self, length: int) -> memoryview:
        """The next ``length`` bytes, valid as long as the frame is."""
        start = self.position
        end = start + length
        if not start <= end <= self._end:
            raise MalformedFrame(f"{length} bytes announced at position {start}, {self.left_bytes} are left")
        self.position = end
        return self._frame[start:end]

    def rest(self) -> memoryview:
        """All that was not read yet, which stays to be read; valid as long as the frame is."""
        return self._frame[self.position : self._end]

    def uuid(self) -> bytes:
        return bytes(self.view(_UUID_BYTES))

    def nullable_string(self) -> str | None:
        """A string with a 16-bit length, as in request headers; -1 is null."""
        (length,) = self.unpack(INT16)
        return None if length == -1 else self._text(length)

    def compact_nullable_string(self) -> str | None:
        length = self.unsigned_varint()
        return None if length == 0 else self._text(length - 1)

    def compact_string(self) -> str:
        return self.compact_nullable_string() or ""

    def _text(self, length: int) -> str:
        try:
            return str(self.view(length), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame(f"a string before position {self.position} is not UTF-8") from error

    def string(self) -> str:
        """As ``nullable_string``, null read as empty."""
        return self.nullable_string() or ""

    def nullable_bytes(self) -> memoryview:
        """Bytes with a 32-bit length, null read as empty."""
        return self.view(max(self.int32(), 0))

    def compact_nullable_bytes(self) -> memoryview:
        """Bytes, null read as empty."""
        length = self.unsigned_varint()
        return self.view(length - 1 if length else 0)

    def compact_array_length(self, *, item_bytes: int) -> int:
        """The length of an array whose items take ``item_bytes`` at least; null read as empty."""
        announced = self.unsigned_varint()
        if announced <= 1:
            return 0
        self.expect_items(announced - 1, item_bytes=item_bytes)
        return announced - 1

    def array_length(self, *, item_bytes: int) -> int:
        """As ``compact_array_length``, with a 32-bit length."""
        length = max(self.int32(), 0)
        self.expect_items(length, item_bytes=item_bytes)
        return length

    def expect_items(self, length: int, *, item_bytes: int) -> None:
        """Refuse an array of ``length`` items that can not fit, or of more than one frame may have."""
        if not 0 <= length * item_bytes <= self._end - self.position:
            raise MalformedFrame(
                f"an array of {length} at position {self.position} can not fit into {self.left_bytes} bytes"
            )
        self._items_left -= length
        if self._items_left < 0:
            raise MalformedFrame(f"arrays of more than {MAX_ITEMS_PER_FRAME} items")

    def tagged_fields(self) -> Iterator[tuple[int, "Reader"]]:
        """Each tagged field's number and a reader on its content."""
        for _ in range(self.compact_tag_count()):
            tag = self.unsigned_varint()
            yield tag, Reader(self.view(self.unsigned_varint()))

    def compact_tag_count(self) -> int:
        count = self.unsigned_varint()
        if count and 2 * count > self.left_bytes:
            raise MalformedFrame(f"{count} tagged fields at position {self.position} can not fit")
        return count

    def has_no_tagged_fields(self) -> bool:
        """Whether there are none, which is passed over then; else they are still to be read."""
        if self.position < self._end and not self._frame[self.position]:
            self.position += 1
            return True
        return False

    def skip_tagged_fields(self) -> None:
        """Pass over fields of newer versions."""
        if not self.has_no_tagged_fields():
            for _ in self.tagged_fields():
                pass


def unsigned_varint(value: int) -> bytes:
    """A non-negative integer as a varint."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def compact_string(text: str) -> bytes:
    """A string of the flexible versions."""
    data = text.encode()
    return unsigned_varint(len(data) + 1) + data


def nullable_string(text: str | None) -> bytes:
    """A string with a 16-bit length, as in request headers."""
    if text is None:
        return INT16.pack(-1)
    data = text.encode()
    return INT16.pack(len(data)) + data


def tagged_field(tag: int, content: bytes) -> bytes:
    """One tagged field: its number, its size, its content."""
    return unsigned_varint(tag) + unsigned_varint(len(content)) + content
