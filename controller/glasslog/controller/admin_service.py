"""The part of ``glasslog.v1.Controller`` that administrators ask for, through a broker.

One handler per method: parse, submit, encode, together with where in the metadata log the change can be seen.
Refuses to know what is decided.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Peer, Random, UnaryHandler
from glasslog.controller import admin_wire, wire
from glasslog.controller.admin_requests import (
    AlterClientQuotasResponse,
    AlterConfigsResponse,
    CreatePartitionsResponse,
    ElectLeadersResponse,
    UpdateFeaturesResponse,
)
from glasslog.controller.driver import Controller
from glasslog.controller.requests import (
    AlterPartitionReassignmentsResponse,
    CreateTopicsResponse,
    DeleteTopicsResponse,
    Request,
    Response,
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from glasslog.v1 import controller_pb2 as pb

R = TypeVar("R", bound=Response)

_SEEDS = 2**31


class _Answer(Protocol):
    """What every answer to a change has."""

    metadata_offset: int

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


class AdminService:
    """See the module."""

    def __init__(self, controller: Controller, random: Random) -> None:
        self._controller = controller
        self._random = random

    def handlers(self) -> Mapping[str, UnaryHandler]:
        """By method."""
        return {
            "CreateTopics": self._create_topics,
            "DeleteTopics": self._delete_topics,
            "CreatePartitions": self._create_partitions,
            "AlterConfigs": self._alter_configs,
            "AlterClientQuotas": self._alter_client_quotas,
            "ElectLeaders": self._elect_leaders,
            "AlterPartitionReassignments": self._alter_reassignments,
            "UpdateFeatures": self._update_features,
            "UnregisterBroker": self._unregister_broker,
        }

    async def _create_topics(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.CreateTopicsRequest, data)
        request = wire.create_topics(message, new_topic_id=self._random.uuid, new_seed=self._new_seed)
        return await self._change(request, CreateTopicsResponse, wire.created, message.timeout_ms)

    async def _delete_topics(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.DeleteTopicsRequest, data)
        request = wire.delete_topics(message)
        return await self._change(request, DeleteTopicsResponse, wire.deleted, message.timeout_ms)

    async def _create_partitions(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.CreatePartitionsRequest, data)
        request = admin_wire.create_partitions(message, new_seed=self._new_seed)
        encode = admin_wire.partitions_created
        return await self._change(request, CreatePartitionsResponse, encode, message.timeout_ms)

    async def _alter_configs(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterConfigsRequest, data)
        request = admin_wire.alter_configs(message)
        encode = admin_wire.configs_altered
        return await self._change(request, AlterConfigsResponse, encode, message.timeout_ms)

    async def _alter_client_quotas(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterClientQuotasRequest, data)
        request = admin_wire.alter_client_quotas(message)
        encode = admin_wire.client_quotas_altered
        return await self._change(request, AlterClientQuotasResponse, encode, message.timeout_ms)

    async def _elect_leaders(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.ElectLeadersRequest, data)
        request = admin_wire.elect_leaders(message)
        encode = admin_wire.leaders_elected
        return await self._change(request, ElectLeadersResponse, encode, message.timeout_ms)

    async def _alter_reassignments(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterPartitionReassignmentsRequest, data)
        request, expected = wire.reassign(message), AlterPartitionReassignmentsResponse
        return await self._change(request, expected, wire.reassigned, message.timeout_ms)

    async def _update_features(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.UpdateFeaturesRequest, data)
        request = admin_wire.update_features(message)
        encode = admin_wire.features_updated
        return await self._change(request, UpdateFeaturesResponse, encode, message.timeout_ms)

    async def _unregister_broker(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.UnregisterBrokerRequest, data)
        request = UnregisterBrokerRequest(broker_id=NodeId(message.broker_id), force=message.force)
        return await self._change(request, UnregisterBrokerResponse, wire.unregistered, message.timeout_ms)

    async def _change(
        self, request: Request, expected: type[R], encode: Callable[[R], _Answer], timeout_ms: int
    ) -> bytes:
        """Have it decided and committed; the answer says where it can be seen."""
        done = await self._controller.change(request, expected, timeout_ms=timeout_ms)
        answer = encode(done.response)
        answer.metadata_offset = done.offset
        return answer.SerializeToString()

    def _new_seed(self) -> int:
        return self._random.randrange(_SEEDS)
