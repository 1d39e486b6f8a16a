"""The metadata records as values of our own; the only vocabulary in which the cluster's metadata changes.

This module knows what each record says; it refuses to know how records are stored, ordered or applied.
Source: Kafka's ``metadata/src/main/resources/common/metadata/*.json`` (KIP-631).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from glasslog.common.ids import (
    NO_NODE,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.metadata.features import FeatureRange
from glasslog.metadata.quotas import QuotaEntity

UNASSIGNED_DIRECTORY = bytes(16)
"""In place of a directory's id: the broker has not said yet where its replica lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A named listener (``GRPC``, ``KAFKA``, ``CONTROLLER``) as others reach it."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBroker:
    """A new incarnation of a broker, fenced until it has caught up."""

    broker_id: NodeId
    incarnation_id: bytes
    broker_epoch: BrokerEpoch
    endpoints: tuple[Endpoint, ...]
    rack: str = ""
    fenced: bool = True
    log_dir_ids: tuple[bytes, ...] = ()
    features: tuple[FeatureRange, ...] = ()
    """What it can do (KIP-584)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBroker:
    """The broker is gone for good."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRegistrationChange:
    """Fencing, unfencing, the begin of a controlled shutdown, a failed directory; ``None``: as it is."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    fenced: bool | None = None
    in_controlled_shutdown: bool | None = None
    log_dir_ids: tuple[bytes, ...] | None = None
    """Its directories that still work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicCreated:
    """A new topic; its partitions follow as ``PartitionCreated``."""

    name: str
    topic_id: TopicId


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRemoved:
    """The topic, its partitions and its settings are gone."""

    topic_id: TopicId


class PartitionCreated(NamedTuple):
    """A partition's whole registration. ``leader`` is ``NO_NODE`` when nobody can lead.

    ``directories`` says for each replica in which directory of its broker it lies, ``UNASSIGNED_DIRECTORY``
    where that is not known; empty when none is (KIP-858).
    """

    topic_id: TopicId
    partition: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    directories: tuple[bytes, ...] = ()
    adding_replicas: tuple[NodeId, ...] = ()
    removing_replicas: tuple[NodeId, ...] = ()
    """Of ``replicas``, while the partition is being moved (KIP-455)."""

    elr: tuple[NodeId, ...] = ()
    last_known_leader: NodeId = NO_NODE
    """Who led before nobody did, while nobody does (KIP-966)."""

    recovering: bool = False
    """Its leader was elected although it may lack committed records, and has not changed the ISR since."""


class PartitionChange(NamedTuple):
    """``None`` leaves a field as it is; with other ``replicas`` those that stay keep their directories.

    Replaying it bumps the partition epoch; and the leader epoch when ``leader`` is given, even unchanged.
    """

    topic_id: TopicId
    partition: int
    leader: NodeId | None = None
    isr: tuple[NodeId, ...] | None = None
    replicas: tuple[NodeId, ...] | None = None
    directories: tuple[bytes, ...] | None = None
    adding_replicas: tuple[NodeId, ...] | None = None
    removing_replicas: tuple[NodeId, ...] | None = None
    elr: tuple[NodeId, ...] | None = None
    last_known_leader: NodeId | None = None
    recovering: bool | None = None


class ResourceType(IntEnum):
    """What a setting is set on (Kafka's ``ConfigResource.Type``)."""

    TOPIC = 2
    BROKER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One key of one resource; ``value`` ``None`` returns it to the default."""

    resource_type: ResourceType
    resource_name: str
    key: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientQuotaChange:
    """One limit of one entity; ``None`` removes it."""

    entity: QuotaEntity
    key: str
    limit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerIdsAllocated:
    """Every producer id below ``next_producer_id`` has been handed out."""

    broker_id: NodeId
    broker_epoch: BrokerEpoch
    next_producer_id: ProducerId


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLevel:
    """From here on the cluster behaves by ``level`` of a feature (KIP-584)."""

    name: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOp:
    """Says nothing: only moves the log on (KIP-835)."""


MetadataRecord = (
    RegisterBroker
    | UnregisterBroker
    | BrokerRegistrationChange
    | TopicCreated
    | TopicRemoved
    | PartitionCreated
    | PartitionChange
    | ConfigChange
    | ClientQuotaChange
    | ProducerIdsAllocated
    | FeatureLevel
    | NoOp
)
