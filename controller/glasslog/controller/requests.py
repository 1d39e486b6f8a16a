"""What the active controller is asked and what it answers, as values of our own.

Refuses to know how they travel (``wire``) and how they are decided. Refusals are values: an ``ErrorCode``
and, where people read it, a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import (
    NO_BROKER_EPOCH,
    NO_LEADER_EPOCH,
    NO_NODE,
    NO_PRODUCER_ID,
    ZERO_TOPIC_ID,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.controller.admin_requests import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AlterConfigsRequest,
    AlterConfigsResponse,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from glasslog.metadata.features import FeatureRange
from glasslog.metadata.records import Endpoint

BROKER_DEFAULT = -1
"""As a number of partitions or a replication factor: what the settings say."""

_NO_PARTITION_EPOCH = PartitionEpoch(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBrokerRequest:
    """A broker process introduces itself.

    ``previous_broker_epoch`` is the one its clean shutdown left behind, ``NO_BROKER_EPOCH`` after an
    unclean stop. ``features`` is what it can do.
    """

    cluster_id: str
    broker_id: NodeId
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    features: tuple[FeatureRange, ...]
    rack: str = ""
    log_dir_ids: tuple[bytes, ...] = ()
    previous_broker_epoch: BrokerEpoch = NO_BROKER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBrokerResponse:
    """INCONSISTENT_CLUSTER_ID, DUPLICATE_BROKER_REGISTRATION, INVALID_REGISTRATION or UNSUPPORTED_VERSION,
    or its broker epoch.
    """

    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    broker_epoch: BrokerEpoch = NO_BROKER_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBrokerRequest:
    """A broker is gone for good. ``force`` forgets one that lives or holds replicas, too."""

    broker_id: NodeId
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBrokerResponse:
    """BROKER_ID_NOT_REGISTERED, or INVALID_REQUEST for one that is still needed."""

    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHeartbeatRequest:
    """``current_metadata_offset`` is the newest offset that the broker has applied.

    ``offline_log_dirs`` are its directories that have failed since it registered.
    """

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    current_metadata_offset: Offset
    want_fence: bool = False
    want_shut_down: bool = False
    offline_log_dirs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHeartbeatResponse:
    """STALE_BROKER_EPOCH, or what the broker is now."""

    error_code: ErrorCode = ErrorCode.NONE
    is_caught_up: bool = False
    is_fenced: bool = True
    should_shut_down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LostBroker:
    """A broker that the heartbeats gave up, and why in words."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceBrokersRequest:
    """The controller's own: these brokers are taken for dead."""

    brokers: tuple[LostBroker, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceBrokersResponse:
    """Which of them were fenced by it."""

    fenced: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrProposal:
    """A leader wants ``new_isr``; the epochs say on what state it based that.

    ``new_isr_broker_epochs`` goes with ``new_isr``; ``NO_BROKER_EPOCH`` leaves a member unchecked.
    """

    topic_id: TopicId
    partition: int
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    new_isr: tuple[NodeId, ...]
    new_isr_broker_epochs: tuple[BrokerEpoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionRequest:
    """Proposals of one leader for its partitions."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    partitions: tuple[IsrProposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrOutcome:
    """The partition's state after the proposal, or why it was refused (then without a state)."""

    topic_id: TopicId
    partition: int
    error_code: ErrorCode = ErrorCode.NONE
    leader: NodeId = NO_NODE
    leader_epoch: LeaderEpoch = NO_LEADER_EPOCH
    isr: tuple[NodeId, ...] = ()
    elr: tuple[NodeId, ...] = ()
    partition_epoch: PartitionEpoch = _NO_PARTITION_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionResponse:
    """``error_code`` refuses the whole call (STALE_BROKER_EPOCH)."""

    error_code: ErrorCode = ErrorCode.NONE
    partitions: tuple[IsrOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateProducerIdsRequest:
    """A broker needs a block of producer ids."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateProducerIdsResponse:
    """``count`` ids from ``first_producer_id`` on belong to the broker alone."""

    error_code: ErrorCode = ErrorCode.NONE
    first_producer_id: ProducerId = NO_PRODUCER_ID
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to create: with counts (or ``BROKER_DEFAULT``), or with an explicit assignment.

    ``topic_id`` and ``placement_seed`` were drawn at random by the shell: decisions are deterministic.
    """

    name: str
    topic_id: TopicId
    placement_seed: int = 0
    partitions: int = BROKER_DEFAULT
    replication_factor: int = BROKER_DEFAULT
    configs: Mapping[str, str] = field(default_factory=dict)
    assignments: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopicsRequest:
    """``internal``: asked by a broker for a topic of the cluster's own; clients may not create those."""

    topics: tuple[NewTopic, ...]
    validate_only: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTopic:
    """What came of one topic."""

    name: str
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    topic_id: TopicId = ZERO_TOPIC_ID
    partitions: int = -1
    replication_factor: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopicsResponse:
    """One result per name asked for, in order."""

    topics: tuple[CreatedTopic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopicsRequest:
    """Topics to delete, by name."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedTopic:
    """What came of one topic."""

    name: str
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopicsResponse:
    """One result per name asked for, in order."""

    topics: tuple[DeletedTopic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryAssignment:
    """In which of its directories a broker has put a replica."""

    topic_id: TopicId
    partition: int
    directory_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignReplicasToDirsRequest:
    """A broker says where its replicas lie (KIP-858)."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    assignments: tuple[DirectoryAssignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentOutcome:
    """What came of one assignment."""

    topic_id: TopicId
    partition: int
    error_code: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignReplicasToDirsResponse:
    """STALE_BROKER_EPOCH, or one outcome per assignment, in order."""

    error_code: ErrorCode = ErrorCode.NONE
    outcomes: tuple[AssignmentOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassignment:
    """Where a partition shall be: the preferred leader first. ``replicas`` ``None`` cancels a move."""

    topic: str
    partition: int
    replicas: tuple[NodeId, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionReassignmentsRequest:
    """Partitions to move, to move elsewhere, or to move no more (KIP-455)."""

    reassignments: tuple[Reassignment, ...]
    keep_replication_factor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReassignmentOutcome:
    """What came of one of them."""

    topic: str
    partition: int
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterPartitionReassignmentsResponse:
    """One outcome per partition asked for, in order."""

    outcomes: tuple[ReassignmentOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebalanceLeadersRequest:
    """The controller's own: it is time to look whether leaderships should return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebalanceLeadersResponse:
    """How many did; ``has_more`` asks to look again soon."""

    elected: int
    has_more: bool


Request = (
    RegisterBrokerRequest
    | UnregisterBrokerRequest
    | BrokerHeartbeatRequest
    | FenceBrokersRequest
    | AlterPartitionRequest
    | AssignReplicasToDirsRequest
    | AllocateProducerIdsRequest
    | CreateTopicsRequest
    | DeleteTopicsRequest
    | AlterConfigsRequest
    | AlterClientQuotasRequest
    | CreatePartitionsRequest
    | ElectLeadersRequest
    | UpdateFeaturesRequest
    | AlterPartitionReassignmentsRequest
    | RebalanceLeadersRequest
)
Response = (
    RegisterBrokerResponse
    | UnregisterBrokerResponse
    | BrokerHeartbeatResponse
    | FenceBrokersResponse
    | AlterPartitionResponse
    | AssignReplicasToDirsResponse
    | AllocateProducerIdsResponse
    | CreateTopicsResponse
    | DeleteTopicsResponse
    | AlterConfigsResponse
    | AlterClientQuotasResponse
    | CreatePartitionsResponse
    | ElectLeadersResponse
    | UpdateFeaturesResponse
    | AlterPartitionReassignmentsResponse
    | RebalanceLeadersResponse
)
