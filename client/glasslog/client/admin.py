"""``Admin``: topics, records, settings, replicas, groups and the quorum, looked at and changed.

One method a question, typed results. Refuses to know how a command prints what is found.
"""

from collections.abc import Iterable, Mapping

from glasslog.client.admin_base import ClusterDescription, no_error, raise_for
from glasslog.client.client_quotas import QuotaAdmin
from glasslog.client.configs import ConfigAdmin
from glasslog.client.deletions import RecordDeletion
from glasslog.client.features import (
    FeatureDescription,
    UpgradeType,
    described,
    raise_first,
    update_request,
)
from glasslog.client.groups import GroupAdmin, GroupDescription, GroupListing, GroupMember
from glasslog.client.log_dirs import LogDirAdmin, LogDirDescription
from glasslog.client.offsets import OffsetLookup
from glasslog.client.quorum import QuorumAdmin
from glasslog.client.reassignments import (
    PartitionReassignment,
    Targets,
    alter_requests,
    list_request,
    listed,
    refusals,
    retry_code,
)
from glasslog.client.replication import ReplicationDescription, ReplicationLookup
from glasslog.client.subscription import EARLIEST, LATEST
from glasslog.client.topics import (
    CreatedTopic,
    MorePartitions,
    NewTopic,
    PartitionDescription,
    TopicAdmin,
    TopicDescription,
)
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.broker_pb2 import (
    DescribeFeaturesRequest,
    DescribeFeaturesResponse,
    ListPartitionReassignmentsResponse,
)
from glasslog.v1.controller_pb2 import (
    AlterPartitionReassignmentsResponse,
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
    UpdateFeaturesResponse,
)

__all__ = [
    "Admin",
    "ClusterDescription",
    "CreatedTopic",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "LogDirDescription",
    "MorePartitions",
    "NewTopic",
    "PartitionDescription",
    "TopicDescription",
]
# Whoever uses ``Admin`` finds beside it what it takes and gives.


class Admin(TopicAdmin, GroupAdmin, ConfigAdmin, QuotaAdmin, QuorumAdmin, LogDirAdmin):
    """Looks at a cluster and changes it. Start it with ``start`` or ``async with``.

    Errors are ``GlasslogError`` with Kafka's codes; what can be retried is, for ``default_api_timeout_ms``.
    """

    # --- features ---------------------------------------------------------------------------------------

    async def describe_features(self) -> list[FeatureDescription]:
        """The levels by which the cluster behaves, and those that it could."""
        return described(
            await self._ask_any(
                "DescribeFeatures", DescribeFeaturesRequest(), DescribeFeaturesResponse, no_error
            )
        )

    async def update_features(
        self,
        levels: Mapping[str, int],
        *,
        upgrade_type: UpgradeType = UpgradeType.UPGRADE,
        validate_only: bool = False,
    ) -> None:
        """Give features other levels, all of these or none. Raises INVALID_UPDATE_VERSION, saying why."""
        request = update_request(
            levels,
            upgrade_type,
            validate_only=validate_only,
            timeout_ms=self._options.request_timeout_ms,
        )
        raise_first(await self._ask_any("UpdateFeatures", request, UpdateFeaturesResponse, no_error))

    # --- records ----------------------------------------------------------------------------------------

    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Offsets by time in ms, -1 for the end, -2 for the beginning, -3 for the newest timestamp.

        -1 in the answer: there is none.
        """
        self._session.check()
        timeout_ms = self._options.default_api_timeout_ms
        found = await OffsetLookup(self._session).list(timestamps, timeout_ms=timeout_ms)
        return {partition: position.offset for partition, position in found.items()}

    async def delete_records(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Delete all records below these offsets, -1 for all that is committed; where partitions begin then.

        Returns when every replica that lives has followed.  Raises UNKNOWN_TOPIC_OR_PARTITION,
        OFFSET_OUT_OF_RANGE above the high watermark, POLICY_VIOLATION for a topic that is only compacted,
        INVALID_TOPIC_EXCEPTION for an internal one; other partitions may be done by then.
        """
        for topic in {partition.topic: None for partition in offsets}:
            known = await self._partitions(topic)
            for partition in offsets:
                if partition.topic == topic and partition not in known:
                    raise GlasslogError(
                        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"partition {partition} does not exist"
                    )
        return await RecordDeletion(self._session).delete(
            offsets, timeout_ms=self._options.default_api_timeout_ms
        )

    async def beginning_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The first offset that is kept, by partition. Raises UNKNOWN_TOPIC_OR_PARTITION."""
        return await self.list_offsets(dict.fromkeys(await self._partitions(topic), EARLIEST))

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The offset after the last record that consumers may see. Raises UNKNOWN_TOPIC_OR_PARTITION."""
        return await self.list_offsets(dict.fromkeys(await self._partitions(topic), LATEST))

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        self._session.check()
        found = await self._session.metadata.await_topic(topic, self._options.default_api_timeout_ms)
        return [TopicPartition(topic, partition.partition) for partition in found.partitions]

    # --- replicas ---------------------------------------------------------------------------------------

    async def alter_partition_reassignments(self, targets: Targets) -> dict[TopicPartition, GlasslogError]:
        """Begin to move partitions, move them elsewhere, or (``None``) back; what was refused, and why.

        A move is over when ``list_partition_reassignments`` has it no more. Refusals are
        INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS, UNKNOWN_TOPIC_OR_PARTITION.  Raises what kept
        them from being asked at all; then some may be on their way.
        """
        refused: dict[TopicPartition, GlasslogError] = {}
        for request in alter_requests(targets, timeout_ms=self._options.request_timeout_ms):
            answer = await self._ask_any(
                "AlterPartitionReassignments", request, AlterPartitionReassignmentsResponse, retry_code
            )
            refused |= refusals(answer)
        return refused

    async def list_partition_reassignments(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, PartitionReassignment]:
        """What is being moved, of these partitions or of all."""
        wanted = None if partitions is None else list(partitions)
        if wanted == []:
            return {}
        answer = await self._ask_any(
            "ListPartitionReassignments", list_request(wanted), ListPartitionReassignmentsResponse, no_error
        )
        return listed(answer)

    async def describe_replication(self, partition: TopicPartition) -> ReplicationDescription:
        """A partition as its leader sees it: ISR, followers, who waits. LEADER_NOT_AVAILABLE without one."""
        self._session.check()
        return await ReplicationLookup(self._session).describe(partition)

    # --- brokers ----------------------------------------------------------------------------------------

    async def unregister_broker(self, broker_id: int, *, force: bool = False) -> None:
        """Have the cluster forget a broker that is gone for good.

        Raises BROKER_ID_NOT_REGISTERED, and INVALID_REQUEST for one that is alive or holds replicas, unless
        with ``force``.
        """
        request = UnregisterBrokerRequest(
            broker_id=broker_id, force=force, timeout_ms=self._options.request_timeout_ms
        )
        answer = await self._ask_any(
            "UnregisterBroker", request, UnregisterBrokerResponse, lambda reply: reply.error_code
        )
        raise_for(answer.error_code, f"broker {broker_id}", answer.error_message)
