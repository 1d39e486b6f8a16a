"""A whole cluster in one virtual-time loop: real controllers and brokers on an in-memory network and disks.

Starts, kills, restarts, pauses and stops nodes by name (``broker-1``, ``controller-2``), and speaks the raw
client RPC. A node that ends by itself is a failure. It refuses to know what a run wants to see.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeVar

from glasslog.broker.server import BrokerServer
from glasslog.common.config import parse
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Stream
from glasslog.controller.server import ControllerServer
from glasslog.log.records import encode_batch
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"
BROKER = "/glasslog.v1.Broker/"
_CLIENT = "client"
GRPC_PORT, _KAFKA_PORT, _CONTROLLER_PORT = 9192, 9092, 9093
_FIRST_CONTROLLER_ID = 100


class Server(Protocol):
    """What ``ControllerServer`` and ``BrokerServer`` share."""

    async def run(self, ready: Callable[[], None], /) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class Life:
    """One process of a node."""

    server: Server
    task: asyncio.Task[None]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    is_dying: bool = False
    was_killed: bool = False
    """What its last steps ran into is then no failure: a dead process takes none."""


class MemoryCluster:
    """Use as ``async with MemoryCluster() as cluster`` inside ``run_virtual``: it is healthy on entry.

    ``settings`` are for every node, by their keys. Brokers have the ids 1, 2, ... and, unless ``racks`` says
    otherwise, the racks r1, r2, ...; controller-N has the id 100 + N.  Only the first ``first_voters`` of the
    controllers vote (default: all); the others follow, and may be added.
    """

    def __init__(
        self,
        *,
        controllers: int = 3,
        first_voters: int | None = None,
        brokers: int = 3,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        racks: Mapping[str, str] | None = None,
        world: MemoryWorld | None = None,
    ) -> None:
        self.world = world or MemoryWorld(seed=seed)
        self.controller_names = tuple(f"controller-{n}" for n in range(1, controllers + 1))
        self._first_voters = self.controller_names[:first_voters]
        self.broker_names = tuple(f"broker-{n}" for n in range(1, brokers + 1))
        self._settings = dict(settings or {})
        self._racks = dict(racks or {})
        self._lives: dict[str, Life] = {}
        self._client = self.world.runtime(_CLIENT)
        self.voters_touched = asyncio.Lock()
        """Held by whoever changes the voters, and by whoever takes a voter's disk until it votes again: Raft
        bears one of these, not both at once."""
        self.failures: list[BaseException] = []
        self.on_process: Callable[[str, str], None] = lambda name, state: None
        """Told of a node's name and what its process is now: started, killed, stopping, ended, paused..."""

    async def __aenter__(self) -> Self:
        for name in (*self.controller_names, *self.broker_names):
            self.start(name)
        await self.healthy()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.on_process = lambda name, state: None
        for name in [name for name, life in self._lives.items() if not life.task.done()]:
            await self.kill(name)
        if self.failures and error is None:
            raise BaseExceptionGroup("nodes failed", self.failures)

    # --- nodes ------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """A new process for a node that has none."""
        assert not self.is_alive(name), f"{name} runs already"
        runtime, config = self.world.runtime(name), self.config(name)
        server: Server
        if name in self.broker_names:
            server = BrokerServer(runtime=runtime, config=config)
        else:
            server = ControllerServer(runtime=runtime, config=config)
        self.on_process(name, "started")
        ready = asyncio.Event()
        context = self.world.network.host(name).context()
        task = asyncio.create_task(server.run(ready.set), name=name, context=context)
        life = self._lives[name] = Life(server=server, task=task, ready=ready)
        task.add_done_callback(lambda done: self._on_end(name, life, done))

    async def kill(self, name: str, *, power_loss: Keep | None = None) -> None:
        """As by SIGKILL, or with its power lost."""
        life = self._lives[name]
        life.is_dying = life.was_killed = True
        self.on_process(name, "killed" if power_loss is None else f"lost power, disk kept {power_loss}")
        self.world.kill(name, power_loss=power_loss)
        life.task.cancel()
        await asyncio.gather(life.task, return_exceptions=True)

    async def ended(self, name: str, *, within_ms: int = 10_000) -> BaseException | None:
        """Wait for a node to end by itself, which is no failure then; returns what it ended with."""
        life = self._lives[name]
        life.is_dying = True
        done, _ = await asyncio.wait({life.task}, timeout=within_ms / 1000)
        assert done, f"{name} still runs after {within_ms} ms"
        self.on_process(name, "ended")
        self.world.kill(name)
        return None if life.was_killed or life.task.cancelled() else life.task.exception()

    async def stop(self, name: str, *, within_ms: int = 15_000) -> None:
        """As by SIGTERM; returns when the process has ended in order.

        Raises what it ended with, or ``CancelledError`` if it was killed meanwhile.
        """
        life = self._lives[name]
        life.is_dying = True
        self.on_process(name, "stopping")
        life.server.stop()
        async with asyncio.timeout(within_ms / 1000):
            await asyncio.wait({life.task})
        if life.was_killed:
            raise asyncio.CancelledError
        life.task.result()
        self.on_process(name, "ended")
        self.world.network.kill_host(name)

    async def restart(self, name: str) -> None:
        """Kill it if it runs, then start it again."""
        if self.is_alive(name):
            await self.kill(name)
        self.start(name)

    def pause(self, name: str) -> None:
        """Nothing of it runs, gets in or out any more, as with SIGSTOP."""
        self.on_process(name, "paused")
        self.world.network.pause_host(name)

    def resume(self, name: str) -> None:
        if self.world.network.is_paused(name, name):
            self.on_process(name, "resumed")
        self.world.network.resume_host(name)

    def is_alive(self, name: str) -> bool:
        life = self._lives.get(name)
        return life is not None and not life.task.done()

    def broker(self, name: str) -> BrokerServer:
        server = self._lives[name].server
        assert isinstance(server, BrokerServer)
        return server

    def controller(self, name: str) -> ControllerServer:
        server = self._lives[name].server
        assert isinstance(server, ControllerServer)
        return server

    def config(self, name: str) -> NodeConfig:
        """A node's settings, complete."""
        number = int(name.rpartition("-")[2])
        values = {
            "cluster.id": CLUSTER_ID,
            **self._quorum_settings(name),
            "log.dirs": "data",
            "offsets.topic.replication.factor": str(min(3, len(self.broker_names))),
        }
        if name in self.broker_names:
            values |= {
                "node.id": str(number),
                "process.roles": "broker",
                "broker.rack": self._racks.get(name, f"r{number}"),
                "listeners": f"GRPC://{name}:{GRPC_PORT},KAFKA://{name}:{_KAFKA_PORT}",
            }
        else:
            values |= {
                "node.id": str(_FIRST_CONTROLLER_ID + number),
                "process.roles": "controller",
                "listeners": f"CONTROLLER://{name}:{_CONTROLLER_PORT}",
            }
        return parse(NodeConfig, {**values, **self._settings})

    def _quorum_settings(self, name: str) -> dict[str, str]:
        voters = [
            f"{_FIRST_CONTROLLER_ID + index}@{controller}:{_CONTROLLER_PORT}"
            for index, controller in enumerate(self._first_voters, 1)
        ]
        if name in self.broker_names or name in self._first_voters:
            return {"controller.quorum.voters": ",".join(voters)}
        servers = [f"{controller}:{_CONTROLLER_PORT}" for controller in self._first_voters]
        return {"controller.quorum.bootstrap.servers": ",".join(servers)}

    def _on_end(self, name: str, life: Life, task: asyncio.Task[None]) -> None:
        if life.is_dying or task.cancelled():
            return
        error = task.exception() or RuntimeError(f"{name} ended by itself")
        error.add_note(f"on {name}")
        self.failures.append(error)

    # --- what is the case -------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], *, within_ms: int = 10_000, what: str = "") -> float:
        """Wait for ``condition``; returns how long that took in virtual ms. A failed node ends the wait."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while not condition():
            if self.failures:
                raise BaseExceptionGroup("nodes failed", self.failures)
            if (loop.time() - started) * 1000 > within_ms:
                raise AssertionError(f"not within {within_ms} ms: {what or condition}; {self.describe()}")
            await asyncio.sleep(0.001)
        return (loop.time() - started) * 1000

    async def healthy(self, *, within_ms: int = 10_000) -> float:
        """Until every node that runs is ready; returns how long that took in virtual ms."""
        alive = [name for name in self._lives if self.is_alive(name)]
        return await self.until(
            lambda: all(self._is_healthy(name) for name in alive), within_ms=within_ms, what="healthy"
        )

    def _is_healthy(self, name: str) -> bool:
        if name in self.broker_names:
            return self.broker(name).status().is_ready
        return self._lives[name].ready.is_set()

    def describe(self) -> str:
        """One line about every broker, for messages."""
        return "; ".join(
            f"{name}: {self.broker(name).status()}" for name in self.broker_names if self.is_alive(name)
        )

    @property
    def image(self) -> MetadataImage:
        """The newest metadata that any running broker has."""
        images = [self.broker(name).observer.image for name in self.broker_names if self.is_alive(name)]
        return max(images, key=lambda image: image.offset)

    def partition(self, topic: str, partition: int = 0) -> PartitionImage:
        found = self.image.partition(topic, partition)
        assert found is not None, f"{topic}-{partition} does not exist"
        return found

    def leader_of(self, topic: str, partition: int = 0) -> str:
        """The node that leads a partition, as the metadata says; empty without one."""
        leader = self.partition(topic, partition).leader
        return f"broker-{leader}" if leader > 0 else ""

    def active_controller(self) -> str:
        """The controller that leads the quorum; empty while there is none."""
        active = [
            name
            for name in self.controller_names
            if self.is_alive(name) and self.controller(name).controller_status().is_active
        ]
        return active[-1] if active else ""

    # --- a client ---------------------------------------------------------------------------------------

    async def call(self, name: str, method: str, request: Message, answer: type[M]) -> M:
        """One unary call to a broker."""
        channel = self._client.transport.dial(f"{name}:{GRPC_PORT}")
        try:
            data = await channel.unary(BROKER + method, request.SerializeToString(), timeout_ms=30_000)
        finally:
            await channel.close()
        return answer.FromString(data)

    async def until_answered(
        self, name: str, method: str, request: Message, answer: type[M], *, within_ms: int = 5_000
    ) -> M:
        """Repeat a call as clients do, until no error code in its answer says that it may help."""
        deadline = asyncio.get_running_loop().time() + within_ms / 1000
        while True:
            response = await self.call(name, method, request, answer)
            code = _first_error(response)
            if not code.retriable or asyncio.get_running_loop().time() > deadline:
                assert code is ErrorCode.NONE, f"{method} at {name}: {code.name}"
                return response
            await asyncio.sleep(0.02)

    async def create_topic(
        self,
        topic: str,
        *,
        partitions: int = 1,
        replication_factor: int = 3,
        configs: Mapping[str, str] | None = None,
        via: str = "",
    ) -> None:
        request = controller_pb2.CreateTopicsRequest(timeout_ms=10_000)
        request.topics.add(
            name=topic,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=dict(configs or {}),
        )
        answer = await self.call(
            via or self._any_broker(), "CreateTopics", request, controller_pb2.CreateTopicsResponse
        )
        code, text = answer.topics[0].error_code, answer.topics[0].error_message
        if code:
            raise GlasslogError(ErrorCode(code), text)

    async def produce(
        self, name: str, topic: str, values: Sequence[bytes], *, partition: int = 0, acks: int = -1
    ) -> pb.ProduceResponse.Partition:
        """One batch to a broker; its answer for the partition."""
        batch = bytes(encode_batch([(0, None, value, ()) for value in values]))
        request = pb.ProduceRequest(correlation_id=1, acks=acks, timeout_ms=10_000)
        request.partitions.add(topic=topic, partition=partition, records=batch)
        answer = pb.ProduceResponse.FromString(await self._ask(name, "Produce", request))
        return answer.partitions[0]

    async def fetch(
        self, name: str, topic: str, *, offset: int = 0, partition: int = 0, max_wait_ms: int = 100
    ) -> pb.FetchResponse.Partition:
        """What a consumer gets from a broker at ``offset``."""
        request = pb.FetchRequest(correlation_id=1, max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=1 << 24)
        request.partitions.add(
            topic=topic,
            partition=partition,
            fetch_offset=offset,
            current_leader_epoch=-1,
            max_bytes=1 << 24,
        )
        answer = pb.FetchResponse.FromString(await self._ask(name, "Fetch", request))
        if answer.error_code:
            raise GlasslogError(ErrorCode(answer.error_code))
        return answer.partitions[0]

    async def _ask(self, name: str, method: str, request: Message) -> bytes:
        channel = self._client.transport.dial(f"{name}:{GRPC_PORT}")
        stream: Stream = channel.stream(BROKER + method)
        try:
            await stream.send(request.SerializeToString())
            async with asyncio.timeout(30):
                return await anext(aiter(stream))
        finally:
            await stream.close()
            await channel.close()

    def _any_broker(self) -> str:
        return next(name for name in self.broker_names if self.is_alive(name))


def broker_id(name: str) -> NodeId:
    """The id of ``broker-N``."""
    return NodeId(int(name.rpartition("-")[2]))


def controller_id(name: str) -> NodeId:
    """The id of ``controller-N``."""
    return NodeId(_FIRST_CONTROLLER_ID + int(name.rpartition("-")[2]))


def _first_error(response: Message) -> ErrorCode:
    for field_descriptor, value in response.ListFields():
        if field_descriptor.name == "error_code":
            return ErrorCode(value)
        if field_descriptor.name == "partitions":
            codes = [item.error_code for item in value if item.error_code]
            if codes:
                return ErrorCode(codes[0])
    return ErrorCode.NONE
