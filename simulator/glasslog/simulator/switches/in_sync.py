"""Bugs in who may be in sync."""

from collections.abc import Iterator
from contextlib import contextmanager

from glasslog.broker.replicas import Replicas
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, NodeId, TopicPartition
from glasslog.controller import directories, isr
from glasslog.controller.decision import Context
from glasslog.controller.requests import DirectoryAssignment
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage
from glasslog.metadata.records import PartitionChange
from glasslog.simulator.switches.switch import Switch, instead_of, patched


@contextmanager
def _any_incarnation() -> Iterator[None]:
    @instead_of(isr._is_eligible)
    def is_eligible(
        image: MetadataImage, partition: PartitionImage, member: NodeId, broker_epoch: BrokerEpoch
    ) -> bool:
        broker = image.brokers.get(member)
        return broker is not None and broker.active

    @instead_of(directories._assign)
    def assign(
        context: Context, broker: BrokerImage, assignment: DirectoryAssignment
    ) -> tuple[ErrorCode, PartitionChange | None]:
        """Directories had no ids then (KIP-858): a new disk changed nothing in the metadata."""
        return ErrorCode.NONE, None

    with patched(isr, "_is_eligible", is_eligible), patched(directories, "_assign", assign):
        yield


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
    @instead_of(isr._is_eligible)
    def by_controller(
        image: MetadataImage, partition: PartitionImage, member: NodeId, broker_epoch: BrokerEpoch
    ) -> bool:
        return member in image.brokers

    @instead_of(Replicas.is_eligible)
    def by_leader(self: Replicas, name: TopicPartition, node: NodeId, broker_epoch: BrokerEpoch) -> bool:
        return True

    with (
        patched(isr, "_is_eligible", by_controller),
        patched(Replicas, "is_eligible", by_leader),
    ):
        yield


ANYBODY_IN_SYNC = Switch(
    name="fenced-in-sync",
    description="Leaders and controllers let fenced and stopping brokers into the ISR.",
    origin="KIP-841",
    bug=_anybody,
    scenario="fenced-replica",
    seeds=3,
)
