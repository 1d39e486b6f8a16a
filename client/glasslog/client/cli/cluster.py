"""``glasslog cluster``: what the cluster is made of. Translates answers of ``Admin`` into tables."""

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, Json, print_json, print_table


@click.group("cluster")
def cluster() -> None:
    """Look at the cluster as a whole."""


@cluster.command("describe")
@bootstrap_option
@format_option
def describe(bootstrap: str | None, output_format: Format) -> None:
    """Show the cluster's id, its active controller and its brokers."""
    found = run_admin(bootstrap, lambda admin: admin.describe_cluster())
    if output_format == "json":
        brokers: list[Json] = [
            {"id": broker.node_id, "grpc": broker.address, "rack": broker.rack} for broker in found.brokers
        ]
        print_json({"cluster_id": found.cluster_id, "controller_id": found.controller_id, "brokers": brokers})
        return
    controller = found.controller_id if found.controller_id >= 0 else "unknown"
    print(f"cluster {found.cluster_id}, active controller {controller}")
    rows = [(broker.node_id, broker.rack or None, broker.address) for broker in found.brokers]
    print_table(("broker", "rack", "grpc"), rows)
