"""``glasslog topic``: topics and their oldest records. Translates for ``Admin`` and back into tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.options import bootstrap_option, format_option, watch_option
from glasslog.client.cli.output import Format, Json, print_json, print_table, repeated
from glasslog.common.config_sources import parse_assignments
from glasslog.common.ids import TopicPartition, format_uuid

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, PartitionDescription, TopicDescription

_ALL = -1
"""The offset that stands for the end of what is committed."""

_COLUMNS = ("partition", "leader", "leader epoch", "replicas", "isr", "elr", "start", "end")

Offsets = Mapping[TopicPartition, int]


@click.group("topic")
def topic() -> None:
    """Create, list, describe and delete topics, delete their oldest records."""


@topic.command("create")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1), help="Default: the brokers' num.partitions.")
@click.option("--replication-factor", type=click.IntRange(1), help="Default: default.replication.factor.")
@click.option("--config", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of the topic.")
@bootstrap_option
@format_option
def create(
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    assignments: tuple[str, ...],
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Create topic NAME and return when every partition has a leader.

    \b
    glasslog topic create orders --partitions 6 --replication-factor 3
    glasslog topic create prices --config cleanup.policy=compact --config min.insync.replicas=2
    """
    from glasslog.client.admin import NewTopic
    from glasslog.common.topic_config import check_topic_overrides

    configs = parse_assignments(assignments, where="--config")
    check_topic_overrides(configs)
    new = NewTopic(
        name=name,
        partitions=partitions or -1,
        replication_factor=replication_factor or -1,
        configs=configs,
    )
    (created,) = run_admin(bootstrap, lambda admin: admin.create_topics([new]))
    if output_format == "json":
        print_json(
            {
                "name": created.name,
                "topic_id": format_uuid(created.topic_id),
                "partitions": created.partitions,
                "replication_factor": created.replication_factor,
            }
        )
    else:
        plural = "" if created.partitions == 1 else "s"
        shape = f"{created.partitions} partition{plural}, replication factor {created.replication_factor}"
        print(f"Created topic {created.name}: {shape}.")


@topic.command("list")
@click.option("--internal", is_flag=True, help="Show internal topics too.")
@bootstrap_option
@format_option
@watch_option
def list_topics(internal: bool, bootstrap: str | None, output_format: Format, watch_s: float | None) -> None:
    """List all topics.

    \b
    glasslog topic list
    glasslog topic list --internal --watch 5
    """
    repeated(watch_s, lambda: _show_list(bootstrap, output_format, internal=internal))


def _show_list(bootstrap: str | None, output_format: Format, *, internal: bool) -> None:
    found = run_admin(bootstrap, lambda admin: admin.describe_topics())
    shown = sorted((each for each in found if internal or not each.internal), key=lambda each: each.name)
    if output_format == "json":
        print_json([_listed(each) for each in shown])
    else:
        rows = [(each.name, len(each.partitions), _replication_factor(each)) for each in shown]
        print_table(("topic", "partitions", "replication factor"), rows)


@topic.command("describe")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option(
    "--under-replicated",
    is_flag=True,
    help="Only partitions that lack replicas in sync, of all topics if none.",
)
@bootstrap_option
@format_option
@watch_option
def describe(
    names: tuple[str, ...],
    under_replicated: bool,
    bootstrap: str | None,
    output_format: Format,
    watch_s: float | None,
) -> None:
    """Show the partitions of topics: leader, leader epoch, replicas, ISR, ELR, first and next offset.

    \b
    glasslog topic describe orders
    glasslog topic describe --under-replicated --watch
    """
    if not names and not under_replicated:
        raise click.UsageError("name a topic, or ask for those --under-replicated")
    repeated(watch_s, lambda: _show(names, bootstrap, output_format, under_replicated=under_replicated))


def _show(
    names: tuple[str, ...], bootstrap: str | None, output_format: Format, *, under_replicated: bool
) -> None:
    async def ask(admin: "Admin") -> "tuple[list[TopicDescription], Offsets, Offsets]":
        found = await admin.describe_topics(names)
        if under_replicated:
            found = [lacking for each in found if (lacking := _under_replicated(each)).partitions]
        led = [
            TopicPartition(each.name, partition.partition)
            for each in found
            for partition in each.partitions
            if partition.leader >= 0
        ]
        starts = await admin.list_offsets(dict.fromkeys(led, -2)) if led else {}
        return found, starts, await admin.list_offsets(dict.fromkeys(led, -1)) if led else {}

    found, starts, ends = run_admin(bootstrap, ask)
    if output_format == "json":
        print_json([_described(each, starts, ends) for each in found])
        return
    for each in found:
        settings = ", ".join(f"{key}={value}" for key, value in sorted(each.configs.items()))
        print(f"{each.name}  id {format_uuid(each.topic_id)}" + (f"  {settings}" if settings else ""))
        print_table(_COLUMNS, [_row(each.name, partition, starts, ends) for partition in each.partitions])


def _under_replicated(each: "TopicDescription") -> "TopicDescription":
    lacking = (partition for partition in each.partitions if len(partition.isr) < len(partition.replicas))
    return replace(each, partitions=tuple(lacking))


@topic.command("alter")
@click.argument("name")
@click.option("--config", "assignments", multiple=True, metavar="KEY=VALUE", help="Set it; repeatable.")
@click.option("--delete-config", "deleted", multiple=True, metavar="KEY", help="Return it to the default.")
@bootstrap_option
def alter_topic(
    name: str, assignments: tuple[str, ...], deleted: tuple[str, ...], bootstrap: str | None
) -> None:
    """Change settings of topic NAME; they act at once.

    \b
    glasslog topic alter orders --config retention.ms=86400000
    glasslog topic alter orders --delete-config retention.ms
    """
    from glasslog.client.cli.config import alter
    from glasslog.client.configs import ConfigEdit, ConfigOperation, ConfigResource, ResourceType

    edits = [
        ConfigEdit(key=key, value=value)
        for key, value in parse_assignments(assignments, where="--config").items()
    ]
    edits += [ConfigEdit(key=key, operation=ConfigOperation.DELETE) for key in deleted]
    alter(bootstrap, ConfigResource(ResourceType.TOPIC, name), edits, validate_only=False)


@topic.command("add-partitions")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1), required=True, help="How many there are to be in all.")
@click.option(
    "--replicas",
    "places",
    multiple=True,
    metavar="ID,ID...",
    help="Brokers of a new partition, the preferred leader first; once for each. Default: chosen.",
)
@click.option("--validate-only", is_flag=True, help="Only say whether it would be accepted.")
@bootstrap_option
def add_partitions(
    name: str, partitions: int, places: tuple[str, ...], validate_only: bool, bootstrap: str | None
) -> None:
    """Give topic NAME more partitions. Keys that exist may go to other partitions from then on.

    \b
    glasslog topic add-partitions orders --partitions 12
    glasslog topic add-partitions orders --partitions 7 --replicas 2,3,1
    """
    from glasslog.client.admin import MorePartitions

    more = MorePartitions(count=partitions, assignment=[_parse_brokers(place) for place in places])
    run_admin(bootstrap, lambda admin: admin.create_partitions({name: more}, validate_only=validate_only))
    does = "would have" if validate_only else "has"
    print(f"Topic {name} {does} {partitions} partitions.")


def _parse_brokers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is not ID,ID...", param_hint="--replicas")
    return [int(part) for part in parts]


@topic.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@bootstrap_option
def delete(names: tuple[str, ...], bootstrap: str | None) -> None:
    """Delete topics with everything in them.

    \b
    glasslog topic delete orders visits
    """
    run_admin(bootstrap, lambda admin: admin.delete_topics(names))
    for name in names:
        print(f"Deleted topic {name}.")


@topic.command("delete-records")
@click.argument("name")
@click.option(
    "--partition",
    "places",
    multiple=True,
    metavar="N[:OFFSET]",
    help="Only this one, below OFFSET; repeatable.",
)
@click.option(
    "--offset", type=click.IntRange(0), help="Below this one in each partition. Default: all records."
)
@bootstrap_option
@format_option
def delete_records(
    name: str, places: tuple[str, ...], offset: int | None, bootstrap: str | None, output_format: Format
) -> None:
    """Delete the oldest records of topic NAME: those below an offset, or all that are committed.

    \b
    glasslog topic delete-records orders
    glasslog topic delete-records orders --partition 0:1500 --partition 3
    """
    wanted = dict(_parse_place(name, place, _ALL if offset is None else offset) for place in places)

    async def delete(admin: "Admin") -> dict[TopicPartition, int]:
        chosen = wanted or dict.fromkeys(await admin.end_offsets(name), _ALL if offset is None else offset)
        return await admin.delete_records(chosen)

    starts = run_admin(bootstrap, delete)
    found = sorted((place.partition, start) for place, start in starts.items())
    if output_format == "json":
        print_json([{"partition": number, "start_offset": start} for number, start in found])
    else:
        print_table(("partition", "start"), found)


def _parse_place(name: str, text: str, offset: int) -> tuple[TopicPartition, int]:
    number, colon, given = text.partition(":")
    if not number.isdecimal() or (colon and not given.isdecimal()):
        raise click.BadParameter(f"{text!r} is not N or N:OFFSET", param_hint="--partition")
    return TopicPartition(name, int(number)), int(given) if colon else offset


def _listed(each: "TopicDescription") -> dict[str, Json]:
    return {
        "name": each.name,
        "topic_id": format_uuid(each.topic_id),
        "internal": each.internal,
        "partitions": len(each.partitions),
        "replication_factor": _replication_factor(each),
    }


def _replication_factor(each: "TopicDescription") -> int:
    return max((len(partition.replicas) for partition in each.partitions), default=0)


def _described(each: "TopicDescription", starts: Offsets, ends: Offsets) -> dict[str, Json]:
    return {
        "name": each.name,
        "topic_id": format_uuid(each.topic_id),
        "internal": each.internal,
        "configs": dict(each.configs),
        "partitions": [_partition(each.name, partition, starts, ends) for partition in each.partitions],
    }


def _partition(
    name: str, partition: "PartitionDescription", starts: Offsets, ends: Offsets
) -> dict[str, Json]:
    place = TopicPartition(name, partition.partition)
    return {
        "partition": partition.partition,
        "leader": partition.leader,
        "leader_epoch": partition.leader_epoch,
        "partition_epoch": partition.partition_epoch,
        "replicas": list(partition.replicas),
        "isr": list(partition.isr),
        "elr": list(partition.elr),
        "start_offset": starts.get(place),
        "end_offset": ends.get(place),
    }


def _row(name: str, partition: "PartitionDescription", starts: Offsets, ends: Offsets) -> Sequence[object]:
    place = TopicPartition(name, partition.partition)
    return (
        partition.partition,
        partition.leader if partition.leader >= 0 else "none",
        partition.leader_epoch,
        partition.replicas,
        partition.isr,
        partition.elr or None,
        starts.get(place),
        ends.get(place),
    )
