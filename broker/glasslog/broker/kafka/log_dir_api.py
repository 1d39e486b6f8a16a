"""DescribeLogDirs of the Kafka listener. Refuses to know how directories are used.

Source: Kafka's ``ReplicaManager.describeLogDirs``.
"""

from collections.abc import Callable, Sequence

from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import log_dirs as wire
from glasslog.broker.kafka.serving import Caller, at_once
from glasslog.broker.partition_logs import DirectorySizes
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition


class LogDirApis:
    """See the module. ``sizes`` tells what lies in which directory of this broker."""

    def __init__(self, sizes: Callable[[], Sequence[DirectorySizes]]) -> None:
        self._sizes = sizes

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (at_once(wire.DESCRIBE_LOG_DIRS, self.describe),)

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
                )
                for each in self._sizes()
            )
        )


def _topics(
    directory: DirectorySizes, wanted: set[TopicPartition] | None
) -> tuple[wire.DescribeLogDirsTopic, ...]:
    topics: dict[str, list[wire.DescribeLogDirsPartition]] = {}
    for name, size_bytes in directory.size_bytes:
        if wanted is None or name in wanted:
            topics.setdefault(name.topic, []).append(
                wire.DescribeLogDirsPartition(partition_index=name.partition, partition_size=size_bytes)
            )
    return tuple(
        wire.DescribeLogDirsTopic(name=topic, partitions=tuple(partitions))
        for topic, partitions in topics.items()
    )
