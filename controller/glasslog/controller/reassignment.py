"""Partitions are moved to other brokers: a move is begun, given another target, or cancelled.

A partition that is being moved has all its replicas, old and new; once the new ones are in the ISR the old
ones go (``elections.finished``, which the leader's ISR change sets off). A move is in the records alone, so
that any controller goes on with it. Refuses to know where replicas should be, and how they are copied.

A move that is given another target still begins where the first one did: cancelling returns there. Replicas
that the first target had and the second has not go at once, unless they are in the ISR: then they go with the
old ones, since nobody may be left who has what was acknowledged.
Source: KIP-455, Kafka's ``ReplicationControlManager.alterPartitionReassignments``.
"""

from collections import Counter
from dataclasses import replace

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import (
    difference,
    finished,
    is_online,
    settled,
    terms_of,
    with_replicas,
)
from glasslog.controller.requests import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    Reassignment,
    ReassignmentOutcome,
)
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import UNASSIGNED_DIRECTORY, PartitionChange


def alter_reassignments(
    context: Context, request: AlterPartitionReassignmentsRequest
) -> Decision[AlterPartitionReassignmentsResponse]:
    """Each partition independently of the others. Raises INVALID_REQUEST for more than one call may name."""
    most = context.settings.max_partitions_per_request
    if len(request.reassignments) > most:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"one request may move {most} partitions at most")
    named = Counter((each.topic, each.partition) for each in request.reassignments)
    outcomes: list[ReassignmentOutcome] = []
    records: list[PartitionChange] = []
    for each in request.reassignments:
        outcome = ReassignmentOutcome(topic=each.topic, partition=each.partition)
        try:
            if named[each.topic, each.partition] > 1:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{_name(each)} is named twice")
            record = _decide(context, each, keep_factor=request.keep_replication_factor)
        except GlasslogError as error:
            outcomes.append(replace(outcome, error_code=error.code, error_message=str(error)))
            continue
        outcomes.append(outcome)
        records += () if record is None else (record,)
    return Decision(
        response=AlterPartitionReassignmentsResponse(outcomes=tuple(outcomes)), records=tuple(records)
    )


def _decide(context: Context, asked: Reassignment, *, keep_factor: bool) -> PartitionChange | None:
    partition = context.image.partition(asked.topic, asked.partition)
    if partition is None:
        raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {_name(asked)}")
    if asked.replicas is None:
        return _cancelled(context, partition)
    _check_target(context.image, asked, asked.replicas)
    if keep_factor and len(asked.replicas) != len(partition.original_replicas):
        raise GlasslogError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"{_name(asked)} has {len(partition.original_replicas)} replicas and would get "
            f"{len(asked.replicas)}, which the request rules out",
        )
    return _begun(context.image, partition, asked.replicas)


def _check_target(image: MetadataImage, asked: Reassignment, target: tuple[NodeId, ...]) -> None:
    problem = ""
    if not target:
        problem = "an assignment to no broker"
    elif len(set(target)) != len(target):
        problem = f"brokers more than once in {[*target]}"
    elif unknown := [broker_id for broker_id in target if broker_id not in image.brokers]:
        problem = f"brokers that are not registered: {unknown}"
    if problem:
        raise GlasslogError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"{_name(asked)} is given {problem}")


def _begun(
    image: MetadataImage, partition: PartitionImage, target: tuple[NodeId, ...]
) -> PartitionChange | None:
    original = partition.original_replicas
    leaving = tuple(
        node
        for node in partition.replicas
        if node not in target and (node in original or node in (*partition.isr, *partition.elr))
    )
    replicas = (*target, *leaving)
    moving = with_replicas(partition, replicas)._replace(
        directories=_directories(image, partition, replicas),
        adding_replicas=tuple(node for node in replicas if node not in original),
        removing_replicas=leaving,
    )
    return difference(partition, finished(moving, is_active=lambda member: is_online(image, moving, member)))


def _directories(
    image: MetadataImage, partition: PartitionImage, replicas: tuple[NodeId, ...]
) -> tuple[bytes, ...]:
    directories = tuple(
        partition.directory_of(node)
        if node in partition.replicas
        else image.brokers[node].directory_of_new_replicas
        for node in replicas
    )
    return () if all(each == UNASSIGNED_DIRECTORY for each in directories) else directories


def _cancelled(context: Context, partition: PartitionImage) -> PartitionChange | None:
    image, name = context.image, f"{partition.topic}-{partition.partition}"
    if not partition.is_moving:
        raise GlasslogError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, f"{name} is not being moved")
    original = partition.original_replicas
    back = with_replicas(partition, original)._replace(adding_replicas=(), removing_replicas=())
    isr = tuple(member for member in partition.isr if member in original)
    terms = terms_of(image, context.settings, partition.topic)
    if not isr and not back.elr and not terms.unclean:
        raise GlasslogError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"{name} can not go back to {[*original]}: none of them is in sync, only {[*partition.isr]}; "
            "to do it nevertheless, and lose records, set unclean.leader.election.enable on the topic",
        )
    back = back._replace(isr=isr if isr or terms.keeps_elr else original[:1])
    after = settled(back, isr=back.isr, is_active=lambda member: is_online(image, back, member), terms=terms)
    return difference(partition, after)


def _name(asked: Reassignment) -> str:
    return f"{asked.topic}-{asked.partition}"
