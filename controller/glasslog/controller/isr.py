"""AlterPartition: a leader proposes its partitions' ISR, and only this changes an ISR that lives.

Every proposal is checked against who leads now, and against the incarnation of each member, so that a delayed
one can not bring back a broker that has since lost its disk. A reassignment whose targets are all in the ISR
ends here. Refuses to know when a leader should propose.
Source: KIP-497, KIP-455, KIP-704 and KIP-903, Kafka's ``ReplicationControlManager.alterPartition``.
"""

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, NodeId, PartitionEpoch
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import difference, eligible, finished, is_online, terms_of
from glasslog.controller.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    IsrOutcome,
    IsrProposal,
)
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import PartitionChange


def alter_partition(context: Context, request: AlterPartitionRequest) -> Decision[AlterPartitionResponse]:
    """STALE_BROKER_EPOCH for the call, or per partition what ``_decide`` says."""
    if context.broker_at(request.broker_id, request.broker_epoch) is None:
        return Decision(response=AlterPartitionResponse(error_code=ErrorCode.STALE_BROKER_EPOCH))
    outcomes: list[IsrOutcome] = []
    records: list[PartitionChange] = []
    seen: set[tuple[bytes, int]] = set()
    for proposal in request.partitions:
        key = (proposal.topic_id, proposal.partition)
        if key in seen:
            outcomes.append(_refused(proposal, ErrorCode.INVALID_REQUEST))
            continue
        seen.add(key)
        outcome, record = _decide(context, request.broker_id, proposal)
        outcomes.append(outcome)
        if record is not None:
            records.append(record)
    return Decision(response=AlterPartitionResponse(partitions=tuple(outcomes)), records=tuple(records))


def _decide(
    context: Context, leader: NodeId, proposal: IsrProposal
) -> tuple[IsrOutcome, PartitionChange | None]:
    image = context.image
    if proposal.topic_id not in image.topics:
        return _refused(proposal, ErrorCode.UNKNOWN_TOPIC_ID), None
    partition = image.partition_by_id(proposal.topic_id, proposal.partition)
    if partition is None:
        return _refused(proposal, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), None
    error = _who_asks(partition, leader, proposal)
    if error is not ErrorCode.NONE:
        return _refused(proposal, error), None
    isr = tuple(replica for replica in partition.replicas if replica in proposal.new_isr)
    if _same_members(isr, partition.isr):
        # Asked again after the answer was lost: what it asked for is there, whatever led to it.
        return _accepted(partition, partition.partition_epoch), None
    error = _what_is_asked(image, partition, proposal)
    if error is not ErrorCode.NONE:
        return _refused(proposal, error), None
    after = _with_isr(context, partition, isr)
    record = difference(partition, after)
    if record is not None and record.leader is not None:
        return _refused(proposal, ErrorCode.NEW_LEADER_ELECTED), record
    return _accepted(after, PartitionEpoch(partition.partition_epoch + 1)), record


def _with_isr(context: Context, partition: PartitionImage, isr: tuple[NodeId, ...]) -> PartitionImage:
    image = context.image

    def is_active(member: NodeId) -> bool:
        return is_online(image, partition, member)

    terms = terms_of(image, context.settings, partition.topic)
    # A leader that was elected uncleanly has nothing to recover from: it says so by its first proposal.
    after = eligible(partition, isr=isr, is_active=is_active, terms=terms)._replace(recovering=False)
    return finished(after, is_active=is_active)


def _who_asks(partition: PartitionImage, leader: NodeId, proposal: IsrProposal) -> ErrorCode:
    """Whether it is the leader in its present term, with a set that can be an ISR at all."""
    if proposal.leader_epoch > partition.leader_epoch or proposal.partition_epoch > partition.partition_epoch:
        # The leader has seen what this controller has not: somebody else is the active one.
        return ErrorCode.NOT_CONTROLLER
    if proposal.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if leader != partition.leader or not _could_be_isr(partition, leader, proposal):
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.NONE


def _could_be_isr(partition: PartitionImage, leader: NodeId, proposal: IsrProposal) -> bool:
    members = proposal.new_isr
    return (
        leader in members
        and len(set(members)) == len(members)
        and len(proposal.new_isr_broker_epochs) == len(members)
        and all(member in partition.replicas for member in members)
    )


def _what_is_asked(image: MetadataImage, partition: PartitionImage, proposal: IsrProposal) -> ErrorCode:
    if proposal.partition_epoch < partition.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    members = zip(proposal.new_isr, proposal.new_isr_broker_epochs, strict=True)
    if not all(_is_eligible(image, partition, member, broker_epoch) for member, broker_epoch in members):
        return ErrorCode.INELIGIBLE_REPLICA
    return ErrorCode.NONE


def _is_eligible(
    image: MetadataImage, partition: PartitionImage, member: NodeId, broker_epoch: BrokerEpoch
) -> bool:
    if not is_online(image, partition, member):
        return False
    return broker_epoch in (NO_BROKER_EPOCH, image.brokers[member].broker_epoch)


def _same_members(one: tuple[NodeId, ...], other: tuple[NodeId, ...]) -> bool:
    return len(one) == len(other) and all(member in other for member in one)


def _accepted(partition: PartitionImage, partition_epoch: PartitionEpoch) -> IsrOutcome:
    return IsrOutcome(
        topic_id=partition.topic_id,
        partition=partition.partition,
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        isr=partition.isr,
        elr=partition.elr,
        partition_epoch=partition_epoch,
    )


def _refused(proposal: IsrProposal, error_code: ErrorCode) -> IsrOutcome:
    return IsrOutcome(topic_id=proposal.topic_id, partition=proposal.partition, error_code=error_code)
