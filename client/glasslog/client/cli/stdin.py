"""Standard input as it comes, without holding up the event loop or the end of the program.

A thread reads what there is (so that a typed line is sent at once) and a few blocks ahead at most. It dies
with the process: one that waits for a person to type could not be stopped otherwise. Refuses to know what
is read.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

_BLOCK_BYTES = 262_144
_BLOCKS_AHEAD = 4


async def blocks(descriptor: int) -> AsyncIterator[bytes]:
    """Blocks of the file until its end. Raises ``OSError`` when it can not be read."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(_BLOCKS_AHEAD)

    def read() -> None:
        while True:
            room.acquire()
            try:
                item: bytes | OSError = os.read(descriptor, _BLOCK_BYTES)
            except OSError as error:
                item = error
            try:
                loop.call_soon_threadsafe(queue.put_nowait, item)
            except RuntimeError:
                # The loop is closed: nobody wants it any more.
                return
            if not item or isinstance(item, OSError):
                return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while True:
        item = await queue.get()
        if isinstance(item, OSError):
            raise item
        if not item:
            return
        yield item
        room.release()
