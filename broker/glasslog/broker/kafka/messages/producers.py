"""Producers' identities: InitProducerId, DescribeProducers.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    INT16_FIELD,
    INT32_FIELD,
    INT64_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitProducerIdRequest:
    """InitProducerId request, versions 0 to 5."""

    transactional_id: str | None = wire(STRING, null_since=0)
    transaction_timeout_ms: int = wire(INT32_FIELD)
    producer_id: int = wire(INT64_FIELD, since=3, default=-1)
    producer_epoch: int = wire(INT16_FIELD, since=3, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitProducerIdResponse:
    """InitProducerId response, versions 0 to 5."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    producer_id: int = wire(INT64_FIELD, default=-1)
    producer_epoch: int = wire(INT16_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRequest:
    """One of ``DescribeProducersRequest.topics``."""

    name: str = wire(STRING)
    partition_indexes: tuple[int, ...] = wire(array(INT32_FIELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeProducersRequest:
    """DescribeProducers request, version 0."""

    topics: tuple[TopicRequest, ...] = wire(array(TopicRequest))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerState:
    """One of ``PartitionResponse.active_producers``."""

    producer_id: int = wire(INT64_FIELD)
    producer_epoch: int = wire(INT32_FIELD)
    last_sequence: int = wire(INT32_FIELD, default=-1)
    last_timestamp: int = wire(INT64_FIELD, default=-1)
    coordinator_epoch: int = wire(INT32_FIELD)
    current_txn_start_offset: int = wire(INT64_FIELD, default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionResponse:
    """One of ``TopicResponse.partitions``."""

    partition_index: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)
    active_producers: tuple[ProducerState, ...] = wire(array(ProducerState))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicResponse:
    """One of ``DescribeProducersResponse.topics``."""

    name: str = wire(STRING)
    partitions: tuple[PartitionResponse, ...] = wire(array(PartitionResponse))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeProducersResponse:
    """DescribeProducers response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    topics: tuple[TopicResponse, ...] = wire(array(TopicResponse))


INIT_PRODUCER_ID = ApiLayout(
    key=22,
    name="InitProducerId",
    min_version=0,
    max_version=5,
    flexible_from=2,
    request=InitProducerIdRequest,
    response=InitProducerIdResponse,
)

DESCRIBE_PRODUCERS = ApiLayout(
    key=61,
    name="DescribeProducers",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=DescribeProducersRequest,
    response=DescribeProducersResponse,
)
