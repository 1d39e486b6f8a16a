"""A node's bounded inbox: what the core has to take next, and the callers that wait for its answers.

This module refuses to know what a request means.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.controller.raft import wire
from glasslog.controller.raft.messages import Message, Request, RequestReceived, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A request that was not answered yet."""

    request: Request
    answer: asyncio.Future[bytes]


class Inbox:
    """Inputs in order of arrival; requests beyond ``limit`` get THROTTLING_QUOTA_EXCEEDED.

    Answers to own calls, and their failures, are never refused: the core has few calls in flight.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._messages: deque[Message] = deque()
        self._waiting: dict[int, _Waiting] = {}
        self._next_request_id = 1
        self._wake = asyncio.Event()

    def post(self, message: Message) -> None:
        """Add an input."""
        self._messages.append(message)
        self._wake.set()

    def wake(self) -> None:
        """Let ``wait`` return although there is no input."""
        self._wake.set()

    async def wait(self, *, timeout_ms: int | None) -> None:
        """Until there is input, ``wake`` was called, or time is up."""
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def take(self) -> Iterator[Message]:
        """All inputs at hand."""
        while self._messages:
            yield self._messages.popleft()

    async def ask(self, method: str, data: bytes) -> bytes:
        """Bring in a request and wait for its answer."""
        request = wire.decode_request(method, data)
        # A caller that gave up is not waiting any more, but its request may still be in the queue.
        if max(len(self._waiting), len(self._messages)) >= self._limit:
            raise GlasslogError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED, f"{self._limit} requests of the quorum wait already"
            )
        request_id = self._next_request_id
        self._next_request_id += 1
        waiting = _Waiting(request=request, answer=asyncio.get_running_loop().create_future())
        self._waiting[request_id] = waiting
        self.post(RequestReceived(request_id=request_id, request=request))
        try:
            return await waiting.answer
        finally:
            del self._waiting[request_id]

    def is_waiting(self, request_id: int) -> bool:
        """Whether the caller is still there."""
        return request_id in self._waiting

    def answer(self, request_id: int, response: Response) -> None:
        """Answer a request; nothing if its caller has gone away."""
        waiting = self._waiting.get(request_id)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(wire.encode_response(waiting.request, response))

    def refuse_all(self, error: GlasslogError) -> None:
        """Nobody will answer any more."""
        self._messages.clear()
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(GlasslogError(error.code, str(error)))
                # A caller that was cancelled at the same moment never looks at it.
                waiting.answer.exception()
