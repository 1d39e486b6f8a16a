"""DescribeLogDirs of ``glasslog.v1.Broker``. Refuses to know how directories are used."""

from collections.abc import Callable, Sequence

from glasslog.broker.directory_sizes import DirectorySizes
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class LogDirHandlers:
    """See the module. ``sizes`` tells what lies in which directory of this broker."""

    def __init__(self, sizes: Callable[[], Sequence[DirectorySizes]]) -> None:
        self._sizes = sizes

    async def describe(self, message: pb.DescribeLogDirsRequest, peer: Peer) -> pb.DescribeLogDirsResponse:
        return pb.DescribeLogDirsResponse(directories=[_directory(each) for each in self._sizes()])


def _directory(found: DirectorySizes) -> pb.DescribeLogDirsResponse.Directory:
    return pb.DescribeLogDirsResponse.Directory(
        path=found.path,
        error_code=ErrorCode.NONE if found.is_online else ErrorCode.KAFKA_STORAGE_ERROR,
        partitions=[
            pb.DescribeLogDirsResponse.Partition(
                topic=each.name.topic, partition=each.name.partition, size_bytes=each.size_bytes
            )
            for each in found.replicas
        ],
    )
