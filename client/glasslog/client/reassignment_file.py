"""Assignments of partitions in the JSON of Kafka's ``kafka-reassign-partitions``, to and from values.

Refuses to know where the text is kept, and whether an assignment makes sense in some cluster.
"""

import json
from collections.abc import Mapping
from typing import TypeAlias

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

_VERSION = 1

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def written(assignment: Mapping[TopicPartition, tuple[NodeId, ...]]) -> str:
    """One partition a line, so that plans can be compared and edited."""
    lines = ",\n".join(
        "    " + json.dumps({"topic": name.topic, "partition": name.partition, "replicas": list(replicas)})
        for name, replicas in sorted(assignment.items())
    )
    return f'{{"version": {_VERSION}, "partitions": [\n{lines}\n]}}\n' if lines else _EMPTY


_EMPTY = '{"version": 1, "partitions": []}\n'


def read(text: str) -> dict[TopicPartition, tuple[NodeId, ...]]:
    """Replicas by partition. Raises INVALID_REQUEST saying what is wrong with ``text``.

    ``log_dirs`` may be there if they say ``any``: in which directory a replica lies is its broker's business.
    """
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
    for item in items:
        name, replicas = _read_one(item)
        if name in found:
            raise _refusal(f"{name} is named twice")
        found[name] = replicas
    return found


def _read_one(item: Json) -> tuple[TopicPartition, tuple[NodeId, ...]]:
    if not isinstance(item, dict):
        raise _refusal(f"{item!r} is no partition")
    topic, partition, replicas = item.get("topic"), item.get("partition"), item.get("replicas")
    directories = item.get("log_dirs")
    if not isinstance(topic, str) or not _is_number(partition):
        raise _refusal(f"{item!r} does not name a topic and a partition")
    if not isinstance(replicas, list) or not replicas or not all(map(_is_number, replicas)):
        raise _refusal(f"{topic}-{partition} does not name its replicas by broker ids")
    if directories is not None and not (
        isinstance(directories, list) and all(each == "any" for each in directories)
    ):
        raise _refusal(f"{topic}-{partition} names data directories, which can not be chosen")
    nodes = tuple(NodeId(each) for each in replicas if isinstance(each, int))
    assert isinstance(partition, int)
    return TopicPartition(topic, partition), nodes


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refusal(problem: str) -> GlasslogError:
    return GlasslogError(ErrorCode.INVALID_REQUEST, f"not a plan of reassignments: {problem}")
