"""``glasslog group reset-offsets``: where a group is to go on. Translates times and steps into offsets.

Shows what would change unless it is told to do it, as Kafka's tool does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, note, print_json, print_table
from glasslog.client.cli.progress import progress
from glasslog.common.ids import TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin

_EARLIEST, _LATEST = -2, -1
_EMPTY_STATES = ("Empty", "Dead")
_PORTION = 1_000

T = TypeVar("T")

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a target is worked out from: committed positions, the ends of the logs, what a time stands for."""

    committed: Offsets
    starts: Offsets
    ends: Offsets
    at_time: Offsets


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    partition: TopicPartition
    before: int | None
    after: int


Target = Callable[[_Known, TopicPartition], int]


@click.command("reset-offsets")
@click.argument("name")
@click.option(
    "--topic",
    "places",
    multiple=True,
    metavar="TOPIC[:N,...]",
    help="Only this topic, or these partitions of it; repeatable. Default: all that the group committed.",
)
@click.option("--to-earliest", is_flag=True, help="To the first record that is kept.")
@click.option("--to-latest", is_flag=True, help="Behind the last record there is.")
@click.option("--to-offset", type=click.IntRange(0), metavar="OFFSET", help="To this offset.")
@click.option("--to-datetime", metavar="TIME", help="To the first record from then on; UTC if not said.")
@click.option("--shift-by", type=int, metavar="N", help="By so many records; back if negative.")
@click.option("--execute", is_flag=True, help="Do it. Without this, only what would change is shown.")
@click.option("--dry-run", is_flag=True, help="The default.")
@bootstrap_option
@format_option
def reset_offsets(
    name: str,
    places: tuple[str, ...],
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    to_datetime: str | None,
    shift_by: int | None,
    execute: bool,
    dry_run: bool,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Set where group NAME goes on. It must have no members meanwhile.

    \b
    glasslog group reset-offsets billing --to-earliest              what would change
    glasslog group reset-offsets billing --to-earliest --execute    do it
    glasslog group reset-offsets billing --topic orders:0,3 --shift-by -100 --execute
    glasslog group reset-offsets billing --to-datetime 2026-11-22T20:00:00+01:00 --execute
    """
    targets: dict[str, Target] = {}
    if to_earliest:
        targets["--to-earliest"] = lambda known, partition: known.starts[partition]
    if to_latest:
        targets["--to-latest"] = lambda known, partition: known.ends[partition]
    if to_offset is not None:
        targets["--to-offset"] = lambda known, partition: to_offset
    if to_datetime is not None:
        targets["--to-datetime"] = _at_time
    if shift_by is not None:
        targets["--shift-by"] = lambda known, partition: _committed(known, partition) + shift_by
    if len(targets) != 1 or (execute and dry_run):
        raise click.UsageError(
            "say where to, and once: --to-earliest, --to-latest, --to-offset, --to-datetime or --shift-by"
        )
    (target,) = targets.values()
    timestamp_ms = None if to_datetime is None else _parse_time(to_datetime)
    wanted = dict(map(_parse_place, places))

    async def reset(admin: "Admin") -> list[_Change]:
        partitions = await _partitions(admin, name, wanted)
        changes: list[_Change] = []
        with progress("looking", lambda: len(partitions)) as advance:
            for some in _portions(partitions):
                known = await _look(admin, name, some, timestamp_ms)
                changes += [_change(known, each, target(known, each)) for each in some]
                advance(len(some))
        if execute:
            with progress("resetting", lambda: len(changes)) as advance:
                for few in _portions(changes):
                    await admin.commit_group_offsets(name, {each.partition: each.after for each in few})
                    advance(len(few))
        return changes

    _show(run_admin(bootstrap, reset), output_format, executed=execute)


def _portions(some: Sequence[T]) -> Iterator[Sequence[T]]:
    """As much as is asked for at once. What is asked for together is changed together."""
    return (some[start : start + _PORTION] for start in range(0, len(some), _PORTION))


def _show(changes: list[_Change], output_format: Format, *, executed: bool) -> None:
    if output_format == "json":
        print_json(
            [
                {
                    "topic": each.partition.topic,
                    "partition": each.partition.partition,
                    "before": each.before,
                    "after": each.after,
                    "executed": executed,
                }
                for each in changes
            ]
        )
        return
    rows = [(each.partition.topic, each.partition.partition, each.before, each.after) for each in changes]
    print_table(("topic", "partition", "before", "after"), rows)
    if not executed:
        note("Nothing is changed yet: --execute does it.")


async def _partitions(admin: "Admin", name: str, wanted: Mapping[str, list[int]]) -> list[TopicPartition]:
    (group,) = await admin.describe_groups([name])
    if group.state not in _EMPTY_STATES:
        raise CommandError(
            f"group {name!r} is {group.state} with {len(group.members)} members: stop them first"
        )
    if not wanted:
        partitions = list(await admin.group_offsets(name))
        if not partitions:
            raise CommandError(f"group {name!r} has committed nothing: name its topics with --topic")
        return sorted(partitions)
    chosen: list[TopicPartition] = []
    for topic, numbers in wanted.items():
        existing = list(await admin.beginning_offsets(topic))
        for number in numbers:
            if TopicPartition(topic, number) not in existing:
                raise CommandError(f"{topic} has no partition {number}; it has {len(existing)}, from 0")
        chosen += [each for each in existing if not numbers or each.partition in numbers]
    return sorted(chosen)


async def _look(
    admin: "Admin", name: str, partitions: Sequence[TopicPartition], timestamp_ms: int | None
) -> _Known:
    at_time: Offsets = {}
    if timestamp_ms is not None:
        at_time = await admin.list_offsets(dict.fromkeys(partitions, timestamp_ms))
    return _Known(
        committed={each: at.offset for each, at in (await admin.group_offsets(name)).items()},
        starts=await admin.list_offsets(dict.fromkeys(partitions, _EARLIEST)),
        ends=await admin.list_offsets(dict.fromkeys(partitions, _LATEST)),
        at_time=at_time,
    )


def _at_time(known: _Known, partition: TopicPartition) -> int:
    """Behind the end where no record is that young."""
    found = known.at_time[partition]
    return found if found >= 0 else known.ends[partition]


def _committed(known: _Known, partition: TopicPartition) -> int:
    if partition not in known.committed:
        raise CommandError(f"the group has committed nothing in {partition}, so there is nothing to shift")
    return known.committed[partition]


def _change(known: _Known, partition: TopicPartition, target: int) -> _Change:
    """Kept within what the partition holds, as Kafka does."""
    after = min(max(target, known.starts[partition]), known.ends[partition])
    return _Change(partition=partition, before=known.committed.get(partition), after=after)


def _parse_time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--to-datetime {text!r} is not a time like 2026-11-22T20:00:00") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def _parse_place(text: str) -> tuple[str, list[int]]:
    topic, colon, numbers = text.partition(":")
    parts = numbers.split(",") if colon else []
    if not topic or not all(part.isdecimal() for part in parts):
        raise click.UsageError(f"--topic {text!r} is not TOPIC or TOPIC:N,...")
    return topic, [int(part) for part in parts]
