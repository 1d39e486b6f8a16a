"""Why no broker could be reached, in one sentence; notices a Kafka port given in place of a GRPC one.

Refuses to know how the client would have gone on.
"""

import asyncio
from collections.abc import Mapping, Sequence

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Runtime, TransportError

_PROBE_TIMEOUT_MS = 500
_CORRELATION = b"glas"
_API_VERSIONS_REQUEST = b"\x00\x12\x00\x00" + _CORRELATION + b"\xff\xff"
"""ApiVersions, version 0, no client id: every Kafka broker answers it at once."""

_MAX_FRAME_BYTES = 65_536


class _Probe:
    """Waits for one frame that carries our correlation id."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: memoryview) -> None:
        if not self.answer.done():
            self.answer.set_result(bytes(frame[:4]) == _CORRELATION)

    def on_closed(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(False)


async def all_speak_kafka(runtime: Runtime, addresses: Sequence[str]) -> bool:
    """Whether Kafka's protocol is answered at every address."""
    return all([await _speaks_kafka(runtime, address) for address in addresses])


async def explain_unreachable(
    runtime: Runtime, addresses: Sequence[str], reasons: Mapping[str, str]
) -> GlasslogError:
    """The error to raise: every address with what happened there."""
    parts = []
    for address in addresses:
        if await _speaks_kafka(runtime, address):
            parts.append(
                f"{address} speaks the Kafka protocol, this client speaks gRPC: "
                "give the port of a GRPC listener (9192 by default)"
            )
        else:
            parts.append(f"{address}: {reasons.get(address, 'no answer')}")
    return GlasslogError(ErrorCode.BROKER_NOT_AVAILABLE, "no broker could be reached: " + "; ".join(parts))


async def _speaks_kafka(runtime: Runtime, address: str) -> bool:
    probe = _Probe()
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_MS / 1_000):
            connection = await runtime.transport.dial_frames(
                address, probe, timeout_ms=_PROBE_TIMEOUT_MS, max_frame_bytes=_MAX_FRAME_BYTES
            )
            try:
                connection.send((_API_VERSIONS_REQUEST,))
                return await probe.answer
            finally:
                connection.close()
    except (TransportError, OSError, TimeoutError):
        return False
