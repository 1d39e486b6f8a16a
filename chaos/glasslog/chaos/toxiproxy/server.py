"""Runs the API and its proxies until told to stop. Refuses to know the command line."""

import json
import signal
from asyncio import Event, get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from aiohttp import web
from glasslog.chaos.toxiproxy.api import application
from glasslog.chaos.toxiproxy.errors import CannotListen, ToxiproxyError
from glasslog.chaos.toxiproxy.proxies import Proxies
from glasslog.common.errors import ConfigError

DEFAULT_PORT = 8474


@asynccontextmanager
async def serving(*, host: str, port: int, random: Random) -> AsyncIterator[tuple[Proxies, int]]:
    """The API on ``host:port`` (0: a free one), with the port it got; all proxies close with it.

    Raises ``CannotListen``.
    """
    proxies = Proxies(random)
    runner = web.AppRunner(application(proxies), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise CannotListen(f"{host}:{port}: {error.strerror or error}") from error
        yield proxies, runner.addresses[0][1]
    finally:
        await proxies.close()
        await runner.cleanup()


async def serve(*, host: str, port: int, config: Path | None, random: Random) -> None:
    """Serve until SIGINT or SIGTERM; ``config`` holds a JSON list of proxies to begin with.

    Raises ``ConfigError`` for a file that can not be used and ``ToxiproxyError`` for addresses.
    """
    initial = [] if config is None else _read(config)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        get_running_loop().add_signal_handler(number, stop.set)
    async with serving(host=host, port=port, random=random) as (proxies, bound):
        try:
            await proxies.populate(initial)
        except ToxiproxyError as error:
            raise ConfigError(f"{config}: {error}") from None
        print(f"toxiproxy API on http://{host}:{bound}", flush=True)
        for proxy in proxies.by_name.values():
            print(f"{proxy.shape.name}: {proxy.shape.listen} -> {proxy.shape.upstream}", flush=True)
        await stop.wait()


def _read(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    return content
