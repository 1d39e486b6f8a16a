"""Produce and Fetch of ``glasslog.v1.Broker`` on the handlers' values; record bytes pass through as they are.

Checks what a hostile client could send; refuses to know partitions and logs.
"""

from collections.abc import Awaitable, Iterable
from typing import Protocol

from glasslog.broker.client_quotas import NOT_THROTTLED, ClientQuotas
from glasslog.broker.grpc.serving import Mute
from glasslog.broker.refused_parts import merged, problem_of_batches, refused, without
from glasslog.broker.requests import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    Consumer,
    FetchPartition,
    FetchPartitionResult,
    FetchRequest,
    IsolationLevel,
    ProducePartition,
    ProducePartitionResult,
    ProduceRequest,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_LEADER_EPOCH, LeaderEpoch, Offset, TopicPartition
from glasslog.common.runtime.protocols import Buffer
from glasslog.v1 import broker_pb2 as pb

MAX_PARTITIONS_PER_REQUEST = 20_000
_ACKS = frozenset({ACKS_NONE, ACKS_LEADER, ACKS_ALL})


class DataPath(Protocol):
    """What the streams need of the replica manager."""

    def produce(self, request: ProduceRequest) -> Awaitable[tuple[ProducePartitionResult, ...]]:
        """Appends before it first suspends, so that requests of one stream keep their order."""
        ...

    def fetch(self, request: FetchRequest) -> Awaitable[tuple[FetchPartitionResult, ...]]: ...


class DataHandlers:
    """One call for each message of a stream. ``fetch_max_bytes`` caps what one answer may carry.

    ``mute`` has the stream take nothing for so many ms, which the answer tells as well (KIP-219).
    """

    def __init__(self, data_path: DataPath, *, quotas: ClientQuotas, fetch_max_bytes: int) -> None:
        self._data_path = data_path
        self._quotas = quotas
        self._fetch_max_bytes = fetch_max_bytes

    # --- produce ---

    async def produce(self, message: pb.ProduceRequest, mute: Mute) -> pb.ProduceResponse | None:
        """The answer, or ``None`` with acks=0."""
        work = _Work(self._quotas)
        try:
            _check_produce(message)
        except GlasslogError as error:
            results = [_refused_produce(partition, error) for partition in message.partitions]
        else:
            results = await self._produce(message, work)
        throttle_ms = self._produced(message, work, mute) if self._quotas.is_active else 0
        if message.acks == ACKS_NONE:
            return None
        return pb.ProduceResponse(
            correlation_id=message.correlation_id, partitions=results, throttle_time_ms=throttle_ms
        )

    def _produced(self, message: pb.ProduceRequest, work: "_Work", mute: Mute) -> int:
        size_bytes = sum(len(each.records) for each in message.partitions)
        delay_ms = self._quotas.produced(message.client_id, size_bytes)
        delay_ms = max(delay_ms, self._quotas.worked(message.client_id, work.spent_ns))
        mute(delay_ms)
        return delay_ms

    async def _produce(self, message: pb.ProduceRequest, work: "_Work") -> list[pb.ProduceResponse.Partition]:
        partitions = tuple(
            ProducePartition(
                partition=TopicPartition(partition.topic, partition.partition), records=partition.records
            )
            for partition in message.partitions
        )
        parts = {
            number: refused(each, *problem)
            for number, each in enumerate(partitions)
            if (problem := problem_of_batches(each.records)) is not None
        }
        if parts:
            partitions = without(partitions, parts)
        request = ProduceRequest(acks=message.acks, timeout_ms=message.timeout_ms, partitions=partitions)
        try:
            pending = self._data_path.produce(request)
            work.pauses()
            results = await pending
        except GlasslogError as error:
            return [_refused_produce(partition, error) for partition in message.partitions]
        return [_produced(result) for result in merged(results, parts)]

    # --- fetch ---

    async def fetch(self, message: pb.FetchRequest, mute: Mute) -> pb.FetchResponse:
        work = _Work(self._quotas)
        try:
            pending = self._data_path.fetch(self._fetch_request(message))
            work.pauses()
            results = await pending
        except GlasslogError as error:
            return pb.FetchResponse(correlation_id=message.correlation_id, error_code=error.code)
        throttled = NOT_THROTTLED
        if self._quotas.is_active:
            size_bytes = sum(len(result.records) for result in results)
            throttled = self._quotas.fetched(message.client_id, size_bytes)
            worked_ms = self._quotas.worked(message.client_id, work.spent_ns)
            throttled = throttled._replace(delay_ms=max(throttled.delay_ms, worked_ms))
            mute(throttled.delay_ms)
        return pb.FetchResponse(
            correlation_id=message.correlation_id,
            partitions=[] if throttled.is_withheld else [_fetched(result) for result in results],
            throttle_time_ms=throttled.delay_ms,
        )

    def _fetch_request(self, message: pb.FetchRequest) -> FetchRequest:
        _check_fetch(message)
        limit_bytes = self._fetch_max_bytes
        if self._quotas.is_active:
            limit_bytes = min(limit_bytes, self._quotas.fetch_limit_bytes(message.client_id))
        return FetchRequest(
            reader=Consumer(isolation_level=IsolationLevel(message.isolation_level), rack=message.rack),
            max_wait_ms=message.max_wait_ms,
            min_bytes=min(message.min_bytes, limit_bytes),
            max_bytes=min(message.max_bytes, limit_bytes),
            partitions=tuple(
                FetchPartition(
                    partition=TopicPartition(partition.topic, partition.partition),
                    fetch_offset=Offset(partition.fetch_offset),
                    max_bytes=partition.max_bytes,
                    current_leader_epoch=LeaderEpoch(partition.current_leader_epoch),
                    last_fetched_epoch=LeaderEpoch(
                        partition.last_fetched_epoch
                        if partition.HasField("last_fetched_epoch")
                        else NO_LEADER_EPOCH
                    ),
                )
                for partition in message.partitions
            ),
        )


class _Work:
    """How long the event loop was at one request before it waited, where there is a limit on that."""

    def __init__(self, quotas: ClientQuotas) -> None:
        self._quotas = quotas
        self._began_ns = quotas.now_ns() if quotas.is_active else None
        self.spent_ns = 0

    def pauses(self) -> None:
        if self._began_ns is not None:
            self.spent_ns = self._quotas.now_ns() - self._began_ns


def _check_produce(message: pb.ProduceRequest) -> None:
    if message.acks not in _ACKS:
        raise GlasslogError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={message.acks}; allowed: 0, 1, -1")
    if message.timeout_ms < 0:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"timeout_ms={message.timeout_ms} is negative")
    check_partitions((partition.topic, partition.partition) for partition in message.partitions)


def _check_fetch(message: pb.FetchRequest) -> None:
    if min(message.max_wait_ms, message.min_bytes, message.max_bytes) < 0:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, "max_wait_ms, min_bytes and max_bytes can not be negative"
        )
    if message.isolation_level not in tuple(IsolationLevel):
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"isolation_level={message.isolation_level}; allowed: 0, 1"
        )
    if any(partition.max_bytes < 0 for partition in message.partitions):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, "a partition's max_bytes can not be negative")
    check_partitions((partition.topic, partition.partition) for partition in message.partitions)


def check_partitions(partitions: Iterable[tuple[str, int]]) -> None:
    """Raise INVALID_REQUEST for more partitions than a request may name, or one named twice."""
    seen: set[tuple[str, int]] = set()
    for topic, partition in partitions:
        if (topic, partition) in seen:
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"partition {topic}-{partition} is named twice")
        seen.add((topic, partition))
        if len(seen) > MAX_PARTITIONS_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_PARTITIONS_PER_REQUEST} partitions in one request"
            )


def _refused_produce(
    partition: pb.ProduceRequest.Partition, error: GlasslogError
) -> pb.ProduceResponse.Partition:
    return _produced(
        ProducePartitionResult(
            partition=TopicPartition(partition.topic, partition.partition),
            error=error.code,
            error_message=str(error),
        )
    )


def _produced(result: ProducePartitionResult) -> pb.ProduceResponse.Partition:
    return pb.ProduceResponse.Partition(
        topic=result.partition.topic,
        partition=result.partition.partition,
        error_code=result.error,
        base_offset=result.base_offset,
        log_append_time_ms=result.log_append_time_ms,
        log_start_offset=result.log_start_offset,
        error_message=result.error_message,
        current_leader_id=result.current_leader_id,
        current_leader_epoch=result.current_leader_epoch,
    )


def _fetched(result: FetchPartitionResult) -> pb.FetchResponse.Partition:
    diverging = result.diverging_epoch
    return pb.FetchResponse.Partition(
        topic=result.partition.topic,
        partition=result.partition.partition,
        error_code=result.error,
        high_watermark=result.high_watermark,
        last_stable_offset=result.last_stable_offset,
        log_start_offset=result.log_start_offset,
        records=_as_bytes(result.records),
        preferred_read_replica=result.preferred_read_replica,
        current_leader_id=result.current_leader_id,
        current_leader_epoch=result.current_leader_epoch,
        aborted_transactions=[
            pb.FetchResponse.AbortedTransaction(producer_id=each.producer_id, first_offset=each.first_offset)
            for each in result.aborted_transactions
        ],
        diverging_epoch=None
        if diverging is None
        else pb.FetchResponse.DivergingEpoch(epoch=diverging.epoch, end_offset=diverging.end_offset),
    )


def _as_bytes(records: Buffer) -> bytes:
    """Protobuf takes ``bytes`` only; what is that already is not copied here."""
    return records if isinstance(records, bytes) else bytes(records)
