"""What every part of ``Admin`` rests on: the session, and asking brokers until one has answered for good.

Refuses to know what is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self, TypeVar, Unpack

from glasslog.client.backoff import Backoff
from glasslog.client.cluster import BrokerView
from glasslog.client.connections import error_of
from glasslog.client.metadata import FIRST_ATTEMPT_MS, view_of
from glasslog.client.options import Bootstrap, ClientKeywords, admin_options
from glasslog.client.session import Session
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Runtime, TransportError
from glasslog.v1.broker_pb2 import MetadataRequest, MetadataResponse
from google.protobuf.message import Message

_QUESTIONS = ("Describe", "List", "Metadata")
"""How methods begin that change nothing: to ask them twice does no harm."""

_POLL_MS = 20
_MAX_PAUSE_MS = 500

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDescription:
    """The cluster as one broker sees it; ``controller_id`` is -1 when unknown."""

    cluster_id: str
    controller_id: NodeId
    brokers: tuple[BrokerView, ...]


class AdminBase:
    """Started by ``start`` or ``async with``; what can be retried is, for ``default_api_timeout_ms``."""

    def __init__(
        self,
        bootstrap_servers: Bootstrap,
        *,
        runtime: Runtime | None = None,
        **options: Unpack[ClientKeywords],
    ) -> None:
        self._options = admin_options(bootstrap_servers, options)
        self._session = Session(runtime, self._options, "admin")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        await self._session.start()

    async def close(self) -> None:
        """Idempotent."""
        await self._session.close()

    async def describe_cluster(self) -> ClusterDescription:
        """Cluster id, controller and brokers, by id."""
        response = await self._ask_any("Metadata", MetadataRequest(), MetadataResponse, no_error)
        view = view_of(response)
        return ClusterDescription(
            cluster_id=view.cluster_id,
            controller_id=view.controller_id,
            brokers=tuple(view.brokers[node_id] for node_id in sorted(view.brokers)),
        )

    # --- asking -----------------------------------------------------------------------------------------

    async def _ask_any(
        self, method: str, request: Message, reply: type[Reply], code_of: Callable[[Reply], int]
    ) -> Reply:
        attempts = count()
        return await self._retry(
            lambda: self._ask_next(method, request, reply, next(attempts)), code_of, method
        )

    async def _ask_next(self, method: str, request: Message, reply: type[Reply], failures: int) -> Reply:
        """One broker; what only asks is soon asked of another one, what changes something is waited for."""
        metadata = self._session.metadata
        address, timeout_ms = metadata.any_broker(), self._options.request_timeout_ms
        if method.startswith(_QUESTIONS):
            timeout_ms = min(timeout_ms, FIRST_ATTEMPT_MS << min(failures, 10))
        try:
            return await self._session.connections.unary(
                address, method, request, reply, timeout_ms=timeout_ms
            )
        except TransportError:
            metadata.avoid(address)
            raise

    async def _ask_broker(self, broker_id: int, method: str, request: Message, reply: type[Reply]) -> Reply:
        cluster = await self.describe_cluster()
        address = next((each.address for each in cluster.brokers if each.node_id == broker_id), None)
        if address is None:
            raise GlasslogError(ErrorCode.BROKER_NOT_AVAILABLE, f"broker {broker_id} is not there")
        return await self._retry(
            lambda: self._session.connections.unary(
                address, method, request, reply, timeout_ms=self._options.request_timeout_ms
            ),
            no_error,
            f"{method} of broker {broker_id}",
        )

    async def _retry(
        self, call: Callable[[], Awaitable[Reply]], code_of: Callable[[Reply], int], what: str
    ) -> Reply:
        """The reply, once it is neither lost nor one that says "later"."""
        self._session.check()
        backoff = Backoff(base_ms=_POLL_MS, maximum_ms=_MAX_PAUSE_MS)
        last = GlasslogError(ErrorCode.REQUEST_TIMED_OUT, "no broker has answered")
        attempts = 0
        try:
            async with asyncio.timeout(self._options.default_api_timeout_ms / 1_000):
                while True:
                    try:
                        reply = await call()
                        code = error_of(code_of(reply))
                        if not code.retriable:
                            return reply
                        last = GlasslogError(code, f"the broker says {code.name}")
                    except GlasslogError as error:
                        if not error.retriable and not isinstance(error, TransportError):
                            raise
                        last = error
                    attempts += 1
                    pause_ms = backoff.delay_ms(attempts, self._session.runtime.random)
                    await asyncio.sleep(pause_ms / 1_000)
        except TimeoutError:
            limit_ms = self._options.default_api_timeout_ms
            raise GlasslogError(last.code, f"{what} was not answered within {limit_ms} ms: {last}") from None


def no_error(reply: Message) -> int:
    """For replies whose errors are told of their parts."""
    return 0


def raise_for(number: int, what: str, message: str) -> None:
    """Raise what a broker says about ``what``, unless it is nothing."""
    code = error_of(number)
    if code is not ErrorCode.NONE:
        # Most of what brokers say names the topic already.
        raise GlasslogError(code, message if what in message else f"{what}: {message or code.name}")
