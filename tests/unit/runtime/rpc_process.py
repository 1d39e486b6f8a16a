"""A process of its own for tests: serves or dials, prints what happens. Test helper only."""

import asyncio
import sys

from glasslog.common.runtime.production.start import run, wait_for_termination
from glasslog.common.runtime.protocols import Peer, Runtime, Services, Stream

METHOD = "/test.Service/Method"


def say(text: str) -> None:
    """One line to the test that started this process."""
    print(text, flush=True)


async def serve(runtime: Runtime) -> None:
    async def hold(stream: Stream, peer: Peer) -> None:
        await stream.send(b"hello")
        await asyncio.Event().wait()

    listener = await runtime.transport.listen("127.0.0.1:0", Services(streams={METHOD: hold}))
    say(str(listener.port))
    await asyncio.Event().wait()


async def dial(runtime: Runtime) -> None:
    stream = runtime.transport.dial(sys.argv[2]).stream(METHOD)
    async for message in stream:
        say(message.decode())


async def await_signal(runtime: Runtime) -> None:
    terminated = asyncio.create_task(wait_for_termination())
    await asyncio.sleep(0)
    say("ready")
    await terminated
    say("orderly")
    if sys.argv[2] == "stubborn":
        await asyncio.Event().wait()


if __name__ == "__main__":
    run({"serve": serve, "dial": dial, "signal": await_signal}[sys.argv[1]])
