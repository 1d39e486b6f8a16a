"""From an API's layout and a handler of its values to what the listener serves.

This module knows decoding, calling, encoding; it refuses to know any API.  A handler answers every refusal
with a value of its response; what it raises closes the connection.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from glasslog.broker.kafka.connection import Api, RequestCall
from glasslog.broker.kafka.layout import ApiLayout
from glasslog.common.runtime.protocols import Peer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Q = TypeVar("Q", bound="DataclassInstance")
R = TypeVar("R", bound="DataclassInstance")


class Caller(NamedTuple):
    """Who asks, and in which version of the API."""

    version: int
    client_id: str
    peer: Peer
    listener: str


def at_once(layout: ApiLayout[Q, R], answer: Callable[[Q, Caller], R]) -> Api:
    """An API that never waits."""

    def handle(call: RequestCall) -> None:
        request = layout.decode_request(call.reader, call.header.api_version)
        _respond(layout, call, answer(request, _caller(call)))

    return _api(layout, handle)


def in_a_task(layout: ApiLayout[Q, R], answer: Callable[[Q, Caller], Awaitable[R]]) -> Api:
    """An API that may wait. Requests of a connection are begun in order and run beside each other."""

    async def work(call: RequestCall, request: Q) -> None:
        _respond(layout, call, await answer(request, _caller(call)))

    def handle(call: RequestCall) -> None:
        call.run(work(call, layout.decode_request(call.reader, call.header.api_version)))

    return _api(layout, handle)


def _caller(call: RequestCall) -> Caller:
    return Caller(call.header.api_version, call.client_id, call.peer, call.listener)


def _respond(layout: ApiLayout[Q, R], call: RequestCall, response: R) -> None:
    version = call.header.api_version
    throttle_ms = call.throttle()
    if throttle_ms and hasattr(response, "throttle_time_ms"):
        response = replace(response, throttle_time_ms=throttle_ms)
    body = layout.encode_response(response, version)
    call.respond((body,), has_flexible_header=version >= layout.flexible_from)


def _api(layout: ApiLayout[Q, R], handle: Callable[[RequestCall], None]) -> Api:
    return Api(
        key=layout.key,
        name=layout.name,
        min_version=layout.min_version,
        max_version=layout.max_version,
        flexible_from=layout.flexible_from,
        handle=handle,
    )
