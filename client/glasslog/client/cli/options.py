"""Options that several commands share. Refuses to know the commands."""

from collections.abc import Callable
from typing import TypeVar

import click

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


def bootstrap_option(command: Command) -> Command:
    """``--bootstrap``, given to the command as ``bootstrap`` (``None``: not named)."""
    return click.option(
        "--bootstrap",
        envvar="GLASSLOG_BOOTSTRAP",
        metavar="HOST:PORT[,...]",
        help="GRPC listeners of some brokers; default $GLASSLOG_BOOTSTRAP, else the running local cluster.",
    )(command)
