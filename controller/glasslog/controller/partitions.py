"""Topics get more partitions.

Checks what was asked and turns it into records; where replicas go is ``placement``'s business.  Source:
KIP-195, Kafka's ``ReplicationControlManager.createPartitions``.
"""

from collections import Counter

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.topic_names import INTERNAL_TOPICS
from glasslog.controller.admin_requests import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    EnlargedTopic,
    MorePartitions,
)
from glasslog.controller.assignments import bad_assignment, check_replicas, new_partition
from glasslog.controller.decision import Context, Decision
from glasslog.controller.placement import place
from glasslog.metadata.image import MetadataImage, TopicImage
from glasslog.metadata.records import MetadataRecord

Assignment = tuple[tuple[NodeId, ...], ...]


def create_partitions(
    context: Context, request: CreatePartitionsRequest
) -> Decision[CreatePartitionsResponse]:
    """Each topic whole or not at all, independently of the others. With ``validate_only`` no records."""
    counts = Counter(topic.name for topic in request.topics)
    results: list[EnlargedTopic] = []
    records: list[MetadataRecord] = []
    left = context.settings.max_partitions_per_request
    for topic in request.topics:
        try:
            if counts[topic.name] > 1:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"topic {topic.name!r} is named twice")
            known = _known(context.image, topic.name)
            assignment = _assignment(context, topic, known, left)
        except GlasslogError as error:
            results.append(EnlargedTopic(name=topic.name, error_code=error.code, error_message=str(error)))
            continue
        left -= len(assignment)
        results.append(EnlargedTopic(name=topic.name))
        records.extend(
            new_partition(context.image, known.topic_id, number, replicas)
            for number, replicas in enumerate(assignment, len(known.partitions))
        )
    response = CreatePartitionsResponse(topics=tuple(results))
    return Decision(response=response, records=() if request.validate_only else tuple(records))


def _known(image: MetadataImage, name: str) -> TopicImage:
    topic = image.topic(name)
    if topic is None:
        raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
    if name in INTERNAL_TOPICS:
        raise GlasslogError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"{name!r} is the cluster's own: what is in it is found by its number of partitions",
        )
    return topic


def _assignment(context: Context, topic: MorePartitions, known: TopicImage, left: int) -> Assignment:
    has = len(known.partitions)
    more = topic.count - has
    if more <= 0:
        raise GlasslogError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {topic.name!r} has {has} partitions; {topic.count} would not be more, and a topic can "
            "not get fewer",
        )
    if more > left:
        raise GlasslogError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {topic.name!r} asks for {more} more partitions; one request may create "
            f"{context.settings.max_partitions_per_request} in all",
        )
    if topic.assignments:
        return _explicit(context.image, topic, known, more)
    return _automatic(context.image, topic, known, more)


def _explicit(image: MetadataImage, topic: MorePartitions, known: TopicImage, more: int) -> Assignment:
    if len(topic.assignments) != more:
        raise bad_assignment(
            topic.name, f"is of {len(topic.assignments)} partitions, and {more} are to be added"
        )
    factor = len(known.partitions[0].replicas)
    for number, replicas in enumerate(topic.assignments, len(known.partitions)):
        check_replicas(image, topic.name, number, replicas, replication_factor=factor)
    return topic.assignments


def _automatic(image: MetadataImage, topic: MorePartitions, known: TopicImage, more: int) -> Assignment:
    factor = len(known.partitions[0].replicas)
    racks = {broker.broker_id: broker.rack for broker in image.brokers.values() if broker.active}
    if factor > len(racks):
        raise GlasslogError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"topic {topic.name!r} has {factor} replicas, but {len(racks)} of {len(image.brokers)} "
            "registered brokers are active",
        )
    return place(
        racks,
        partitions=more,
        replication_factor=factor,
        seed=topic.placement_seed,
        existing=[partition.replicas for partition in known.partitions],
    )
