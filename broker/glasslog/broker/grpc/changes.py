"""What changes the cluster's metadata, of ``glasslog.v1.Broker``: requests are passed on as they are.

Refuses to know who decides.
"""

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import controller_pb2 as pb


class ChangeHandlers:
    """See the module."""

    def __init__(self, changes: ClusterChanges) -> None:
        self._changes = changes

    async def create_topics(self, message: pb.CreateTopicsRequest, peer: Peer) -> pb.CreateTopicsResponse:
        """As the client asked, except that what it creates is never internal."""
        message.internal = False
        return await self._changes.create_topics(message)

    async def delete_topics(self, message: pb.DeleteTopicsRequest, peer: Peer) -> pb.DeleteTopicsResponse:
        return await self._changes.delete_topics(message)

    async def create_partitions(
        self, message: pb.CreatePartitionsRequest, peer: Peer
    ) -> pb.CreatePartitionsResponse:
        return await self._changes.create_partitions(message)

    async def alter_configs(self, message: pb.AlterConfigsRequest, peer: Peer) -> pb.AlterConfigsResponse:
        return await self._changes.alter_configs(message)

    async def alter_client_quotas(
        self, message: pb.AlterClientQuotasRequest, peer: Peer
    ) -> pb.AlterClientQuotasResponse:
        return await self._changes.alter_client_quotas(message)

    async def elect_leaders(self, message: pb.ElectLeadersRequest, peer: Peer) -> pb.ElectLeadersResponse:
        return await self._changes.elect_leaders(message)

    async def alter_reassignments(
        self, message: pb.AlterPartitionReassignmentsRequest, peer: Peer
    ) -> pb.AlterPartitionReassignmentsResponse:
        return await self._changes.alter_reassignments(message)

    async def update_features(
        self, message: pb.UpdateFeaturesRequest, peer: Peer
    ) -> pb.UpdateFeaturesResponse:
        return await self._changes.update_features(message)

    async def unregister_broker(
        self, message: pb.UnregisterBrokerRequest, peer: Peer
    ) -> pb.UnregisterBrokerResponse:
        return await self._changes.unregister_broker(message)
