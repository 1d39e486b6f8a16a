"""What committed records mean, in sentences for whoever asks why a leader changed.

Pure: from the image before, the image after and the records between. Refuses to know where the lines go.
"""

from collections.abc import Iterable, Iterator, Sequence

from glasslog.common.ids import NO_NODE, NodeId
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.quotas import describe_entity
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    FeatureLevel,
    MetadataRecord,
    PartitionChange,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
    UnregisterBroker,
)

MAX_PARTITION_LINES = 50
"""Of one batch; a broker may lead thousands of partitions."""


def describe(before: MetadataImage, after: MetadataImage, records: Sequence[MetadataRecord]) -> Iterator[str]:
    """One line per change that matters to people; leaderships beyond ``MAX_PARTITION_LINES`` are counted."""
    shown = left_out = 0
    for record in records:
        if isinstance(record, PartitionChange):
            if shown == MAX_PARTITION_LINES:
                left_out += 1
                continue
            shown += 1
        line = _line(before, after, record)
        if line is not None:
            yield line
    if left_out:
        yield f"and {left_out} more partitions likewise"


def _line(before: MetadataImage, after: MetadataImage, record: MetadataRecord) -> str | None:
    match record:
        case RegisterBroker():
            rack = f", rack {record.rack}" if record.rack else ""
            return f"broker {record.broker_id} registered (epoch {record.broker_epoch}{rack})"
        case UnregisterBroker():
            return f"broker {record.broker_id} unregistered"
        case BrokerRegistrationChange():
            return _broker_line(record)
        case TopicCreated():
            return _topic_line(after, record)
        case TopicRemoved():
            topic = before.topics.get(record.topic_id)
            return f"topic {topic.name} deleted" if topic is not None else None
        case FeatureLevel():
            return f"feature {record.name} is at level {record.level}"
        case ConfigChange():
            return _config_line(record)
        case ClientQuotaChange():
            limit = "has no limit" if record.limit is None else f"= {record.limit:g}"
            return f"client quota of {describe_entity(record.entity)}: {record.key} {limit}"
        case PartitionChange():
            return _partition_line(
                before.partition_by_id(record.topic_id, record.partition),
                after.partition_by_id(record.topic_id, record.partition),
            )
        case _:
            return None


def _broker_line(record: BrokerRegistrationChange) -> str | None:
    if record.fenced is not None:
        return f"broker {record.broker_id} {'fenced' if record.fenced else 'active'}"
    if record.log_dir_ids is not None:
        return f"broker {record.broker_id} lost a data directory; {len(record.log_dir_ids)} are left"
    if record.in_controlled_shutdown:
        return f"broker {record.broker_id} is shutting down; its leaderships move away"
    return None


def _topic_line(after: MetadataImage, record: TopicCreated) -> str | None:
    topic = after.topics.get(record.topic_id)
    if topic is None or not topic.partitions:
        return None
    factor = len(topic.partitions[0].replicas)
    return f"topic {topic.name} created with {len(topic.partitions)} partitions, replication factor {factor}"


def _partition_line(before: PartitionImage | None, after: PartitionImage | None) -> str | None:
    if before is None or after is None:
        return None
    name = f"{after.topic}-{after.partition}"
    if before.replicas != after.replicas or before.is_moving != after.is_moving:
        return _move_line(name, before, after)
    if before.leader_epoch == after.leader_epoch:
        return f"{name}: ISR {_nodes(before.isr)} -> {_in_sync(after)}, leader {_node(after.leader)}"
    warning = ""
    if _is_unclean(before, after):
        had = f"ISR {_in_sync(before)}"
        warning = f"; UNCLEAN: what {had} acknowledged and broker {after.leader} does not have is lost"
    return (
        f"{name}: leader {_node(before.leader)} -> {_node(after.leader)} "
        f"(epoch {after.leader_epoch}), ISR {_in_sync(after)}{warning}"
    )


def _is_unclean(before: PartitionImage, after: PartitionImage) -> bool:
    is_elected = after.has_leader and after.leader_epoch > before.leader_epoch
    return is_elected and after.leader not in (*before.isr, *before.elr)


def count_unclean_elections(
    before: MetadataImage, after: MetadataImage, records: Iterable[MetadataRecord]
) -> int:
    """How many partitions got a leader that may lack what was acknowledged."""
    changed = {
        (record.topic_id, record.partition)
        for record in records
        if isinstance(record, PartitionChange) and record.leader is not None
    }
    pairs = ((before.partition_by_id(*each), after.partition_by_id(*each)) for each in changed)
    return sum(old is not None and new is not None and _is_unclean(old, new) for old, new in pairs)


def _move_line(name: str, before: PartitionImage, after: PartitionImage) -> str:
    leader = f"leader {_node(after.leader)} (epoch {after.leader_epoch})"
    if after.is_moving:
        moved = f"{_nodes(after.original_replicas)} -> {_nodes(after.target_replicas)}"
        return f"{name}: moving {moved}, ISR {_in_sync(after)}, {leader}"
    return f"{name}: now on {_nodes(after.replicas)}, ISR {_in_sync(after)}, {leader}"


def _node(node_id: NodeId) -> str:
    return "none" if node_id == NO_NODE else str(node_id)


def _in_sync(partition: PartitionImage) -> str:
    elr = f", ELR {_nodes(partition.elr)}" if partition.elr else ""
    return f"{_nodes(partition.isr)}{elr}"


def _nodes(node_ids: Sequence[NodeId]) -> str:
    return "{" + ",".join(str(node_id) for node_id in node_ids) + "}"


def _config_line(record: ConfigChange) -> str:
    if record.resource_type is ResourceType.TOPIC:
        whose = f"topic {record.resource_name}"
    else:
        whose = f"broker {record.resource_name}" if record.resource_name else "every broker"
    return f"{whose}: {record.key} " + ("as by default" if record.value is None else f"= {record.value}")
