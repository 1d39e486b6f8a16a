"""One proxied connection: two sockets, a pipe in each direction.

Knows sockets and when to wake; refuses to know what toxics do (``pipe``) and who configures them
(``proxies``).
"""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import assert_never

from glasslog.chaos.toxiproxy.pipe import Close, Data, End, Pipe
from glasslog.chaos.toxiproxy.toxics import Direction, Toxic

_READ_BYTES = 64 << 10
_MAX_WAITING_BYTES = 16 << 20
"""Per direction; a full pipe stops reading, as a full TCP window would."""

_RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on with no time: closing sends a reset."""


class Link:
    """A connection through a proxy; ``run`` returns when it is over, with both sockets closed."""

    def __init__(
        self,
        *,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        toxics: Mapping[Direction, Sequence[Toxic]],
        random: Random,
    ) -> None:
        self._writers = (client[1], server[1])
        self._flows = {
            Direction.UPSTREAM: _Flow(client[0], server[1], toxics[Direction.UPSTREAM], random),
            Direction.DOWNSTREAM: _Flow(server[0], client[1], toxics[Direction.DOWNSTREAM], random),
        }

    def set_toxics(self, direction: Direction, toxics: Sequence[Toxic]) -> None:
        """The proxy's toxics of ``direction`` are now these."""
        self._flows[direction].set_toxics(toxics)

    async def run(self) -> None:
        """Carry bytes until both sides ended or a toxic cuts them; a cancelled link is closed."""
        reset = False
        flows = [asyncio.create_task(flow.run()) for flow in self._flows.values()]
        try:
            for flow in asyncio.as_completed(flows):
                ending = await flow
                if isinstance(ending, Close):
                    reset = ending.reset
                    break
        finally:
            for flow in flows:
                flow.cancel()
            await asyncio.gather(*flows, return_exceptions=True)
            for writer in self._writers:
                _close(writer, reset=reset)


class _Flow:
    """One direction, up to its first closing event."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        toxics: Sequence[Toxic],
        random: Random,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._pipe = Pipe(toxics=toxics, random=random, now_s=self._loop.time())
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._broken = False

    def set_toxics(self, toxics: Sequence[Toxic]) -> None:
        if self._pipe.drops_connection_without(toxics):
            self._broken = True
        self._pipe.set_toxics(toxics, now_s=self._loop.time())
        self._changed.set()

    async def run(self) -> End | Close:
        """Carry bytes; returns how it ended: ``End`` leaves the other direction open."""
        reading = asyncio.create_task(self._read())
        try:
            return await self._write()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        data = b"?"
        while data:
            await self._has_room.wait()
            try:
                data = await self._reader.read(_READ_BYTES)
            except OSError:
                data = b""
            if data:
                self._pipe.push(data, now_s=self._loop.time())
            else:
                self._pipe.end(now_s=self._loop.time())
            if self._pipe.waiting_bytes >= _MAX_WAITING_BYTES:
                self._has_room.clear()
            self._changed.set()

    async def _write(self) -> End | Close:
        while not self._broken:
            self._changed.clear()
            try:
                for event in self._pipe.take(now_s=self._loop.time()):
                    match event:
                        case Data(data):
                            self._writer.write(data)
                        case End():
                            self._writer.write_eof()
                            return event
                        case Close():
                            return event
                        case _ as never:
                            assert_never(never)
                await self._writer.drain()
            except OSError:
                return Close()
            if self._pipe.waiting_bytes < _MAX_WAITING_BYTES:
                self._has_room.set()
            await self._until_due()
        return Close()

    async def _until_due(self) -> None:
        due_s = self._pipe.next_s()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._changed.wait()


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        raw = writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    else:
        writer.close()
