"""InitProducerId and DescribeProducers of the Kafka listener. Refuses to know id blocks and logs."""

from collections.abc import Callable, Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import producers as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.producer_ids import ProducerIds
from glasslog.broker.topic_lookup import unknown_topic
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.log.producer_state import ProducerEntry

_NONE = -1
"""The id or epoch of a producer that has none yet."""
FindProducers = Callable[[TopicPartition], Sequence[tuple[int, ProducerEntry]]]


class ProducerApis:
    """See the module. ``producers_of`` raises ``GlasslogError`` for a partition that is not led here."""

    def __init__(self, producer_ids: ProducerIds, producers_of: FindProducers) -> None:
        self._producer_ids = producer_ids
        self._producers_of = producers_of

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            in_a_task(wire.INIT_PRODUCER_ID, self.init),
            at_once(wire.DESCRIBE_PRODUCERS, self.describe),
        )

    async def init(self, request: wire.InitProducerIdRequest, caller: Caller) -> wire.InitProducerIdResponse:
        if request.transactional_id == "":
            return wire.InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_epoch=-1)
        if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
            return wire.InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_epoch=-1)
        try:
            given = await self._producer_ids.init(transactional_id=request.transactional_id or "")
        except GlasslogError as error:
            return wire.InitProducerIdResponse(error_code=error.code, producer_epoch=-1)
        return wire.InitProducerIdResponse(producer_id=given.producer_id, producer_epoch=given.producer_epoch)

    def describe(
        self, request: wire.DescribeProducersRequest, caller: Caller
    ) -> wire.DescribeProducersResponse:
        return wire.DescribeProducersResponse(
            topics=tuple(
                wire.TopicResponse(
                    name=topic.name,
                    partitions=tuple(
                        self._partition(TopicPartition(topic.name, index))
                        for index in topic.partition_indexes
                    ),
                )
                for topic in request.topics
            )
        )

    def _partition(self, name: TopicPartition) -> wire.PartitionResponse:
        try:
            producers = self._producers_of(name)
        except GlasslogError as error:
            is_missing = error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return wire.PartitionResponse(
                partition_index=name.partition,
                error_code=unknown_topic(name.topic) if is_missing else error.code,
                error_message=str(error),
            )
        return wire.PartitionResponse(
            partition_index=name.partition,
            active_producers=tuple(_state(producer_id, entry) for producer_id, entry in producers),
        )


def _state(producer_id: int, entry: ProducerEntry) -> wire.ProducerState:
    return wire.ProducerState(
        producer_id=producer_id,
        producer_epoch=entry.producer_epoch,
        last_sequence=entry.batches[-1].last_sequence if entry.batches else -1,
        last_timestamp=entry.timestamp,
        coordinator_epoch=-1,
    )
