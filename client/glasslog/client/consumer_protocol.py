"""The bytes that group members exchange through the coordinator: Kafka's ConsumerProtocol.

Written as subscription version 3 and assignment version 0, read in every version, since later ones only
append fields.  So that members of other clients can be in the same group.  Refuses to know who assigns
what. Source: Kafka's ``ConsumerProtocolSubscription.json`` and ``ConsumerProtocolAssignment.json``, for the
user data of its ``StickyAssignor`` the schema in there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_SUBSCRIPTION_VERSION = 3
_NO_GENERATION = -1
_ASSIGNMENT_VERSION = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a member wants, what it holds at the moment since ``generation_id``, and its rack (or empty)."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    user_data: bytes = b""
    generation_id: int = _NO_GENERATION
    rack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a member had in a generation, as the sticky assignor's user data tells."""

    partitions: tuple[TopicPartition, ...] = ()
    generation_id: int = _NO_GENERATION


def encode_subscription(subscription: Subscription) -> bytes:
    """Version 3."""
    return b"".join(
        (
            _INT16.pack(_SUBSCRIPTION_VERSION),
            _INT32.pack(len(subscription.topics)),
            *map(_text, sorted(subscription.topics)),
            _blob(subscription.user_data),
            _partitions(subscription.owned),
            _INT32.pack(subscription.generation_id),
            _text(subscription.rack) if subscription.rack else _INT16.pack(-1),
        )
    )


def decode_subscription(data: bytes) -> Subscription:
    """Raises ``GlasslogError`` (INVALID_REQUEST) for bytes that are no subscription."""
    reader = _Reader(data)
    version = reader.int16()
    topics = tuple(reader.text() for _ in range(reader.count()))
    user_data = reader.blob()
    owned = reader.partitions() if version >= 1 else ()
    generation_id = reader.int32() if version >= 2 else _NO_GENERATION
    rack = reader.nullable_text() if version >= 3 else ""
    return Subscription(
        topics=topics, owned=owned, user_data=user_data, generation_id=generation_id, rack=rack
    )


def encode_held(held: Held) -> bytes:
    """The sticky assignor's user data, version 1."""
    return _partitions(held.partitions) + _INT32.pack(held.generation_id)


def decode_held(data: bytes) -> Held:
    """Nothing for no bytes; version 0 names no generation. Raises as ``decode_subscription``."""
    if not data:
        return Held()
    reader = _Reader(data)
    partitions = reader.partitions()
    generation_id = _NO_GENERATION if reader.is_at_end else reader.int32()
    return Held(partitions=partitions, generation_id=generation_id)


def encode_assignment(partitions: Sequence[TopicPartition]) -> bytes:
    """Version 0."""
    return _INT16.pack(_ASSIGNMENT_VERSION) + _partitions(partitions) + _blob(b"")


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """Raises ``GlasslogError`` (INVALID_REQUEST) for bytes that are no assignment; none for no bytes."""
    if not data:
        return ()
    reader = _Reader(data)
    reader.int16()
    return reader.partitions()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _INT16.pack(len(encoded)) + encoded


def _blob(data: bytes) -> bytes:
    return _INT32.pack(len(data)) + data


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for partition in sorted(partitions):
        by_topic.setdefault(partition.topic, []).append(partition.partition)
    parts = [_INT32.pack(len(by_topic))]
    for topic, numbers in by_topic.items():
        parts += (_text(topic), _INT32.pack(len(numbers)), *map(_INT32.pack, numbers))
    return b"".join(parts)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def int16(self) -> int:
        return self._number(_INT16)

    def int32(self) -> int:
        return self._number(_INT32)

    def count(self) -> int:
        """The length of an array; each element takes two bytes at least."""
        count = self.int32()
        if not 0 <= count <= (len(self._data) - self._position) // 2:
            raise _malformed(f"an array of {count} elements")
        return count

    def text(self) -> str:
        return self._decoded(self.int16())

    def _decoded(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise _malformed(str(error)) from None

    def nullable_text(self) -> str:
        length = self.int16()
        return "" if length == -1 else self._decoded(length)

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._data)

    def blob(self) -> bytes:
        length = self.int32()
        return b"" if length == -1 else self._take(length)

    def partitions(self) -> tuple[TopicPartition, ...]:
        found: list[TopicPartition] = []
        for _ in range(self.count()):
            topic = self.text()
            found += [TopicPartition(topic, self.int32()) for _ in range(self.count())]
        return tuple(found)

    def _number(self, form: Struct) -> int:
        try:
            (number,) = form.unpack_from(self._data, self._position)
        except struct_error:
            raise _malformed("it ends too early") from None
        self._position += form.size
        return int(number)

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise _malformed(f"{length} bytes announced, {len(self._data) - self._position} left")
        taken = self._data[self._position : end]
        self._position = end
        return taken


def _malformed(what: str) -> GlasslogError:
    return GlasslogError(ErrorCode.INVALID_REQUEST, f"a group member's metadata makes no sense: {what}")
