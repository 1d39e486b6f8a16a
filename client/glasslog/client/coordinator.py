"""Finds a group's coordinator, and asks it until it answers: through loading, moving and dying.

Refuses to know membership and offsets; only which errors mean "ask again" or "ask another".
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glasslog.client.backoff import Backoff
from glasslog.client.connections import error_of
from glasslog.client.session import Session
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.addresses import join_address
from glasslog.common.runtime.protocols import TransportError
from glasslog.v1.broker_pb2 import FindCoordinatorRequest, FindCoordinatorResponse
from google.protobuf.message import Message

_FIND_TIMEOUT_MS = 2_000
_WATCH_MS = 2_000
"""How often a long call's coordinator is looked up again: a paused one keeps the connection silently."""

_MAX_PAUSE_MS = 200
_MOVED = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})
_PATIENCE = frozenset({ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})

Reply = TypeVar("Reply", bound=Message)
Result = TypeVar("Result")


class CoordinatorClient:
    """The way to one group's coordinator."""

    def __init__(self, session: Session, group_id: str) -> None:
        self._session = session
        self._group_id = group_id
        self._address: str | None = None
        self._backoff = Backoff(
            base_ms=session.options.retry_backoff_ms,
            maximum_ms=max(_MAX_PAUSE_MS, session.options.retry_backoff_ms),
        )

    async def call(
        self,
        method: str,
        request: Message,
        reply: type[Reply],
        code_of: Callable[[Reply], int],
        *,
        attempt_ms: int,
        timeout_ms: int,
    ) -> tuple[Reply, ErrorCode]:
        """The coordinator's reply with its error code, one that says more than "ask again".

        One attempt may take ``attempt_ms``.  After ``timeout_ms`` raises the last error, or that it took
        too long.
        """
        self._session.check()
        self._last = GlasslogError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "no broker has answered")
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                attempts = 0
                while True:
                    answer = await self._attempt(method, request, reply, code_of, attempt_ms)
                    if answer is not None:
                        return answer
                    attempts += 1
                    await self.pause(attempts)
        except TimeoutError:
            raise GlasslogError(
                self._last.code,
                f"{method} of group {self._group_id!r} was not answered within {timeout_ms} ms: {self._last}",
            ) from None

    async def _attempt(
        self,
        method: str,
        request: Message,
        reply: type[Reply],
        code_of: Callable[[Reply], int],
        attempt_ms: int,
    ) -> tuple[Reply, ErrorCode] | None:
        """``None``: ask again."""

        async def ask(address: str) -> tuple[Reply, ErrorCode]:
            answer = await self._watched(address, method, request, reply, attempt_ms)
            code = error_of(code_of(answer))
            self.check(code, address)
            return answer, code

        return await self.attempt(ask)

    @staticmethod
    def check(code: ErrorCode, who: str) -> None:
        """Raise a code that says no more than to ask elsewhere, or later."""
        if code in _MOVED or code in _PATIENCE:
            raise GlasslogError(code, f"{who} says {code.name}")

    async def attempt(self, work: Callable[[str], Awaitable[Result]]) -> Result | None:
        """``work`` at the coordinator's address. ``None``: nobody is there, or not yet; try again."""
        address = self._address
        try:
            if address is None:
                address = self._address = await self._find()
            return await work(address)
        except GlasslogError as error:
            if not (isinstance(error, TransportError) or error.retriable or error.code in _MOVED):
                raise
            self._last = error
            if error.code not in _PATIENCE and self._address == address:
                self._address = None
                self._session.metadata.request_update()
            return None

    async def pause(self, attempts: int) -> None:
        """Before the next, after so many in vain."""
        await asyncio.sleep(self._backoff.delay_ms(attempts, self._session.runtime.random) / 1_000)

    async def _watched(
        self, address: str, method: str, request: Message, reply: type[Reply], attempt_ms: int
    ) -> Reply:
        call = asyncio.ensure_future(
            self._session.connections.unary(address, method, request, reply, timeout_ms=attempt_ms)
        )
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=_WATCH_MS / 1_000)
                if not call.done() and await self._has_moved(address):
                    raise TransportError(f"the coordinator moved away from {address}")
            return call.result()
        finally:
            if not call.done():
                call.cancel()
            elif not call.cancelled():
                call.exception()

    async def _has_moved(self, address: str) -> bool:
        try:
            return await self._find() != address
        except GlasslogError:
            return False

    async def _find(self) -> str:
        response = await self._session.connections.unary(
            self._session.metadata.any_broker(),
            "FindCoordinator",
            FindCoordinatorRequest(key=self._group_id, key_type=0),
            FindCoordinatorResponse,
            timeout_ms=_FIND_TIMEOUT_MS,
        )
        if response.error_code:
            code = error_of(response.error_code)
            raise GlasslogError(code, response.error_message or f"no coordinator: {code.name}")
        return join_address(response.host, response.port)
