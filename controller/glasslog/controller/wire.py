"""Protobuf requests into values and answers into protobuf; the only place of the controller where the two
meet.

Refuses to know what is decided. Bytes that are no such message are INVALID_REQUEST.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicId
from glasslog.controller.requests import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DirectoryAssignment,
    IsrOutcome,
    IsrProposal,
    NewTopic,
    Reassignment,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
    UnregisterBrokerResponse,
)
from glasslog.metadata.wire import endpoints_from_wire, features_from_wire
from glasslog.v1 import controller_pb2 as pb
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """The message in ``data``; raises ``GlasslogError`` with INVALID_REQUEST if it is none of that kind."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"not a {kind.__name__}: {error}") from error


def _nodes(values: Iterable[int]) -> tuple[NodeId, ...]:
    return tuple(NodeId(value) for value in values)


# --- requests ---


def register_broker(message: pb.RegisterBrokerRequest) -> RegisterBrokerRequest:
    """See ``RegisterBrokerRequest``."""
    return RegisterBrokerRequest(
        cluster_id=message.cluster_id,
        broker_id=NodeId(message.broker_id),
        incarnation_id=message.incarnation_id,
        endpoints=endpoints_from_wire(message.endpoints),
        rack=message.rack,
        log_dir_ids=tuple(message.log_dir_ids),
        previous_broker_epoch=BrokerEpoch(message.previous_broker_epoch),
        features=features_from_wire(message.features),
    )


def broker_heartbeat(message: pb.BrokerHeartbeatRequest) -> BrokerHeartbeatRequest:
    """See ``BrokerHeartbeatRequest``."""
    return BrokerHeartbeatRequest(
        broker_id=NodeId(message.broker_id),
        broker_epoch=BrokerEpoch(message.broker_epoch),
        current_metadata_offset=Offset(message.current_metadata_offset),
        want_fence=message.want_fence,
        want_shut_down=message.want_shut_down,
        offline_log_dirs=tuple(message.offline_log_dirs),
    )


def alter_partition(message: pb.AlterPartitionRequest) -> AlterPartitionRequest:
    """See ``AlterPartitionRequest``."""
    return AlterPartitionRequest(
        broker_id=NodeId(message.broker_id),
        broker_epoch=BrokerEpoch(message.broker_epoch),
        partitions=tuple(
            IsrProposal(
                topic_id=TopicId(item.topic_id),
                partition=item.partition,
                leader_epoch=LeaderEpoch(item.leader_epoch),
                partition_epoch=PartitionEpoch(item.partition_epoch),
                new_isr=_nodes(item.new_isr),
                new_isr_broker_epochs=tuple(BrokerEpoch(epoch) for epoch in item.new_isr_broker_epochs),
            )
            for item in message.partitions
        ),
    )


def assign_replicas(message: pb.AssignReplicasToDirsRequest) -> AssignReplicasToDirsRequest:
    """See ``AssignReplicasToDirsRequest``."""
    return AssignReplicasToDirsRequest(
        broker_id=NodeId(message.broker_id),
        broker_epoch=BrokerEpoch(message.broker_epoch),
        assignments=tuple(
            DirectoryAssignment(
                topic_id=TopicId(item.topic_id), partition=item.partition, directory_id=item.directory_id
            )
            for item in message.assignments
        ),
    )


def allocate_producer_ids(message: pb.AllocateProducerIdsRequest) -> AllocateProducerIdsRequest:
    """See ``AllocateProducerIdsRequest``."""
    return AllocateProducerIdsRequest(
        broker_id=NodeId(message.broker_id), broker_epoch=BrokerEpoch(message.broker_epoch)
    )


def create_topics(
    message: pb.CreateTopicsRequest, *, new_topic_id: Callable[[], bytes], new_seed: Callable[[], int]
) -> CreateTopicsRequest:
    """See ``CreateTopicsRequest``; what must be random is drawn here, once per topic."""
    return CreateTopicsRequest(
        topics=tuple(
            NewTopic(
                name=item.name,
                topic_id=TopicId(new_topic_id()),
                placement_seed=new_seed(),
                partitions=item.partitions,
                replication_factor=item.replication_factor,
                configs=dict(item.configs),
                assignments=tuple((each.partition, _nodes(each.replicas)) for each in item.assignments),
            )
            for item in message.topics
        ),
        validate_only=message.validate_only,
        internal=message.internal,
    )


def delete_topics(message: pb.DeleteTopicsRequest) -> DeleteTopicsRequest:
    """See ``DeleteTopicsRequest``."""
    return DeleteTopicsRequest(names=tuple(message.names))


def reassign(message: pb.AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsRequest:
    """See ``AlterPartitionReassignmentsRequest``."""
    return AlterPartitionReassignmentsRequest(
        reassignments=tuple(
            Reassignment(
                topic=item.topic,
                partition=item.partition,
                replicas=None if item.cancel else _nodes(item.replicas),
            )
            for item in message.partitions
        ),
        keep_replication_factor=message.keep_replication_factor,
    )


# --- responses ---


def registered(response: RegisterBrokerResponse) -> pb.RegisterBrokerResponse:
    """See ``RegisterBrokerResponse``."""
    return pb.RegisterBrokerResponse(
        error_code=response.error_code,
        error_message=response.error_message,
        broker_epoch=response.broker_epoch,
    )


def heard(response: BrokerHeartbeatResponse) -> pb.BrokerHeartbeatResponse:
    """See ``BrokerHeartbeatResponse``."""
    return pb.BrokerHeartbeatResponse(
        error_code=response.error_code,
        is_caught_up=response.is_caught_up,
        is_fenced=response.is_fenced,
        should_shut_down=response.should_shut_down,
    )


def altered(response: AlterPartitionResponse) -> pb.AlterPartitionResponse:
    """See ``AlterPartitionResponse``."""
    return pb.AlterPartitionResponse(
        error_code=response.error_code, partitions=[_outcome(item) for item in response.partitions]
    )


def _outcome(item: IsrOutcome) -> pb.AlterPartitionResponse.Partition:
    return pb.AlterPartitionResponse.Partition(
        topic_id=item.topic_id,
        partition=item.partition,
        error_code=item.error_code,
        leader=item.leader,
        leader_epoch=item.leader_epoch,
        isr=item.isr,
        elr=item.elr,
        partition_epoch=item.partition_epoch,
    )


def assigned(response: AssignReplicasToDirsResponse) -> pb.AssignReplicasToDirsResponse:
    """See ``AssignReplicasToDirsResponse``."""
    return pb.AssignReplicasToDirsResponse(
        error_code=response.error_code,
        outcomes=[
            pb.AssignReplicasToDirsResponse.Outcome(
                topic_id=item.topic_id, partition=item.partition, error_code=item.error_code
            )
            for item in response.outcomes
        ],
    )


def allocated(response: AllocateProducerIdsResponse) -> pb.AllocateProducerIdsResponse:
    """See ``AllocateProducerIdsResponse``."""
    return pb.AllocateProducerIdsResponse(
        error_code=response.error_code,
        first_producer_id=response.first_producer_id,
        count=response.count,
    )


def unregistered(response: UnregisterBrokerResponse) -> pb.UnregisterBrokerResponse:
    """See ``UnregisterBrokerResponse``."""
    return pb.UnregisterBrokerResponse(error_code=response.error_code, error_message=response.error_message)


def created(response: CreateTopicsResponse) -> pb.CreateTopicsResponse:
    """See ``CreateTopicsResponse``."""
    return pb.CreateTopicsResponse(
        topics=[
            pb.CreateTopicsResponse.Topic(
                name=item.name,
                error_code=item.error_code,
                error_message=item.error_message,
                topic_id=item.topic_id,
                partitions=item.partitions,
                replication_factor=item.replication_factor,
            )
            for item in response.topics
        ]
    )


def deleted(response: DeleteTopicsResponse) -> pb.DeleteTopicsResponse:
    """See ``DeleteTopicsResponse``."""
    return pb.DeleteTopicsResponse(
        topics=[
            pb.DeleteTopicsResponse.Topic(
                name=item.name, error_code=item.error_code, error_message=item.error_message
            )
            for item in response.topics
        ]
    )


def reassigned(response: AlterPartitionReassignmentsResponse) -> pb.AlterPartitionReassignmentsResponse:
    """See ``AlterPartitionReassignmentsResponse``."""
    return pb.AlterPartitionReassignmentsResponse(
        partitions=[
            pb.AlterPartitionReassignmentsResponse.Partition(
                topic=item.topic,
                partition=item.partition,
                error_code=item.error_code,
                error_message=item.error_message,
            )
            for item in response.outcomes
        ]
    )
