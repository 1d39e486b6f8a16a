"""The controller's core: the committed metadata on every controller, and decisions on the active one.

``decide`` is pure and says which records to append; ``adopt`` and ``commit`` are all that changes the
images. The active controller decides against a speculative image that holds what it has appended but the
quorum has not committed; when it loses leadership that image is dropped, because its fate is open. A
sans-I/O core: it refuses to know how records are agreed on and when answers leave.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from glasslog.common.errors import InvariantViolation, require
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.controller.admin_requests import (
    AlterClientQuotasRequest,
    AlterConfigsRequest,
    CreatePartitionsRequest,
    ElectLeadersRequest,
    UpdateFeaturesRequest,
)
from glasslog.controller.client_quotas import alter_client_quotas
from glasslog.controller.configs import alter_configs
from glasslog.controller.decision import Context, ControllerSettings, Decision
from glasslog.controller.directories import assign_replicas
from glasslog.controller.features import update_features
from glasslog.controller.heartbeats import Heartbeats
from glasslog.controller.isr import alter_partition
from glasslog.controller.leader_elections import elect_leaders
from glasslog.controller.partitions import create_partitions
from glasslog.controller.preferred_leaders import rebalance_leaders
from glasslog.controller.producer_ids import allocate_producer_ids
from glasslog.controller.reassignment import alter_reassignments
from glasslog.controller.registration import (
    broker_heartbeat,
    fence_brokers,
    register_broker,
)
from glasslog.controller.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionReassignmentsRequest,
    AlterPartitionRequest,
    AssignReplicasToDirsRequest,
    BrokerHeartbeatRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    FenceBrokersRequest,
    RebalanceLeadersRequest,
    RegisterBrokerRequest,
    Request,
    Response,
    UnregisterBrokerRequest,
)
from glasslog.controller.topics import create_topics, delete_topics
from glasslog.controller.unregistration import unregister_broker
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage
from glasslog.metadata.records import MetadataRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """Follows; ``leader_id`` is the active controller as far as it is known."""

    epoch: int
    leader_id: NodeId


@dataclass(slots=True, kw_only=True)
class Active:
    """Decides, in the quorum's ``epoch``. ``image`` holds what has been appended, committed or not.

    ``uncommitted`` has each decision that is not committed, oldest first: what is in this leader's log of its
    own epoch is what will be committed, and need be neither read nor replayed a second time.
    """

    epoch: int
    image: MetadataImage
    heartbeats: Heartbeats
    uncommitted: deque["Replayed"] = field(default_factory=deque)

    def take_committed(self, offset: Offset, epoch: int, count: int) -> "Replayed | None":
        """The decisions of the ``count`` records up to ``offset``, now committed, as one.

        ``None`` where these are not whole decisions of this term.
        """
        waiting, taken = self.uncommitted, list[Replayed]()
        while waiting and waiting[0].image.offset <= offset:
            taken.append(waiting.popleft())
        records = tuple(record for each in taken for record in each.records)
        if epoch != self.epoch or len(records) != count or taken[-1].image.offset != offset:
            return None
        return Replayed(image=taken[-1].image, records=records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The image after one decision's records, and these."""

    image: MetadataImage
    records: tuple[MetadataRecord, ...]
    changed_brokers: tuple[NodeId, ...] = ()


class ControllerState:
    """``committed`` is what the quorum has agreed on; ``role`` is ``Standby`` or ``Active``."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.settings = settings
        self.committed = EMPTY_IMAGE
        self.role: Standby | Active = Standby(epoch=0, leader_id=NO_NODE)

    # --- roles ---

    def activate(self, epoch: int, now_ms: int) -> None:
        """This controller leads, with everything of earlier epochs committed and replayed."""
        heartbeats = Heartbeats(
            session_timeout_ms=self.settings.broker_session_timeout_ms,
            failure_grace_ms=self.settings.broker_failure_grace_ms,
            stream_window_ms=self.settings.session_stream_window_ms,
        )
        heartbeats.begin(self.committed.brokers.values(), now_ms)
        self.role = Active(epoch=epoch, image=self.committed, heartbeats=heartbeats)

    def stand_by(self, epoch: int, leader_id: NodeId) -> None:
        """Another one leads, or nobody; whatever is not committed is forgotten here."""
        self.role = Standby(epoch=epoch, leader_id=leader_id)

    @property
    def active(self) -> Active:
        """The role of the active controller; only to be asked for while it is that."""
        if isinstance(self.role, Standby):
            raise InvariantViolation("a controller that is not active was asked to decide")
        return self.role

    # --- decide ---

    def decide(self, request: Request, *, next_offset: Offset, now_ms: int) -> Decision[Response]:
        """Records and answer for ``request``; changes nothing."""
        context = Context(
            image=self.active.image,
            heartbeats=self.active.heartbeats,
            settings=self.settings,
            next_offset=next_offset,
            now_ms=now_ms,
        )
        match request:
            case BrokerHeartbeatRequest():
                return broker_heartbeat(context, request)
            case AlterPartitionRequest():
                return alter_partition(context, request)
            case AssignReplicasToDirsRequest():
                return assign_replicas(context, request)
            case RegisterBrokerRequest():
                return register_broker(context, request)
            case UnregisterBrokerRequest():
                return unregister_broker(context, request)
            case FenceBrokersRequest():
                return fence_brokers(context, request)
            case AllocateProducerIdsRequest():
                return allocate_producer_ids(context, request)
            case CreateTopicsRequest():
                return create_topics(context, request)
            case DeleteTopicsRequest():
                return delete_topics(context, request)
            case AlterConfigsRequest():
                return alter_configs(context, request)
            case AlterClientQuotasRequest():
                return alter_client_quotas(context, request)
            case CreatePartitionsRequest():
                return create_partitions(context, request)
            case ElectLeadersRequest():
                return elect_leaders(context, request)
            case UpdateFeaturesRequest():
                return update_features(context, request)
            case RebalanceLeadersRequest():
                return rebalance_leaders(context, request)
            case AlterPartitionReassignmentsRequest():
                return alter_reassignments(context, request)
            case _:
                assert_never(request)

    # --- replay ---

    def replay(self, base_offset: Offset, records: Sequence[MetadataRecord]) -> Replayed:
        """What the active controller's image becomes by ``records``; changes nothing yet.

        Raises ``InvariantViolation`` for records that contradict the image.
        """
        delta = _replayed(self.active.image, base_offset, self.active.epoch, records)
        return Replayed(image=delta.apply(), records=tuple(records), changed_brokers=delta.changed_brokers)

    def adopt(self, replayed: Replayed, now_ms: int) -> None:
        """The replayed records are in the active controller's log, not committed yet."""
        active = self.active
        active.image = replayed.image
        active.uncommitted.append(replayed)
        for broker_id in replayed.changed_brokers:
            broker = active.image.brokers.get(broker_id)
            if broker is None:
                active.heartbeats.forget(broker_id, now_ms)
            else:
                active.heartbeats.follow(broker, now_ms)

    def commit(
        self, base_offset: Offset, epoch: int, count: int, read: Callable[[], tuple[MetadataRecord, ...]]
    ) -> tuple[MetadataRecord, ...]:
        """The quorum agrees on ``count`` records, which are returned; in order, each exactly once.

        They are ``read`` only where this controller has not decided them itself.
        """
        known = None
        if isinstance(self.role, Active) and count:
            known = self.role.take_committed(Offset(base_offset + count - 1), epoch, count)
        if known is None:
            records = read()
            known = Replayed(
                image=_replayed(self.committed, base_offset, epoch, records).apply(), records=records
            )
        self.committed = known.image
        if isinstance(self.role, Active) and self.role.image.offset == self.committed.offset:
            # Equal by construction: from here on both are the same objects, not two copies of everything.
            self.role.image = self.committed
        return known.records

    def begin_with(self, image: MetadataImage) -> None:
        """The committed metadata as a snapshot has it, in place of what is here."""
        require(isinstance(self.role, Standby), "a snapshot was loaded by the active controller")
        require(
            image.offset >= self.committed.offset,
            f"a snapshot up to {image.offset} was loaded over metadata up to {self.committed.offset}",
        )
        self.committed = image


def _replayed(
    image: MetadataImage, base_offset: Offset, epoch: int, records: Sequence[MetadataRecord]
) -> MetadataDelta:
    delta = MetadataDelta(image)
    for index, record in enumerate(records):
        delta.replay(Offset(base_offset + index), epoch, record)
    return delta
