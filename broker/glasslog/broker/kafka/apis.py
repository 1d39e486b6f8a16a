"""All that the Kafka listener serves to clients besides logs, and the parts of a broker behind it.

Refuses to know what any of them does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.config_view import ConfigView
from glasslog.broker.coordinators import CoordinatorFinder
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.kafka.broker_api import BrokerApis
from glasslog.broker.kafka.config_api import ConfigApis
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.feature_api import FeatureApis
from glasslog.broker.kafka.group_api import GroupApis
from glasslog.broker.kafka.log_dir_api import LogDirApis
from glasslog.broker.kafka.member_api import MemberApis
from glasslog.broker.kafka.metadata_api import MetadataApis
from glasslog.broker.kafka.offset_api import OffsetApis
from glasslog.broker.kafka.partition_api import PartitionApis
from glasslog.broker.kafka.producer_api import ProducerApis
from glasslog.broker.kafka.quorum_api import QuorumApis
from glasslog.broker.kafka.quota_api import QuotaApis
from glasslog.broker.kafka.reassignment_api import ReassignmentApis
from glasslog.broker.kafka.topic_api import TopicApis
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.producer_ids import ProducerIds
from glasslog.broker.quorum_admin import QuorumHandlers
from glasslog.broker.replica_manager import ReplicaManager
from glasslog.broker.topic_lookup import AutoTopics
from glasslog.common.ids import NodeId
from glasslog.common.node_config import NodeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientParts:
    """What of a broker serves clients, whichever listener they come through."""

    node_id: NodeId
    config: NodeConfig
    metadata: MetadataView
    replicas: ReplicaManager
    coordinator: GroupCoordinator
    producer_ids: ProducerIds
    changes: ClusterChanges
    config_view: ConfigView
    auto_topics: AutoTopics
    finder: CoordinatorFinder
    quorum: QuorumHandlers
    wall_ms: Callable[[], int]


def client_apis(parts: ClientParts, listener: str) -> Sequence[Api]:
    """What the listener of that name is given, Produce and Fetch apart."""
    metadata, config = parts.metadata, parts.config
    return (
        *MetadataApis(
            metadata,
            parts.auto_topics,
            node_id=parts.node_id,
            cluster_id=config.cluster_id,
            listener=listener,
        ).apis(),
        *OffsetApis(parts.replicas, parts.coordinator, lambda: metadata.image).apis(),
        *MemberApis(parts.finder, parts.coordinator).apis(),
        *GroupApis(parts.coordinator, lambda: metadata.image).apis(),
        *TopicApis(metadata, parts.changes, parts.config_view).apis(),
        *FeatureApis(parts.changes).apis(),
        *PartitionApis(parts.changes).apis(),
        *ReassignmentApis(parts.changes, metadata).apis(),
        *BrokerApis(parts.changes).apis(),
        *ProducerApis(parts.producer_ids, parts.replicas.producers_of).apis(),
        *LogDirApis(parts.replicas.log_sizes, parts.replicas.alter_log_dirs).apis(),
        *QuorumApis(parts.quorum, wall_ms=parts.wall_ms).apis(),
        *ConfigApis(parts.changes, parts.config_view).apis(),
        *QuotaApis(parts.changes, lambda: metadata.image).apis(),
    )
