"""``glasslog toxiproxy``: reads the command line. Refuses to know what a proxy does."""

import asyncio
from pathlib import Path
from random import Random

import click
from glasslog.chaos.toxiproxy.errors import ToxiproxyError
from glasslog.chaos.toxiproxy.server import DEFAULT_PORT, serve
from glasslog.client.cli.errors import CommandError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the API listens.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: a free one."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A JSON list of proxies to begin with, as POST /populate takes it.",
)
@click.option("--seed", type=int, help="For jitter and toxicity; the same seed draws the same.")
def toxiproxy(host: str, port: int, config: Path | None, seed: int | None) -> int:
    """Serve Toxiproxy's HTTP API in the foreground: TCP proxies with latency, narrow lines, resets and more.

    Every client library of Toxiproxy can drive it. Ctrl-C ends it and closes every proxy.

    \b
    glasslog toxiproxy --port 8474
    curl -d '{"name": "b1", "listen": "127.0.0.1:19192", "upstream": "127.0.0.1:9192"}' localhost:8474/proxies
    curl -d '{"type": "latency", "attributes": {"latency": 500}}' localhost:8474/proxies/b1/toxics
    """
    try:
        asyncio.run(serve(host=host, port=port, config=config, random=Random(seed)))
    except ToxiproxyError as error:
        raise CommandError(str(error)) from None
    return 0
