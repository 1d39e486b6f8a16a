"""In which of their brokers' data directories replicas should lie, as commands show, begin and follow it.

Refuses to know which brokers hold what: that is ``moves``'.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Format, Json, note, print_json, print_table
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId, TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, LogDirDescription

Wishes: TypeAlias = Mapping[NodeId, Mapping[TopicPartition, str]]
"""Paths by broker and partition."""

_POLL_MS = 300


class Misplaced(NamedTuple):
    """A replica that does not lie where it should; ``lag`` is what is left to copy if it is on its way."""

    node: NodeId
    name: TopicPartition
    path: str
    wanted: str
    lag: int | None

    def __str__(self) -> str:
        state = "is" if self.lag is None else f"on its way, {self.lag} offsets left:"
        return f"{self.name} on broker {self.node} {state} in {self.path}, planned {self.wanted}"


async def misplaced(admin: "Admin", wishes: Wishes) -> list[Misplaced]:
    """The replicas that are on the brokers that are named, but not in these directories."""
    found: list[Misplaced] = []
    for node, wanted in sorted(wishes.items()):
        found += _misplaced_on(node, wanted, await admin.describe_log_dirs(node))
    return found


def _misplaced_on(
    node: NodeId, wanted: Mapping[TopicPartition, str], directories: "list[LogDirDescription]"
) -> Iterator[Misplaced]:
    for each in directories:
        for name in sorted(each.size_bytes):
            if name in wanted and each.path != wanted[name]:
                lags = [other.offset_lags.get(name) for other in directories if other.path == wanted[name]]
                yield Misplaced(node, name, each.path, wanted[name], *lags or [None])


async def wish(admin: "Admin", wishes: Wishes) -> None:
    """Ask for all of it: what is not there yet will be made there. Raises ``CommandError`` for refusals."""
    refused = 0
    for node, wanted in sorted(wishes.items()):
        outcome = await admin.alter_replica_log_dirs(node, wanted)
        for name, error in sorted(outcome.items()):
            if error.code is not ErrorCode.REPLICA_NOT_AVAILABLE:
                refused += 1
                note(f"{name} on broker {node} to {wanted[name]}: {error}")
    if refused:
        raise CommandError(f"{refused} directories refused, see above")


async def follow(admin: "Admin", wishes: Wishes) -> None:
    """Until every replica lies where it should."""
    before = -1
    while left := await misplaced(admin, wishes):
        if len(left) != before:
            note(f"{len(left)} replicas still move between data directories")
            before = len(left)
        await asyncio.sleep(_POLL_MS / 1_000)


def show(found: "Mapping[NodeId, list[LogDirDescription]]", output_format: Format) -> None:
    """Directories by broker."""
    if output_format == "json":
        print_json([_json(node, each) for node, listed in found.items() for each in listed])
        return
    rows = [
        (
            node,
            each.path,
            "online" if each.error is ErrorCode.NONE else "failed",
            len(each.size_bytes),
            sum(each.size_bytes.values()),
            each.usable_bytes if each.usable_bytes >= 0 else None,
            ", ".join(f"{name} ({lag} left)" for name, lag in sorted(each.offset_lags.items())) or None,
        )
        for node, listed in found.items()
        for each in listed
    ]
    print_table(("broker", "directory", "state", "partitions", "bytes", "free bytes", "moving in"), rows)


def _json(node: NodeId, each: "LogDirDescription") -> Json:
    return {
        "broker": node,
        "path": each.path,
        "error": each.error.name,
        "total_bytes": each.total_bytes,
        "usable_bytes": each.usable_bytes,
        "partitions": [
            {"topic": name.topic, "partition": name.partition, "size_bytes": size_bytes}
            for name, size_bytes in sorted(each.size_bytes.items())
        ],
        "moving_in": [
            {"topic": name.topic, "partition": name.partition, "offset_lag": lag}
            for name, lag in sorted(each.offset_lags.items())
        ],
    }
