"""Blocks of producer ids: each id goes to one broker, once, forever.

Refuses to know what a producer id is for. Source: KIP-730, Kafka's ``ProducerIdControlManager``.
"""

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import ProducerId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.requests import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from glasslog.metadata.records import ProducerIdsAllocated

BLOCK_SIZE = 1000
_END = 2**63 - 1


def allocate_producer_ids(
    context: Context, request: AllocateProducerIdsRequest
) -> Decision[AllocateProducerIdsResponse]:
    """The next block; STALE_BROKER_EPOCH; UNKNOWN_SERVER_ERROR once 2**63 ids are used up."""
    if context.broker_at(request.broker_id, request.broker_epoch) is None:
        return _refused(ErrorCode.STALE_BROKER_EPOCH)
    first = context.image.next_producer_id
    if first > _END - BLOCK_SIZE:
        return _refused(ErrorCode.UNKNOWN_SERVER_ERROR)
    record = ProducerIdsAllocated(
        broker_id=request.broker_id,
        broker_epoch=request.broker_epoch,
        next_producer_id=ProducerId(first + BLOCK_SIZE),
    )
    response = AllocateProducerIdsResponse(first_producer_id=first, count=BLOCK_SIZE)
    return Decision(response=response, records=(record,))


def _refused(error_code: ErrorCode) -> Decision[AllocateProducerIdsResponse]:
    return Decision(response=AllocateProducerIdsResponse(error_code=error_code))
