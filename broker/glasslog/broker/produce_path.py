"""The way of a produce request: append, wake followers, wait for the replicas, answer.

This module knows ``acks`` and what is answered when; it refuses to know transports.  Nothing here is a
task: the event that completes a request calls back.
Source: Kafka's ``ReplicaManager.appendRecords``.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Offline, Partition
from glasslog.broker.partition.purgatory import DelayedProduce
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    ProducePartition,
    ProducePartitionResult,
    ProduceRequest,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_OFFSET, Offset, TopicPartition
from glasslog.common.topic_names import is_internal

_WRITTEN_BY_BROKERS = GlasslogError(ErrorCode.INVALID_TOPIC_EXCEPTION, "the topic is written by brokers only")
ProduceResults = tuple[ProducePartitionResult, ...]
OnProduced = Callable[[ProduceResults], None]
"""Called once, with one result per partition, in order; perhaps before ``start`` returns."""

_FOR_SYNC = -1
_Wait = tuple[int, Partition, int]
"""Which result waits, for which partition, to reach which offset or, with ``_FOR_SYNC``, to be durable."""


class ProducePath:
    """See the module."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def produce(
        self, request: ProduceRequest, *, origin_is_client: bool = True
    ) -> "asyncio.Future[ProduceResults]":
        """``start`` for whoever awaits the answer; it may be cancelled."""
        answer: asyncio.Future[ProduceResults] = asyncio.get_running_loop().create_future()

        def on_done(results: ProduceResults) -> None:
            # Whoever asked may have gone away.
            if not answer.done():
                answer.set_result(results)

        self.start(request, on_done, origin_is_client=origin_is_client)
        return answer

    def start(self, request: ProduceRequest, on_done: OnProduced, *, origin_is_client: bool = True) -> None:
        """Append at once, answer through ``on_done``; every refusal is in a result, never raised."""
        self._replicas.counters.produce_requests += 1
        refusal = self._refusal(request)
        if refusal is not None:
            on_done(tuple(_failed(each.partition, refusal) for each in request.partitions))
            return
        results: list[ProducePartitionResult] = []
        waits: list[_Wait] = []
        for number, each in enumerate(request.partitions):
            results.append(self._append(number, each, request.acks, waits, origin_is_client))
        if waits:
            self._wait(request, results, waits, on_done)
        else:
            on_done(tuple(results))

    def _refusal(self, request: ProduceRequest) -> GlasslogError | None:
        if request.acks not in (ACKS_ALL, ACKS_LEADER, ACKS_NONE):
            text = f"acks is {request.acks}; allowed: -1 (all), 0, 1"
            return GlasslogError(ErrorCode.INVALID_REQUIRED_ACKS, text)
        if request.acks == ACKS_ALL and self._replicas.purgatory.is_full:
            text = "too many requests wait for replication already"
            return GlasslogError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text)
        return None

    def _append(
        self, number: int, each: ProducePartition, acks: int, waits: list[_Wait], origin_is_client: bool
    ) -> ProducePartitionResult:
        replicas = self._replicas
        partition = replicas.find(each.partition)
        try:
            if origin_is_client and is_internal(each.partition.topic):
                raise _WRITTEN_BY_BROKERS
            if partition is None:
                partition = replicas.get(each.partition)
            clock = replicas.runtime.clock
            before = partition.high_watermark
            info = partition.append(
                each.records,
                acks=acks,
                now_ms=clock.now_ms(),
                wall_ms=clock.wall_ms(),
                origin_is_client=origin_is_client,
            )
        except GlasslogError as error:
            replicas.counters.failed_produces += 1
            if partition is not None:
                replicas.on_error(partition, error)
            return _failed(each.partition, error, partition, replicas)
        high_watermark = partition.high_watermark
        if not info.duplicate:
            replicas.counters.bytes_in += len(each.records)
            replicas.on_appended(partition)
            if high_watermark > before:
                replicas.on_high_watermark(partition)
        # A repeated batch may not be replicated yet either: it waits as the first one does.
        if acks == ACKS_ALL and info.last_offset >= high_watermark:
            waits.append((number, partition, info.last_offset + 1))
        log = partition.log
        if log.is_flush_due:
            # As in Kafka, where the append itself syncs; here one sync serves all that came meanwhile.
            waits.append((number, partition, _FOR_SYNC))
        return ProducePartitionResult(
            partition=each.partition,
            base_offset=Offset(info.first_offset),
            log_append_time_ms=info.log_append_time,
            log_start_offset=Offset(log.log_start_offset),
        )

    def _wait(
        self,
        request: ProduceRequest,
        results: list[ProducePartitionResult],
        waits: list[_Wait],
        on_done: OnProduced,
    ) -> None:
        replicas = self._replicas

        def on_decided(errors: Sequence[ErrorCode]) -> None:
            for (number, partition, required), error in zip(waits, errors, strict=True):
                if error is not ErrorCode.NONE:
                    results[number] = _unconfirmed(results[number], error, partition, required)
                    replicas.counters.produce_timeouts += error is ErrorCode.REQUEST_TIMED_OUT
                    replicas.counters.failed_produces += 1
            on_done(tuple(results))

        deadline_ms = replicas.runtime.clock.now_ms() + max(request.timeout_ms, 0)
        operation = DelayedProduce(len(waits), deadline_ms=deadline_ms, on_done=on_decided)
        for index, (_, partition, required_offset) in enumerate(waits):
            if isinstance(partition.role, Offline):
                # A later partition of this very request met the end of the disk that both lie on.
                operation.complete_partition(index, partition.role.error)
            elif required_offset == _FOR_SYNC:
                replicas.sync_soon(partition, partial(operation.complete_partition, index))
            else:
                replicas.purgatory.produces.watch(partition, required_offset, operation, index)
        if not operation.is_done:
            replicas.park(operation)


def _failed(
    name: TopicPartition,
    error: GlasslogError,
    partition: Partition | None = None,
    replicas: Replicas | None = None,
) -> ProducePartitionResult:
    result = ProducePartitionResult(partition=name, error=error.code, error_message=str(error))
    if error.code is not ErrorCode.NOT_LEADER_OR_FOLLOWER:
        return result
    if partition is not None:
        return result._replace(
            current_leader_id=partition.leader_id, current_leader_epoch=partition.leader_epoch
        )
    known = replicas.image.partition(name.topic, name.partition) if replicas is not None else None
    if known is None:
        return result
    return result._replace(current_leader_id=known.leader, current_leader_epoch=known.leader_epoch)


def _unconfirmed(
    result: ProducePartitionResult, error: ErrorCode, partition: Partition, required_offset: int
) -> ProducePartitionResult:
    """The records are in this leader's log, but nobody may count on it."""
    role = partition.role
    in_sync = f", {len(role.isr)} replicas in sync" if isinstance(role, LeaderState) else ""
    missing = "synced" if required_offset == _FOR_SYNC else f"confirmed by enough replicas{in_sync}"
    return result._replace(
        error=error,
        error_message=f"{partition.name}: appended but not {missing}",
        base_offset=NO_OFFSET,
        current_leader_id=partition.leader_id,
        current_leader_epoch=partition.leader_epoch,
    )
