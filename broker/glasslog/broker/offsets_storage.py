"""The group coordinator's link to the broker: its partitions of ``__consumer_offsets``, kept by replication.

Tells the coordinator which partitions it leads, and lets it append to them and read them back. Refuses to
know what is in the records.
"""

from collections.abc import Awaitable, Iterable
from typing import Protocol

from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import OFFSETS_TOPIC, NodeId, Offset, TopicPartition
from glasslog.common.runtime.protocols import Buffer
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import MetadataImage, PartitionImage

_APPEND_TIMEOUT_MS = 5_000


class LocalLogs(Protocol):
    """What coordinators need of the replica manager."""

    def append_local(
        self, partition: TopicPartition, records: Buffer, *, timeout_ms: int
    ) -> Awaitable[object]:
        """Append with acks=all; raises ``GlasslogError``."""
        ...

    def read_local(self, partition: TopicPartition, offset: Offset, *, max_bytes: int) -> Buffer:
        """Whole batches from ``offset`` on, committed or not; empty at the end of the log."""
        ...

    def log_start_offset(self, partition: TopicPartition) -> Offset:
        """Raises ``GlasslogError`` for a partition that is not led here."""
        ...


class ReplicatedOffsetsStorage:
    """Implements the coordinator's ``OffsetsStorage``."""

    def __init__(self, logs: LocalLogs, metadata: MetadataView) -> None:
        self._logs = logs
        self._metadata = metadata

    def partition_count(self) -> int:
        """How many partitions the topic has; 0 while it does not exist."""
        topic = self._metadata.image.topic(OFFSETS_TOPIC)
        return 0 if topic is None else len(topic.partitions)

    async def append(self, partition: int, batch: bytes) -> None:
        """Append with acks=all; done when replicated."""
        await self._logs.append_local(
            TopicPartition(OFFSETS_TOPIC, partition), batch, timeout_ms=_APPEND_TIMEOUT_MS
        )

    def start_offset(self, partition: int) -> Offset:
        return self._logs.log_start_offset(TopicPartition(OFFSETS_TOPIC, partition))

    def read(self, partition: int, offset: Offset, max_bytes: int) -> bytes:
        name = TopicPartition(OFFSETS_TOPIC, partition)
        return bytes(self._logs.read_local(name, offset, max_bytes=max_bytes))


class Elections(Protocol):
    """What the coordinator wants to hear."""

    def on_elected(self, partition: int, epoch: int) -> None: ...

    def on_resigned(self, partition: int) -> None: ...


class OffsetsLeadership:
    """A metadata listener: subscribe it after replication, which must lead before the coordinator reads.

    Goes by what replication leads rather than by the metadata alone: metadata from before this process
    registered may still name its predecessor.
    """

    def __init__(self, elections: Elections, logs: LocalLogs, node_id: NodeId) -> None:
        self._elections = elections
        self._logs = logs
        self._node_id = node_id

    def __call__(self, delta: MetadataDelta, image: MetadataImage) -> None:
        for topic in delta.removed_topics:
            if topic.name == OFFSETS_TOPIC:
                for partition in topic.partitions:
                    self._elections.on_resigned(partition.partition)
        # Replication begins to lead with the metadata of our own registration, whenever a partition changed.
        everything = self._node_id in delta.changed_brokers
        self.check(image) if everything else self._check(delta.changed_partitions)

    def check(self, image: MetadataImage) -> None:
        """Look at every partition of ``image``: replication may just have begun to lead."""
        topic = image.topic(OFFSETS_TOPIC)
        self._check(() if topic is None else topic.partitions)

    def _check(self, partitions: Iterable[PartitionImage]) -> None:
        for partition in partitions:
            if partition.topic != OFFSETS_TOPIC:
                continue
            if partition.leader == self._node_id and self._leads(partition):
                self._elections.on_elected(partition.partition, partition.leader_epoch)
            else:
                self._elections.on_resigned(partition.partition)

    def _leads(self, partition: PartitionImage) -> bool:
        try:
            self._logs.log_start_offset(TopicPartition(partition.topic, partition.partition))
        except GlasslogError:
            return False
        return True
