"""What every decision is made from and what it results in.

A decision reads a ``Context`` and changes nothing: its records, once replayed, do. This module refuses to
know any rule. Source: Kafka's ``ControllerResult``.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from glasslog.common.ids import BrokerEpoch, NodeId, Offset
from glasslog.controller.heartbeats import Heartbeats
from glasslog.metadata.image import BrokerImage, MetadataImage
from glasslog.metadata.records import MetadataRecord

R = TypeVar("R", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """What the rules depend on, of the node's settings."""

    cluster_id: str
    num_partitions: int = 1
    default_replication_factor: int = 1
    unclean_leader_election_enable: bool = False
    min_insync_replicas: int = 1
    max_partitions_per_request: int = 10_000
    broker_session_timeout_ms: int = 9000
    broker_failure_grace_ms: int = 150
    session_stream_window_ms: int = 2000
    auto_leader_rebalance_enable: bool = True
    leader_imbalance_check_interval_ms: int = 300_000
    leader_imbalance_per_broker_percentage: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The state a decision is made from: ``image`` holds everything decided before, committed or not.

    ``next_offset`` will be the first decided record's; ``heartbeats`` is only read.
    """

    image: MetadataImage
    heartbeats: Heartbeats
    settings: ControllerSettings
    next_offset: Offset
    now_ms: int

    def broker_at(self, broker_id: NodeId, broker_epoch: BrokerEpoch) -> BrokerImage | None:
        """The broker, if ``broker_epoch`` is its current incarnation's."""
        broker = self.image.brokers.get(broker_id)
        return broker if broker is not None and broker.broker_epoch == broker_epoch else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Generic[R]):
    """Records to append atomically, and the answer that may leave once they are committed."""

    response: R
    records: tuple[MetadataRecord, ...] = ()
