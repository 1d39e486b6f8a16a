"""Topics are created and deleted.

Checks what was asked and turns it into records; where replicas go is ``placement``'s business. Every
refusal names what and why. Source: Kafka's ``ReplicationControlManager.createTopic``; replicas go to active
brokers only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, require
from glasslog.common.ids import METADATA_TOPIC_ID, ZERO_TOPIC_ID, NodeId
from glasslog.common.topic_config import check_topic_overrides
from glasslog.common.topic_names import INTERNAL_TOPICS, can_collide, collision_key, name_problem
from glasslog.controller.assignments import bad_assignment, check_replicas, new_partition
from glasslog.controller.decision import Context, Decision
from glasslog.controller.placement import place
from glasslog.controller.requests import (
    BROKER_DEFAULT,
    CreatedTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeletedTopic,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    NewTopic,
)
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import (
    ConfigChange,
    MetadataRecord,
    ResourceType,
    TopicCreated,
    TopicRemoved,
)

Assignment = tuple[tuple[NodeId, ...], ...]
_SHOWN_NAME_LENGTH = 300


# --- creation ---


def create_topics(context: Context, request: CreateTopicsRequest) -> Decision[CreateTopicsResponse]:
    """Each topic whole or not at all, independently of the others. With ``validate_only`` without records."""
    topics = {topic.name: topic for topic in request.topics}
    repeated = _repeated([topic.name for topic in request.topics])
    results: list[CreatedTopic] = []
    records: list[MetadataRecord] = []
    names: list[str] = []
    partitions_left = context.settings.max_partitions_per_request
    for topic in topics.values():
        try:
            if topic.name in repeated:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"topic {topic.name!r} is named twice")
            _check_name(context.image, topic.name, names, internal=request.internal)
            assignment = _assignment(context, topic, partitions_left)
            _check_configs(topic)
        except GlasslogError as error:
            results.append(_refused(topic.name, error))
            continue
        results.append(_created(topic, assignment))
        records.extend(_records(context.image, topic, assignment))
        names.append(topic.name)
        partitions_left -= len(assignment)
    response = CreateTopicsResponse(topics=tuple(results))
    return Decision(response=response, records=() if request.validate_only else tuple(records))


def _check_name(image: MetadataImage, name: str, others: Sequence[str], *, internal: bool) -> None:
    problem = name_problem(name)
    if problem is not None:
        raise GlasslogError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"no topic can be called so: {problem}")
    if name in INTERNAL_TOPICS and not internal:
        raise GlasslogError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name!r} is the cluster's own: brokers create it when needed"
        )
    if name in image.topic_ids:
        raise GlasslogError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name!r} exists already")
    if can_collide(name):
        key = collision_key(name)
        for known in (*image.topic_ids, *others):
            if collision_key(known) == key:
                raise GlasslogError(
                    ErrorCode.INVALID_TOPIC_EXCEPTION,
                    f"topic {name!r} collides with {known!r}: '.' and '_' count as the same",
                )


def _check_configs(topic: NewTopic) -> None:
    try:
        check_topic_overrides(topic.configs)
    except ConfigError as error:
        raise GlasslogError(ErrorCode.INVALID_CONFIG, f"topic {topic.name!r}: {error}") from error


def _assignment(context: Context, topic: NewTopic, partitions_left: int) -> Assignment:
    if topic.assignments:
        assignment = _explicit(context.image, topic)
        _check_count(topic, len(assignment), partitions_left, context.settings.max_partitions_per_request)
        return assignment
    return _automatic(context, topic, partitions_left)


# --- automatic assignment ---


def _automatic(context: Context, topic: NewTopic, partitions_left: int) -> Assignment:
    settings = context.settings
    partitions = settings.num_partitions if topic.partitions == BROKER_DEFAULT else topic.partitions
    _check_count(topic, partitions, partitions_left, settings.max_partitions_per_request)
    replication_factor = topic.replication_factor
    if replication_factor == BROKER_DEFAULT:
        replication_factor = settings.default_replication_factor
    if replication_factor < 1:
        raise GlasslogError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"topic {topic.name!r} asks for {replication_factor} replicas; at least 1 is needed",
        )
    racks = {broker.broker_id: broker.rack for broker in context.image.brokers.values() if broker.active}
    if replication_factor > len(racks):
        raise GlasslogError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"topic {topic.name!r} asks for {replication_factor} replicas, but {len(racks)} of "
            f"{len(context.image.brokers)} registered brokers are active",
        )
    return place(
        racks, partitions=partitions, replication_factor=replication_factor, seed=topic.placement_seed
    )


def _check_count(topic: NewTopic, partitions: int, left: int, most: int) -> None:
    if partitions < 1:
        raise GlasslogError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {topic.name!r} asks for {partitions} partitions; at least 1 is needed",
        )
    if partitions > left:
        raise GlasslogError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {topic.name!r} asks for {partitions} partitions; one request may create {most} in all",
        )


# --- explicit assignment ---


def _explicit(image: MetadataImage, topic: NewTopic) -> Assignment:
    by_partition = dict(topic.assignments)
    count = len(topic.assignments)
    if sorted(by_partition) != list(range(count)):
        raise bad_assignment(topic.name, f"must name partitions 0 to {count - 1}, each once")
    assignment = tuple(by_partition[partition] for partition in range(count))
    factor = len(assignment[0])
    for partition, replicas in enumerate(assignment):
        check_replicas(image, topic.name, partition, replicas, replication_factor=factor)
    # Zero is what a caller leaves who has nothing to say beside an assignment.
    if topic.partitions not in (BROKER_DEFAULT, 0, count):
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"topic {topic.name!r} asks for {topic.partitions} partitions and assigns {count}",
        )
    if topic.replication_factor not in (BROKER_DEFAULT, 0, factor):
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"topic {topic.name!r} asks for {topic.replication_factor} replicas and assigns {factor}",
        )
    return assignment


# --- records and results of a creation ---


def _records(image: MetadataImage, topic: NewTopic, assignment: Assignment) -> list[MetadataRecord]:
    require(
        topic.topic_id not in image.topics and topic.topic_id not in (ZERO_TOPIC_ID, METADATA_TOPIC_ID),
        f"topic id {topic.topic_id.hex()} was drawn for {topic.name!r}, but is taken",
    )
    records: list[MetadataRecord] = [TopicCreated(name=topic.name, topic_id=topic.topic_id)]
    records.extend(
        ConfigChange(resource_type=ResourceType.TOPIC, resource_name=topic.name, key=key, value=value)
        for key, value in sorted(topic.configs.items())
    )
    records.extend(
        new_partition(image, topic.topic_id, partition, replicas)
        for partition, replicas in enumerate(assignment)
    )
    return records


def _created(topic: NewTopic, assignment: Assignment) -> CreatedTopic:
    return CreatedTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=len(assignment),
        replication_factor=len(assignment[0]),
    )


def _refused(name: str, error: GlasslogError) -> CreatedTopic:
    message = str(error)
    if len(name) > _SHOWN_NAME_LENGTH:
        message = message.replace(name, f"{name[:_SHOWN_NAME_LENGTH]}...")
    return CreatedTopic(name=name, error_code=error.code, error_message=message)


# --- deletion ---


def delete_topics(context: Context, request: DeleteTopicsRequest) -> Decision[DeleteTopicsResponse]:
    """Each topic independently of the others; its settings go with it."""
    repeated = _repeated(request.names)
    results: list[DeletedTopic] = []
    records: list[MetadataRecord] = []
    for name in dict.fromkeys(request.names):
        refusal = _deletion_problem(context.image, name, repeated)
        if refusal is not None:
            results.append(refusal)
            continue
        results.append(DeletedTopic(name=name))
        records.append(TopicRemoved(topic_id=context.image.topic_ids[name]))
    return Decision(response=DeleteTopicsResponse(topics=tuple(results)), records=tuple(records))


def _deletion_problem(image: MetadataImage, name: str, repeated: frozenset[str]) -> DeletedTopic | None:
    refusal = DeletedTopic(name=name)
    if name in repeated:
        return replace(
            refusal, error_code=ErrorCode.INVALID_REQUEST, error_message=f"topic {name!r} is named twice"
        )
    if name in INTERNAL_TOPICS:
        return replace(
            refusal,
            error_code=ErrorCode.INVALID_TOPIC_EXCEPTION,
            error_message=f"{name!r} is the cluster's own and holds its state",
        )
    if name not in image.topic_ids:
        return replace(
            refusal,
            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            error_message=f"there is no topic {name!r}",
        )
    return None


def _repeated(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name, count in Counter(names).items() if count > 1)
