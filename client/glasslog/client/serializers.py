"""From what a program works with to bytes, and back: what ``"bytes"``, ``"str"`` and ``"json"`` mean.

``None`` is no value at all (a tombstone) and stays ``None``.  Refuses to know records and batches.
"""

import json
from collections.abc import Mapping
from typing import Any

from glasslog.client.types import Deserializer, Serializer
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition


class SerializationError(GlasslogError):
    """A serializer failed, or gave what is not bytes. Nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_RECORD, message)


class DeserializationError(GlasslogError):
    """A deserializer failed. The position is still before the record: seek to ``offset + 1`` to skip it."""

    def __init__(self, message: str, *, partition: TopicPartition, offset: int) -> None:
        super().__init__(ErrorCode.INVALID_RECORD, message)
        self.partition = partition
        self.offset = offset


def _text_bytes(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is not str")
    return value.encode()


def _json_bytes(value: object) -> bytes | None:
    if value is None:
        return None
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _json_value(data: bytes) -> Any:
    return json.loads(data)


SERIALIZERS: Mapping[str, Serializer | None] = {"bytes": None, "str": _text_bytes, "json": _json_bytes}
DESERIALIZERS: Mapping[str, Deserializer | None] = {"bytes": None, "str": bytes.decode, "json": _json_value}


def serializer_of(option: str, given: Serializer | str | None) -> Serializer | None:
    """A user's own, or one by name; ``None`` for bytes. Raises ``ConfigError`` for another name."""
    if not isinstance(given, str):
        return given
    if given not in SERIALIZERS:
        raise ConfigError(f"{option}={given!r}: a function, or one of {', '.join(SERIALIZERS)}")
    return SERIALIZERS[given]


def deserializer_of(option: str, given: Deserializer | str | None) -> Deserializer | None:
    """As ``serializer_of``."""
    if not isinstance(given, str):
        return given
    if given not in DESERIALIZERS:
        raise ConfigError(f"{option}={given!r}: a function, or one of {', '.join(DESERIALIZERS)}")
    return DESERIALIZERS[given]
