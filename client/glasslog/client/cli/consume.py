"""``glasslog consume``: records onto standard output. Translates arguments into a ``Consumer``."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, cast

import click
from glasslog.client.cli.connect import API_TIMEOUT_MS, BOOTSTRAP_TIMEOUT_MS, bootstrap_servers, run
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format
from glasslog.client.cli.properties import parse_properties
from glasslog.client.cli.records import as_json, as_text
from glasslog.client.options import ConsumerKeywords, ConsumerOptions
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

if TYPE_CHECKING:
    from glasslog.client.consumer import Consumer
    from glasslog.client.types import ConsumerRecord

_POLL_MS = 500
_TOPIC_TIMEOUT_S = API_TIMEOUT_MS / 1_000

Writer = Callable[["ConsumerRecord"], bytes]


@click.command("consume")
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Not only what comes from now on.")
@click.option("--group", "group_id", metavar="G", help="Read as a member of this group, and commit there.")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@click.option("--max-records", type=click.IntRange(1), metavar="N", help="Stop after so many.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1), metavar="S", help="Stop after so long without one."
)
@click.option(
    "--isolation",
    type=click.Choice(["read_uncommitted", "read_committed"]),
    default="read_uncommitted",
    show_default=True,
)
@click.option("--values-only", is_flag=True, help="Only the values as they are, one a line.")
@click.option("--property", "texts", multiple=True, metavar="KEY=VALUE", help="Any option of the consumer.")
@bootstrap_option
@format_option
def consume(
    topic: str,
    from_beginning: bool,
    group_id: str | None,
    partition: int | None,
    max_records: int | None,
    timeout_s: float | None,
    isolation: Literal["read_uncommitted", "read_committed"],
    values_only: bool,
    texts: tuple[str, ...],
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Read TOPIC: place, time, key, value and headers of each record, one a line.

    With both --max-records and --timeout, fewer records than asked for is a failure (exit status 1).

    \b
    glasslog consume orders --from-beginning
    glasslog consume orders --group billing --max-records 100 --timeout 10
    glasslog consume orders --from-beginning --format json --timeout 2 | jq .value
    """
    if group_id and partition is not None:
        raise click.UsageError("--partition can not be chosen with --group: the group assigns partitions")
    keywords: dict[str, object] = {
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "auto_offset_reset": "earliest" if from_beginning else "latest",
        "isolation_level": isolation,
        **parse_properties(ConsumerOptions, texts),
    }
    servers = bootstrap_servers(bootstrap)
    write = _writer(output_format, values_only=values_only)

    async def read(runtime: Runtime) -> int:
        options = cast(ConsumerKeywords, keywords)
        from glasslog.client.consumer import Consumer

        topics = (topic,) if group_id else ()
        async with Consumer(
            *topics, bootstrap_servers=servers, group_id=group_id, runtime=runtime, **options
        ) as consumer:
            if not group_id:
                consumer.assign(await _partitions(runtime, servers, topic, partition))
            return await _copy(consumer, write, max_records=max_records, timeout_s=timeout_s)

    count = run(read)
    if max_records is not None and count < max_records:
        raise CommandError(f"{count} of {max_records} records came before {timeout_s:g} s passed without one")


async def _partitions(
    runtime: Runtime, servers: str, topic: str, wanted: int | None
) -> Sequence[TopicPartition]:
    from glasslog.client.admin import Admin

    async with Admin(servers, runtime=runtime, default_api_timeout_ms=API_TIMEOUT_MS) as admin:
        (found,) = await admin.describe_topics([topic])
    numbers = [each.partition for each in found.partitions]
    if wanted is not None and wanted not in numbers:
        raise CommandError(f"{topic} has no partition {wanted}; it has {len(numbers)}, from 0")
    return [TopicPartition(topic, number) for number in numbers if wanted in (None, number)]


async def _copy(
    consumer: "Consumer", write: Writer, *, max_records: int | None, timeout_s: float | None
) -> int:
    """Write records until there are enough or no more come; returns how many."""
    count = 0
    last = time.monotonic()
    while max_records is None or count < max_records:
        records = await consumer.poll(None if max_records is None else max_records - count, _POLL_MS)
        if records:
            sys.stdout.buffer.write(b"".join(map(write, records)))
            sys.stdout.buffer.flush()
            count += len(records)
            last = time.monotonic()
        elif timeout_s is not None and time.monotonic() - last >= timeout_s:
            break
    return count


def _writer(output_format: Format, *, values_only: bool) -> Writer:
    import json

    if values_only:
        return lambda record: (record.value or b"") + b"\n"
    if output_format == "json":
        return lambda record: (json.dumps(as_json(record), ensure_ascii=False) + "\n").encode()
    return lambda record: (as_text(record) + "\n").encode("utf-8", "backslashreplace")
