"""Produce as the Kafka listener serves it.

This module knows what of a request is refused before it reaches the broker's one way of producing, and that
nothing is answered with acks=0; it refuses to know partitions and logs.
Source: Kafka's ``KafkaApis.handleProduceRequest``.
"""

import logging
from collections.abc import Callable, Sequence

from glasslog.broker.client_quotas import ClientQuotas
from glasslog.broker.kafka.connection import Api, RequestCall
from glasslog.broker.kafka.node_addresses import NodeAddress, addresses_of
from glasslog.broker.kafka.produce import (
    API_KEY,
    FLEXIBLE_FROM,
    MAX_VERSION,
    MIN_VERSION,
    SERVED_FROM,
    ProduceCall,
    encode_response,
)
from glasslog.broker.kafka.usual_produce import UsualRequests
from glasslog.broker.produce_path import ProducePath, ProduceResults
from glasslog.broker.refused_parts import (
    NO_TRANSACTIONS,
    SMALLEST_HEADER_BYTES,
    Problem,
    Refused,
    batch_bytes,
    merged,
    problem_of_batch,
    refused,
    without,
)
from glasslog.broker.requests import ACKS_NONE, ProducePartition, ProducePartitionResult
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import Compression
from glasslog.metadata.image import MetadataImage

_LOGGER = logging.getLogger(__name__)
_ATTRIBUTES_POSITION = 22
_COMPRESSION_BITS = 0x07
_ZSTD_FROM = 7
"""Clients that ask in an older version can not read it (KIP-110)."""


class ProduceApi:
    """See the module. ``image`` gives the newest metadata."""

    def __init__(self, path: ProducePath, image: Callable[[], MetadataImage], quotas: ClientQuotas) -> None:
        self._path = path
        self._quotas = quotas
        self._image = image
        self._usual = UsualRequests()

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
        produced = self._usual.decode(call.reader, version)
        refusal = _refusal(produced, version)
        if refusal is not None:
            error, message = refusal
            _LOGGER.warning("produce request of %s (%s): %s", call.peer.address, call.client_id, message)
            results = [refused(each, error, message) for each in produced.request.partitions]
            self._respond(call, produced, tuple(results))
            return
        request, parts = produced.request, _unsound(produced.request.partitions, version)
        if parts:
            message = next(iter(parts.values())).error_message
            _LOGGER.warning("produce request of %s (%s): %s", call.peer.address, call.client_id, message)
            request = request._replace(partitions=without(request.partitions, parts))

        def on_done(results: ProduceResults) -> None:
            self._respond(call, produced, merged(results, parts))

        self._path.start(request, on_done)

    def _respond(
        self, call: RequestCall, produced: ProduceCall, results: Sequence[ProducePartitionResult]
    ) -> None:
        failed = [each for each in results if each.error is not ErrorCode.NONE]
        throttle_ms = call.throttle(self._produced(call, produced)) if self._quotas.is_active else 0
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
        size_bytes = sum(len(each.records) for each in produced.request.partitions)
        return self._quotas.produced(call.client_id, size_bytes)

    def _leaders_of(self, failed: Sequence[ProducePartitionResult], listener: str) -> Sequence[NodeAddress]:
        leaders = [each.current_leader_id for each in failed if each.current_leader_id != NO_NODE]
        return addresses_of(self._image(), leaders, listener)


def _refusal(produced: ProduceCall, version: int) -> Problem | None:
    if version < SERVED_FROM:
        return (
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"version {version} carries record formats before magic 2; versions from {SERVED_FROM} on are "
            "served, which every client since Kafka 0.11 speaks",
        )
    if produced.transactional_id is not None:
        return NO_TRANSACTIONS
    return None


def _unsound(partitions: Sequence[ProducePartition], version: int) -> Refused:
    """Those whose records the listener does not pass on, by their place, and what they are answered."""
    return {
        number: refused(each, *problem)
        for number, each in enumerate(partitions)
        if (problem := _problem(each.records, version)) is not None
    }


def _problem(records: Buffer, version: int) -> Problem | None:
    """What a partition brings has to be one whole batch: ``ProduceRequest.validateRecords``."""
    if len(records) < SMALLEST_HEADER_BYTES:
        return ErrorCode.INVALID_RECORD, "there is no record batch"
    problem = problem_of_batch(records)
    if problem is not None:
        return problem
    size_bytes = batch_bytes(records)
    if size_bytes < len(records):
        return ErrorCode.INVALID_RECORD, f"{len(records)} bytes are more than one batch of {size_bytes}"
    attributes = records[_ATTRIBUTES_POSITION]
    if attributes & _COMPRESSION_BITS == Compression.ZSTD and version < _ZSTD_FROM:
        text = f"zstd in version {version} of Produce; versions from {_ZSTD_FROM} on may have it"
        return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, text
    return None
