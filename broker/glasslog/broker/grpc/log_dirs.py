"""DescribeLogDirs and AlterReplicaLogDirs of ``glasslog.v1.Broker``.

Refuses to know how directories are used.
"""

from collections.abc import Awaitable, Callable, Sequence

from glasslog.broker.directory_sizes import DirectorySizes
from glasslog.broker.replica_moves import DirectoryWish
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class LogDirHandlers:
    """See the module. ``sizes`` tells what lies in which directory of this broker, ``alter`` moves it."""

    def __init__(
        self,
        sizes: Callable[[], Sequence[DirectorySizes]],
        alter: Callable[[Sequence[DirectoryWish]], Awaitable[Sequence[ErrorCode]]],
    ) -> None:
        self._sizes = sizes
        self._alter = alter

    async def describe(self, message: pb.DescribeLogDirsRequest, peer: Peer) -> pb.DescribeLogDirsResponse:
        return pb.DescribeLogDirsResponse(directories=[_directory(each) for each in self._sizes()])

    async def alter(
        self, message: pb.AlterReplicaLogDirsRequest, peer: Peer
    ) -> pb.AlterReplicaLogDirsResponse:
        outcomes = await self._alter(
            [
                DirectoryWish(TopicPartition(each.topic, each.partition), each.path)
                for each in message.replicas
            ]
        )
        return pb.AlterReplicaLogDirsResponse(
            outcomes=[
                pb.AlterReplicaLogDirsResponse.Outcome(
                    topic=each.topic, partition=each.partition, error_code=error
                )
                for each, error in zip(message.replicas, outcomes, strict=True)
            ]
        )


def _directory(found: DirectorySizes) -> pb.DescribeLogDirsResponse.Directory:
    return pb.DescribeLogDirsResponse.Directory(
        path=found.path,
        error_code=ErrorCode.NONE if found.is_online else ErrorCode.KAFKA_STORAGE_ERROR,
        partitions=[
            pb.DescribeLogDirsResponse.Partition(
                topic=each.name.topic,
                partition=each.name.partition,
                size_bytes=each.size_bytes,
                is_future=each.is_future,
                offset_lag=each.offset_lag,
            )
            for each in found.replicas
        ],
        total_bytes=found.total_bytes,
        usable_bytes=found.usable_bytes,
    )
