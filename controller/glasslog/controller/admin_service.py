"""The part of ``glasslog.v1.Controller`` that administrators ask for, through a broker.

One handler per method: parse, submit, encode.  Refuses to know what is decided.
"""

from collections.abc import Callable, Mapping

from glasslog.common.runtime.protocols import Peer, UnaryHandler
from glasslog.controller import admin_wire
from glasslog.controller.admin_requests import (
    AlterConfigsResponse,
    CreatePartitionsResponse,
    ElectLeadersResponse,
    UpdateFeaturesResponse,
)
from glasslog.controller.driver import Controller
from glasslog.controller.wire import parse
from glasslog.v1 import controller_pb2 as pb


class AdminService:
    """See the module."""

    def __init__(self, controller: Controller, *, new_seed: Callable[[], int]) -> None:
        self._controller = controller
        self._new_seed = new_seed

    def handlers(self) -> Mapping[str, UnaryHandler]:
        """By method."""
        return {
            "AlterConfigs": self._alter_configs,
            "CreatePartitions": self._create_partitions,
            "ElectLeaders": self._elect_leaders,
            "UpdateFeatures": self._update_features,
        }

    async def _alter_configs(self, data: bytes, peer: Peer) -> bytes:
        message = parse(pb.AlterConfigsRequest, data)
        request = admin_wire.alter_configs(message)
        response = await self._controller.submit(request, AlterConfigsResponse, timeout_ms=message.timeout_ms)
        return admin_wire.configs_altered(response).SerializeToString()

    async def _create_partitions(self, data: bytes, peer: Peer) -> bytes:
        message = parse(pb.CreatePartitionsRequest, data)
        request = admin_wire.create_partitions(message, new_seed=self._new_seed)
        response = await self._controller.submit(
            request, CreatePartitionsResponse, timeout_ms=message.timeout_ms
        )
        return admin_wire.partitions_created(response).SerializeToString()

    async def _elect_leaders(self, data: bytes, peer: Peer) -> bytes:
        message = parse(pb.ElectLeadersRequest, data)
        request = admin_wire.elect_leaders(message)
        response = await self._controller.submit(request, ElectLeadersResponse, timeout_ms=message.timeout_ms)
        return admin_wire.leaders_elected(response).SerializeToString()

    async def _update_features(self, data: bytes, peer: Peer) -> bytes:
        message = parse(pb.UpdateFeaturesRequest, data)
        request = admin_wire.update_features(message)
        response = await self._controller.submit(
            request, UpdateFeaturesResponse, timeout_ms=message.timeout_ms
        )
        return admin_wire.features_updated(response).SerializeToString()
