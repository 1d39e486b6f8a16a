"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords, OffsetCommit and OffsetFetch of the Kafka listener.

Translates to and from the handlers' values; refuses to know logs and groups.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import CommitRequest, CommittedOffset, MemberIdentity
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.layout import NEWEST
from glasslog.broker.kafka.messages import offsets as wire
from glasslog.broker.kafka.messages import topics
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.requests import (
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    DeleteRecordsPartition,
    DeleteRecordsResult,
    EpochEnd,
    EpochEndAsk,
    IsolationLevel,
    ListOffsetsPartition,
    ListOffsetsResult,
)
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition
from glasslog.metadata.image import MetadataImage

_ERROR_OF_THE_GROUP_FROM = 2
_GROUPS_FROM = 8
_MEANT_FROM = {
    LATEST_TIMESTAMP: 1,
    EARLIEST_TIMESTAMP: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL_TIMESTAMP: 8,
    LATEST_TIERED_TIMESTAMP: 9,
}
"""From which version on a negative timestamp of ListOffsets means something."""
_Committed = Sequence[tuple[TopicPartition, CommittedOffset]]


class OffsetLookup(Protocol):
    """What is needed of the replica manager."""

    def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition], isolation: IsolationLevel
    ) -> tuple[ListOffsetsResult, ...]: ...

    def epoch_ends(self, asks: Sequence[EpochEndAsk]) -> tuple[EpochEnd, ...]: ...

    async def delete_records(
        self, partitions: Sequence[DeleteRecordsPartition], *, timeout_ms: int
    ) -> tuple[DeleteRecordsResult, ...]: ...


class OffsetApis:
    """See the module. ``image`` gives the newest metadata: offsets are kept for topics that exist."""

    def __init__(
        self, lookup: OffsetLookup, coordinator: GroupCoordinator, image: Callable[[], MetadataImage]
    ) -> None:
        self._lookup = lookup
        self._coordinator = coordinator
        self._image = image

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            at_once(wire.LIST_OFFSETS, self.list_offsets),
            at_once(wire.OFFSET_FOR_LEADER_EPOCH, self.epoch_ends),
            in_a_task(topics.DELETE_RECORDS, self.delete_records),
            in_a_task(wire.OFFSET_COMMIT, self.commit),
            at_once(wire.OFFSET_FETCH, self.fetch),
        )

    # --- of logs ---

    def list_offsets(self, request: wire.ListOffsetsRequest, caller: Caller) -> wire.ListOffsetsResponse:
        if request.isolation_level not in tuple(IsolationLevel):
            return _all_refused(request, ErrorCode.INVALID_REQUEST)
        asked = tuple(
            ListOffsetsPartition(
                partition=TopicPartition(topic.name, each.partition_index),
                timestamp=each.timestamp,
                current_leader_epoch=LeaderEpoch(each.current_leader_epoch),
            )
            for topic in request.topics
            for each in topic.partitions
            if _has_meaning(each.timestamp, caller.version)
        )
        results = iter(self._lookup.list_offsets(asked, IsolationLevel(request.isolation_level)))
        return wire.ListOffsetsResponse(
            topics=tuple(
                wire.ListOffsetsTopicResponse(
                    name=topic.name,
                    partitions=tuple(
                        _listed(next(results))
                        if _has_meaning(each.timestamp, caller.version)
                        # A client that asks so takes the broker for a newer one.
                        else _refused(each, ErrorCode.UNSUPPORTED_VERSION)
                        for each in topic.partitions
                    ),
                )
                for topic in request.topics
            )
        )

    def epoch_ends(
        self, request: wire.OffsetForLeaderEpochRequest, caller: Caller
    ) -> wire.OffsetForLeaderEpochResponse:
        asked = tuple(
            EpochEndAsk(
                partition=TopicPartition(topic.topic, each.partition),
                leader_epoch=LeaderEpoch(each.leader_epoch),
                current_leader_epoch=LeaderEpoch(each.current_leader_epoch),
            )
            for topic in request.topics
            for each in topic.partitions
        )
        results = iter(self._lookup.epoch_ends(asked))
        return wire.OffsetForLeaderEpochResponse(
            topics=tuple(
                wire.OffsetForLeaderTopicResult(
                    topic=topic.topic, partitions=tuple(_ended(next(results)) for _ in topic.partitions)
                )
                for topic in request.topics
            )
        )

    async def delete_records(
        self, request: topics.DeleteRecordsRequest, caller: Caller
    ) -> topics.DeleteRecordsResponse:
        asked = tuple(
            DeleteRecordsPartition(
                partition=TopicPartition(topic.name, each.partition_index), offset=Offset(each.offset)
            )
            for topic in request.topics
            for each in topic.partitions
        )
        results = iter(await self._lookup.delete_records(asked, timeout_ms=max(request.timeout_ms, 0)))
        return topics.DeleteRecordsResponse(
            topics=tuple(
                topics.DeleteRecordsTopicResult(
                    name=topic.name, partitions=tuple(_deleted(next(results)) for _ in topic.partitions)
                )
                for topic in request.topics
            )
        )

    # --- of groups ---

    async def commit(self, request: wire.OffsetCommitRequest, caller: Caller) -> wire.OffsetCommitResponse:
        image = self._image()
        offsets = {
            TopicPartition(topic.name, each.partition_index): CommittedOffset(
                offset=Offset(each.committed_offset),
                leader_epoch=LeaderEpoch(each.committed_leader_epoch),
                metadata=each.committed_metadata or "",
            )
            for topic in request.topics
            for each in topic.partitions
        }
        known = {
            name: offset for name, offset in offsets.items() if image.partition(name.topic, name.partition)
        }
        outcomes = await self._coordinator.commit(
            CommitRequest(
                identity=MemberIdentity(
                    group_id=request.group_id,
                    generation_id=request.generation_id_or_member_epoch,
                    member_id=request.member_id,
                    group_instance_id=request.group_instance_id or "",
                ),
                offsets=tuple(known.items()),
            )
        )
        errors = dict(outcomes)
        return wire.OffsetCommitResponse(
            topics=tuple(
                wire.OffsetCommitResponseTopic(
                    name=topic.name,
                    partitions=tuple(
                        wire.OffsetCommitResponsePartition(
                            partition_index=each.partition_index,
                            error_code=errors.get(
                                TopicPartition(topic.name, each.partition_index),
                                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                            ),
                        )
                        for each in topic.partitions
                    ),
                )
                for topic in request.topics
            )
        )

    def fetch(self, request: wire.OffsetFetchRequest, caller: Caller) -> wire.OffsetFetchResponse:
        if caller.version >= _GROUPS_FROM:
            return wire.OffsetFetchResponse(groups=tuple(map(self._of_group, request.groups)))
        wanted = None if request.topics is None else _partitions(request.topics)
        found = self._coordinator.committed(request.group_id, wanted)
        if not isinstance(found, ErrorCode):
            return wire.OffsetFetchResponse(topics=tuple(_topics_before_groups(found, ErrorCode.NONE)))
        if caller.version >= _ERROR_OF_THE_GROUP_FROM:
            return wire.OffsetFetchResponse(error_code=found)
        nothing = [(name, _NOTHING) for name in wanted or ()]
        return wire.OffsetFetchResponse(topics=tuple(_topics_before_groups(nothing, found)))

    def _of_group(self, asked: wire.OffsetFetchRequestGroup) -> wire.OffsetFetchResponseGroup:
        wanted = None if asked.topics is None else _partitions(asked.topics)
        found = self._coordinator.committed(asked.group_id, wanted)
        if isinstance(found, ErrorCode):
            return wire.OffsetFetchResponseGroup(group_id=asked.group_id, error_code=found)
        return wire.OffsetFetchResponseGroup(group_id=asked.group_id, topics=tuple(_topics(found)))


_NOTHING = CommittedOffset(offset=Offset(-1))


def _all_refused(request: wire.ListOffsetsRequest, error: ErrorCode) -> wire.ListOffsetsResponse:
    return wire.ListOffsetsResponse(
        topics=tuple(
            wire.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=tuple(_refused(each, error) for each in topic.partitions),
            )
            for topic in request.topics
        )
    )


def _refused(asked: wire.ListOffsetsPartition, error: ErrorCode) -> wire.ListOffsetsPartitionResponse:
    return wire.ListOffsetsPartitionResponse(partition_index=asked.partition_index, error_code=error)


def _has_meaning(timestamp: int, version: int) -> bool:
    """Whether this version of the request knows that time, or what a negative one stands for."""
    return timestamp >= 0 or version >= _MEANT_FROM.get(timestamp, NEWEST)


def _listed(result: ListOffsetsResult) -> wire.ListOffsetsPartitionResponse:
    return wire.ListOffsetsPartitionResponse(
        partition_index=result.partition.partition,
        error_code=result.error,
        timestamp=result.timestamp,
        offset=result.offset,
        leader_epoch=result.leader_epoch,
    )


def _ended(result: EpochEnd) -> wire.EpochEndOffset:
    return wire.EpochEndOffset(
        error_code=result.error,
        partition=result.partition.partition,
        leader_epoch=result.leader_epoch,
        end_offset=result.end_offset,
    )


def _deleted(result: DeleteRecordsResult) -> topics.DeleteRecordsPartitionResult:
    return topics.DeleteRecordsPartitionResult(
        partition_index=result.partition.partition,
        low_watermark=result.low_watermark,
        error_code=result.error,
    )


def _partitions(
    asked: Iterable[wire.OffsetFetchRequestTopic | wire.OffsetFetchRequestTopics],
) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(topic.name, index) for topic in asked for index in topic.partition_indexes)


def _by_topic(found: _Committed) -> dict[str, list[tuple[int, CommittedOffset]]]:
    by_topic: dict[str, list[tuple[int, CommittedOffset]]] = {}
    for partition, committed in found:
        by_topic.setdefault(partition.topic, []).append((partition.partition, committed))
    return by_topic


def _topics_before_groups(found: _Committed, error: ErrorCode) -> Iterable[wire.OffsetFetchResponseTopic]:
    for name, partitions in _by_topic(found).items():
        yield wire.OffsetFetchResponseTopic(
            name=name,
            partitions=tuple(
                wire.OffsetFetchResponsePartition(
                    partition_index=index,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                    error_code=error,
                )
                for index, committed in partitions
            ),
        )


def _topics(found: _Committed) -> Iterable[wire.OffsetFetchResponseTopics]:
    for name, partitions in _by_topic(found).items():
        yield wire.OffsetFetchResponseTopics(
            name=name,
            partitions=tuple(
                wire.OffsetFetchResponsePartitions(
                    partition_index=index,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                )
                for index, committed in partitions
            ),
        )
