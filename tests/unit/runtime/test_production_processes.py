"""The production runtime against the death of real processes, and its own signals."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from glasslog.common.runtime.production.start import run
from glasslog.common.runtime.protocols import Peer, Runtime, Services, Stream, TransportError

from tests.unit.runtime.rpc_process import METHOD

_PROCESS = Path(__file__).with_name("rpc_process.py")
_AT_ONCE_S = 0.5
_PATIENCE_S = 20

Process = subprocess.Popen[str]


def _start(*arguments: str) -> Process:
    """Start it as ``subprocess`` does, by vfork.

    uvloop forks for good, and its child once spun for ever in Python's after-fork handlers, since gRPC's
    threads were running at that moment: the test hung and left the child behind.
    """
    return subprocess.Popen([sys.executable, str(_PROCESS), *arguments], stdout=subprocess.PIPE, text=True)


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def _end(process: Process) -> int:
    return await asyncio.to_thread(process.wait)


def _with_process(body: Callable[[Runtime, Process], Awaitable[None]], *arguments: str) -> None:
    async def main(runtime: Runtime) -> None:
        with _start(*arguments) as process:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await body(runtime, process)
            finally:
                process.kill()

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
        with _start("dial", f"127.0.0.1:{listener.port}") as process:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    assert await _line(process) == "hello"
                    process.kill()
                    async with asyncio.timeout(_AT_ONCE_S):
                        await gone.wait()
            finally:
                process.kill()
        await listener.close()

    run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_in_order(number: signal.Signals) -> None:
    async def body(runtime: Runtime, process: Process) -> None:
        assert await _line(process) == "ready"
        process.send_signal(number)
        assert await _line(process) == "orderly"
        assert await _end(process) == 0

    _with_process(body, "signal", "willing")


def test_the_second_signal_ends_at_once() -> None:
    async def body(runtime: Runtime, process: Process) -> None:
        assert await _line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert await _line(process) == "orderly"
        process.send_signal(signal.SIGTERM)
        assert await _end(process) == 128 + signal.SIGTERM

    _with_process(body, "signal", "stubborn")


@pytest.mark.parametrize("ending", ["return", "raise ValueError('closing failed')", "raise"])
def test_ctrl_c_is_not_forgotten_whatever_comes_of_it(ending: str) -> None:
    """``glasslog topic describe --watch`` went on after Ctrl-C, once in many: the question of that moment had
    its answer all the same, or the signal came while the loop was closed and ended in an error of the loop's.
    """
    program = f"""
import asyncio, os, signal
from glasslog.common.runtime.production.start import run
async def main(runtime):
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        {ending}
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run(main)
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=_PATIENCE_S)
    assert ended.stdout == b"interrupted\n"
