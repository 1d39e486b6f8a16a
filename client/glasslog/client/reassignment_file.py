"""Assignments of partitions in the JSON of Kafka's ``kafka-reassign-partitions``, to and from values.

Refuses to know where the text is kept, and whether an assignment makes sense in some cluster.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

_VERSION = 1
_ANY = "any"
"""In place of a data directory: whichever its broker chooses."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def written(assignment: Mapping[TopicPartition, tuple[NodeId, ...]]) -> str:
    """One partition a line, so that plans can be compared and edited."""
    lines = ",\n".join(
        "    " + json.dumps({"topic": name.topic, "partition": name.partition, "replicas": list(replicas)})
        for name, replicas in sorted(assignment.items())
    )
    return f'{{"version": {_VERSION}, "partitions": [\n{lines}\n]}}\n' if lines else _EMPTY


_EMPTY = '{"version": 1, "partitions": []}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Replicas by partition, and by broker and partition the data directory where ``log_dirs`` names one."""

    replicas: Mapping[TopicPartition, tuple[NodeId, ...]]
    directories: Mapping[NodeId, Mapping[TopicPartition, str]]


def read(text: str) -> Plan:
    """What is planned. Raises INVALID_REQUEST saying what is wrong with ``text``."""
    try:
        document: Json = json.loads(text)
    except ValueError as error:
        raise _refusal(f"no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise _refusal(f'expected {{"version": {_VERSION}, "partitions": [...]}}')
    items = document.get("partitions")
    if not isinstance(items, list):
        raise _refusal("partitions is no list")
    found: dict[TopicPartition, tuple[NodeId, ...]] = {}
    directories: dict[NodeId, dict[TopicPartition, str]] = {}
    for item in items:
        name, replicas, paths = _read_one(item)
        if name in found:
            raise _refusal(f"{name} is named twice")
        found[name] = replicas
        for node, path in zip(replicas, paths, strict=True):
            if path != _ANY:
                directories.setdefault(node, {})[name] = path
    return Plan(replicas=found, directories=directories)


def _read_one(item: Json) -> tuple[TopicPartition, tuple[NodeId, ...], list[str]]:
    if not isinstance(item, dict):
        raise _refusal(f"{item!r} is no partition")
    topic, partition, replicas = item.get("topic"), item.get("partition"), item.get("replicas")
    directories = item.get("log_dirs")
    if not isinstance(topic, str) or not _is_number(partition):
        raise _refusal(f"{item!r} does not name a topic and a partition")
    if not isinstance(replicas, list) or not replicas or not all(map(_is_number, replicas)):
        raise _refusal(f"{topic}-{partition} does not name its replicas by broker ids")
    paths = [_ANY] * len(replicas)
    if directories is not None:
        listed = directories if isinstance(directories, list) else []
        paths = [each for each in listed if isinstance(each, str) and each]
        if len(paths) != len(replicas) or paths != directories:
            raise _refusal(f"{topic}-{partition} does not name a data directory, or any, for each replica")
    nodes = tuple(NodeId(each) for each in replicas if isinstance(each, int))
    assert isinstance(partition, int)
    return TopicPartition(topic, partition), nodes, paths


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refusal(problem: str) -> GlasslogError:
    return GlasslogError(ErrorCode.INVALID_REQUEST, f"not a plan of reassignments: {problem}")
