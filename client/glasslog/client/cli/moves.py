"""Moves of partitions as commands show, begin and follow them. Refuses to know why partitions should move."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from glasslog.client import reassignment_file
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Format, note, print_table
from glasslog.client.cli.progress import has_terminal, progress
from glasslog.client.cli.throttles import lift, throttle
from glasslog.client.reassignment_plan import Move
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, LogDirDescription, TopicDescription

_POLL_MS = 300
_SIZES_TIMEOUT_MS = 2_000
"""So long a plan waits to hear how large partitions are; that is only shown."""

_UNITS = ("B", "KB", "MB", "GB", "TB")


def assignment_of(topics: "Sequence[TopicDescription]") -> dict[TopicPartition, tuple[NodeId, ...]]:
    """Where partitions are, or are on their way to."""
    return {
        TopicPartition(topic.name, each.partition): tuple(
            node for node in each.replicas if node not in each.removing_replicas
        )
        for topic in topics
        for each in topic.partitions
    }


async def sizes_of(admin: "Admin", brokers: Sequence[NodeId]) -> dict[TopicPartition, int]:
    """Bytes by partition, as the fullest replica has it; without those of brokers that are slow to answer."""

    async def ask(node: NodeId) -> "Sequence[LogDirDescription]":
        try:
            async with asyncio.timeout(_SIZES_TIMEOUT_MS / 1_000):
                return await admin.describe_log_dirs(node)
        except (TimeoutError, GlasslogError):
            return ()

    sizes: dict[TopicPartition, int] = {}
    for answer in await asyncio.gather(*map(ask, brokers)):
        for directory in answer:
            for name, size_bytes in directory.size_bytes.items():
                sizes[name] = max(size_bytes, sizes.get(name, 0))
    return sizes


def show_moves(moves: Sequence[Move], sizes: Mapping[TopicPartition, int], output_format: Format) -> None:
    """As a table with what has to be copied, or as a plan for a file."""
    if output_format == "json":
        print(reassignment_file.written({move.partition: move.after for move in moves}), end="")
        return
    if not moves:
        print("Everything is where it should be.")
        return
    rows = [
        (
            str(move.partition),
            move.before,
            move.after,
            move.added or None,
            _bytes(sizes[move.partition] * len(move.added)) if move.partition in sizes else None,
        )
        for move in moves
    ]
    print_table(("partition", "replicas", "planned", "copied to", "bytes"), rows)
    total = sum(sizes.get(move.partition, 0) * len(move.added) for move in moves)
    copies = sum(len(move.added) for move in moves)
    print(f"{count(len(moves), 'partition')}, {count(copies, 'copy', 'copies')}, {_bytes(total)} to copy.")


async def carry_out(
    admin: "Admin", moves: Sequence[Move], *, is_watched: bool, bytes_per_second: int | None = None
) -> None:
    """Begin them; with ``is_watched`` return when they are over, and lift the limit that was set.

    Raises ``CommandError`` if any was refused.
    """
    if bytes_per_second is not None:
        await throttle(admin, moves, bytes_per_second=bytes_per_second)
    refused = await admin.alter_partition_reassignments({move.partition: move.after for move in moves})
    for name, error in sorted(refused.items()):
        note(f"{name}: {error}")
    begun = [move.partition for move in moves if move.partition not in refused]
    note(f"{count(len(begun), 'partition')} on the way.")
    if is_watched:
        await follow(admin, begun)
        await lift_for(admin, moves)
    elif bytes_per_second is not None:
        note("The limit stays until `glasslog partition verify` finds all of the plan where it should be.")
    if refused:
        raise CommandError(f"{count(len(refused), 'partition')} of {len(moves)} refused, see above")


async def lift_for(admin: "Admin", moves: "Iterable[Move | TopicPartition]") -> None:
    """Lift the limits on what these moves copied, if there are any."""
    names = {each.partition.topic if isinstance(each, Move) else each.topic: None for each in moves}
    if names and await lift(admin, await admin.describe_topics(names)):
        note("The limit on copies is lifted.")


async def follow(admin: "Admin", names: Collection[TopicPartition]) -> None:
    """Until none of them moves any more: a bar on a terminal, elsewhere how many are left."""
    before = len(names)
    with progress("moving", lambda: len(names)) as advance:
        while moving := await admin.list_partition_reassignments(names):
            if len(moving) != before and not has_terminal():
                note(f"{len(moving)} of {len(names)} still moving")
            advance(before - len(moving))
            before = len(moving)
            await asyncio.sleep(_POLL_MS / 1_000)
    note("All are where they should be.")


def joined(nodes: Sequence[NodeId]) -> str:
    """For example ``1,2``."""
    return ",".join(map(str, nodes))


def count(number: int, one: str, many: str = "") -> str:
    """For example ``1 partition``, ``2 partitions``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _bytes(size_bytes: int) -> str:
    size, unit = float(size_bytes), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
