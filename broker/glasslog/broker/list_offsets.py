"""Answers which offset belongs to a time, the earliest, latest or newest record, or an epoch's end.

This module knows what a consumer may be told; it refuses to know how logs search.
Source: Kafka's ``Partition.fetchOffsetForTimestamp``.
"""

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import (
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    EpochEnd,
    EpochEndAsk,
    IsolationLevel,
    ListOffsetsPartition,
    ListOffsetsResult,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import LeaderEpoch, Offset


def list_offset(
    replicas: Replicas, each: ListOffsetsPartition, isolation: IsolationLevel
) -> ListOffsetsResult:
    """One partition's answer. Nothing is told that a consumer of this ``isolation`` may not read yet.

    OFFSET_NOT_AVAILABLE while a new leader's high watermark has not reached what its predecessor may have
    told already: an answer could go back.
    """
    try:
        partition = replicas.get(each.partition)
        state = partition.leader(leader_epoch=each.current_leader_epoch)
        return _find(partition, state, each, isolation)
    except GlasslogError as error:
        found = replicas.find(each.partition)
        if found is not None:
            replicas.on_error(found, error)
        return ListOffsetsResult(partition=each.partition, error=error.code)


def _find(
    partition: Partition, state: LeaderState, each: ListOffsetsPartition, isolation: IsolationLevel
) -> ListOffsetsResult:
    if each.timestamp in (EARLIEST_TIMESTAMP, EARLIEST_LOCAL_TIMESTAMP):
        return _found(partition, each, -1, partition.log_start_offset)
    if state.high_watermark < state.epoch_start_offset:
        raise GlasslogError(
            ErrorCode.OFFSET_NOT_AVAILABLE,
            f"{partition.name}: high watermark {state.high_watermark} has not reached the begin of this "
            f"leader's epoch at {state.epoch_start_offset}",
        )
    is_committed = isolation is IsolationLevel.READ_COMMITTED
    end = partition.last_stable_offset if is_committed else state.high_watermark
    if each.timestamp == LATEST_TIMESTAMP:
        return _found(partition, each, -1, end)
    if each.timestamp == LATEST_TIERED_TIMESTAMP:
        return ListOffsetsResult(partition=each.partition)
    match = _search(partition, each.timestamp)
    if match is None or match[0] >= end:
        return ListOffsetsResult(partition=each.partition)
    return _found(partition, each, match[1], match[0])


def _search(partition: Partition, timestamp: int) -> tuple[int, int] | None:
    if timestamp == MAX_TIMESTAMP:
        return partition.log.offset_of_max_timestamp()
    if timestamp < 0:
        raise GlasslogError(ErrorCode.INVALID_TIMESTAMP, f"timestamp {timestamp} has no meaning")
    return partition.log.offset_for_timestamp(timestamp)


def _found(
    partition: Partition, each: ListOffsetsPartition, timestamp: int, offset: int
) -> ListOffsetsResult:
    return ListOffsetsResult(
        partition=each.partition,
        timestamp=timestamp,
        offset=Offset(offset),
        leader_epoch=LeaderEpoch(partition.log.epochs.epoch_at(offset)),
    )


def epoch_end(replicas: Replicas, ask: EpochEndAsk) -> EpochEnd:
    """Where an epoch ended in the leader's log; the log's end for the present one.

    Source: Kafka's ``Partition.lastOffsetForLeaderEpoch``.
    """
    try:
        partition = replicas.get(ask.partition)
        partition.leader(leader_epoch=ask.current_leader_epoch)
        epoch, end_offset = partition.log.end_offset_for_epoch(ask.leader_epoch)
    except GlasslogError as error:
        found = replicas.find(ask.partition)
        if found is not None:
            replicas.on_error(found, error)
        return EpochEnd(partition=ask.partition, error=error.code)
    return EpochEnd(partition=ask.partition, leader_epoch=LeaderEpoch(epoch), end_offset=Offset(end_offset))
