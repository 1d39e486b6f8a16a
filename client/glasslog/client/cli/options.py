"""Options that several commands share. Refuses to know the commands."""

from collections.abc import Callable
from typing import TypeVar

import click

_WATCH_S = 2.0

Command = TypeVar("Command", bound=Callable[..., object])


def format_option(command: Command) -> Command:
    """``--format text|json``, given to the command as ``output_format``."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="For people or for scripts.",
    )(command)


def watch_option(command: Command) -> Command:
    """``--watch [SECONDS]``, given to the command as ``watch_s`` (``None``: once)."""
    return click.option(
        "--watch",
        "watch_s",
        type=click.FloatRange(0.1),
        is_flag=False,
        flag_value=_WATCH_S,
        metavar="[SECONDS]",
        help=f"Show it again and again, every {_WATCH_S:g} seconds; Ctrl-C ends it.",
    )(command)


def bootstrap_option(command: Command) -> Command:
    """``--bootstrap``, given to the command as ``bootstrap`` (``None``: not named)."""
    return click.option(
        "--bootstrap",
        envvar="GLASSLOG_BOOTSTRAP",
        metavar="HOST:PORT[,...]",
        help="GRPC listeners of some brokers; default $GLASSLOG_BOOTSTRAP, else the running local cluster.",
    )(command)
