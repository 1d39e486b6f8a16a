"""Bugs in who may be in sync."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from glasslog.broker.replicas import Replicas
from glasslog.common.ids import BrokerEpoch, NodeId
from glasslog.controller import isr
from glasslog.metadata.image import MetadataImage
from glasslog.simulator.switches.switch import Switch, patched


def _any_incarnation() -> AbstractContextManager[None]:
    def is_eligible(image: MetadataImage, member: NodeId, broker_epoch: BrokerEpoch) -> bool:
        broker = image.brokers.get(member)
        return broker is not None and broker.active

    return patched(isr, "_is_eligible", is_eligible)


ANY_INCARNATION = Switch(
    name="any-incarnation",
    description="The controller does not ask which incarnation of a broker an ISR change means.",
    origin="KIP-903",
    bug=_any_incarnation,
    scenario="empty-disk",
    seeds=3,
)


@contextmanager
def _anybody() -> Iterator[None]:
    def by_controller(image: MetadataImage, member: NodeId, broker_epoch: BrokerEpoch) -> bool:
        return member in image.brokers

    def by_leader(self: Replicas, node: NodeId, broker_epoch: BrokerEpoch) -> bool:
        return True

    with patched(isr, "_is_eligible", by_controller), patched(Replicas, "is_eligible", by_leader):
        yield


ANYBODY_IN_SYNC = Switch(
    name="fenced-in-sync",
    description="Leaders and controllers let fenced and stopping brokers into the ISR.",
    origin="KIP-841",
    bug=_anybody,
    scenario="fenced-replica",
    seeds=3,
)
