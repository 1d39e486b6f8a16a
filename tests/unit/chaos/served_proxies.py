"""A fault proxy of ours that lives as long as a test, in a thread."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from threading import Event, Thread

from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.chaos.toxiproxy.server import serving


@contextmanager
def served(*names: str) -> Iterator[Toxiproxy]:
    """With these proxies, to nowhere."""
    ports: list[int] = []
    begun, ended = Event(), Event()

    async def serve() -> None:
        async with serving(host="127.0.0.1", port=0, random=Random(1)) as (proxies, port):
            await proxies.populate([{"name": name, "upstream": "127.0.0.1:1"} for name in names])
            ports.append(port)
            begun.set()
            await asyncio.to_thread(ended.wait)

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(30)
        yield Toxiproxy(f"127.0.0.1:{ports[0]}")
    finally:
        ended.set()
        thread.join()
