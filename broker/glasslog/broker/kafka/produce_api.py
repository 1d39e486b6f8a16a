"""Produce as the Kafka listener serves it.

This module knows what of a request is refused before it reaches the broker's one way of producing, and that
nothing is answered with acks=0; it refuses to know partitions and logs.
Source: Kafka's ``KafkaApis.handleProduceRequest``.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from glasslog.broker.client_quotas import ClientQuotas
from glasslog.broker.kafka.codec import INT32
from glasslog.broker.kafka.connection import Api, RequestCall
from glasslog.broker.kafka.node_addresses import NodeAddress, addresses_of
from glasslog.broker.kafka.produce import (
    API_KEY,
    FLEXIBLE_FROM,
    MAX_VERSION,
    MIN_VERSION,
    SERVED_FROM,
    ProduceCall,
    decode_request,
    encode_response,
)
from glasslog.broker.produce_path import ProducePath, ProduceResults
from glasslog.broker.requests import ACKS_NONE, ProducePartition, ProducePartitionResult
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE
from glasslog.common.runtime.protocols import Buffer
from glasslog.metadata.image import MetadataImage

_LOGGER = logging.getLogger(__name__)
_MAGIC_POSITION = 16
_MAGIC = 2
_LENGTH_POSITION, _ATTRIBUTES_POSITION = 8, 22
_TRANSACTIONAL_BIT = 0x10


class ProduceApi:
    """See the module. ``image`` gives the newest metadata."""

    def __init__(self, path: ProducePath, image: Callable[[], MetadataImage], quotas: ClientQuotas) -> None:
        self._path = path
        self._quotas = quotas
        self._image = image

    def api(self) -> Api:
        """What the listener is given."""
        return Api(
            key=API_KEY,
            name="Produce",
            min_version=MIN_VERSION,
            max_version=MAX_VERSION,
            flexible_from=FLEXIBLE_FROM,
            handle=self.handle,
        )

    def handle(self, call: RequestCall) -> None:
        """Append at once, so that requests of a connection keep their order; answer when it is time."""
        version = call.header.api_version
        produced = decode_request(call.reader, version)
        refusal = _refusal(produced, version)
        if refusal is not None:
            error, message = refusal
            _LOGGER.warning("produce request of %s (%s): %s", call.peer.address, call.client_id, message)
            results = [_refused(each, error, message) for each in produced.request.partitions]
            self._respond(call, produced, tuple(results))
            return
        answer = self._path.produce(produced.request)
        if answer.done():
            self._respond(call, produced, answer.result())
            return

        def on_done(future: "asyncio.Future[ProduceResults]") -> None:
            if not future.cancelled():
                self._respond(call, produced, future.result())

        answer.add_done_callback(on_done)

    def _respond(self, call: RequestCall, produced: ProduceCall, results: ProduceResults) -> None:
        failed = [each for each in results if each.error is not ErrorCode.NONE]
        throttle_ms = call.throttle(self._produced(call, produced))
        if produced.request.acks != ACKS_NONE:
            version = call.header.api_version
            nodes = self._leaders_of(failed, call.listener) if failed else ()
            body = encode_response(results, nodes, version, throttle_ms=throttle_ms)
            call.respond((body,), has_flexible_header=version >= FLEXIBLE_FROM)
        elif failed:
            # The only way to tell the client that it should look at the metadata again.
            call.refuse(f"acks=0, and {failed[0].partition}: {failed[0].error_message}")
        else:
            call.respond_nothing()

    def _produced(self, call: RequestCall, produced: ProduceCall) -> int:
        if not self._quotas.is_active:
            return 0
        size_bytes = sum(len(each.records) for each in produced.request.partitions)
        return self._quotas.produced(call.client_id, size_bytes)

    def _leaders_of(self, failed: Sequence[ProducePartitionResult], listener: str) -> Sequence[NodeAddress]:
        leaders = [each.current_leader_id for each in failed if each.current_leader_id != NO_NODE]
        return addresses_of(self._image(), leaders, listener)


def _refusal(produced: ProduceCall, version: int) -> tuple[ErrorCode, str] | None:
    if version < SERVED_FROM:
        return (
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"version {version} carries record formats before magic 2; versions from {SERVED_FROM} on are "
            "served, which every client since Kafka 0.11 speaks",
        )
    partitions = produced.request.partitions
    if produced.transactional_id is not None or any(_is_transactional(each.records) for each in partitions):
        # Nobody would ever decide the transaction: readers of committed records would wait for ever.
        return ErrorCode.INVALID_TXN_STATE, "transactions are not served here"
    magics = {magic for each in partitions if (magic := _magic(each.records)) != _MAGIC}
    if magics:
        return (
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"records of format {max(magics)}; only format {_MAGIC} is stored here",
        )
    return None


def _magic(records: Buffer) -> int:
    """What the first batch says of its format; what is too short for one is left to the log to judge."""
    return records[_MAGIC_POSITION] if len(records) > _MAGIC_POSITION else _MAGIC


def _is_transactional(records: Buffer) -> bool:
    """Whether any batch says that it belongs to a transaction; batches that are not whole are left alone."""
    position, end = 0, len(records)
    while position + _ATTRIBUTES_POSITION < end:
        if records[position + _ATTRIBUTES_POSITION] & _TRANSACTIONAL_BIT:
            return True
        length = INT32.unpack_from(records, position + _LENGTH_POSITION)[0]
        if length <= 0:
            return False
        position += _LENGTH_POSITION + INT32.size + length
    return False


def _refused(each: ProducePartition, error: ErrorCode, message: str) -> ProducePartitionResult:
    return ProducePartitionResult(partition=each.partition, error=error, error_message=message)
