"""How glasslog's errors travel over gRPC: status, text, and the code as trailing metadata.

Refuses to know who calls whom.
"""

import grpc
import grpc.aio
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import TransportError

ERROR_CODE_KEY = "glasslog-error-code"

_LONGEST_TEXT = 2_048
"""Metadata is small by nature: gRPC refuses more than 8 KiB of it by default."""

_TRANSPORT_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.REQUEST_TIMED_OUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.MESSAGE_TOO_LARGE,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.UNSUPPORTED_VERSION,
    grpc.StatusCode.UNKNOWN: ErrorCode.UNKNOWN_SERVER_ERROR,
}


async def abort(context: "grpc.aio.ServicerContext[bytes, bytes]", error: GlasslogError) -> None:
    """End the call with ``error``; raises what gRPC wants raised."""
    status = grpc.StatusCode.UNAVAILABLE if error.retriable else grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(status, str(error)[:_LONGEST_TEXT], ((ERROR_CODE_KEY, str(int(error.code))),))


def from_rpc_error(error: grpc.aio.AioRpcError, *, method: str, address: str) -> GlasslogError:
    """The handler's own error if it raised one, else a ``TransportError`` that says what failed and why."""
    code = _carried_code(error)
    text = error.details() or ""
    if code is not None:
        return GlasslogError(code, text)
    status = error.code()
    reason = text or status.name
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = "timed out"
    return TransportError(
        f"{method} to {address} failed: {reason}", _TRANSPORT_CODES.get(status, ErrorCode.NETWORK_EXCEPTION)
    )


def _carried_code(error: grpc.aio.AioRpcError) -> ErrorCode | None:
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_CODE_KEY:
            try:
                return ErrorCode(int(value))
            except ValueError:
                # A newer server's code.
                return ErrorCode.UNKNOWN_SERVER_ERROR
    return None
