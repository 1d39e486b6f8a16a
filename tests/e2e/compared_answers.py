"""Answers of Kafka's protocol as plain values by field, and where two of them differ.

What two clusters call differently is first given the name that both know; what is each one's own is not
compared.
"""

import dataclasses
import enum
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

Json = Any


_IDENTITIES = (
    "name",
    "topic",
    "topic_name",
    "topic_id",
    "group_id",
    "resource_name",
    "partition_index",
    "partition",
    "index",
    "partition_id",
    "api_key",
    "key",
    "log_dir",
    "node_id",
    "broker_id",
)


def plain(value: Any, names: Mapping[str, str]) -> Json:
    """Values by field; what each cluster calls differently by the name that both know."""
    if dataclasses.is_dataclass(value):
        return {
            item.name: _of_field(item.name, getattr(value, item.name), names)
            for item in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        items = [plain(each, names) for each in value]
        return sorted(_merged(items), key=_identity)
    if isinstance(value, enum.Enum):
        return f"{value.name} ({value.value})"
    if isinstance(value, timedelta):
        return value.total_seconds() * 1000
    if isinstance(value, datetime):
        return value.timestamp() * 1000
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, uuid.UUID):
        return names.get(str(value), str(value))
    if isinstance(value, str):
        return names.get(value, value)
    return value


_INTERNAL = ("__transaction_state", "__consumer_offsets")
"""Kafka has one that we have not, and each writes to them in its own way."""


def _name(item: Any) -> object:
    return getattr(item, "name", getattr(item, "topic", ""))


def _merged(items: list[Json]) -> list[Json]:
    """A topic that an answer names more than once, with some of its partitions each time, as one."""
    found: dict[str, Json] = {}
    for number, item in enumerate(items):
        is_topic = isinstance(item, dict) and isinstance(item.get("partitions"), list)
        name = str(item.get("topic_id", "")) + str(item.get("topic", "")) if is_topic else ""
        if name in found:
            found[name]["partitions"] = sorted(found[name]["partitions"] + item["partitions"], key=_identity)
        else:
            found[name or str(number)] = item
    return list(found.values())


def _of_field(name: str, value: Any, names: Mapping[str, str]) -> Json:
    if name == "error_message":
        # What it says is each system's own; whether it says something is compared.
        return None if value is None else "some text"
    if name in ("session_id", "producer_id") and isinstance(value, int) and value >= (name == "session_id"):
        return "some number"
    if name in ("port", "log_dir", "total_bytes", "usable_bytes"):
        return "some " + name
    if name in ("topics", "replica_election_results", "results", "groups") and isinstance(value, tuple):
        value = tuple(
            each for each in value if getattr(each, "name", getattr(each, "topic", "")) not in _INTERNAL
        )
    return plain(value, names)


def _identity(item: Json) -> str:
    if not isinstance(item, dict):
        return json.dumps(item, default=str)
    return json.dumps([str(item.get(name, "")) for name in _IDENTITIES]) + json.dumps(item, sort_keys=True)


class Difference(NamedTuple):
    """Where two answers differ. A path is the fields' names; ``*`` stands for an item of an array."""

    path: str
    kafka: Json
    ours: Json


def differences(kafka: Json, ours: Json, path: str = "") -> Iterator[Difference]:
    """Field by field."""
    if isinstance(kafka, dict) and isinstance(ours, dict):
        for name in kafka:
            yield from differences(kafka[name], ours.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(kafka, list) and isinstance(ours, list):
        yield from _in_arrays(kafka, ours, path)
    elif kafka != ours:
        yield Difference(path, kafka, ours)


def _in_arrays(kafka: list[Json], ours: list[Json], path: str) -> Iterator[Difference]:
    if len(kafka) != len(ours):
        missing = [each for each in kafka if each not in ours]
        more = [each for each in ours if each not in kafka]
        yield Difference(f"{path}[]", missing, more)
        return
    for one, other in zip(kafka, ours, strict=True):
        yield from differences(one, other, f"{path}.*")
