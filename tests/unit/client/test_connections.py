"""Streams of requests to one broker: what happens to the answers that never come."""

import asyncio
import gc

import pytest
from glasslog.client.connections import Connections, RequestStream
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import memory_runtime
from glasslog.v1.broker_pb2 import ProduceResponse


async def open_scope() -> TaskScope:
    errors: list[GlasslogError] = []
    scope = TaskScope(errors.append)
    await scope.open("client")
    return scope


async def broken_stream(scope: TaskScope) -> "RequestStream[ProduceResponse]":
    """A stream to where nobody listens, with one request under way that nobody waits for."""
    connections = Connections(memory_runtime(), scope)
    stream = connections.stream("nowhere:1", "Produce", ProduceResponse.FromString)
    stream.submit(1, b"lost")
    await asyncio.sleep(1)
    assert stream.broken is not None
    await connections.close()
    return stream


def test_an_answer_that_nobody_waits_for_is_no_news() -> None:
    """Ctrl-C in a program that produced printed "Future exception was never retrieved" and a traceback."""
    told: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        scope = await open_scope()
        stream = await broken_stream(scope)
        stream.submit(2, b"too late")
        gc.collect()
        await scope.close()

    run_virtual(main)
    assert told == []


def test_who_waits_is_told() -> None:
    async def main() -> None:
        scope = await open_scope()
        stream = await broken_stream(scope)
        with pytest.raises(GlasslogError, match="nowhere:1"):
            await stream.submit(2, b"too late")
        await scope.close()

    run_virtual(main)
