"""Everything that ``glasslog.v1.Broker`` serves, in one table. Refuses to know what stands behind it."""

from dataclasses import dataclass

from glasslog.broker.grpc.changes import ChangeHandlers
from glasslog.broker.grpc.configs import ConfigHandlers
from glasslog.broker.grpc.data import DataHandlers
from glasslog.broker.grpc.features import FeatureHandlers
from glasslog.broker.grpc.groups import GroupHandlers
from glasslog.broker.grpc.heartbeats import HeartbeatHandlers
from glasslog.broker.grpc.log_dirs import LogDirHandlers
from glasslog.broker.grpc.metadata import MetadataHandlers
from glasslog.broker.grpc.offsets import OffsetHandlers
from glasslog.broker.grpc.quotas import QuotaHandlers
from glasslog.broker.grpc.reassignments import ReassignmentHandlers
from glasslog.broker.grpc.replication import ReplicationHandlers
from glasslog.broker.grpc.serving import BROKER_SERVICE, OnFatal, guarded, stream, unary
from glasslog.broker.quorum_admin import QuorumHandlers
from glasslog.common.runtime.protocols import Services, StreamHandler, UnaryHandler
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2, quorum_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHandlers:
    """The handlers of one broker."""

    data: DataHandlers
    metadata: MetadataHandlers
    offsets: OffsetHandlers
    groups: GroupHandlers
    heartbeats: HeartbeatHandlers
    changes: ChangeHandlers
    configs: ConfigHandlers
    quotas: QuotaHandlers
    features: FeatureHandlers
    reassignments: ReassignmentHandlers
    quorum: QuorumHandlers
    log_dirs: LogDirHandlers
    replication: ReplicationHandlers


def broker_services(handlers: BrokerHandlers, on_fatal: OnFatal, *, max_in_flight: int) -> Services:
    """What to listen with. ``max_in_flight`` bounds the unanswered requests of one stream."""
    return Services(
        unary={
            BROKER_SERVICE + name: handler
            for table in (
                _topic_table(handlers.metadata, on_fatal),
                _change_table(handlers.changes, on_fatal),
                _config_table(handlers.configs, handlers.quotas, on_fatal),
                _feature_table(handlers.features, on_fatal),
                _offset_table(handlers.offsets, on_fatal),
                _group_table(handlers.groups, on_fatal),
                _quorum_table(handlers.quorum, on_fatal),
                _reassignment_table(handlers.reassignments, handlers.log_dirs, on_fatal),
                _replication_table(handlers.replication, on_fatal),
            )
            for name, handler in table.items()
        },
        streams={
            BROKER_SERVICE + name: handler
            for name, handler in _stream_table(handlers, on_fatal, max_in_flight).items()
        },
        names=("glasslog.v1.Broker",),
    )


def _topic_table(topics: MetadataHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "Metadata": unary(pb.MetadataRequest, topics.metadata, on_fatal),
        "DescribeTopics": unary(pb.DescribeTopicsRequest, topics.describe_topics, on_fatal),
    }


def _change_table(changes: ChangeHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "CreateTopics": unary(controller_pb2.CreateTopicsRequest, changes.create_topics, on_fatal),
        "DeleteTopics": unary(controller_pb2.DeleteTopicsRequest, changes.delete_topics, on_fatal),
        "CreatePartitions": unary(
            controller_pb2.CreatePartitionsRequest, changes.create_partitions, on_fatal
        ),
        "AlterConfigs": unary(controller_pb2.AlterConfigsRequest, changes.alter_configs, on_fatal),
        "AlterClientQuotas": unary(
            controller_pb2.AlterClientQuotasRequest, changes.alter_client_quotas, on_fatal
        ),
        "ElectLeaders": unary(controller_pb2.ElectLeadersRequest, changes.elect_leaders, on_fatal),
        "AlterPartitionReassignments": unary(
            controller_pb2.AlterPartitionReassignmentsRequest, changes.alter_reassignments, on_fatal
        ),
        "UpdateFeatures": unary(controller_pb2.UpdateFeaturesRequest, changes.update_features, on_fatal),
        "UnregisterBroker": unary(
            controller_pb2.UnregisterBrokerRequest, changes.unregister_broker, on_fatal
        ),
    }


def _feature_table(features: FeatureHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "DescribeFeatures": unary(pb.DescribeFeaturesRequest, features.describe_features, on_fatal),
    }


def _config_table(
    configs: ConfigHandlers, quotas: QuotaHandlers, on_fatal: OnFatal
) -> dict[str, UnaryHandler]:
    return {
        "DescribeConfigs": unary(pb.DescribeConfigsRequest, configs.describe_configs, on_fatal),
        "DescribeClientQuotas": unary(pb.DescribeClientQuotasRequest, quotas.describe, on_fatal),
    }


def _offset_table(offsets: OffsetHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "ListOffsets": unary(pb.ListOffsetsRequest, offsets.list_offsets, on_fatal),
        "DeleteRecords": unary(pb.DeleteRecordsRequest, offsets.delete_records, on_fatal),
        "InitProducerId": unary(pb.InitProducerIdRequest, offsets.init_producer_id, on_fatal),
    }


def _group_table(groups: GroupHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "FindCoordinator": unary(pb.FindCoordinatorRequest, groups.find_coordinator, on_fatal),
        "JoinGroup": unary(pb.JoinGroupRequest, groups.join_group, on_fatal),
        "SyncGroup": unary(pb.SyncGroupRequest, groups.sync_group, on_fatal),
        "Heartbeat": unary(pb.HeartbeatRequest, groups.heartbeat, on_fatal),
        "LeaveGroup": unary(pb.LeaveGroupRequest, groups.leave_group, on_fatal),
        "OffsetCommit": unary(pb.OffsetCommitRequest, groups.offset_commit, on_fatal),
        "OffsetFetch": unary(pb.OffsetFetchRequest, groups.offset_fetch, on_fatal),
        "ListGroups": unary(pb.ListGroupsRequest, groups.list_groups, on_fatal),
        "DescribeGroups": unary(pb.DescribeGroupsRequest, groups.describe_groups, on_fatal),
        "DeleteGroups": unary(pb.DeleteGroupsRequest, groups.delete_groups, on_fatal),
    }


def _reassignment_table(
    reassignments: ReassignmentHandlers, log_dirs: LogDirHandlers, on_fatal: OnFatal
) -> dict[str, UnaryHandler]:
    return {
        "DescribeLogDirs": unary(pb.DescribeLogDirsRequest, log_dirs.describe, on_fatal),
        "AlterReplicaLogDirs": unary(pb.AlterReplicaLogDirsRequest, log_dirs.alter, on_fatal),
        "ListPartitionReassignments": unary(
            pb.ListPartitionReassignmentsRequest, reassignments.list, on_fatal
        ),
    }


def _quorum_table(quorum: QuorumHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {
        "DescribeQuorum": unary(quorum_pb2.DescribeQuorumRequest, quorum.describe, on_fatal),
        "AddVoter": unary(quorum_pb2.AddVoterRequest, quorum.add_voter, on_fatal),
        "RemoveVoter": unary(quorum_pb2.RemoveVoterRequest, quorum.remove_voter, on_fatal),
        "TransferLeadership": unary(quorum_pb2.TransferLeadershipRequest, quorum.transfer, on_fatal),
    }


def _replication_table(replication: ReplicationHandlers, on_fatal: OnFatal) -> dict[str, UnaryHandler]:
    return {"DescribeReplication": unary(pb.DescribeReplicationRequest, replication.describe, on_fatal)}


def _stream_table(
    handlers: BrokerHandlers, on_fatal: OnFatal, max_in_flight: int
) -> dict[str, StreamHandler]:
    data = handlers.data
    return {
        "Produce": stream(pb.ProduceRequest, data.produce, on_fatal, max_in_flight=max_in_flight),
        "Fetch": stream(pb.FetchRequest, data.fetch, on_fatal, max_in_flight=max_in_flight),
        "Heartbeats": guarded(handlers.heartbeats.heartbeats, on_fatal),
    }
