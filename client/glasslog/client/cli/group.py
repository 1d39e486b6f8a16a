"""``glasslog group``: see, reset and delete consumer groups. Translates for ``Admin`` and back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option, format_option, watch_option
from glasslog.client.cli.output import Format, Json, print_json, print_table, repeated
from glasslog.client.cli.reset_offsets import reset_offsets
from glasslog.common.ids import TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, GroupDescription


class _Place(NamedTuple):
    """How far a group is in one partition; ``None`` where nothing is committed or nothing known."""

    partition: TopicPartition
    committed: int | None
    end: int | None
    member_id: str | None

    @property
    def lag(self) -> int | None:
        return None if self.committed is None or self.end is None else max(0, self.end - self.committed)


@click.group("group")
def group() -> None:
    """See consumer groups, set where they go on, delete them."""


group.add_command(reset_offsets)


@group.command("list")
@bootstrap_option
@format_option
@watch_option
def list_groups(bootstrap: str | None, output_format: Format, watch_s: float | None) -> None:
    """List all groups with their state.

    \b
    glasslog group list
    glasslog group list --watch
    """
    repeated(watch_s, lambda: _show_list(bootstrap, output_format))


def _show_list(bootstrap: str | None, output_format: Format) -> None:
    found = run_admin(bootstrap, lambda admin: admin.list_groups())
    if output_format == "json":
        print_json(
            [{"group": each.group_id, "type": each.protocol_type, "state": each.state} for each in found]
        )
    else:
        rows = [(each.group_id, each.protocol_type, each.state) for each in found]
        print_table(("group", "type", "state"), rows)


@group.command("describe")
@click.argument("name")
@click.option("--members", "by_member", is_flag=True, help="Who they are and what each reads.")
@bootstrap_option
@format_option
@watch_option
def describe(
    name: str, by_member: bool, bootstrap: str | None, output_format: Format, watch_s: float | None
) -> None:
    """Show where group NAME is in each partition, how far behind, and who reads it.

    \b
    glasslog group describe billing             lag by partition
    glasslog group describe billing --members   what each member has
    glasslog group describe billing --watch 1   again every second
    """
    repeated(watch_s, lambda: _show(name, bootstrap, output_format, by_member=by_member))


def _show(name: str, bootstrap: str | None, output_format: Format, *, by_member: bool) -> None:
    found, places = run_admin(bootstrap, lambda admin: _ask(admin, name))
    if found.state == "Dead" and not places:
        raise CommandError(f"there is no group {name!r}")
    if output_format == "json":
        print_json(_as_json(found, places))
        return
    lags = [place.lag for place in places if place.lag is not None]
    behind = f"  lag {sum(lags)}" if lags else ""
    print(f"{name}  {found.state}  {found.protocol_name or '-'}  {len(found.members)} members{behind}")
    if by_member:
        _show_members(found, places)
        return
    columns = ("topic", "partition", "committed", "end", "lag", "member")
    rows = [
        (
            place.partition.topic,
            place.partition.partition,
            place.committed,
            place.end,
            place.lag,
            place.member_id,
        )
        for place in places
    ]
    print_table(columns, rows)


def _show_members(found: "GroupDescription", places: "list[_Place]") -> None:
    lags = {place.partition: place.lag or 0 for place in places}
    rows = [
        (
            member.member_id,
            member.group_instance_id or None,
            member.client_host,
            sum(lags.get(partition, 0) for partition in member.assignment),
            member.assignment or None,
        )
        for member in found.members
    ]
    print_table(("member", "instance", "host", "lag", "partitions"), rows)


@group.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@bootstrap_option
def delete(names: tuple[str, ...], bootstrap: str | None) -> None:
    """Forget groups that have no members, with all they committed.

    \b
    glasslog group delete billing audit
    """
    for name in names:
        run_admin(bootstrap, _deletion(name))
        print(f"Deleted group {name}.")


def _deletion(name: str) -> "Callable[[Admin], Awaitable[None]]":
    return lambda admin: admin.delete_groups([name])


async def _ask(admin: "Admin", name: str) -> "tuple[GroupDescription, list[_Place]]":
    (found,) = await admin.describe_groups([name])
    committed = {partition: at.offset for partition, at in (await admin.group_offsets(name)).items()}
    owners = {partition: member.member_id for member in found.members for partition in member.assignment}
    partitions = sorted(committed.keys() | owners.keys())
    ends: Mapping[TopicPartition, int] = {}
    if partitions:
        ends = await admin.list_offsets(dict.fromkeys(partitions, -1))
    return found, [
        _Place(partition, committed.get(partition), ends.get(partition), owners.get(partition))
        for partition in partitions
    ]


def _as_json(found: "GroupDescription", places: list[_Place]) -> dict[str, Json]:
    return {
        "group": found.group_id,
        "state": found.state,
        "type": found.protocol_type,
        "assignor": found.protocol_name,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.group_instance_id or None,
                "client_id": member.client_id,
                "host": member.client_host,
                "partitions": [str(partition) for partition in member.assignment],
            }
            for member in found.members
        ],
        "partitions": [
            {
                "topic": place.partition.topic,
                "partition": place.partition.partition,
                "committed": place.committed,
                "end_offset": place.end,
                "lag": place.lag,
                "member_id": place.member_id,
            }
            for place in places
        ],
    }
