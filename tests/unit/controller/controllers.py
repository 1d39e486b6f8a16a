"""Controller servers in one in-memory world, and brokers as they look from there. Test helpers only."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Channel, Runtime, TransportError
from glasslog.controller.server import ControllerServer
from glasslog.metadata.features import SUPPORTED
from glasslog.metadata.wire import features_to_wire
from glasslog.v1 import controller_pb2 as pb
from glasslog.v1.metadata_pb2 import Endpoint
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

CLUSTER = "5L6g3nShT-eMCtK--X86sw"
PORT = 9093
VOTERS = tuple(f"{node_id}@controller-{node_id}:{PORT}" for node_id in (1, 2, 3))


def controller_config(node_id: int, **changes: object) -> NodeConfig:
    values: dict[str, object] = {
        "node_id": node_id,
        "process_roles": ("controller",),
        "cluster_id": CLUSTER,
        "listeners": (f"CONTROLLER://controller-{node_id}:{PORT}",),
        "controller_quorum_voters": VOTERS,
        "log_dirs": ("data",),
    }
    return NodeConfig(**{**values, **changes})  # type: ignore[arg-type]  # values of mixed types by name


async def until(condition: Callable[[], bool], *, within_ms: int = 20_000) -> int:
    """Wait in virtual time; returns how long it took, in ms."""
    for passed_ms in range(within_ms):
        if condition():
            return passed_ms
        await asyncio.sleep(0.001)
    raise AssertionError(f"not within {within_ms} ms")


@dataclass
class Cluster:
    """Three controllers, and a host to ask them from."""

    world: MemoryWorld
    servers: dict[int, ControllerServer] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    ready: list[int] = field(default_factory=list)
    """One item per server that called ``ready``."""

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            runtime = self.world.runtime(f"controller-{node_id}")
            server = ControllerServer(runtime=runtime, config=controller_config(node_id))
            self.servers[node_id] = server
            self.tasks[node_id] = asyncio.create_task(server.run(lambda: self.ready.append(1)))

    async def kill(self, node_id: int) -> None:
        self.world.kill(f"controller-{node_id}")
        del self.servers[node_id]
        task = self.tasks.pop(node_id)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def stop(self, node_id: int) -> None:
        self.servers.pop(node_id).stop()
        await self.tasks.pop(node_id)

    async def stop_all(self) -> None:
        for node_id in list(self.servers):
            await self.stop(node_id)

    @property
    def active_id(self) -> int:
        """The active controller, 0 if there is none; with two claimants the one of the newer epoch."""
        claims = [
            (server.controller_status().controller_epoch, node_id)
            for node_id, server in self.servers.items()
            if server.controller_status().is_active
        ]
        return max(claims, default=(0, 0))[1]

    async def active(self) -> ControllerServer:
        await until(lambda: self.active_id != 0)
        return self.servers[self.active_id]

    def client(self, host: str = "client") -> "Client":
        return Client(self, self.world.runtime(host))


class Client:
    """Asks the active controller, and again after NOT_CONTROLLER or a broken connection."""

    def __init__(self, cluster: Cluster, runtime: Runtime) -> None:
        self._cluster = cluster
        self.runtime = runtime
        self._channels: dict[int, Channel] = {}

    def channel(self, node_id: int) -> Channel:
        if node_id not in self._channels:
            self._channels[node_id] = self.runtime.transport.dial(f"controller-{node_id}:{PORT}")
        return self._channels[node_id]

    async def ask_one(self, node_id: int, method: str, request: Message, answer: type[M]) -> M:
        data = await self.channel(node_id).unary(
            f"/glasslog.v1.Controller/{method}", request.SerializeToString(), timeout_ms=2_000
        )
        return answer.FromString(data)

    async def ask(self, method: str, request: Message, answer: type[M]) -> M:
        for _ in range(1_000):
            active = self._cluster.active_id
            if active:
                try:
                    return await self.ask_one(active, method, request, answer)
                except TransportError:
                    pass
                except GlasslogError as error:
                    if error.code is not ErrorCode.NOT_CONTROLLER:
                        raise
            await asyncio.sleep(0.01)
        raise AssertionError(f"{method} was never answered")

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


class FakeBroker:
    """Registers, heartbeats and holds a session stream, as a broker would."""

    def __init__(self, cluster: Cluster, broker_id: int) -> None:
        self._cluster = cluster
        self.broker_id = broker_id
        self.host = f"broker-{broker_id}"
        self.client = cluster.client(self.host)
        self.epoch = -1
        self.fenced = True
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.register()
        self._tasks = [
            asyncio.create_task(self._hold(), name=f"{self.host} session"),
            asyncio.create_task(self._beat(), name=f"{self.host} heartbeats"),
        ]
        await until(lambda: not self.fenced)

    async def register(self) -> None:
        request = pb.RegisterBrokerRequest(
            cluster_id=CLUSTER,
            broker_id=self.broker_id,
            incarnation_id=self.client.runtime.random.uuid(),
            features=features_to_wire(SUPPORTED),
            endpoints=[Endpoint(name="GRPC", host=self.host, port=9192)],
            rack=f"rack-{self.broker_id}",
            previous_broker_epoch=-1,
        )
        answer = await self.client.ask("RegisterBroker", request, pb.RegisterBrokerResponse)
        assert answer.error_code == 0, answer.error_message
        self.epoch = answer.broker_epoch

    async def _beat(self) -> None:
        while True:
            request = pb.BrokerHeartbeatRequest(
                broker_id=self.broker_id, broker_epoch=self.epoch, current_metadata_offset=1 << 40
            )
            answer = await self.client.ask("BrokerHeartbeat", request, pb.BrokerHeartbeatResponse)
            self.fenced = bool(answer.error_code) or answer.is_fenced
            await asyncio.sleep(0.05 if self.fenced else 2)

    async def _hold(self) -> None:
        hello = pb.BrokerSessionHello(broker_id=self.broker_id, broker_epoch=self.epoch).SerializeToString()
        while True:
            active = self._cluster.active_id
            if active:
                stream = self.client.channel(active).stream("/glasslog.v1.Controller/HoldSession")
                with suppress(GlasslogError):
                    await stream.send(hello)
                    async for _ in stream:
                        pass
                await stream.close()
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        self._cluster.world.kill(self.host)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
