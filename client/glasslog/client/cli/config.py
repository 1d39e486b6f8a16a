"""``glasslog config``: settings of topics and brokers. Translates for ``Admin`` and back into tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import UsageError
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, Json, print_json, print_table
from glasslog.client.configs import (
    ConfigEdit,
    ConfigOperation,
    ConfigResource,
    ConfigSource,
    ConfigValue,
    ResourceType,
)
from glasslog.common.config_sources import parse_assignments

if TYPE_CHECKING:
    from glasslog.client.admin import Admin

_SOURCES: Mapping[ConfigSource, str] = {
    ConfigSource.TOPIC: "topic",
    ConfigSource.BROKER: "broker",
    ConfigSource.EVERY_BROKER: "brokers",
    ConfigSource.NODE_FILE: "file",
    ConfigSource.DEFAULT: "default",
}


@click.group("config")
def config() -> None:
    """Read and change settings of topics and brokers while they run."""


@config.command("get")
@click.argument("whose", nargs=-1, required=True)
@click.option("--key", "keys", multiple=True, help="Only this one; repeatable.")
@click.option("--changed", is_flag=True, help="Only those that are not as by default.")
@bootstrap_option
@format_option
def get(
    whose: tuple[str, ...],
    keys: tuple[str, ...],
    changed: bool,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Show the settings of WHOSE: `topic NAME`, `broker ID`, or `brokers` for what every broker was set.

    \b
    glasslog config get topic orders --changed
    glasslog config get broker 1 --key log.retention.ms
    """
    resource = _resource(whose)
    found = run_admin(bootstrap, lambda admin: admin.describe_configs(resource, keys))
    shown = [each for each in found if not changed or each.source is not ConfigSource.DEFAULT]
    if output_format == "json":
        print_json([_json(each) for each in shown])
    else:
        rows = [(each.key, each.value or None, _SOURCES[each.source], each.read_only) for each in shown]
        print_table(("setting", "value", "from", "read only"), rows)


@config.command("set")
@click.argument("words", metavar="WHOSE KEY=VALUE...", nargs=-1, required=True)
@click.option("--append", is_flag=True, help="Add the values to lists in place of replacing them.")
@click.option("--subtract", is_flag=True, help="Take the values out of lists.")
@click.option("--validate-only", is_flag=True, help="Only say whether it would be accepted.")
@bootstrap_option
def set_(
    words: tuple[str, ...], append: bool, subtract: bool, validate_only: bool, bootstrap: str | None
) -> None:
    """Change settings of WHOSE, at once: `topic NAME`, `broker ID`, or `brokers` for every broker.

    \b
    glasslog config set topic orders retention.ms=86400000
    glasslog config set brokers log.cleaner.threads=2 --validate-only
    """
    if append and subtract:
        raise UsageError("--append and --subtract exclude each other")
    operation = ConfigOperation.SET
    if append or subtract:
        operation = ConfigOperation.APPEND if append else ConfigOperation.SUBTRACT
    resource, rest = _split(words)
    pairs = parse_assignments(rest, where="config set")
    edits = [ConfigEdit(key=key, operation=operation, value=value) for key, value in pairs.items()]
    alter(bootstrap, resource, edits, validate_only=validate_only)


@config.command("delete")
@click.argument("words", metavar="WHOSE KEY...", nargs=-1, required=True)
@click.option("--validate-only", is_flag=True, help="Only say whether it would be accepted.")
@bootstrap_option
def delete(words: tuple[str, ...], validate_only: bool, bootstrap: str | None) -> None:
    """Return settings of WHOSE to their defaults: `topic NAME`, `broker ID`, or `brokers`.

    \b
    glasslog config delete topic orders retention.ms
    """
    resource, keys = _split(words)
    edits = [ConfigEdit(key=key, operation=ConfigOperation.DELETE) for key in keys]
    alter(bootstrap, resource, edits, validate_only=validate_only)


def alter(
    bootstrap: str | None, resource: ConfigResource, edits: Sequence[ConfigEdit], *, validate_only: bool
) -> None:
    """Ask for the edits and say so. Raises ``UsageError`` when there is nothing to edit."""
    if not edits:
        raise UsageError(f"no setting of {resource} is named")

    async def change(admin: "Admin") -> None:
        await admin.alter_configs({resource: edits}, validate_only=validate_only)

    run_admin(bootstrap, change)
    done = "Would change" if validate_only else "Changed"
    print(f"{done} {resource}: {', '.join(edit.key for edit in edits)}.")


def _resource(whose: Sequence[str]) -> ConfigResource:
    resource, rest = _split(whose)
    if rest:
        raise UsageError(f"{rest[0]!r} was not expected after {resource}")
    return resource


def _split(words: Sequence[str]) -> tuple[ConfigResource, tuple[str, ...]]:
    """The resource that the first words name, and the other words."""
    match tuple(words):
        case ("topic", name, *rest):
            return ConfigResource(ResourceType.TOPIC, name), tuple(rest)
        case ("broker", number, *rest) if number.isdecimal():
            return ConfigResource(ResourceType.BROKER, number), tuple(rest)
        case ("brokers", *rest):
            return ConfigResource(ResourceType.BROKER, ""), tuple(rest)
        case _:
            raise UsageError(f"{' '.join(words)!r} does not begin with topic NAME, broker ID or brokers")


def _json(each: ConfigValue) -> dict[str, Json]:
    return {
        "key": each.key,
        "value": each.value,
        "source": _SOURCES[each.source],
        "read_only": each.read_only,
        "documentation": each.documentation,
        "synonyms": [
            {"key": other.key, "value": other.value, "source": _SOURCES[other.source]}
            for other in each.synonyms
        ],
    }
