"""``glasslog produce``: the lines of standard input become records. Translates arguments for ``Producer``."""

import os
import stat
import sys
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, cast

import click
from glasslog.client.cli.connect import BOOTSTRAP_TIMEOUT_MS, bootstrap_servers, run
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import bootstrap_option
from glasslog.client.cli.output import note
from glasslog.client.cli.progress import Advance, progress
from glasslog.client.cli.properties import parse_properties
from glasslog.client.cli.records import LineSplitter, Pair
from glasslog.client.options import ProducerKeywords, ProducerOptions
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.protocols import Runtime

if TYPE_CHECKING:
    from glasslog.client.delivery import Deliveries
    from glasslog.client.producer import Producer

_UNSEEN_RUNS = 64
"""Runs of records whose outcome has not been looked at yet."""


@click.command("produce")
@click.argument("topic")
@click.option("--key-separator", metavar="TEXT", help="What stands between key and value in each line.")
@click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
)
@click.option("--property", "texts", multiple=True, metavar="KEY=VALUE", help="Any option of the producer.")
@bootstrap_option
def produce(
    topic: str,
    key_separator: str | None,
    acks: str,
    compression: str,
    texts: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Write each line of standard input to TOPIC as one record.

    \b
    seq 1000 | glasslog produce numbers
    echo 'user-7:login' | glasslog produce events --key-separator :
    glasslog produce access --compression zstd < access.log
    """
    if key_separator == "":
        raise click.UsageError("--key-separator can not be empty")
    keywords: dict[str, object] = {
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "acks": acks,
        "compression_type": compression,
        **parse_properties(ProducerOptions, texts),
    }
    servers = bootstrap_servers(bootstrap)
    splitter = LineSplitter(key_separator=key_separator)
    count = run(lambda runtime: _produce(runtime, servers, topic, cast(ProducerKeywords, keywords), splitter))
    if sys.stdin.isatty():
        note(f"{count} records written to {topic}")


async def _produce(
    runtime: Runtime, servers: str, topic: str, keywords: ProducerKeywords, splitter: LineSplitter
) -> int:
    from glasslog.client.cli.stdin import blocks
    from glasslog.client.producer import Producer

    producer = Producer(servers, runtime=runtime, **keywords)
    async with producer:
        sending = _Sending(producer, topic)
        with progress_of(sys.stdin.fileno(), topic) as advance:
            async for block in blocks(sys.stdin.fileno()):
                await sending.send(splitter.feed(block))
                advance(len(block))
        await sending.send(splitter.end())
        await sending.finish()
    return sending.sent


def progress_of(descriptor: int, topic: str) -> AbstractContextManager[Advance]:
    """Of a file it is known how long it will take; what comes by a pipe or is typed ends when it ends."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return nullcontext(lambda amount: None)
    return progress(f"writing to {topic}", lambda: status.st_size, in_bytes=True)


class _Sending:
    """Sends runs of records and looks at every outcome; the first failure ends it."""

    def __init__(self, producer: "Producer", topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._runs: deque[Deliveries] = deque()
        self.sent = 0

    async def send(self, records: list[Pair]) -> None:
        if not records:
            return
        try:
            self._runs.append(await self._producer.send_records(self._topic, records))
        except GlasslogError as error:
            raise self._failure(error) from error
        self.sent += len(records)
        while self._runs and (self._runs[0].done() or len(self._runs) > _UNSEEN_RUNS):
            await self._look()

    async def finish(self) -> None:
        """Wait for all outcomes."""
        try:
            await self._producer.flush()
        except GlasslogError as error:
            raise self._failure(error) from error
        while self._runs:
            await self._look()

    async def _look(self) -> None:
        try:
            await self._runs.popleft()
        except GlasslogError as error:
            raise self._failure(error) from error

    def _failure(self, error: GlasslogError) -> CommandError:
        acked = self._producer.stats.records_acked
        return CommandError(f"not everything was written to {self._topic} ({acked} records were): {error}")
