"""Topics are created and deleted.

Checks what was asked and turns it into records; where replicas go is ``placement``'s business. Every
refusal names what and why. Source: Kafka's ``ReplicationControlManager.createTopic``; replicas go to active
brokers only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, require
from glasslog.common.ids import METADATA_TOPIC_ID, NO_NODE, ZERO_TOPIC_ID, LeaderEpoch, NodeId, PartitionEpoch
from glasslog.common.topic_config import check_topic_overrides
from glasslog.common.topic_names import INTERNAL_TOPICS, can_collide, collision_key, name_problem
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
    UNASSIGNED_DIRECTORY,
    ConfigChange,
    MetadataRecord,
    PartitionCreated,
    ResourceType,
    TopicCreated,
    TopicRemoved,
)

Assignment = tuple[tuple[NodeId, ...], ...]
_SHOWN_NAME_LENGTH = 300


# --- creation ---


def create_topics(context: Context, request: CreateTopicsRequest) -> Decision[CreateTopicsResponse]:
    """Each topic whole or not at all, independently of the others. With ``validate_only`` without records."""
    repeated = _repeated([topic.name for topic in request.topics])
    results: list[CreatedTopic] = []
    records: list[MetadataRecord] = []
    names: list[str] = []
    partitions_left = context.settings.max_partitions_per_request
    for topic in request.topics:
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
        raise _bad_assignment(topic, f"must name partitions 0 to {count - 1}, each once")
    assignment = tuple(by_partition[partition] for partition in range(count))
    factor = len(assignment[0])
    for partition, replicas in enumerate(assignment):
        _check_replicas(image, topic, partition, replicas, factor)
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


def _check_replicas(
    image: MetadataImage, topic: NewTopic, partition: int, replicas: tuple[NodeId, ...], factor: int
) -> None:
    if not replicas or len(set(replicas)) != len(replicas):
        raise _bad_assignment(topic, f"needs different brokers for partition {partition}, not {[*replicas]}")
    if len(replicas) != factor:
        raise _bad_assignment(
            topic, f"gives partition {partition} {len(replicas)} replicas and partition 0 {factor}"
        )
    unknown = [broker_id for broker_id in replicas if broker_id not in image.brokers]
    if unknown:
        raise _bad_assignment(topic, f"puts partition {partition} on {unknown}: not registered")
    if not any(image.brokers[broker_id].active for broker_id in replicas):
        raise _bad_assignment(topic, f"puts partition {partition} on {[*replicas]}: none of them is active")


def _bad_assignment(topic: NewTopic, problem: str) -> GlasslogError:
    return GlasslogError(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"the assignment of topic {topic.name!r} {problem}"
    )


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
        _partition(image, topic, partition, replicas) for partition, replicas in enumerate(assignment)
    )
    return records


def _partition(
    image: MetadataImage, topic: NewTopic, partition: int, replicas: tuple[NodeId, ...]
) -> PartitionCreated:
    isr = tuple(broker_id for broker_id in replicas if image.brokers[broker_id].active)
    return PartitionCreated(
        topic_id=topic.topic_id,
        partition=partition,
        replicas=replicas,
        isr=isr,
        leader=next(iter(isr), NO_NODE),
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
        directories=_only_directories(image, replicas),
    )


def _only_directories(image: MetadataImage, replicas: tuple[NodeId, ...]) -> tuple[bytes, ...]:
    """Where a broker has no choice it need not be asked; the others say so when they have chosen."""
    held = [image.brokers[broker_id].log_dir_ids for broker_id in replicas]
    known = tuple(ids[0] if len(ids) == 1 else UNASSIGNED_DIRECTORY for ids in held)
    return () if all(each == UNASSIGNED_DIRECTORY for each in known) else known


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
    for name in request.names:
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
