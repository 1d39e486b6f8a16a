"""Which partitions are being moved, from a broker's own image of the metadata. Refuses to know who asks."""

from collections.abc import Collection, Sequence

from glasslog.broker.cluster_changes import check_count
from glasslog.common.ids import TopicPartition
from glasslog.metadata.image import MetadataImage, PartitionImage


def moving_partitions(
    image: MetadataImage, named: Collection[TopicPartition] | None
) -> Sequence[PartitionImage]:
    """Those of ``named``, or of all with ``None``, by topic. Raises INVALID_REQUEST for too many names."""
    if named is not None:
        check_count(len(named), "partitions")
        found = (image.partition(name.topic, name.partition) for name in dict.fromkeys(named))
        return [each for each in found if each is not None and each.is_moving]
    topics = sorted(image.topics.values(), key=lambda topic: topic.name)
    return [each for topic in topics for each in topic.partitions if each.is_moving]
