"""The ``glasslog`` command: finds the sub-command, loads only its module, turns every error into one line.

Refuses to know what commands do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import click
from glasslog.client.cli.errors import Interrupted, UsageError
from glasslog.common.errors import ConfigError, GlasslogError

_INTERRUPTED_STATUS = 130
_PROGRAM = "glasslog"


class _Entry(NamedTuple):
    module: str
    name: str
    help: str


COMMANDS: Mapping[str, _Entry] = {
    "server": _Entry("", "", "Run one node in the foreground."),
    "local": _Entry("glasslog.client.cli.local.commands", "local", "A cluster on this machine."),
    "topic": _Entry("glasslog.client.cli.topic", "topic", "Create, list, describe and delete topics."),
    "partition": _Entry("glasslog.client.cli.partition", "partition", "Move partitions between brokers."),
    "produce": _Entry("glasslog.client.cli.produce", "produce", "Write lines to a topic."),
    "consume": _Entry("glasslog.client.cli.consume", "consume", "Read a topic."),
    "group": _Entry("glasslog.client.cli.group", "group", "See, reset and delete consumer groups."),
    "bench": _Entry("glasslog.client.cli.bench.commands", "bench", "Measure a running cluster."),
    "config": _Entry("glasslog.client.cli.config", "config", "Settings of topics and brokers."),
    "cluster": _Entry("glasslog.client.cli.cluster", "cluster", "Describe the cluster; is it healthy?"),
    "why": _Entry("glasslog.client.cli.why", "why", "Say why a partition is as it is."),
    "quorum": _Entry("glasslog.client.cli.quorum", "quorum", "See who votes on metadata, and change it."),
    "log": _Entry("glasslog.client.cli.log.commands", "log", "Look into segments, indexes, checkpoints."),
    "demo": _Entry(
        "glasslog.client.cli.demo.command",
        "demo",
        "Kill a leader, prove that nothing was lost.",
    ),
    "completion": _Entry(
        "glasslog.client.cli.completion", "completion", "Have your shell complete commands."
    ),
    "check": _Entry("glasslog.client.cli.check", "check", "Judge a recorded history of clients."),
    "simulate": _Entry(
        "glasslog.simulator.command",
        "simulate",
        "Run whole clusters under faults in one process, from a seed.",
    ),
    "chaos": _Entry(
        "glasslog.chaos.command", "chaos", "Break a cluster on purpose, and judge what its clients saw."
    ),
    "toxiproxy": _Entry(
        "glasslog.chaos.toxiproxy.command",
        "toxiproxy",
        "A TCP proxy that misbehaves on demand, with Toxiproxy's API.",
    ),
}
"""By name, so that nothing here depends on the parts that other shares bring."""


class _LazyGroup(click.Group):
    """Knows names and one-line helps; loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "server":
            return _server
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.command("server", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _server(arguments: tuple[str, ...]) -> None:
    """Run one node in the foreground."""
    from glasslog.client.cli.server import become_node

    become_node(arguments)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        from glasslog.log.codec import DESCRIPTION

        click.echo(f"{_PROGRAM} {version(_PROGRAM)}\ncodec of records: {DESCRIPTION}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, and which codec of records is in use.",
)
def glasslog() -> None:
    """A Kafka-shaped replicated log that you can see through.

    \b
    glasslog local up            a cluster on this machine
    glasslog demo                see it survive a killed leader
    glasslog COMMAND --help      more about a command
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 1 for a failure, 2 for wrong usage, 130 when interrupted."""
    try:
        result = glasslog.main(arguments, prog_name=_PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _fail_usage(error)
    except click.ClickException as error:
        return _fail(error.format_message(), status=error.exit_code)
    except (UsageError, ConfigError) as error:
        return _fail(str(error), status=2)
    except GlasslogError as error:
        return _fail(str(error), status=1)
    except (Interrupted, KeyboardInterrupt, click.Abort):
        return _INTERRUPTED_STATUS
    except BrokenPipeError:
        return _close_pipe()
    except (OSError, TimeoutError) as error:
        return _fail(str(error), status=1)


def _fail_usage(error: click.UsageError) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        # A bare group from click 8.2 on; the class does not exist before, where click shows the help itself.
        print(error.format_message(), file=sys.stderr)
        return 2
    where = error.ctx.command_path if error.ctx else _PROGRAM
    return _fail(f"{error.format_message().rstrip('.')}; see `{where} --help`", status=2)


def _fail(message: str, *, status: int) -> int:
    line = " ".join(message.split())
    print(f"{_PROGRAM}: {line}", file=sys.stderr)
    return status


def _close_pipe() -> int:
    """Who reads our output has seen enough (click ends with 1 too); else Python complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
