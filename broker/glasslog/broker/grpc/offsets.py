"""ListOffsets, DeleteRecords, InitProducerId of ``glasslog.v1.Broker``. Refuses to know logs, id blocks."""

from collections.abc import Sequence
from typing import Protocol

from glasslog.broker.grpc.data import check_partitions
from glasslog.broker.producer_ids import ProducerIds
from glasslog.broker.requests import (
    DeleteRecordsPartition,
    DeleteRecordsResult,
    IsolationLevel,
    ListOffsetsPartition,
    ListOffsetsResult,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class OffsetLookup(Protocol):
    """What ListOffsets and DeleteRecords need of the replica manager."""

    def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition], isolation: IsolationLevel
    ) -> tuple[ListOffsetsResult, ...]: ...

    async def delete_records(
        self, partitions: Sequence[DeleteRecordsPartition], *, timeout_ms: int
    ) -> tuple[DeleteRecordsResult, ...]: ...


class OffsetHandlers:
    """See the module."""

    def __init__(self, lookup: OffsetLookup, producer_ids: ProducerIds) -> None:
        self._lookup = lookup
        self._producer_ids = producer_ids

    async def list_offsets(self, message: pb.ListOffsetsRequest, peer: Peer) -> pb.ListOffsetsResponse:
        if message.isolation_level not in tuple(IsolationLevel):
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"isolation_level={message.isolation_level}; allowed: 0, 1"
            )
        check_partitions((each.topic, each.partition) for each in message.partitions)
        asked = tuple(
            ListOffsetsPartition(
                partition=TopicPartition(each.topic, each.partition),
                timestamp=each.timestamp,
                current_leader_epoch=LeaderEpoch(each.current_leader_epoch),
            )
            for each in message.partitions
        )
        results = self._lookup.list_offsets(asked, IsolationLevel(message.isolation_level))
        return pb.ListOffsetsResponse(partitions=[_listed(result) for result in results])

    async def delete_records(self, message: pb.DeleteRecordsRequest, peer: Peer) -> pb.DeleteRecordsResponse:
        """Refusals are in the results."""
        if message.timeout_ms < 0:
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"timeout_ms={message.timeout_ms} is negative")
        check_partitions((each.topic, each.partition) for each in message.partitions)
        asked = [
            DeleteRecordsPartition(
                partition=TopicPartition(each.topic, each.partition), offset=Offset(each.offset)
            )
            for each in message.partitions
        ]
        results = await self._lookup.delete_records(asked, timeout_ms=message.timeout_ms)
        return pb.DeleteRecordsResponse(partitions=[_deleted(result) for result in results])

    async def init_producer_id(
        self, message: pb.InitProducerIdRequest, peer: Peer
    ) -> pb.InitProducerIdResponse:
        """Refusals are raised, so that their sentence reaches the client."""
        given = await self._producer_ids.init(transactional_id=message.transactional_id)
        return pb.InitProducerIdResponse(producer_id=given.producer_id, producer_epoch=given.producer_epoch)


def _listed(result: ListOffsetsResult) -> pb.ListOffsetsResponse.Partition:
    return pb.ListOffsetsResponse.Partition(
        topic=result.partition.topic,
        partition=result.partition.partition,
        error_code=result.error,
        timestamp=result.timestamp,
        offset=result.offset,
        leader_epoch=result.leader_epoch,
    )


def _deleted(result: DeleteRecordsResult) -> pb.DeleteRecordsResponse.Partition:
    return pb.DeleteRecordsResponse.Partition(
        topic=result.partition.topic,
        partition=result.partition.partition,
        error_code=result.error,
        error_message=result.error_message,
        low_watermark=result.low_watermark,
    )
