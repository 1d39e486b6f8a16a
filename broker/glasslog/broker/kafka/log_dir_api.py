"""DescribeLogDirs and AlterReplicaLogDirs of the Kafka listener. Refuses to know how directories are used.

Source: Kafka's ``ReplicaManager.describeLogDirs`` and ``alterReplicaLogDirs``.
"""

from collections.abc import Awaitable, Callable, Sequence

from glasslog.broker.directory_sizes import DirectorySizes
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import log_dirs as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.broker.replica_moves import DirectoryWish
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition


class LogDirApis:
    """See the module. ``sizes`` tells what lies in which directory of this broker, ``alter`` moves it."""

    def __init__(
        self,
        sizes: Callable[[], Sequence[DirectorySizes]],
        alter: Callable[[Sequence[DirectoryWish]], Awaitable[Sequence[ErrorCode]]],
    ) -> None:
        self._sizes = sizes
        self._alter = alter

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            at_once(wire.DESCRIBE_LOG_DIRS, self.describe),
            in_a_task(wire.ALTER_REPLICA_LOG_DIRS, self.alter),
        )

    def describe(self, request: wire.DescribeLogDirsRequest, caller: Caller) -> wire.DescribeLogDirsResponse:
        wanted = None
        if request.topics is not None:
            wanted = {
                TopicPartition(topic.topic, index) for topic in request.topics for index in topic.partitions
            }
        return wire.DescribeLogDirsResponse(
            results=tuple(
                wire.DescribeLogDirsResult(
                    error_code=ErrorCode.NONE if each.is_online else ErrorCode.KAFKA_STORAGE_ERROR,
                    log_dir=each.path,
                    topics=_topics(each, wanted),
                    total_bytes=each.total_bytes,
                    usable_bytes=each.usable_bytes,
                )
                for each in self._sizes()
            )
        )

    async def alter(
        self, request: wire.AlterReplicaLogDirsRequest, caller: Caller
    ) -> wire.AlterReplicaLogDirsResponse:
        # As in Kafka a replica that is named twice goes where it was named last.
        wishes = {
            TopicPartition(topic.name, index): directory.path
            for directory in request.dirs
            for topic in directory.topics
            for index in topic.partitions
        }
        outcomes = await self._alter([DirectoryWish(name, path) for name, path in wishes.items()])
        topics: dict[str, list[wire.AlterReplicaLogDirPartitionResult]] = {}
        for name, error in zip(wishes, outcomes, strict=True):
            topics.setdefault(name.topic, []).append(
                wire.AlterReplicaLogDirPartitionResult(partition_index=name.partition, error_code=error)
            )
        return wire.AlterReplicaLogDirsResponse(
            results=tuple(
                wire.AlterReplicaLogDirTopicResult(topic_name=topic, partitions=tuple(partitions))
                for topic, partitions in topics.items()
            )
        )


def _topics(
    directory: DirectorySizes, wanted: set[TopicPartition] | None
) -> tuple[wire.DescribeLogDirsTopic, ...]:
    topics: dict[str, list[wire.DescribeLogDirsPartition]] = {}
    for each in directory.replicas:
        if wanted is None or each.name in wanted:
            topics.setdefault(each.name.topic, []).append(
                wire.DescribeLogDirsPartition(
                    partition_index=each.name.partition,
                    partition_size=each.size_bytes,
                    offset_lag=each.offset_lag,
                    is_future_key=each.is_future,
                )
            )
    return tuple(
        wire.DescribeLogDirsTopic(name=topic, partitions=tuple(partitions))
        for topic, partitions in topics.items()
    )
