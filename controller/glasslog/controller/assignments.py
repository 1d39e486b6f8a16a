"""Which brokers a partition may be given, and the record of a partition that begins on them.

Refuses to know why a partition is made, and who chose its replicas.
"""

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, LeaderEpoch, NodeId, PartitionEpoch, TopicId
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import UNASSIGNED_DIRECTORY, PartitionCreated


def check_replicas(
    image: MetadataImage,
    topic: str,
    partition: int,
    replicas: tuple[NodeId, ...],
    *,
    replication_factor: int,
) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT unless a new partition can begin on ``replicas``."""
    if not replicas or len(set(replicas)) != len(replicas):
        raise bad_assignment(topic, f"needs different brokers for partition {partition}, not {[*replicas]}")
    if len(replicas) != replication_factor:
        raise bad_assignment(
            topic,
            f"gives partition {partition} {len(replicas)} replicas and partition 0 {replication_factor}",
        )
    unknown = [broker_id for broker_id in replicas if broker_id not in image.brokers]
    if unknown:
        raise bad_assignment(topic, f"puts partition {partition} on {unknown}: not registered")
    if not any(image.brokers[broker_id].active for broker_id in replicas):
        raise bad_assignment(topic, f"puts partition {partition} on {[*replicas]}: none of them is active")


def bad_assignment(topic: str, problem: str) -> GlasslogError:
    """The refusal of an assignment that was given."""
    return GlasslogError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"the assignment of topic {topic!r} {problem}")


def new_partition(
    image: MetadataImage, topic_id: TopicId, partition: int, replicas: tuple[NodeId, ...]
) -> PartitionCreated:
    """A partition without history: whoever is active is in sync, the first of them leads."""
    isr = tuple(broker_id for broker_id in replicas if image.brokers[broker_id].active)
    return PartitionCreated(
        topic_id=topic_id,
        partition=partition,
        replicas=replicas,
        isr=isr,
        leader=next(iter(isr), NO_NODE),
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
        directories=_only_directories(image, replicas),
    )


def _only_directories(image: MetadataImage, replicas: tuple[NodeId, ...]) -> tuple[bytes, ...]:
    known = tuple(image.brokers[broker_id].directory_of_new_replicas for broker_id in replicas)
    return () if all(each == UNASSIGNED_DIRECTORY for each in known) else known
