"""``glasslog bench``: figures of a running cluster. Translates arguments and shows results.

Refuses to know how anything is measured, and what a good figure would be.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

import click
from glasslog.client.cli.connect import BOOTSTRAP_TIMEOUT_MS, bootstrap_servers, run
from glasslog.client.cli.errors import CommandError, UsageError
from glasslog.client.cli.local.cluster import LocalCluster, default_directory
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, print_json, print_table
from glasslog.client.cli.properties import parse_properties
from glasslog.client.options import ConsumerKeywords, ConsumerOptions, ProducerKeywords, ProducerOptions
from glasslog.common.runtime.protocols import Runtime

if TYPE_CHECKING:
    from glasslog.client.cli.bench.place import Wanted

_PERCENTILES = (50.0, 95.0, 99.0, 99.9)
_MB = 1e6

Command = TypeVar("Command", bound=Callable[..., object])
Figures = Mapping[str, float | int]


@click.group("bench")
def bench() -> None:
    """Measure a running cluster: throughput, percentiles, how long a failover takes."""


def _topic_options(command: Command) -> Command:
    for option in (
        click.option(
            "--replication-factor",
            type=click.IntRange(1),
            default=None,
            help="Of the topic made for it.  [default: 3, or as many as there are brokers]",
        ),
        click.option(
            "--partitions",
            type=click.IntRange(1),
            default=6,
            show_default=True,
            help="Of the topic made for it.",
        ),
        click.option("--topic", help="One that exists, and is kept; default: one made for it, deleted then."),
    ):
        command = option(command)
    return command


def _wanted(topic: str | None, partitions: int, replication_factor: int | None) -> "Wanted":
    from glasslog.client.cli.bench.place import Wanted

    return Wanted(topic=topic, partitions=partitions, replication_factor=replication_factor or 0)


def _producer_options(texts: tuple[str, ...], **more: object) -> ProducerKeywords:
    keywords = {
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        **more,
        **parse_properties(ProducerOptions, texts),
    }
    return cast(ProducerKeywords, keywords)


_PROPERTY = click.option(
    "--property", "texts", multiple=True, metavar="KEY=VALUE", help="Any option of the client."
)
_RECORDS = click.option(
    "--records", type=click.IntRange(1), default=1_000_000, show_default=True, help="How many."
)
_ACKS = click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True)


def _size(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--size",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Bytes of a value.",
    )


# --- the commands -----------------------------------------------------------------------------------------


@bench.command("produce")
@_RECORDS
@_size(100)
@_ACKS
@_PROPERTY
@_topic_options
@bootstrap_option
@format_option
def produce(
    records: int,
    size: int,
    acks: str,
    texts: tuple[str, ...],
    topic: str | None,
    partitions: int,
    replication_factor: int | None,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """How many records a second one producer writes, each acknowledged.

    \b
    glasslog bench produce
    glasslog bench produce --records 200000 --size 1000 --acks 1
    glasslog bench produce --property compression_type=zstd --property linger_ms=20
    """
    servers, wanted = bootstrap_servers(bootstrap), _wanted(topic, partitions, replication_factor)
    options = _producer_options(texts, acks=acks)

    async def measure(runtime: Runtime) -> Figures:
        from glasslog.client.cli.bench.place import place
        from glasslog.client.cli.bench.work import write

        async with place(runtime, servers, wanted) as (_, found):
            seconds = await write(runtime, servers, found, options, records=records, size_bytes=size)
        return _throughput(records, records * size, seconds)

    _show(output_format, "produce", run(measure))


@bench.command("consume")
@_RECORDS
@_size(100)
@_PROPERTY
@_topic_options
@bootstrap_option
@format_option
def consume(
    records: int,
    size: int,
    texts: tuple[str, ...],
    topic: str | None,
    partitions: int,
    replication_factor: int | None,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """How many records a second one consumer reads, from the beginning.

    Without --topic they are written first; with it, it reads what is there.

    \b
    glasslog bench consume
    glasslog bench consume --topic orders
    glasslog bench consume --records 200000 --size 1000 --property max_partition_fetch_bytes=4194304
    """
    servers, wanted = bootstrap_servers(bootstrap), _wanted(topic, partitions, replication_factor)
    keywords = {"bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS, **parse_properties(ConsumerOptions, texts)}
    options = cast(ConsumerKeywords, keywords)

    async def measure(runtime: Runtime) -> Figures:
        from glasslog.client.cli.bench.place import place
        from glasslog.client.cli.bench.work import read, write

        async with place(runtime, servers, wanted) as (_, found):
            if topic is None:
                writing = _producer_options(())
                await write(runtime, servers, found, writing, records=records, size_bytes=size)
            return _throughput(*await read(runtime, servers, found, options, records=records))

    _show(output_format, "consume", run(measure))


@bench.command("latency")
@click.option("--rate", type=click.IntRange(1), default=1_000, show_default=True, help="Records a second.")
@click.option(
    "--duration",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Seconds, warmed up.",
)
@_size(1_000)
@_ACKS
@_PROPERTY
@_topic_options
@bootstrap_option
@format_option
def latency(
    rate: int,
    duration: float,
    size: int,
    acks: str,
    texts: tuple[str, ...],
    topic: str | None,
    partitions: int,
    replication_factor: int | None,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """How long a record waits for its acknowledgement, at a steady rate and without linger.

    \b
    glasslog bench latency
    glasslog bench latency --rate 5000 --duration 30 --property linger_ms=5
    """
    servers, wanted = bootstrap_servers(bootstrap), _wanted(topic, partitions, replication_factor)
    options = _producer_options(texts, **{"acks": acks, "linger_ms": 0})

    async def measure(runtime: Runtime) -> Figures:
        from glasslog.client.cli.bench.figures import percentile
        from glasslog.client.cli.bench.place import place
        from glasslog.client.cli.bench.work import latencies_ms

        async with place(runtime, servers, wanted) as (_, found):
            took_ms = await latencies_ms(
                runtime, servers, found, options, rate=rate, size_bytes=size, seconds=duration
            )
        if not took_ms:
            raise CommandError(f"nothing was sent in {duration:g} s at {rate} records a second")
        return {
            "records": len(took_ms),
            **{f"p{percent:g}_ms": round(percentile(took_ms, percent), 2) for percent in _PERCENTILES},
            "slowest_ms": round(max(took_ms), 2),
        }

    _show(output_format, "latency", run(measure))


@bench.command("failover")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Leaders to kill.")
@click.option("--dir", "directory", type=click.Path(), default=None, help="The local cluster's folder.")
@format_option
def failover(runs: int, directory: str | None, output_format: Format) -> None:
    """How long writers wait when a leader is killed: SIGKILL, then a restart, each time under load.

    Only of a local cluster, whose processes can be killed. Stalls are the longest that any of six partitions
    was without an acknowledgement at 1,000 records a second.

    \b
    glasslog bench failover
    glasslog bench failover --runs 10
    """
    from pathlib import Path

    cluster = LocalCluster(Path(directory) if directory else default_directory())
    if not cluster.is_running():
        raise CommandError(f"no cluster runs in {cluster.directory}: start one with `glasslog local up`")
    if len(cluster.state().brokers) < _FEWEST_BROKERS:
        raise UsageError("a failover needs another broker to go to: `glasslog local up --brokers 3`")
    servers, wanted = ",".join(cluster.bootstrap), _wanted(None, _FAILOVER_PARTITIONS, None)

    async def measure(runtime: Runtime) -> Figures:
        from glasslog.client.cli.bench.figures import percentile
        from glasslog.client.cli.bench.place import place
        from glasslog.client.cli.bench.work import stalls_ms

        async with place(runtime, servers, wanted) as (admin, found):
            stalled_ms = await stalls_ms(runtime, cluster, admin, found, runs=runs)
        return {
            "runs": runs,
            "median_ms": round(percentile(stalled_ms, 50)),
            "worst_ms": round(max(stalled_ms)),
        }

    _show(output_format, "failover", run(measure))


_FEWEST_BROKERS = 2
_FAILOVER_PARTITIONS = 6


# --- results ----------------------------------------------------------------------------------------------


def _throughput(records: int, size_bytes: int, seconds: float) -> Figures:
    return {
        "records": records,
        "seconds": round(seconds, 3),
        "records_per_s": round(records / seconds),
        "mb_per_s": round(size_bytes / _MB / seconds, 2),
    }


def _show(output_format: Format, name: str, figures: Figures) -> None:
    if output_format == "json":
        print_json({"benchmark": name, **figures})
    else:
        columns = [key.replace("_per_", "/").replace("_", " ") for key in figures]
        print_table(columns, [[f"{value:,}" for value in figures.values()]])
