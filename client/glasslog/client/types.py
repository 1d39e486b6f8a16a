"""What the client hands to its users: records, where they went, what is known of a partition.

Plain values; this module refuses to know how they are fetched or sent.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from glasslog.common.ids import TopicPartition

Headers = tuple[tuple[str, bytes | None], ...]
Serializer = Callable[[object], bytes | None]
"""From what the user sends to bytes."""

Deserializer = Callable[[bytes], Any]
"""From bytes to what the user wants to see."""


class ConsumerRecord(NamedTuple):
    """One record as a consumer gets it. ``timestamp`` in milliseconds since 1970 UTC.

    ``leader_epoch`` is that of the leader which appended it.  Key and value are bytes or ``None``, unless
    the consumer has a deserializer: then what that makes of bytes, which no type can say here.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any
    headers: Headers = ()
    leader_epoch: int = -1


make_record: Callable[[type[ConsumerRecord], Iterable[object]], ConsumerRecord] = tuple.__new__
"""As ``ConsumerRecord._make``, at a third of its cost."""


class RecordMetadata(NamedTuple):
    """Where a record was written. ``offset`` is -1 with ``acks=0`` and for a duplicate of unknown place."""

    topic: str
    partition: int
    offset: int
    timestamp: int = -1


class BatchMetadata(NamedTuple):
    """Where a run of records was written: offsets ``base_offset`` to ``base_offset + record_count - 1``."""

    topic: str
    partition: int
    base_offset: int
    record_count: int


class FetchedRecords(NamedTuple):
    """Records of one partition in order, as plain tuples: offset, timestamp, key, value, headers."""

    partition: TopicPartition
    records: list[tuple[int, int, bytes | None, bytes | None, Headers]]
    leader_epoch: int


class OffsetAndMetadata(NamedTuple):
    """A committed position: the next offset to read, and what the committer wrote beside it."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""


def positions_of(
    offsets: Mapping[TopicPartition, int | OffsetAndMetadata],
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a user wants committed, who need not say more than offsets."""
    return {
        partition: offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(offset)
        for partition, offset in offsets.items()
    }
