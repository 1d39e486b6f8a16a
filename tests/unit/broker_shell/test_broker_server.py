"""One whole broker against the fake quorum: its start, its end, and what stops it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from glasslog.broker.endpoints import broker_listeners, endpoints_to_register
from glasslog.broker.kafka import fetch_api
from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.fetch import API_KEY, VERSION, FetchCall
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.partition.purgatory import Deadlines
from glasslog.broker.requests import Consumer, FetchPartition, FetchRequest
from glasslog.broker.server import BrokerServer
from glasslog.common.config import parse
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, InvariantViolation, StorageError
from glasslog.common.ids import Offset, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Services, TransportError
from glasslog.v1 import broker_pb2 as pb

from tests.unit.broker_shell.fake_quorum import CLUSTER_ID, FakeQuorum

HOST = "b1"


def config(**changes: str) -> NodeConfig:
    values = {
        "node.id": "1",
        "process.roles": "broker",
        "cluster.id": CLUSTER_ID,
        "controller.quorum.voters": "1@c1:9093,2@c2:9093,3@c3:9093",
        "listeners": f"GRPC://{HOST}:0,KAFKA://{HOST}:9092",
        "log.dirs": "one,two",
    }
    return parse(NodeConfig, {**values, **{key.replace("_", "."): value for key, value in changes.items()}})


@dataclass
class Started:
    world: MemoryWorld
    quorum: FakeQuorum
    runs: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, settings: NodeConfig | None = None) -> tuple[BrokerServer, asyncio.Task[None]]:
        server = BrokerServer(runtime=self.world.runtime(HOST), config=settings or config())
        task = asyncio.create_task(server.run())
        self.runs.append(task)
        return server, task

    async def ready(self, settings: NodeConfig | None = None) -> tuple[BrokerServer, asyncio.Task[None]]:
        server, task = self.start(settings)
        async with asyncio.timeout(1):
            while not server.status().is_ready:
                if task.done():
                    await task
                await asyncio.sleep(0.001)
        return server, task


Scenario = Callable[[Started], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        world = MemoryWorld()
        quorum = FakeQuorum(world)
        await quorum.start()
        started = Started(world, quorum)
        await scenario(started)
        for task in started.runs:
            task.cancel()
        await asyncio.gather(*started.runs, return_exceptions=True)

    run_virtual(main)


def test_a_broker_registers_the_ports_it_really_has() -> None:
    async def scenario(started: Started) -> None:
        server, _ = await started.ready()
        (registration,) = started.quorum.registrations
        registered = {endpoint.name: endpoint.port for endpoint in registration.endpoints}
        assert registered == server.ports
        assert registered["KAFKA"] == 9092
        assert registered["GRPC"] > 0
        assert len({bytes(each) for each in registration.log_dir_ids}) == 2

    run(scenario)


def test_a_clean_stop_is_remembered_at_the_next_start() -> None:
    async def scenario(started: Started) -> None:
        server, task = await started.ready()
        epoch = server.status().broker_epoch
        server.stop()
        async with asyncio.timeout(1):
            await task
        await started.ready()
        first, second = started.quorum.registrations
        assert (first.previous_broker_epoch, second.previous_broker_epoch) == (-1, epoch)
        assert first.incarnation_id != second.incarnation_id

    run(scenario)


def test_a_kill_is_not_taken_for_a_clean_stop() -> None:
    async def scenario(started: Started) -> None:
        _, task = await started.ready()
        started.world.kill(HOST)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await started.ready()
        assert started.quorum.registrations[1].previous_broker_epoch == -1

    run(scenario)


def test_a_broker_that_recovers_its_logs_says_how_far_it_is() -> None:
    """What ``/readyz`` shows as long as it is not ready."""

    async def scenario(started: Started) -> None:
        server, _ = started.start()
        said = list[str]()
        while (missing := server.status().missing).startswith("recovering"):
            said += [] if missing in said else [missing]
            await asyncio.sleep(0)
        assert said == ["recovering logs", "recovering: 0 of 0 logs, 0.0 of 0.0 GB"]
        server.stop()

    run(scenario)


def test_a_stop_before_registration_is_quick() -> None:
    async def scenario(started: Started) -> None:
        started.quorum.leader_id = -1
        server, task = started.start()
        await asyncio.sleep(1)
        assert server.status().missing == "no active controller was found yet"
        server.stop()
        async with asyncio.timeout(3):
            await task

    run(scenario)


def test_two_brokers_can_not_share_a_directory() -> None:
    async def scenario(started: Started) -> None:
        await started.ready()
        _, second = started.start(config(listeners=f"GRPC://{HOST}:1,KAFKA://{HOST}:2"))
        with pytest.raises(StorageError, match="one is in use by another process"):
            await second

    run(scenario)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"cluster_id": "BBBBBBBBBBBBBBBBBBBBBA"}, "belongs to cluster A"),
        ({"node_id": "2"}, "belongs to node 1, this is node 2"),
    ],
)
def test_a_foreign_directory_is_refused(change: dict[str, str], match: str) -> None:
    async def scenario(started: Started) -> None:
        server, task = await started.ready()
        server.stop()
        await task
        _, foreign = started.start(config(**change))
        with pytest.raises(StorageError, match=match):
            await foreign

    run(scenario)


def test_a_taken_port_ends_the_start_and_frees_the_directories() -> None:
    async def scenario(started: Started) -> None:
        transport = started.world.runtime(HOST).transport
        other = await transport.listen(f"{HOST}:9092", Services())
        _, task = started.start()
        with pytest.raises(OSError, match="in use"):
            await task
        await other.close()
        await started.ready()

    run(scenario)


def test_another_clusters_controllers_end_the_start() -> None:
    async def scenario(started: Started) -> None:
        _, task = started.start(config(cluster_id="BBBBBBBBBBBBBBBBBBBBBA"))
        with pytest.raises(GlasslogError) as caught:
            await task
        assert caught.value.code is ErrorCode.INCONSISTENT_CLUSTER_ID

    run(scenario)


def test_a_broken_invariant_met_by_a_request_stops_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(started: Started) -> None:
        server, task = await started.ready()

        def broken(*args: object) -> None:
            raise InvariantViolation("the log went backwards")

        monkeypatch.setattr(server.replicas, "list_offsets", broken)
        channel = started.world.runtime("client").transport.dial(f"{HOST}:{server.ports['GRPC']}")
        with pytest.raises((GlasslogError, TransportError)):
            await channel.unary("/glasslog.v1.Broker/ListOffsets", b"", timeout_ms=1_000)
        with pytest.raises(InvariantViolation, match="backwards"):
            await task

    run(scenario)


class Silent:
    """Speaks Kafka's protocol to the broker and does not care for the answers."""

    def on_frame(self, frame: memoryview) -> None: ...

    def on_closed(self, error: Exception | None) -> None: ...


def test_a_broken_invariant_met_by_a_kafka_request_stops_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised inside the handler of a frame it only closed that connection, and the broker limped on."""

    def broken(reader: Reader, version: int) -> FetchCall:
        raise InvariantViolation("the log went backwards")

    async def scenario(started: Started) -> None:
        _, task = await started.ready()
        monkeypatch.setattr(fetch_api, "decode_request", broken)
        transport = started.world.runtime("client").transport
        connection = await transport.dial_frames(
            f"{HOST}:9092", Silent(), timeout_ms=1_000, max_frame_bytes=1 << 20
        )
        connection.send((encode_request_header(API_KEY, VERSION, correlation_id=1, client_id="test"),))
        with pytest.raises(InvariantViolation, match="backwards"):
            await task

    run(scenario)


def test_a_broken_invariant_met_by_a_timer_stops_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised inside a callback of the event loop it was logged, and the broker limped on."""

    def broken(self: object, now_ms: int) -> int:
        raise InvariantViolation("the log went backwards")

    async def scenario(started: Started) -> None:
        server, task = await started.ready()
        started.quorum.create_topic("t", [1])
        await server.observer.wait_for(lambda image: "t" in image.topic_ids)
        monkeypatch.setattr(Deadlines, "expire", broken)
        assert server.replicas is not None
        server.replicas.fetch(
            FetchRequest(
                reader=Consumer(),
                max_wait_ms=100,
                min_bytes=1,
                max_bytes=1_000,
                partitions=(
                    FetchPartition(partition=TopicPartition("t", 0), fetch_offset=Offset(0), max_bytes=1_000),
                ),
            )
        )
        with pytest.raises(InvariantViolation, match="backwards"):
            await task

    run(scenario)


def test_requests_are_served_by_name() -> None:
    async def scenario(started: Started) -> None:
        server, _ = await started.ready()
        channel = started.world.runtime("client").transport.dial(f"{HOST}:{server.ports['GRPC']}")

        async def ask(method: str, request: bytes = b"") -> bytes:
            return await channel.unary(f"/glasslog.v1.Broker/{method}", request, timeout_ms=1_000)

        metadata = pb.MetadataResponse.FromString(await ask("Metadata"))
        assert [broker.id for broker in metadata.brokers] == [1]
        given = pb.InitProducerIdResponse.FromString(await ask("InitProducerId"))
        assert (given.producer_id, given.producer_epoch) == (0, 0)
        joined = pb.JoinGroupResponse.FromString(
            await ask("JoinGroup", pb.JoinGroupRequest(group_id="g").SerializeToString())
        )
        assert joined.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        listed = pb.ListGroupsResponse.FromString(await ask("ListGroups"))
        assert list(listed.groups) == []
        with pytest.raises(GlasslogError) as caught:
            await ask("Metadata", b"\xff")
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    run(scenario)


def test_a_broker_needs_both_listeners() -> None:
    with pytest.raises(ConfigError, match="needs one as KAFKA"):
        broker_listeners(config(listeners="GRPC://h:1"))


class Listening:
    """Keeps what it is answered."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: memoryview) -> None:
        self.answer.set_result(bytes(frame))

    def on_closed(self, error: Exception | None) -> None: ...


_METADATA_KEY, _METADATA_VERSION = 3, 9
_NO_TOPICS_NO_FLAGS = b"\x01\x00\x00\x00\x00"


def test_a_client_is_told_addresses_of_the_listener_it_came_by() -> None:
    """A container network and the machine around it reach one broker by different names."""

    async def scenario(started: Started) -> None:
        ports = {"GRPC": 9192, "KAFKA": 9092, "GRPC_HOST": 19192, "KAFKA_HOST": 19092}
        settings = config(
            listeners=",".join(f"{name}://{HOST}:{port}" for name, port in ports.items()),
            advertised_listeners=f"GRPC://{HOST}:9192,KAFKA://{HOST}:9092,GRPC_HOST://out:1,KAFKA_HOST://out:2",
        )
        server, _ = await started.ready(settings)
        assert server.ports == ports
        transport = started.world.runtime("client").transport
        for port, host in ((9192, HOST), (19192, "out")):
            answer = await transport.dial(f"{HOST}:{port}").unary(
                "/glasslog.v1.Broker/Metadata", pb.MetadataRequest().SerializeToString(), timeout_ms=1_000
            )
            assert [each.host for each in pb.MetadataResponse.FromString(answer).brokers] == [host]
        for port, host in ((9092, HOST), (19092, "out")):
            client = Listening()
            connection = await transport.dial_frames(
                f"{HOST}:{port}", client, timeout_ms=1_000, max_frame_bytes=1 << 20
            )
            header = encode_request_header(
                _METADATA_KEY, _METADATA_VERSION, correlation_id=1, client_id="test"
            )
            connection.send((header, _NO_TOPICS_NO_FLAGS))
            text = await client.answer
            assert bytes([len(host) + 1]) + host.encode() in text
            assert (b"out" in text) == (host == "out")

    run(scenario)


def test_an_advertised_listener_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="KAFKA_HOST is none of GRPC:"):
        endpoints_to_register(config(advertised_listeners="KAFKA_HOST://out:1"), {"GRPC": 5, "KAFKA": 9092})


def test_an_address_that_means_everywhere_can_not_be_registered() -> None:
    everywhere = config(listeners="GRPC://0.0.0.0:0,KAFKA://0.0.0.0:9092")
    with pytest.raises(ConfigError, match="name a host for GRPC in advertised"):
        endpoints_to_register(everywhere, {"GRPC": 5, "KAFKA": 9092})


def test_advertised_addresses_win_and_port_zero_is_the_bound_one() -> None:
    advertised = config(
        listeners="GRPC://0.0.0.0:0,KAFKA://0.0.0.0:9092",
        advertised_listeners="GRPC://me.example:0,KAFKA://me.example:19092",
    )
    endpoints = endpoints_to_register(advertised, {"GRPC": 5, "KAFKA": 9092})
    assert [(each.name, each.address) for each in endpoints] == [
        ("GRPC", "me.example:5"),
        ("KAFKA", "me.example:19092"),
    ]
