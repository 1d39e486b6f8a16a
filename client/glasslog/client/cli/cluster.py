"""``glasslog cluster``: what it is made of, and whether it is well. Translates for ``Admin`` and back."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.decommission import decommission, unregister
from glasslog.client.cli.errors import CommandError, UsageError
from glasslog.client.cli.options import bootstrap_option, format_option, watch_option
from glasslog.client.cli.output import Format, Json, print_json, print_table, repeated
from glasslog.common.config_sources import parse_assignments
from glasslog.common.errors import GlasslogError

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, ClusterDescription
    from glasslog.client.features import FeatureDescription

_POLL_S = 0.2


@click.group("cluster")
def cluster() -> None:
    """Look at the cluster as a whole, take brokers out of it."""


@cluster.command("describe")
@bootstrap_option
@format_option
@watch_option
def describe(bootstrap: str | None, output_format: Format, watch_s: float | None) -> None:
    """Show the cluster's id, its active controller and its brokers.

    \b
    glasslog cluster describe
    glasslog cluster describe --format json
    """
    repeated(watch_s, lambda: _show(bootstrap, output_format))


def _show(bootstrap: str | None, output_format: Format) -> None:
    async def ask(admin: "Admin") -> "tuple[ClusterDescription, list[FeatureDescription]]":
        return await admin.describe_cluster(), await admin.describe_features()

    found, features = run_admin(bootstrap, ask)
    if output_format == "json":
        brokers: list[Json] = [
            {"id": broker.node_id, "grpc": broker.address, "rack": broker.rack} for broker in found.brokers
        ]
        levels: dict[str, Json] = {
            each.name: {"level": each.level, "minimum": each.minimum, "maximum": each.maximum}
            for each in features
        }
        print_json(
            {
                "cluster_id": found.cluster_id,
                "controller_id": found.controller_id,
                "brokers": brokers,
                "features": levels,
            }
        )
        return
    controller = found.controller_id if found.controller_id >= 0 else "unknown"
    print(f"cluster {found.cluster_id}, active controller {controller}")
    rows = [(broker.node_id, broker.rack or None, broker.address) for broker in found.brokers]
    print_table(("broker", "rack", "grpc"), rows)
    print()
    print_table(
        ("feature", "level", "possible"),
        [(each.name, each.level, f"{each.minimum}-{each.maximum}") for each in features],
    )


@cluster.command("set-feature")
@click.argument("assignments", metavar="NAME=LEVEL...", nargs=-1, required=True)
@click.option("--downgrade", is_flag=True, help="Go back to a lower level.")
@click.option("--validate-only", is_flag=True, help="Only say whether it would be accepted.")
@bootstrap_option
def set_feature(
    assignments: tuple[str, ...], downgrade: bool, validate_only: bool, bootstrap: str | None
) -> None:
    """Give features of the cluster other levels, all of these or none.

    \b
    glasslog cluster set-feature eligible.leader.replicas.version=1
    glasslog cluster set-feature eligible.leader.replicas.version=0 --downgrade
    """
    from glasslog.client.features import UpgradeType

    levels = {
        name: _level(name, text)
        for name, text in parse_assignments(assignments, where="cluster set-feature").items()
    }
    kind = UpgradeType.SAFE_DOWNGRADE if downgrade else UpgradeType.UPGRADE
    run_admin(
        bootstrap,
        lambda admin: admin.update_features(levels, upgrade_type=kind, validate_only=validate_only),
    )
    done = "Would set" if validate_only else "Set"
    print(f"{done} {', '.join(f'{name} to {level}' for name, level in levels.items())}.")


def _level(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"the level of {name} is {text!r}, not a number")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is wrong; partitions by name."""

    controller_id: int
    down: tuple[int, ...]
    leaderless: tuple[str, ...]
    under_replicated: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        return self.controller_id >= 0 and not (self.down or self.leaderless or self.under_replicated)

    def as_json(self) -> dict[str, Json]:
        return {
            "healthy": self.is_healthy,
            "controller_id": self.controller_id,
            "down": list(self.down),
            "leaderless": list(self.leaderless),
            "under_replicated": list(self.under_replicated),
        }

    def lines(self) -> list[str]:
        """For people."""
        told = ["healthy" if self.is_healthy else "not healthy"]
        if self.controller_id < 0:
            told.append("no active controller is known")
        told += [f"broker {node} has replicas and is down" for node in self.down]
        told += [f"{name} has no leader" for name in self.leaderless]
        told += [f"{name} lacks replicas in sync" for name in self.under_replicated]
        return told


@cluster.command("health")
@click.option("--exit-when-healthy", is_flag=True, help="Wait until it is, then end with 0.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), metavar="S", help="Wait no longer; ends with 1."
)
@bootstrap_option
@format_option
def health(
    exit_when_healthy: bool, timeout_s: float | None, bootstrap: str | None, output_format: Format
) -> int:
    """Say whether every partition has a leader and all replicas in sync. Exit status 1 when not.

    \b
    glasslog cluster health
    glasslog cluster health --exit-when-healthy --timeout 60
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found, trouble = _examined(bootstrap, patient=exit_when_healthy)
        is_late = deadline is not None and time.monotonic() >= deadline
        if not exit_when_healthy or is_late or (found is not None and found.is_healthy):
            break
        time.sleep(_POLL_S)
    if found is None:
        raise CommandError(str(trouble))
    if output_format == "json":
        print_json(found.as_json())
    else:
        print("\n".join(found.lines()))
    return 0 if found.is_healthy else 1


def _examined(bootstrap: str | None, *, patient: bool) -> tuple[Health | None, GlasslogError | None]:
    """Whoever waits for a cluster to come up also waits for it to answer."""
    try:
        return run_admin(bootstrap, examine), None
    except GlasslogError as error:
        if not patient or isinstance(error, CommandError):
            raise
        return None, error


async def examine(admin: "Admin") -> Health:
    """Look at every broker and partition."""
    found = await admin.describe_cluster()
    alive = {broker.node_id for broker in found.brokers}
    placed = [
        (each.name, partition) for each in await admin.describe_topics() for partition in each.partitions
    ]
    return Health(
        controller_id=found.controller_id,
        down=tuple(sorted({node for _, partition in placed for node in partition.replicas} - alive)),
        leaderless=tuple(f"{name}-{each.partition}" for name, each in placed if each.leader < 0),
        under_replicated=tuple(
            f"{name}-{each.partition}" for name, each in placed if len(each.isr) < len(each.replicas)
        ),
    )


cluster.add_command(decommission)
cluster.add_command(unregister)
