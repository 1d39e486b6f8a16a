"""Every layout that the Kafka listener has, random messages of them, and two judges of their bytes."""

import dataclasses
import enum
import importlib
import io
import random
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, get_args, get_type_hints

from glasslog.broker.kafka.layout import UINT16_FIELD, ApiLayout, Context, Wire
from glasslog.broker.kafka.messages import (
    brokers,
    configs,
    features,
    groups,
    log_dirs,
    members,
    metadata,
    offsets,
    partitions,
    producers,
    quorum,
    quotas,
    reassignments,
    topics,
)

MODULES = (
    brokers,
    configs,
    features,
    groups,
    log_dirs,
    members,
    metadata,
    offsets,
    partitions,
    producers,
    quorum,
    quotas,
    reassignments,
    topics,
)
LAYOUTS: dict[str, "ApiLayout[Any, Any]"] = {
    layout.name: layout
    for module in MODULES
    for layout in vars(module).values()
    if isinstance(layout, ApiLayout)
}
UNKNOWN_TO_KAFKA_PYTHON = frozenset({"AddRaftVoter", "RemoveRaftVoter"})
NOT_IN_KAFKA_PYTHON = frozenset({"UnregisterBroker"})
"""These have one judge only."""

_ZERO_ID = bytes(16)
_CONTEXT = Context(0, is_flexible=False)


def versions() -> Iterator[tuple[str, str, int]]:
    """Name, side and version of every message."""
    for name, layout in LAYOUTS.items():
        for version in range(layout.min_version, layout.max_version + 1):
            yield name, "request", version
            yield name, "response", version


# --- random messages --------------------------------------------------------------------------------------


def random_message(kind: type[Any], version: int, chance: random.Random) -> Any:
    """One of ``kind`` with something in every field that ``version`` has."""
    hints = get_type_hints(kind)
    values = {}
    for item in dataclasses.fields(kind):
        about = item.metadata["wire"]
        assert isinstance(about, Wire)
        if about.is_in(version):
            may_be_null = version >= about.null_since
            values[item.name] = _value(hints[item.name], item.name, about, version, chance, may_be_null)
    return kind(**values)


def _value(
    hint: Any, name: str, about: Wire, version: int, chance: random.Random, may_be_null: bool
) -> object:
    arguments = get_args(hint)
    if type(None) in arguments:
        if may_be_null and chance.random() < 0.3:
            return None
        (hint,) = (each for each in arguments if each is not type(None))
    if getattr(hint, "__origin__", None) is tuple:
        item = get_args(hint)[0]
        # An answer's record may also be one that is encoded already.
        item = get_args(item)[0] if get_args(item) else item
        return tuple(_one(item, name, version, chance) for _ in range(chance.randrange(3)))
    if hint is int:
        return _number(name, about, chance)
    return _one(hint, name, version, chance)


def _number(name: str, about: Wire, chance: random.Random) -> int:
    if name == "error_code" or name.endswith("_error_code"):
        return chance.choice((0, 3, 27, 82, 100))
    if name.endswith("_ms") or name in ("timestamp", "last_timestamp"):
        return chance.randrange(1, 1 << 30)
    size = about.kind.codec(_CONTEXT).min_bytes
    least = 0 if about.kind is UINT16_FIELD else -1
    return chance.randrange(least, 1 << (8 * size - 2))


def _one(kind: Any, name: str, version: int, chance: random.Random) -> object:
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return random_message(kind, version, chance)
    if kind is int:
        return chance.randrange(1 << 20)
    if kind is bool:
        return chance.random() < 0.5
    if kind is float:
        return float(chance.randrange(1000))
    if kind is bytes:
        return chance.randbytes(16 if name.endswith("_id") else chance.randrange(40))
    assert kind is str, kind
    return "".join(chance.choice("abcäöü-.0") for _ in range(chance.choice((0, 1, 5, 200))))


# --- judges -----------------------------------------------------------------------------------------------


def by_kafka_python(name: str, side: str, version: int) -> Callable[[bytes], bytes]:
    """Decodes and encodes again."""
    with warnings.catch_warnings():
        # It reads its schemas through an interface of Python's that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        for module in ("admin", "consumer", "metadata", "producer"):
            found = getattr(importlib.import_module(f"kafka.protocol.{module}"), name + side.title(), None)
            if found is not None:
                break
    if name in NOT_IN_KAFKA_PYTHON:
        return lambda data: data
    assert found is not None, name
    codec = found

    def judge(data: bytes) -> bytes:
        message = codec.decode(data, version=version)
        # What it encodes by itself has one; what it decoded without one lacks the field.
        message._header = None
        return bytes(message.encode())

    return judge


def by_kio(key: int, side: str, version: int) -> Callable[[bytes], tuple[object, bytes]]:
    """Decodes, and gives the values in order, and the bytes as it encodes them."""
    from kio.index import load_payload_module
    from kio.serial import entity_reader, entity_writer
    from kio.static.constants import EntityType

    if side == "request":
        module = load_payload_module(key, version, EntityType.request)
    else:
        module = load_payload_module(key, version, EntityType.response)
    schemas: list[Any] = [each for each in vars(module).values() if isinstance(each, type)]
    (schema,) = (each for each in schemas if str(getattr(each, "__type__", "")) == f"EntityType.{side}")
    read, write = entity_reader(schema), entity_writer(schema)

    def judge(data: bytes) -> tuple[object, bytes]:
        message, size_bytes = read(data, 0)
        assert size_bytes == len(data)
        out = io.BytesIO()
        write(out, message)
        return plain(message), out.getvalue()

    return judge


def plain(value: Any) -> object:
    """Values in the order of their fields, without the types of whoever decoded them."""
    if dataclasses.is_dataclass(value):
        return [plain(getattr(value, item.name)) for item in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, enum.Enum):
        return value.value
    return value


def ours(message: Any, version: int) -> object:
    """As ``plain`` for one of our messages: only what ``version`` has, ids of zeros as none."""
    if dataclasses.is_dataclass(message):
        return [
            ours(getattr(message, item.name), version)
            for item in dataclasses.fields(message)
            if item.metadata["wire"].is_in(version)
        ]
    if isinstance(message, tuple):
        return [ours(item, version) for item in message]
    return None if message == _ZERO_ID else message
