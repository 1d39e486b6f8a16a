"""Brokers come, prove that they live, are fenced, and go.

Decisions about registrations; what they do to partitions is ``elections``' business, and who is alive is
``heartbeats``'. Source: KIP-631 and KIP-841, Kafka's ``ClusterControlManager`` and
``ReplicationControlManager``.
"""

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, NodeId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.directories import DIRECTORY_ID_BYTES, directories_failed
from glasslog.controller.elections import leads_anything, with_broker, without_brokers
from glasslog.controller.requests import (
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    FenceBrokersRequest,
    FenceBrokersResponse,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
)
from glasslog.metadata.features import FEATURES, why_unsupported
from glasslog.metadata.image import BrokerImage, MetadataImage
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    MetadataRecord,
    PartitionChange,
    RegisterBroker,
)

# --- registration ---


def register_broker(context: Context, request: RegisterBrokerRequest) -> Decision[RegisterBrokerResponse]:
    """A new incarnation, fenced; or the known one again, as it is.

    The new one leaves every ISR. Where the old one did not stop cleanly it may have lost records that were
    not synced, and leaves every ELR as well: it is elected only where nobody else could have more (KIP-966).
    """
    problem = _registration_problem(context, request)
    if problem is not None:
        return Decision(response=problem)
    old = context.image.brokers.get(request.broker_id)
    if old is not None and old.incarnation_id == request.incarnation_id:
        return Decision(response=RegisterBrokerResponse(broker_epoch=old.broker_epoch))
    registered = _registered(context, request)
    leaving: tuple[PartitionChange, ...] = ()
    if old is not None:
        was_clean = request.previous_broker_epoch == old.broker_epoch
        leaving = _leaving(context, old, is_clean=was_clean)
    response = RegisterBrokerResponse(broker_epoch=registered.broker_epoch)
    return Decision(response=response, records=(registered, *leaving))


def _registered(context: Context, request: RegisterBrokerRequest) -> RegisterBroker:
    return RegisterBroker(
        broker_id=request.broker_id,
        incarnation_id=request.incarnation_id,
        broker_epoch=BrokerEpoch(context.next_offset),
        endpoints=request.endpoints,
        rack=request.rack,
        fenced=True,
        log_dir_ids=request.log_dir_ids,
        features=request.features,
    )


def _registration_problem(context: Context, request: RegisterBrokerRequest) -> RegisterBrokerResponse | None:
    if request.cluster_id != context.settings.cluster_id:
        return _refused(
            ErrorCode.INCONSISTENT_CLUSTER_ID,
            f"broker {request.broker_id} is of cluster {request.cluster_id!r}, "
            f"this is cluster {context.settings.cluster_id!r}",
        )
    malformed = _malformed(request)
    if malformed is not None:
        return _refused(ErrorCode.INVALID_REGISTRATION, f"broker {request.broker_id} {malformed}")
    unable = _unable(context.image, request)
    if unable is not None:
        return _refused(ErrorCode.UNSUPPORTED_VERSION, f"broker {request.broker_id} {unable}")
    old = context.image.brokers.get(request.broker_id)
    if (
        old is not None
        and old.incarnation_id != request.incarnation_id
        and context.heartbeats.is_alive(old.broker_id, context.now_ms)
    ):
        return _refused(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            f"another process is registered as broker {old.broker_id} and alive; if it was just stopped, "
            f"it is given up after at most {context.settings.broker_session_timeout_ms} ms of silence",
        )
    return None


def _malformed(request: RegisterBrokerRequest) -> str | None:
    names = [endpoint.name for endpoint in request.endpoints]
    if request.broker_id < 0:
        return "has a negative id"
    if len(request.incarnation_id) != DIRECTORY_ID_BYTES or any(
        len(item) != DIRECTORY_ID_BYTES for item in request.log_dir_ids
    ):
        return f"has an incarnation or directory id that is not {DIRECTORY_ID_BYTES} bytes long"
    if not names or len(set(names)) != len(names):
        return f"needs listeners with different names, and has {names}"
    return None


def _unable(image: MetadataImage, request: RegisterBrokerRequest) -> str | None:
    """What the cluster does by now and the broker can not."""
    for name in FEATURES:
        level = image.feature_level(name)
        problem = why_unsupported(request.features, name, level)
        if problem is not None:
            return f"{problem}: the cluster is at level {level} of feature {name!r}"
    return None


def _refused(error_code: ErrorCode, message: str) -> RegisterBrokerResponse:
    return RegisterBrokerResponse(error_code=error_code, error_message=message)


# --- heartbeats ---


def broker_heartbeat(context: Context, request: BrokerHeartbeatRequest) -> Decision[BrokerHeartbeatResponse]:
    """What the broker wants, as far as it may have it.

    A failed directory comes first.  It is unfenced once it has replayed its own registration; it should shut
    down once it leads nothing and is fenced.
    """
    broker = context.broker_at(request.broker_id, request.broker_epoch)
    if broker is None:
        return Decision(response=BrokerHeartbeatResponse(error_code=ErrorCode.STALE_BROKER_EPOCH))
    caught_up = request.current_metadata_offset >= broker.broker_epoch
    failed = directories_failed(context, broker, request)
    if failed:
        # Whatever else it wants is decided at its next heartbeat, from an image that knows of this.
        return _answer(caught_up=caught_up, fenced=broker.fenced, records=failed)
    if request.want_shut_down:
        return _shut_down(context, broker, caught_up=caught_up)
    if broker.fenced:
        may_serve = caught_up and not request.want_fence
        if may_serve and context.heartbeats.may_unfence(broker.broker_id, context.now_ms):
            return _answer(caught_up=True, fenced=False, records=_returning(context, broker))
        return _answer(caught_up=caught_up, fenced=True)
    if request.want_fence:
        return _answer(caught_up=caught_up, fenced=True, records=_fencing(context, broker))
    return _answer(caught_up=caught_up, fenced=False)


def _shut_down(
    context: Context, broker: BrokerImage, *, caught_up: bool
) -> Decision[BrokerHeartbeatResponse]:
    """First move the leaderships away; a later heartbeat, when they are gone, ends it."""
    if broker.fenced:
        return _answer(caught_up=caught_up, fenced=True, should_shut_down=True)
    if broker.in_controlled_shutdown or not leads_anything(context.image, broker.broker_id):
        records = _fencing(context, broker)
        return _answer(caught_up=caught_up, fenced=True, should_shut_down=True, records=records)
    begun = BrokerRegistrationChange(
        broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, in_controlled_shutdown=True
    )
    records = (*_leaving(context, broker), begun)
    return _answer(caught_up=caught_up, fenced=False, records=records)


def _answer(
    *,
    caught_up: bool,
    fenced: bool,
    should_shut_down: bool = False,
    records: tuple[MetadataRecord, ...] = (),
) -> Decision[BrokerHeartbeatResponse]:
    response = BrokerHeartbeatResponse(
        is_caught_up=caught_up, is_fenced=fenced, should_shut_down=should_shut_down
    )
    return Decision(response=response, records=records)


# --- fencing ---


def fence_brokers(context: Context, request: FenceBrokersRequest) -> Decision[FenceBrokersResponse]:
    """Fence those of the named incarnations that are not; all at once: none may become another's heir."""
    lost = tuple(
        broker
        for item in request.brokers
        if (broker := context.broker_at(item.broker_id, item.broker_epoch)) is not None and not broker.fenced
    )
    response = FenceBrokersResponse(fenced=tuple(broker.broker_id for broker in lost))
    return Decision(response=response, records=_fencing(context, *lost))


def _fencing(context: Context, *brokers: BrokerImage) -> tuple[MetadataRecord, ...]:
    fenced = tuple(
        BrokerRegistrationChange(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, fenced=True)
        for broker in brokers
    )
    return (*_leaving(context, *brokers), *fenced)


def _leaving(context: Context, *brokers: BrokerImage, is_clean: bool = True) -> tuple[PartitionChange, ...]:
    gone = frozenset(broker.broker_id for broker in brokers)
    lost = frozenset[NodeId]() if is_clean else gone
    return without_brokers(context.image, context.settings, gone, lost=lost)


def _returning(context: Context, broker: BrokerImage) -> tuple[MetadataRecord, ...]:
    unfenced = BrokerRegistrationChange(
        broker_id=broker.broker_id,
        broker_epoch=broker.broker_epoch,
        fenced=False,
        in_controlled_shutdown=False,
    )
    elected = with_broker(context.image, context.settings, broker.broker_id)
    return (unfenced, *elected)
