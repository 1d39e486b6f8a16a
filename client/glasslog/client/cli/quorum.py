"""``glasslog quorum``: who votes on the metadata, who leads, and how far each is. Tables out of ``Admin``."""

import time
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, Json, print_json, print_json_line, print_table

if TYPE_CHECKING:
    from glasslog.client.quorum import QuorumReplica, QuorumStatus

_WATCH_SECONDS = 1.0


@click.group("quorum")
def quorum() -> None:
    """Look at the controllers' quorum and change it."""


@quorum.command("status")
@bootstrap_option
@format_option
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(bootstrap: str | None, output_format: Format, watch: bool) -> None:
    """Show leader, epoch, voters and observers of the metadata log.

    \b
    glasslog quorum status
    glasslog quorum status --watch
    """
    while True:
        found = run_admin(bootstrap, lambda admin: admin.describe_quorum())
        if output_format == "json":
            (print_json_line if watch else print_json)(_as_json(found))
        else:
            _print(found)
        if not watch:
            return
        time.sleep(_WATCH_SECONDS)


@quorum.command("add-voter")
@click.argument("node_id", type=int)
@click.option("--directory-id", default="", help="Only with this directory, as `status` shows it.")
@bootstrap_option
@format_option
def add_voter(node_id: int, directory_id: str, bootstrap: str | None, output_format: Format) -> None:
    """Let controller NODE_ID vote.

    It must run already, with controller.quorum.bootstrap.servers, and have caught up: `status` shows it among
    the observers.

    \b
    glasslog quorum add-voter 104
    """
    run_admin(bootstrap, lambda admin: admin.add_voter(node_id, directory_id=directory_id))
    _confirm(output_format, "added", node_id)


@quorum.command("remove-voter")
@click.argument("node_id", type=int)
@click.option("--directory-id", default="", help="Only with this directory, as `status` shows it.")
@bootstrap_option
@format_option
def remove_voter(node_id: int, directory_id: str, bootstrap: str | None, output_format: Format) -> None:
    """Let controller NODE_ID vote no more. It goes on as an observer; if it led, another does.

    \b
    glasslog quorum remove-voter 101
    """
    run_admin(bootstrap, lambda admin: admin.remove_voter(node_id, directory_id=directory_id))
    _confirm(output_format, "removed", node_id)


@quorum.command("transfer")
@click.argument("node_id", type=int)
@bootstrap_option
@format_option
def transfer(node_id: int, bootstrap: str | None, output_format: Format) -> None:
    """Hand leadership over to voter NODE_ID.

    \b
    glasslog quorum transfer 102
    """
    leader_id = run_admin(bootstrap, lambda admin: admin.transfer_leadership(node_id))
    if leader_id != node_id:
        found = f"controller {leader_id}" if leader_id >= 0 else "nobody that is known of yet"
        raise CommandError(f"controller {node_id} was not elected: {found} leads now")
    if output_format == "json":
        print_json({"leader_id": leader_id})
    else:
        print(f"controller {leader_id} leads")


def _confirm(output_format: Format, what: str, node_id: int) -> None:
    if output_format == "json":
        print_json({what: node_id})
    else:
        print(f"{what} voter {node_id}")


def _print(found: "QuorumStatus") -> None:
    print(
        f"leader {found.leader_id}, epoch {found.leader_epoch}, high watermark {found.high_watermark}, "
        f"{len(found.voters)} voters, largest lag {found.max_lag}"
    )
    voters = [_row(each, "leader" if each.node_id == found.leader_id else "voter") for each in found.voters]
    observers = [_row(each, "observer") for each in found.observers]
    print_table(("node", "role", "log end", "lag", "caught up", "directory"), [*voters, *observers])


def _row(replica: "QuorumReplica", role: str) -> tuple[object, ...]:
    caught_up = _ago(replica.last_caught_up_ms_ago)
    return replica.node_id, role, replica.log_end_offset, replica.lag, caught_up, replica.directory_id or None


def _ago(milliseconds: int) -> str | None:
    return None if milliseconds < 0 else f"{milliseconds} ms ago"


def _as_json(found: "QuorumStatus") -> dict[str, Json]:
    return {
        "leader_id": found.leader_id,
        "leader_epoch": found.leader_epoch,
        "high_watermark": found.high_watermark,
        "max_lag": found.max_lag,
        "voters": [_replica_as_json(each) for each in found.voters],
        "observers": [_replica_as_json(each) for each in found.observers],
    }


def _replica_as_json(replica: "QuorumReplica") -> dict[str, Json]:
    return {
        "node_id": replica.node_id,
        "directory_id": replica.directory_id or None,
        "address": replica.address or None,
        "log_end_offset": replica.log_end_offset,
        "lag": replica.lag,
        "last_fetch_ms_ago": None if replica.last_fetch_ms_ago < 0 else replica.last_fetch_ms_ago,
        "last_caught_up_ms_ago": None if replica.last_caught_up_ms_ago < 0 else replica.last_caught_up_ms_ago,
    }
