"""Metadata records to and from their protobuf bytes; the only place where the two meet.

Refuses to know what a record means. Unknown kinds raise ``InvariantViolation``: a node that can not read a
committed record must stop, not guess.
"""

from collections.abc import Iterable
from typing import assert_never, cast

from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import (
    NO_NODE,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.metadata.features import FeatureRange
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    Endpoint,
    FeatureLevel,
    MetadataRecord,
    NoOp,
    PartitionChange,
    PartitionCreated,
    ProducerIdsAllocated,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
    UnregisterBroker,
)
from glasslog.v1 import metadata_pb2 as pb
from google.protobuf.message import DecodeError


def endpoints_to_wire(endpoints: tuple[Endpoint, ...]) -> list[pb.Endpoint]:
    """Listeners as protobuf messages."""
    return [pb.Endpoint(name=e.name, host=e.host, port=e.port) for e in endpoints]


def endpoints_from_wire(endpoints: Iterable[pb.Endpoint]) -> tuple[Endpoint, ...]:
    """Listeners from protobuf messages."""
    return tuple(Endpoint(name=e.name, host=e.host, port=e.port) for e in endpoints)


def features_to_wire(features: Iterable[FeatureRange]) -> list[pb.FeatureRange]:
    """What a node can do as protobuf messages."""
    return [pb.FeatureRange(name=f.name, minimum=f.minimum, maximum=f.maximum) for f in features]


def features_from_wire(features: Iterable[pb.FeatureRange]) -> tuple[FeatureRange, ...]:
    """What a node can do from protobuf messages."""
    return tuple(FeatureRange(name=f.name, minimum=f.minimum, maximum=f.maximum) for f in features)


def encode_record(record: MetadataRecord) -> bytes:
    """The bytes of one record's value in the metadata log."""
    return _to_wire(record).SerializeToString(deterministic=True)


def decode_record(data: bytes) -> MetadataRecord:
    """The record in ``data``; raises ``InvariantViolation`` for bytes that are none."""
    try:
        return _from_wire(pb.MetadataRecord.FromString(data))
    except (DecodeError, ValueError) as error:
        raise InvariantViolation(f"metadata log holds an unreadable record: {error}") from error


def _to_wire(record: MetadataRecord) -> pb.MetadataRecord:
    match record:
        case RegisterBroker():
            return pb.MetadataRecord(register_broker=_register_to_wire(record))
        case UnregisterBroker():
            return pb.MetadataRecord(
                unregister_broker=pb.UnregisterBrokerRecord(
                    broker_id=record.broker_id, broker_epoch=record.broker_epoch
                )
            )
        case BrokerRegistrationChange():
            return pb.MetadataRecord(
                broker_registration_change=pb.BrokerRegistrationChangeRecord(
                    broker_id=record.broker_id,
                    broker_epoch=record.broker_epoch,
                    fenced=record.fenced,
                    in_controlled_shutdown=record.in_controlled_shutdown,
                    log_dirs=_directories_to_wire(record.log_dir_ids),
                )
            )
        case TopicCreated():
            return pb.MetadataRecord(topic=pb.TopicRecord(name=record.name, topic_id=record.topic_id))
        case TopicRemoved():
            return pb.MetadataRecord(remove_topic=pb.RemoveTopicRecord(topic_id=record.topic_id))
        case PartitionCreated():
            return pb.MetadataRecord(partition=_partition_to_wire(record))
        case PartitionChange():
            return pb.MetadataRecord(partition_change=_change_to_wire(record))
        case ConfigChange():
            return pb.MetadataRecord(config=_config_to_wire(record))
        case ClientQuotaChange():
            return pb.MetadataRecord(client_quota=_quota_to_wire(record))
        case ProducerIdsAllocated():
            return pb.MetadataRecord(
                producer_ids=pb.ProducerIdsRecord(
                    broker_id=record.broker_id,
                    broker_epoch=record.broker_epoch,
                    next_producer_id=record.next_producer_id,
                )
            )
        case FeatureLevel():
            return pb.MetadataRecord(
                feature_level=pb.FeatureLevelRecord(name=record.name, level=record.level)
            )
        case NoOp():
            return pb.MetadataRecord(no_op=pb.NoOpRecord())
        case _:
            assert_never(record)


def _register_to_wire(record: RegisterBroker) -> pb.RegisterBrokerRecord:
    return pb.RegisterBrokerRecord(
        broker_id=record.broker_id,
        incarnation_id=record.incarnation_id,
        broker_epoch=record.broker_epoch,
        endpoints=endpoints_to_wire(record.endpoints),
        rack=record.rack,
        fenced=record.fenced,
        log_dir_ids=record.log_dir_ids,
        features=features_to_wire(record.features),
    )


def _partition_to_wire(record: PartitionCreated) -> pb.PartitionRecord:
    return pb.PartitionRecord(
        topic_id=record.topic_id,
        partition=record.partition,
        replicas=record.replicas,
        isr=record.isr,
        leader=record.leader,
        leader_epoch=record.leader_epoch,
        partition_epoch=record.partition_epoch,
        directories=record.directories,
        adding_replicas=record.adding_replicas,
        removing_replicas=record.removing_replicas,
        elr=record.elr,
        last_known_leader=None if record.last_known_leader == NO_NODE else record.last_known_leader,
        recovering=record.recovering,
    )


def _change_to_wire(record: PartitionChange) -> pb.PartitionChangeRecord:
    return pb.PartitionChangeRecord(
        topic_id=record.topic_id,
        partition=record.partition,
        leader=record.leader,
        isr=_nodes_to_wire(record.isr),
        replicas=_nodes_to_wire(record.replicas),
        directories=_directories_to_wire(record.directories),
        adding_replicas=_nodes_to_wire(record.adding_replicas),
        removing_replicas=_nodes_to_wire(record.removing_replicas),
        elr=_nodes_to_wire(record.elr),
        last_known_leader=record.last_known_leader,
        recovering=record.recovering,
    )


def _nodes_to_wire(nodes: tuple[NodeId, ...] | None) -> pb.Int32List | None:
    return None if nodes is None else pb.Int32List(values=nodes)


def _directories_to_wire(directories: tuple[bytes, ...] | None) -> pb.DirectoryList | None:
    return None if directories is None else pb.DirectoryList(ids=directories)


def _config_to_wire(record: ConfigChange) -> pb.ConfigRecord:
    return pb.ConfigRecord(
        resource_type=pb.ConfigRecord.ResourceType.ValueType(record.resource_type.value),
        resource_name=record.resource_name,
        key=record.key,
        value=record.value,
    )


def _quota_to_wire(record: ClientQuotaChange) -> pb.ClientQuotaRecord:
    parts = [pb.ClientQuotaRecord.EntityPart(type=kind, name=name) for kind, name in record.entity]
    return pb.ClientQuotaRecord(entity=parts, key=record.key, limit=record.limit)


def _quota_from_wire(message: pb.ClientQuotaRecord) -> ClientQuotaChange:
    return ClientQuotaChange(
        entity=tuple((part.type, part.name if part.HasField("name") else None) for part in message.entity),
        key=message.key,
        limit=message.limit if message.HasField("limit") else None,
    )


def _from_wire(message: pb.MetadataRecord) -> MetadataRecord:
    match message.WhichOneof("kind"):
        case "register_broker":
            return _register_from_wire(message.register_broker)
        case "unregister_broker":
            gone = message.unregister_broker
            return UnregisterBroker(
                broker_id=NodeId(gone.broker_id), broker_epoch=BrokerEpoch(gone.broker_epoch)
            )
        case "broker_registration_change":
            return _registration_change_from_wire(message.broker_registration_change)
        case "topic":
            return TopicCreated(name=message.topic.name, topic_id=TopicId(message.topic.topic_id))
        case "remove_topic":
            return TopicRemoved(topic_id=TopicId(message.remove_topic.topic_id))
        case "partition":
            return _partition_from_wire(message.partition)
        case "partition_change":
            return _change_from_wire(message.partition_change)
        case "client_quota":
            return _quota_from_wire(message.client_quota)
        case "config":
            return _config_from_wire(message.config)
        case "producer_ids":
            ids = message.producer_ids
            return ProducerIdsAllocated(
                broker_id=NodeId(ids.broker_id),
                broker_epoch=BrokerEpoch(ids.broker_epoch),
                next_producer_id=ProducerId(ids.next_producer_id),
            )
        case "feature_level":
            return FeatureLevel(name=message.feature_level.name, level=message.feature_level.level)
        case "no_op":
            return NoOp()
        case None:
            raise InvariantViolation("metadata record of an unknown kind: written by a newer version?")
        case unreachable:
            assert_never(unreachable)


def _nodes(values: Iterable[int]) -> tuple[NodeId, ...]:
    # They are told apart by the type checker only: to call ``NodeId`` for each costs more than all the rest.
    return cast("tuple[NodeId, ...]", tuple(values))


def _register_from_wire(message: pb.RegisterBrokerRecord) -> RegisterBroker:
    return RegisterBroker(
        broker_id=NodeId(message.broker_id),
        incarnation_id=message.incarnation_id,
        broker_epoch=BrokerEpoch(message.broker_epoch),
        endpoints=endpoints_from_wire(message.endpoints),
        rack=message.rack,
        fenced=message.fenced,
        log_dir_ids=tuple(message.log_dir_ids),
        features=features_from_wire(message.features),
    )


def _registration_change_from_wire(message: pb.BrokerRegistrationChangeRecord) -> BrokerRegistrationChange:
    return BrokerRegistrationChange(
        broker_id=NodeId(message.broker_id),
        broker_epoch=BrokerEpoch(message.broker_epoch),
        fenced=message.fenced if message.HasField("fenced") else None,
        in_controlled_shutdown=(
            message.in_controlled_shutdown if message.HasField("in_controlled_shutdown") else None
        ),
        log_dir_ids=tuple(message.log_dirs.ids) if message.HasField("log_dirs") else None,
    )


def _partition_from_wire(message: pb.PartitionRecord) -> PartitionCreated:
    return PartitionCreated(
        topic_id=TopicId(message.topic_id),
        partition=message.partition,
        replicas=_nodes(message.replicas),
        isr=_nodes(message.isr),
        leader=NodeId(message.leader),
        leader_epoch=LeaderEpoch(message.leader_epoch),
        partition_epoch=PartitionEpoch(message.partition_epoch),
        directories=tuple(message.directories),
        adding_replicas=_nodes(message.adding_replicas),
        removing_replicas=_nodes(message.removing_replicas),
        elr=_nodes(message.elr),
        last_known_leader=NodeId(message.last_known_leader)
        if message.HasField("last_known_leader")
        else NO_NODE,
        recovering=message.recovering,
    )


def _change_from_wire(message: pb.PartitionChangeRecord) -> PartitionChange:
    return PartitionChange(
        topic_id=TopicId(message.topic_id),
        partition=message.partition,
        leader=NodeId(message.leader) if message.HasField("leader") else None,
        isr=_nodes(message.isr.values) if message.HasField("isr") else None,
        replicas=_nodes(message.replicas.values) if message.HasField("replicas") else None,
        directories=tuple(message.directories.ids) if message.HasField("directories") else None,
        adding_replicas=_nodes(message.adding_replicas.values)
        if message.HasField("adding_replicas")
        else None,
        removing_replicas=(
            _nodes(message.removing_replicas.values) if message.HasField("removing_replicas") else None
        ),
        elr=_nodes(message.elr.values) if message.HasField("elr") else None,
        last_known_leader=(
            NodeId(message.last_known_leader) if message.HasField("last_known_leader") else None
        ),
        recovering=message.recovering if message.HasField("recovering") else None,
    )


def _config_from_wire(message: pb.ConfigRecord) -> ConfigChange:
    return ConfigChange(
        resource_type=ResourceType(message.resource_type),
        resource_name=message.resource_name,
        key=message.key,
        value=message.value if message.HasField("value") else None,
    )
