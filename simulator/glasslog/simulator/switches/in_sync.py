"""Bugs in who may be in sync."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from glasslog.broker.replicas import Replicas
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, NodeId, TopicPartition
from glasslog.controller import directories, elections, isr
from glasslog.controller.decision import Context, ControllerSettings
from glasslog.controller.elections import Terms
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


@contextmanager
def _last_stays() -> Iterator[None]:
    original = elections.terms_of

    @instead_of(elections.terms_of)
    def terms_of(image: MetadataImage, settings: ControllerSettings, topic: str) -> Terms:
        return replace(original(image, settings, topic), keeps_elr=False)

    with patched(elections, "terms_of", terms_of), patched(isr, "terms_of", terms_of):
        yield


LAST_STAYS = Switch(
    name="last-in-sync-stays",
    description="The last member of an ISR leads again when it is back, whatever it has lost meanwhile.",
    origin="KIP-966",
    bug=_last_stays,
    scenario="last-replica",
    seeds=3,
)
