"""``glasslog local``: a cluster of background processes. Translates arguments for ``LocalCluster``."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from glasslog.client.cli.ending import orderly_ending
from glasslog.client.cli.local import layout, status
from glasslog.client.cli.local.cluster import LocalCluster, default_directory
from glasslog.client.cli.options import format_option
from glasslog.client.cli.output import Format, note, print_json, print_table
from glasslog.common.config_sources import parse_assignments

Command = TypeVar("Command", bound=Callable[..., object])


def _directory_option(command: Command) -> Command:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=True),
        metavar="DIR",
        help="Where the cluster lives; default $GLASSLOG_DIR, else glasslog/local in your state folder.",
    )(command)


_node_argument = click.argument("node", metavar="NODE")


def _cluster(directory: Path | None) -> LocalCluster:
    return LocalCluster(directory or default_directory())


@click.group("local")
def local() -> None:
    """Start, break and stop a cluster of background processes on this machine.

    NODE is a name such as broker-1 or controller-2; `glasslog local status` shows them.
    """


@local.command("up")
@click.option("--brokers", type=click.IntRange(1, layout.MAX_NODES_PER_ROLE), help="How many; default 3.")
@click.option("--controllers", type=click.IntRange(1, layout.MAX_NODES_PER_ROLE), help="How many; default 3.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of every node.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=30,
    show_default=True,
    metavar="S",
    help="Give up when it is not healthy by then.",
)
@_directory_option
@format_option
def up(
    brokers: int | None,
    controllers: int | None,
    assignments: tuple[str, ...],
    timeout_s: float,
    directory: Path | None,
    output_format: Format,
) -> None:
    """Start a cluster and return when it is healthy.

    A directory that held a cluster before is continued: same data, same settings, same ports.

    \b
    glasslog local up
    glasslog local up --brokers 5 --controllers 1 --dir /tmp/mine --set log.retention.ms=60000
    """
    cluster = _cluster(directory)
    settings = parse_assignments(assignments) if assignments else None
    with orderly_ending() as ending:
        cluster.up(
            brokers=brokers,
            controllers=controllers,
            settings=settings,
            timeout_s=timeout_s,
            cancelled=ending,
        )
    _show(cluster, output_format)
    if output_format == "text":
        flag = f" --dir {directory}" if directory else ""
        note(f"The cluster in {cluster.directory} is healthy. Try:")
        note("  glasslog topic create first --partitions 3")
        note(f"  glasslog local kill broker-1{flag}; glasslog local restart broker-1{flag}")
        note(f"  glasslog local down{flag}")


@local.command("status")
@_directory_option
@format_option
def show_status(directory: Path | None, output_format: Format) -> None:
    """Show every node: its state, process and addresses.

    \b
    glasslog local status
    glasslog local status --format json | jq -r '.brokers[].grpc'
    """
    _show(_cluster(directory), output_format)


@local.command("down")
@click.option("--delete", is_flag=True, help="Remove the cluster's data too.")
@_directory_option
def down(delete: bool, directory: Path | None) -> None:
    """Stop brokers, then controllers, in order; kill those that do not stop.

    \b
    glasslog local down
    glasslog local down --delete
    """
    cluster = _cluster(directory)
    with orderly_ending():
        for name in cluster.down(delete=delete):
            note(f"{name} did not stop in time and was killed")
    print(f"The cluster in {cluster.directory} is {'deleted' if delete else 'stopped'}.")


@local.command("kill")
@_node_argument
@_directory_option
def kill(node: str, directory: Path | None) -> None:
    """Kill NODE with SIGKILL: it loses what it had not written and says goodbye to nobody.

    \b
    glasslog local kill broker-1
    """
    _cluster(directory).kill(node)
    print(f"{node} is dead.")


@local.command("stop")
@_node_argument
@_directory_option
def stop(node: str, directory: Path | None) -> None:
    """Stop NODE in order: it hands its leaderships over first.

    \b
    glasslog local stop broker-3
    """
    with orderly_ending():
        if not _cluster(directory).stop(node):
            note(f"{node} did not stop in time and was killed")
    print(f"{node} is stopped.")


@local.command("pause")
@_node_argument
@_directory_option
def pause(node: str, directory: Path | None) -> None:
    """Freeze NODE with SIGSTOP: its connections stay open and it does not answer.

    \b
    glasslog local pause broker-2
    glasslog local resume broker-2
    """
    _cluster(directory).pause(node)
    print(f"{node} is paused.")


@local.command("resume")
@_node_argument
@_directory_option
def resume(node: str, directory: Path | None) -> None:
    """Let a paused NODE go on.

    \b
    glasslog local resume broker-2
    """
    _cluster(directory).resume(node)
    print(f"{node} runs.")


@local.command("restart")
@_node_argument
@_directory_option
def restart(node: str, directory: Path | None) -> None:
    """Stop NODE if it runs, start it, and return when it is ready.

    \b
    glasslog local restart broker-1
    """
    with orderly_ending() as ending:
        _cluster(directory).restart(node, cancelled=ending)
    print(f"{node} is ready.")


@local.command("add-controller")
@_directory_option
@format_option
def add_controller(directory: Path | None, output_format: Format) -> None:
    """Start one controller more.

    It follows the quorum without a vote; `glasslog quorum add-voter` gives it one.

    \b
    glasslog local add-controller
    glasslog local add-controller && glasslog quorum add-voter 104
    """
    with orderly_ending() as ending:
        node = _cluster(directory).add_controller(cancelled=ending)
    if output_format == "json":
        print_json({"id": node.node_id, "name": node.name, "endpoint": node.address("CONTROLLER")})
        return
    print(f"{node.name} is ready, and follows the quorum as {node.node_id}.")
    note(f"Let it vote: glasslog quorum add-voter {node.node_id}")


@local.command("logs")
@_node_argument
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@_directory_option
def show_logs(node: str, lines: int, follow: bool, directory: Path | None) -> None:
    """Show the log of NODE.

    \b
    glasslog local logs broker-1
    glasslog local logs controller-2 --lines 200 --follow
    """
    from glasslog.client.cli.local import logs

    cluster = _cluster(directory)
    path = layout.log_file(cluster.directory, cluster.state().node(node))
    for line in logs.follow(path, lines) if follow else logs.tail(path, lines):
        print(line, flush=follow)


def _show(cluster: LocalCluster, output_format: Format) -> None:
    if output_format == "json":
        print_json(status.as_json(cluster))
    else:
        print_table(status.COLUMNS, status.as_rows(cluster))
