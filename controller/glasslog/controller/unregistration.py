"""A broker that is gone for good is forgotten.

Only one that is dead and holds nothing is, unless that is forced: a living one would come back as a new one
at once, and replicas on a broker that nobody knows are there for nothing. Refuses to know how a broker is
emptied.
Source: KIP-631, Kafka's ``ClusterControlManager.unregisterBroker``, which refuses nothing.
"""

from collections.abc import Iterator
from itertools import islice

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import without_brokers
from glasslog.controller.requests import UnregisterBrokerRequest, UnregisterBrokerResponse
from glasslog.metadata.image import BrokerImage, MetadataImage
from glasslog.metadata.records import UnregisterBroker

_SHOWN_PARTITIONS = 3


def unregister_broker(
    context: Context, request: UnregisterBrokerRequest
) -> Decision[UnregisterBrokerResponse]:
    """Forget it; what it leads, if that is forced, is led by others. Linear in the number of partitions."""
    broker = context.image.brokers.get(request.broker_id)
    if broker is None:
        return _refused(ErrorCode.BROKER_ID_NOT_REGISTERED, f"no broker is registered as {request.broker_id}")
    problem = "" if request.force else _problem(context, broker)
    if problem:
        return _refused(ErrorCode.INVALID_REQUEST, problem)
    # Whoever comes back under its id has nothing of it, as far as one can know: it is in no ELR either.
    forgotten = frozenset({broker.broker_id})
    left = without_brokers(context.image, context.settings, forgotten, lost=forgotten)
    gone = UnregisterBroker(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch)
    return Decision(response=UnregisterBrokerResponse(), records=(*left, gone))


def _problem(context: Context, broker: BrokerImage) -> str:
    if not broker.fenced or context.heartbeats.is_alive(broker.broker_id, context.now_ms):
        return f"broker {broker.broker_id} is alive; stop it first"
    held = list(islice(_held(context.image, broker.broker_id), _SHOWN_PARTITIONS + 1))
    if not held:
        return ""
    names = ", ".join(held[:_SHOWN_PARTITIONS])
    more = " and others" if len(held) > _SHOWN_PARTITIONS else ""
    return f"broker {broker.broker_id} still holds {names}{more}; move them to other brokers first"


def _held(image: MetadataImage, broker_id: NodeId) -> Iterator[str]:
    for topic in image.topics.values():
        for partition in topic.partitions:
            if broker_id in partition.replicas:
                yield f"{topic.name}-{partition.partition}"


def _refused(code: ErrorCode, message: str) -> Decision[UnregisterBrokerResponse]:
    return Decision(response=UnregisterBrokerResponse(error_code=code, error_message=message))
