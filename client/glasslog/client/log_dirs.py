"""What lies in brokers' data directories, and what moves between those of one broker, as ``Admin`` asks.

Refuses to know how a broker uses its directories.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from glasslog.client.admin_base import AdminBase
from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.broker_pb2 import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)

_REASONS = {
    ErrorCode.LOG_DIR_NOT_FOUND: "no such data directory",
    ErrorCode.REPLICA_NOT_AVAILABLE: "not on this broker; when it comes it will be made there",
    ErrorCode.KAFKA_STORAGE_ERROR: "a data directory of this broker has failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDirDescription:
    """A data directory of a broker, and the bytes of each partition in it; a failed one tells none.

    ``offset_lags`` are of partitions that are on their way here from another directory of this broker: what
    is left to copy.  ``total_bytes`` and ``usable_bytes`` are of the volume, -1 if not known.
    """

    path: str
    error: ErrorCode
    size_bytes: Mapping[TopicPartition, int]
    offset_lags: Mapping[TopicPartition, int] = field(default_factory=dict)
    total_bytes: int = -1
    usable_bytes: int = -1


class LogDirAdmin(AdminBase):
    """The part of ``Admin`` that looks at and changes where replicas lie on their brokers."""

    async def describe_log_dirs(self, broker_id: int) -> list[LogDirDescription]:
        """What lies in a broker's data directories. Raises BROKER_NOT_AVAILABLE."""
        answer = await self._ask_broker(
            broker_id, "DescribeLogDirs", DescribeLogDirsRequest(), DescribeLogDirsResponse
        )
        return [_description(each) for each in answer.directories]

    async def alter_replica_log_dirs(
        self, broker_id: int, targets: Mapping[TopicPartition, str]
    ) -> dict[TopicPartition, GlasslogError]:
        """Begin to move replicas on a broker to others of its data directories; what was refused, and why.

        A replica that is named with the directory it lies in stays there, whatever was asked before.  A move
        is over when ``describe_log_dirs`` has it no more in ``offset_lags``.  Refusals are LOG_DIR_NOT_FOUND,
        KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION, and REPLICA_NOT_AVAILABLE: where the replica will be
        made when it comes to that broker.  Raises BROKER_NOT_AVAILABLE.
        """
        request = AlterReplicaLogDirsRequest(
            replicas=[
                AlterReplicaLogDirsRequest.Replica(topic=name.topic, partition=name.partition, path=path)
                for name, path in targets.items()
            ]
        )
        answer = await self._ask_broker(
            broker_id, "AlterReplicaLogDirs", request, AlterReplicaLogDirsResponse
        )
        return {
            TopicPartition(each.topic, each.partition): GlasslogError(error, _REASONS.get(error, error.name))
            for each in answer.outcomes
            if (error := error_of(each.error_code)) is not ErrorCode.NONE
        }


def _description(each: DescribeLogDirsResponse.Directory) -> LogDirDescription:
    sizes: dict[TopicPartition, int] = {}
    lags: dict[TopicPartition, int] = {}
    for item in each.partitions:
        name = TopicPartition(item.topic, item.partition)
        if item.is_future:
            lags[name] = item.offset_lag
        else:
            sizes[name] = item.size_bytes
    return LogDirDescription(
        path=each.path,
        error=error_of(each.error_code),
        size_bytes=sizes,
        offset_lags=lags,
        total_bytes=each.total_bytes,
        usable_bytes=each.usable_bytes,
    )
