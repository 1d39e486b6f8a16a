"""The part of ``glasslog.v1.Controller`` that administrators ask for, through a broker.

One handler per method: parse, submit, encode, together with where in the metadata log the change can be seen.
Refuses to know what is decided.
"""

from collections.abc import Mapping
from typing import Protocol

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
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from glasslog.v1 import controller_pb2 as pb

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
        done = await self._controller.change(request, CreateTopicsResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, wire.created(done.response))

    async def _delete_topics(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.DeleteTopicsRequest, data)
        request = wire.delete_topics(message)
        done = await self._controller.change(request, DeleteTopicsResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, wire.deleted(done.response))

    async def _create_partitions(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.CreatePartitionsRequest, data)
        request = admin_wire.create_partitions(message, new_seed=self._new_seed)
        done = await self._controller.change(request, CreatePartitionsResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, admin_wire.partitions_created(done.response))

    async def _alter_configs(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterConfigsRequest, data)
        request = admin_wire.alter_configs(message)
        done = await self._controller.change(request, AlterConfigsResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, admin_wire.configs_altered(done.response))

    async def _alter_client_quotas(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterClientQuotasRequest, data)
        request = admin_wire.alter_client_quotas(message)
        done = await self._controller.change(
            request, AlterClientQuotasResponse, timeout_ms=message.timeout_ms
        )
        return _seen_at(done.offset, admin_wire.client_quotas_altered(done.response))

    async def _elect_leaders(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.ElectLeadersRequest, data)
        request = admin_wire.elect_leaders(message)
        done = await self._controller.change(request, ElectLeadersResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, admin_wire.leaders_elected(done.response))

    async def _alter_reassignments(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.AlterPartitionReassignmentsRequest, data)
        request = wire.reassign(message)
        done = await self._controller.change(
            request, AlterPartitionReassignmentsResponse, timeout_ms=message.timeout_ms
        )
        return _seen_at(done.offset, wire.reassigned(done.response))

    async def _update_features(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.UpdateFeaturesRequest, data)
        request = admin_wire.update_features(message)
        done = await self._controller.change(request, UpdateFeaturesResponse, timeout_ms=message.timeout_ms)
        return _seen_at(done.offset, admin_wire.features_updated(done.response))

    async def _unregister_broker(self, data: bytes, peer: Peer) -> bytes:
        message = wire.parse(pb.UnregisterBrokerRequest, data)
        request = UnregisterBrokerRequest(broker_id=NodeId(message.broker_id), force=message.force)
        done = await self._controller.change(request, UnregisterBrokerResponse, timeout_ms=message.timeout_ms)
        response = done.response
        return _seen_at(
            done.offset,
            pb.UnregisterBrokerResponse(error_code=response.error_code, error_message=response.error_message),
        )

    def _new_seed(self) -> int:
        return self._random.randrange(_SEEDS)


def _seen_at(offset: int, answer: _Answer) -> bytes:
    answer.metadata_offset = offset
    return answer.SerializeToString()
