"""Which directory of a broker holds a replica, and what it means when one is gone.

A replica counts only while the directory it was put in is one of its broker's: a directory that has failed,
or was replaced by an empty one, takes its replicas out of ISRs and leaderships, and the broker goes on with
the rest.  Refuses to know how a broker chooses a directory.  Source: KIP-858.
"""

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import (
    difference,
    is_online,
    settled,
    terms_of,
    without_directories,
)
from glasslog.controller.requests import (
    AssignmentOutcome,
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    BrokerHeartbeatRequest,
    DirectoryAssignment,
)
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage
from glasslog.metadata.records import BrokerRegistrationChange, MetadataRecord, PartitionChange

DIRECTORY_ID_BYTES = 16


def directories_failed(
    context: Context, broker: BrokerImage, request: BrokerHeartbeatRequest
) -> tuple[MetadataRecord, ...]:
    """What a heartbeat's ``offline_log_dirs`` changes; nothing where that is known already."""
    gone = frozenset(broker.log_dir_ids) & frozenset(request.offline_log_dirs)
    if not gone:
        return ()
    left = tuple(each for each in broker.log_dir_ids if each not in gone)
    registration = BrokerRegistrationChange(
        broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, log_dir_ids=left
    )
    elected = without_directories(context.image, context.settings, broker.broker_id, gone)
    return (*elected, registration)


def assign_replicas(
    context: Context, request: AssignReplicasToDirsRequest
) -> Decision[AssignReplicasToDirsResponse]:
    """STALE_BROKER_EPOCH for the call, or per replica what ``_assign`` says."""
    broker = context.broker_at(request.broker_id, request.broker_epoch)
    if broker is None:
        return Decision(response=AssignReplicasToDirsResponse(error_code=ErrorCode.STALE_BROKER_EPOCH))
    outcomes: list[AssignmentOutcome] = []
    records: list[PartitionChange] = []
    seen: set[tuple[bytes, int]] = set()
    for assignment in request.assignments:
        key = (assignment.topic_id, assignment.partition)
        error = ErrorCode.INVALID_REQUEST
        if key not in seen:
            seen.add(key)
            error, record = _assign(context, broker, assignment)
            records += () if record is None else (record,)
        outcomes.append(
            AssignmentOutcome(topic_id=assignment.topic_id, partition=assignment.partition, error_code=error)
        )
    return Decision(response=AssignReplicasToDirsResponse(outcomes=tuple(outcomes)), records=tuple(records))


def _assign(
    context: Context, broker: BrokerImage, assignment: DirectoryAssignment
) -> tuple[ErrorCode, PartitionChange | None]:
    image = context.image
    partition = image.partition_by_id(assignment.topic_id, assignment.partition)
    if len(assignment.directory_id) != DIRECTORY_ID_BYTES:
        return ErrorCode.INVALID_REQUEST, None
    if partition is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
    if broker.broker_id not in partition.replicas:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER, None
    if partition.directory_of(broker.broker_id) == assignment.directory_id:
        return ErrorCode.NONE, None
    directories = partition.directories_with(broker.broker_id, assignment.directory_id)
    if broker.has_directory(partition.directory_of(broker.broker_id)):
        return ErrorCode.NONE, _moved(partition, directories)
    return _replaced(context, broker, partition, directories)


def _moved(partition: PartitionImage, directories: tuple[bytes, ...]) -> PartitionChange:
    return PartitionChange(
        topic_id=partition.topic_id, partition=partition.partition, directories=directories
    )


def _replaced(
    context: Context, broker: BrokerImage, partition: PartitionImage, directories: tuple[bytes, ...]
) -> tuple[ErrorCode, PartitionChange | None]:
    """The directory that held the replica is gone, so this is a new one that holds nothing.

    It is no member of the ISR or the ELR any more. Where it is the last one, what was acknowledged is in the
    lost directory alone: the replica stays offline until that comes back, unless the topic elects uncleanly.
    """
    image, moved, node = context.image, _moved(partition, directories), broker.broker_id
    if node not in (*partition.isr, *partition.elr, partition.last_known_leader):
        return ErrorCode.NONE, moved
    others = tuple(member for member in partition.isr if member != node)
    is_last = not others and not any(member != node for member in partition.elr)
    terms = terms_of(image, context.settings, partition.topic)
    if is_last and not terms.unclean:
        return ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, None
    after = settled(
        partition._replace(directories=directories, last_known_leader=_other(partition, node)),
        isr=others,
        is_active=lambda member: _is_online_after(image, partition, broker, member),
        terms=terms,
        lost=frozenset((node,)),
    )
    after = after._replace(last_known_leader=_other(after, node))
    return ErrorCode.NONE, difference(partition, after)


def _other(partition: PartitionImage, node: NodeId) -> NodeId:
    """The last known leader, if that is not ``node``."""
    return NO_NODE if partition.last_known_leader == node else partition.last_known_leader


def _is_online_after(
    image: MetadataImage, partition: PartitionImage, broker: BrokerImage, member: int
) -> bool:
    if member == broker.broker_id:
        return broker.active
    return any(member == each and is_online(image, partition, each) for each in partition.replicas)
