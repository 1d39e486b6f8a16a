"""The production runtime against the death of real processes, and its own signals."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from glasslog.common.runtime.production.start import run
from glasslog.common.runtime.protocols import Peer, Runtime, Services, Stream, TransportError

from tests.unit.runtime.rpc_process import METHOD

_PROCESS = Path(__file__).with_name("rpc_process.py")
_AT_ONCE_S = 0.5
_PATIENCE_S = 20


async def _start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, str(_PROCESS), *arguments, stdout=PIPE)


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def _with_process(body: Callable[[Runtime, Process], Awaitable[None]], *arguments: str) -> None:
    async def main(runtime: Runtime) -> None:
        process = await _start(*arguments)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await body(runtime, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    run(main)


def test_a_killed_server_breaks_the_clients_stream_at_once() -> None:
    async def body(runtime: Runtime, process: Process) -> None:
        channel = runtime.transport.dial(f"127.0.0.1:{await _line(process)}")
        answers = aiter(channel.stream(METHOD))
        assert await anext(answers) == b"hello"
        process.kill()
        async with asyncio.timeout(_AT_ONCE_S):
            with pytest.raises(TransportError):
                await anext(answers)
        await channel.close()

    _with_process(body, "serve")


def test_a_killed_client_cancels_its_handler_at_once() -> None:
    async def main(runtime: Runtime) -> None:
        started, gone = asyncio.Event(), asyncio.Event()

        async def hold(stream: Stream, peer: Peer) -> None:
            started.set()
            try:
                await stream.send(b"hello")
                await asyncio.Event().wait()
            finally:
                gone.set()

        listener = await runtime.transport.listen("127.0.0.1:0", Services(streams={METHOD: hold}))
        process = await _start("dial", f"127.0.0.1:{listener.port}")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                assert await _line(process) == "hello"
                process.kill()
                async with asyncio.timeout(_AT_ONCE_S):
                    await gone.wait()
        finally:
            await process.wait()
            await listener.close()

    run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_in_order(number: signal.Signals) -> None:
    async def body(runtime: Runtime, process: Process) -> None:
        assert await _line(process) == "ready"
        process.send_signal(number)
        assert await _line(process) == "orderly"
        assert await process.wait() == 0

    _with_process(body, "signal", "willing")


def test_the_second_signal_ends_at_once() -> None:
    async def body(runtime: Runtime, process: Process) -> None:
        assert await _line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert await _line(process) == "orderly"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM

    _with_process(body, "signal", "stubborn")
