"""One client's connection on the Kafka listener: requests in, answers out in the same order.

This module knows headers, the order of answers and the bounds of a connection; it refuses to know what any
API does.  A request that waits (a long poll) is asked to answer as soon as another one arrives behind it,
since nothing behind it could be answered otherwise.  Source: Kafka's protocol guide.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from glasslog.broker.kafka.codec import MalformedFrame, Reader
from glasslog.broker.kafka.headers import (
    RequestHeader,
    decode_fixed_part,
    decode_rest,
    encode_response_header,
)
from glasslog.common.errors import ErrorCode, InvariantViolation
from glasslog.common.runtime.protocols import Buffer, FrameConnection, Peer, TransportError

_LOGGER = logging.getLogger(__name__)

MAX_IN_FLIGHT_REQUESTS = 64
"""By default so many requests of one connection may await their answers; then reading pauses."""

CHECK_AFTER_BYTES = 1 << 20
"""After so many bytes of answers the peer must have read before more requests are taken from it."""


class RequestQuotas(Protocol):
    """Limits on the work that clients make."""

    @property
    def is_active(self) -> bool:
        """Whether there are any."""
        ...

    def now_ns(self) -> int: ...

    def worked(self, client_id: str, spent_ns: int, /) -> int:
        """So long a request was worked on; ms to hold the client back."""
        ...


class _Unlimited:
    is_active = False

    def now_ns(self) -> int:
        return 0

    def worked(self, client_id: str, spent_ns: int) -> int:
        return 0


UNLIMITED: RequestQuotas = _Unlimited()


def _nothing() -> None:
    """What a request that never waits does when it is hurried."""


class RequestCall:
    """One request on its way through a handler, which calls ``respond`` once, now or later.

    A handler that waits sets ``hurry`` (answer now) and ``cancel`` (the client is gone). ``reader`` and what
    it gives are valid only until the handler returns.
    """

    __slots__ = (
        "_connection",
        "_parts",
        "_spent_ns",
        "_started_ns",
        "cancel",
        "client_id",
        "header",
        "hurry",
        "peer",
        "reader",
    )

    def __init__(
        self, connection: "KafkaConnection", header: RequestHeader, client_id: str, reader: Reader, peer: Peer
    ) -> None:
        self._connection = connection
        self._parts: Sequence[Buffer] | None = None
        self._started_ns: int | None = None
        self._spent_ns = 0
        self.header = header
        self.client_id = client_id
        self.reader = reader
        self.peer = peer
        self.hurry: Callable[[], None] = _nothing
        self.cancel: Callable[[], object] = _nothing

    @property
    def answer(self) -> Sequence[Buffer] | None:
        return self._parts

    @property
    def listener(self) -> str:
        """The name of the listener that the client came by."""
        return self._connection.listener

    def begin(self, now_ns: int | None) -> None:
        """It is being worked on from now on, if that is measured; ``None``: not any more."""
        if self._started_ns is not None:
            self._spent_ns += self._connection.quotas.now_ns() - self._started_ns
        self._started_ns = now_ns

    def throttle(self, delay_ms: int = 0) -> int:
        """For how many ms the client is held back: for ``delay_ms``, or for the work that it has made.

        To be told in the answer: nothing more is read from it meanwhile (KIP-219).
        """
        quotas = self._connection.quotas
        if quotas.is_active:
            started_ns = self._started_ns
            self.begin(None if started_ns is None else quotas.now_ns())
            delay_ms = max(delay_ms, quotas.worked(self.client_id, self._spent_ns))
            self._spent_ns = 0
        if delay_ms:
            self._connection.mute(delay_ms)
        return delay_ms

    def respond(self, body: Sequence[Buffer], *, has_flexible_header: bool) -> None:
        """Send ``body`` once every earlier request of the connection is answered."""
        if self._parts is None:
            header = encode_response_header(self.header.correlation_id, is_flexible=has_flexible_header)
            self._parts = (header, *body)
            # What waited refers to this call: without the cycle it is freed at once.
            self.hurry = self.cancel = _nothing
            self._connection.flush()

    def respond_nothing(self) -> None:
        """Be done without an answer, as a Produce with acks=0 is."""
        if self._parts is None:
            self._parts = ()
            self.hurry = self.cancel = _nothing
            self._connection.flush()

    def refuse(self, why: str) -> None:
        """Close the connection: this request has no answer."""
        self._connection.refuse(why)

    def run(self, work: Coroutine[object, object, None]) -> None:
        """Answer later: ``work`` calls ``respond``. It is cancelled when the client is gone."""
        task = asyncio.get_running_loop().create_task(work, name="Kafka request")
        self.cancel = task.cancel
        task.add_done_callback(self._connection.on_task_done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One API that is served. Versions from ``flexible_from`` on have tagged fields in their header."""

    key: int
    name: str
    min_version: int
    max_version: int
    flexible_from: int
    handle: Callable[[RequestCall], None]


class KafkaConnection:
    """See the module; made for every accepted connection."""

    def __init__(
        self,
        connection: FrameConnection,
        *,
        apis: Mapping[int, Api],
        refuse_version: Callable[[RequestCall], bool],
        on_end: Callable[["KafkaConnection"], None],
        on_fatal: Callable[[InvariantViolation], None],
        complain: Callable[[str], None] = _LOGGER.warning,
        max_in_flight: int = MAX_IN_FLIGHT_REQUESTS,
        listener: str = "KAFKA",
        quotas: RequestQuotas = UNLIMITED,
    ) -> None:
        self.listener = listener
        self.quotas = quotas
        self._muted: asyncio.TimerHandle | None = None
        self._connection = connection
        self._complain = complain
        self._max_in_flight = max_in_flight
        self.is_used = True
        self._apis = apis
        self._refuse_version = refuse_version
        self._on_end = on_end
        self._on_fatal = on_fatal
        self._calls: deque[RequestCall] = deque()
        self._is_closed = False
        self._is_full = False
        self._unchecked_bytes = 0
        self._check: asyncio.Task[None] | None = None

    def on_frame(self, frame: memoryview) -> None:
        if self._is_closed:
            return
        self.is_used = True
        try:
            self._dispatch(Reader(frame))
        except MalformedFrame as error:
            self.refuse(f"malformed request: {error}")
        except InvariantViolation as error:
            # Here it would only cost the connection: the broker has to stop.
            self._on_fatal(error)
            self.refuse(f"internal error: {error}")

    def _dispatch(self, reader: Reader) -> None:
        header = decode_fixed_part(reader)
        if self._calls:
            for waiting in list(self._calls):
                waiting.hurry()
        api = self._apis.get(header.api_key)
        if api is None:
            self.refuse(f"API key {header.api_key} (version {header.api_version}) is not served here")
            return
        if not api.min_version <= header.api_version <= api.max_version:
            call = self._enqueue(header, "", reader)
            if not self._refuse_version(call):
                self.refuse(
                    f"{api.name} version {header.api_version} is not served; "
                    f"served are {api.min_version} to {api.max_version}"
                )
            return
        client_id = decode_rest(reader, is_flexible=header.api_version >= api.flexible_from)
        call = self._enqueue(header, client_id, reader)
        if not self.quotas.is_active:
            api.handle(call)
            return
        call.begin(self.quotas.now_ns())
        try:
            api.handle(call)
        finally:
            call.begin(None)

    def _enqueue(self, header: RequestHeader, client_id: str, reader: Reader) -> RequestCall:
        call = RequestCall(self, header, client_id, reader, self._connection.peer)
        self._calls.append(call)
        if len(self._calls) >= self._max_in_flight and not self._is_full:
            self._is_full = True
            self._connection.pause_reading()
        return call

    def flush(self) -> None:
        """Send every answer whose turn it is."""
        while self._calls and (parts := self._calls[0].answer) is not None and not self._is_closed:
            self._calls.popleft()
            if parts:
                self._connection.send(parts)
                self._unchecked_bytes += sum(map(len, parts))
        if self._unchecked_bytes >= CHECK_AFTER_BYTES and not self._is_closed:
            self._check_reader()
        if self._is_full and len(self._calls) <= self._max_in_flight // 2:
            self._is_full = False
            self._resume()

    def on_task_done(self, task: "asyncio.Task[None]") -> None:
        """A request's task has ended; one that failed has not answered."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, InvariantViolation):
            self._on_fatal(error)
        _LOGGER.error("a request of %s failed", self._connection.peer.address, exc_info=error)
        self.refuse(f"internal error: {error}")

    def _check_reader(self) -> None:
        """A client that does not read its answers gets no new ones."""
        if self._check is None:
            self._connection.pause_reading()
            self._check = asyncio.get_running_loop().create_task(self._until_read(), name="slow reader check")

    async def _until_read(self) -> None:
        try:
            await self._connection.writable()
        except TransportError:
            return
        self._unchecked_bytes = 0
        self._check = None
        self._resume()

    def mute(self, delay_ms: int) -> None:
        """Read nothing for so long, or longer if it is muted longer already."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + delay_ms / 1000
        if self._is_closed or (self._muted is not None and self._muted.when() >= ends):
            return
        if self._muted is not None:
            self._muted.cancel()
        self._connection.pause_reading()
        self._muted = loop.call_at(ends, self._unmute)

    def _unmute(self) -> None:
        self._muted = None
        self._resume()

    def _resume(self) -> None:
        if self._is_closed or self._muted is not None:
            return
        if not self._is_full and self._check is None:
            self._connection.resume_reading()

    def refuse(self, why: str) -> None:
        """Close the connection because of what the client sent."""
        if not self._is_closed:
            self._complain(f"connection of {self._connection.peer.address} is closed: {why}")
            self._connection.close()
            self._end()

    def on_closed(self, error: Exception | None) -> None:
        if isinstance(error, TransportError) and error.code is ErrorCode.INVALID_REQUEST:
            # Bytes that are no frame, such as another protocol's greeting.
            self._complain(f"connection of {self._connection.peer.address} is closed: {error}")
        self._end()

    @property
    def address(self) -> str:
        """The peer's host, without its port."""
        return self._connection.peer.address.rpartition(":")[0]

    @property
    def waits(self) -> bool:
        """Whether requests of it await their answers."""
        return bool(self._calls)

    def _end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.cancel()
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if self._muted is not None:
            self._muted.cancel()
            self._muted = None
        self._on_end(self)

    def close(self) -> None:
        """The listener closes."""
        self._connection.close()
        self._end()
