"""``glasslog why``: why a partition is as it is. Asks its leader; ``explanation`` has the words."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option, format_option, watch_option
from glasslog.client.cli.output import Format, Json, print_json, repeated
from glasslog.common.ids import TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin
    from glasslog.client.cli.explanation import Known


@click.command("why")
@click.argument("name", metavar="TOPIC-PARTITION")
@bootstrap_option
@format_option
@watch_option
def why(name: str, bootstrap: str | None, output_format: Format, watch_s: float | None) -> None:
    """Say in sentences why TOPIC-PARTITION is as it is.

    Who leads it since when and why, who is in sync and how far the others are behind, what is committed, and
    which requests wait for what.

    \b
    glasslog why orders-0
    glasslog why orders-0 --watch 1
    """
    place = _parse(name)
    repeated(watch_s, lambda: _show(run_admin(bootstrap, lambda admin: _look(admin, place)), output_format))


def _parse(name: str) -> TopicPartition:
    topic, _, number = name.rpartition("-")
    if not topic or not number.isdecimal():
        raise click.UsageError(f"{name!r} is not TOPIC-PARTITION, such as orders-0")
    return TopicPartition(topic, int(number))


async def _look(admin: "Admin", place: TopicPartition) -> "Known":
    from glasslog.client.cli.explanation import Known

    (topic,) = await admin.describe_topics([place.topic])
    found = next((each for each in topic.partitions if each.partition == place.partition), None)
    if found is None:
        raise CommandError(
            f"{place.topic} has no partition {place.partition}; it has {len(topic.partitions)}, from 0"
        )
    cluster = await admin.describe_cluster()
    return Known(
        name=str(place),
        partition=found,
        brokers={broker.node_id: broker for broker in cluster.brokers},
        view=await admin.describe_replication(place) if found.leader >= 0 else None,
    )


def _show(known: "Known", output_format: Format) -> None:
    from glasslog.client.cli.explanation import explained

    if output_format == "text":
        print("\n".join(explained(known)))
        return
    view: Json = None if known.view is None else asdict(known.view)
    print_json(
        {
            "partition": known.name,
            "replicas": list(known.partition.replicas),
            "isr": list(known.partition.isr),
            "elr": list(known.partition.elr),
            "leader_view": view,
            "sentences": explained(known),
        }
    )
