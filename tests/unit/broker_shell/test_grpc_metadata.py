import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.coordinators import CoordinatorFinder
from glasslog.broker.endpoints import GRPC
from glasslog.broker.grpc.changes import ChangeHandlers
from glasslog.broker.grpc.metadata import MetadataHandlers
from glasslog.broker.metadata_observer import MetadataObserver
from glasslog.broker.topic_lookup import AutoTopics
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Peer
from glasslog.metadata.records import BrokerRegistrationChange, ConfigChange, Endpoint, ResourceType
from glasslog.metadata.wire import endpoints_to_wire
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2

from tests.unit.broker_shell.fake_quorum import CLUSTER_ID, CONTROLLER, FakeQuorum, channel_to

CLIENT = Peer("client:5")


@dataclass(frozen=True)
class Broker:
    quorum: FakeQuorum
    observer: MetadataObserver
    handlers: MetadataHandlers
    changes: ChangeHandlers
    coordinators: CoordinatorFinder

    async def metadata(self, *names: str, **options: bool) -> pb.MetadataResponse:
        await self.observer.wait_for(lambda image: image.offset >= self.quorum.end_offset - 1)
        return await self.handlers.metadata(pb.MetadataRequest(topics=names, **options), CLIENT)

    async def create(self, *names: str, partitions: int = 1) -> controller_pb2.CreateTopicsResponse:
        topics = [
            controller_pb2.CreateTopicsRequest.Topic(name=name, partitions=partitions) for name in names
        ]
        return await self.changes.create_topics(
            controller_pb2.CreateTopicsRequest(topics=topics, internal=True), CLIENT
        )


Scenario = Callable[[Broker], Awaitable[None]]


def run(scenario: Scenario, *, auto_create: bool = True, brokers: tuple[int, ...] = (1, 2)) -> None:
    """Run ``scenario`` on a broker whose cluster has ``brokers``, all unfenced."""

    async def main() -> None:
        world = MemoryWorld()
        quorum = FakeQuorum(world)
        await quorum.start()
        controllers = channel_to(quorum)
        for broker_id in brokers:
            await register(quorum, broker_id)
        runtime = world.runtime("b1")
        observer = MetadataObserver(
            runtime, controllers, node_id=NodeId(1), cluster_id=CLUSTER_ID, answer_timeout_ms=500
        )
        following = asyncio.create_task(observer.run())
        changes = ClusterChanges(controllers, observer, runtime.clock)
        handlers = MetadataHandlers(
            observer,
            cluster_id=CLUSTER_ID,
            controller_id=lambda: controllers.leader_id,
            auto_topics=AutoTopics(observer, changes, enabled=auto_create),
        )
        finder = CoordinatorFinder(
            observer, changes, partitions=50, replication_factor=3, segment_bytes=104_857_600
        )
        await observer.wait_for(lambda image: len(image.brokers) == len(brokers))
        await scenario(Broker(quorum, observer, handlers, ChangeHandlers(changes), finder))
        following.cancel()

    run_virtual(main)


async def register(quorum: FakeQuorum, broker_id: int) -> None:
    endpoint = Endpoint(name="GRPC", host=f"b{broker_id}", port=9192)
    request = controller_pb2.RegisterBrokerRequest(
        broker_id=broker_id,
        incarnation_id=bytes(16),
        endpoints=endpoints_to_wire((endpoint,)),
        rack=f"r{broker_id}",
    )
    await channel_to(quorum).call(
        CONTROLLER + "RegisterBroker", request, controller_pb2.RegisterBrokerResponse, timeout_ms=1_000
    )
    quorum.set_fenced(broker_id, False)


def test_brokers_topics_and_controller_are_told() -> None:
    async def scenario(broker: Broker) -> None:
        topic_id = broker.quorum.create_topic("t", [1, 2])
        answer = await broker.metadata("t")
        assert [(b.id, b.host, b.port, b.rack) for b in answer.brokers] == [
            (1, "b1", 9192, "r1"),
            (2, "b2", 9192, "r2"),
        ]
        assert (answer.cluster_id, answer.controller_id) == (CLUSTER_ID, 1)
        assert answer.metadata_offset == broker.quorum.end_offset - 1
        (topic,) = answer.topics
        assert (topic.error_code, topic.topic_id, topic.internal) == (0, topic_id, False)
        assert [(p.partition, p.leader, list(p.isr)) for p in topic.partitions] == [(0, 1, [1]), (1, 2, [2])]

    run(scenario)


def test_a_fenced_broker_is_not_told_of_and_its_partitions_have_no_leader() -> None:
    async def scenario(broker: Broker) -> None:
        broker.quorum.create_topic("t", [2])
        broker.quorum.set_fenced(2, True)
        answer = await broker.metadata("t")
        assert [b.id for b in answer.brokers] == [1]
        (partition,) = answer.topics[0].partitions
        assert partition.error_code == ErrorCode.LEADER_NOT_AVAILABLE
        assert (partition.leader, list(partition.offline_replicas)) == (-1, [2])

    run(scenario)


def test_a_broker_in_controlled_shutdown_still_serves() -> None:
    async def scenario(broker: Broker) -> None:
        broker.quorum.append(
            BrokerRegistrationChange(
                broker_id=NodeId(2),
                broker_epoch=broker.observer.image.brokers[NodeId(2)].broker_epoch,
                in_controlled_shutdown=True,
            )
        )
        assert [b.id for b in (await broker.metadata()).brokers] == [1, 2]

    run(scenario)


def test_all_topics_are_sorted_and_no_topics_is_none() -> None:
    async def scenario(broker: Broker) -> None:
        for name in ("b", "a", "__consumer_offsets"):
            broker.quorum.create_topic(name, [1])
        answer = await broker.metadata(all_topics=True)
        assert [(t.name, t.internal) for t in answer.topics] == [
            ("__consumer_offsets", True),
            ("a", False),
            ("b", False),
        ]
        assert list((await broker.metadata()).topics) == []

    run(scenario)


def test_a_named_topic_is_created_when_that_is_allowed() -> None:
    async def scenario(broker: Broker) -> None:
        answer = await broker.metadata("new", allow_auto_topic_creation=True)
        (topic,) = answer.topics
        assert (topic.error_code, len(topic.partitions)) == (0, 1)
        (request,) = broker.quorum.topics_created
        assert (request.topics[0].partitions, request.topics[0].replication_factor) == (-1, -1)
        assert not request.internal

    run(scenario)


@pytest.mark.parametrize(("auto_create", "allowed"), [(True, False), (False, True)])
def test_a_topic_is_created_only_if_both_sides_agree(auto_create: bool, allowed: bool) -> None:
    async def scenario(broker: Broker) -> None:
        answer = await broker.metadata("new", allow_auto_topic_creation=allowed)
        assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert broker.quorum.topics_created == []

    run(scenario, auto_create=auto_create)


def test_that_somebody_else_created_the_topic_first_is_no_error() -> None:
    async def scenario(broker: Broker) -> None:
        answers = await asyncio.gather(
            *(broker.metadata("new", allow_auto_topic_creation=True) for _ in range(5))
        )
        assert {answer.topics[0].error_code for answer in answers} == {0}
        assert len(broker.quorum.topics_created) == 5

    run(scenario)


def test_without_a_controller_creation_is_put_off() -> None:
    async def scenario(broker: Broker) -> None:
        broker.quorum.leader_id = -1
        answer = await broker.metadata("new", allow_auto_topic_creation=True)
        assert answer.topics[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE

    run(scenario)


@pytest.mark.parametrize(
    "name", ["", "..", "../etc/passwd", "a b", "x" * 250, "\u00e9", "__cluster_metadata"]
)
def test_an_illegal_name_creates_no_topic(name: str) -> None:
    async def scenario(broker: Broker) -> None:
        answer = await broker.metadata(name, allow_auto_topic_creation=True)
        assert answer.topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        assert broker.quorum.topics_created == []

    run(scenario)


def test_too_many_names_are_refused() -> None:
    async def scenario(broker: Broker) -> None:
        with pytest.raises(GlasslogError) as caught:
            await broker.metadata(*(f"t{n}" for n in range(10_001)))
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    run(scenario)


def test_who_created_a_topic_sees_it_here_at_once() -> None:
    async def scenario(broker: Broker) -> None:
        created = await broker.create("one", partitions=3)
        assert [(t.name, t.error_code) for t in created.topics] == [("one", 0)]
        answer = await broker.handlers.metadata(pb.MetadataRequest(topics=["one"]), CLIENT)
        assert len(answer.topics[0].partitions) == 3
        assert not broker.quorum.topics_created[0].internal, "clients can not create internal topics"

    run(scenario)


def test_deleting_is_seen_here_at_once() -> None:
    async def scenario(broker: Broker) -> None:
        await broker.create("one")
        answer = await broker.changes.delete_topics(
            controller_pb2.DeleteTopicsRequest(names=["one", "missing"]), CLIENT
        )
        assert {t.name: t.error_code for t in answer.topics} == {
            "one": 0,
            "missing": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        assert "one" not in broker.observer.image.topic_ids

    run(scenario)


def test_a_description_has_what_was_set_on_the_topic() -> None:
    async def scenario(broker: Broker) -> None:
        broker.quorum.create_topic("t", [1])
        broker.quorum.append(
            ConfigChange(
                resource_type=ResourceType.TOPIC, resource_name="t", key="retention.ms", value="1000"
            )
        )
        await broker.metadata()
        answer = await broker.handlers.describe_topics(pb.DescribeTopicsRequest(topics=["t", "no"]), CLIENT)
        described, unknown = answer.topics
        assert dict(described.configs) == {"retention.ms": "1000"}
        assert [(p.leader, p.leader_epoch, list(p.replicas)) for p in described.partitions] == [(1, 0, [1])]
        assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        everything = await broker.handlers.describe_topics(pb.DescribeTopicsRequest(), CLIENT)
        assert [t.name for t in everything.topics] == ["t"]

    run(scenario)


def test_the_first_group_brings_the_offsets_topic() -> None:
    async def scenario(broker: Broker) -> None:
        found = await broker.coordinators.find("group", listener=GRPC)
        assert (found.node_id, found.endpoint.host) == (1, "b1")
        (request,) = broker.quorum.topics_created
        (topic,) = request.topics
        assert (topic.name, topic.partitions, request.internal) == ("__consumer_offsets", 50, True)
        assert topic.replication_factor == 3, "what is configured, never fewer"
        assert topic.configs["cleanup.policy"] == "compact"
        await broker.coordinators.find("another", listener=GRPC)
        assert len(broker.quorum.topics_created) == 1

    run(scenario)


def test_a_coordinator_that_is_down_is_not_named() -> None:
    async def scenario(broker: Broker) -> None:
        broker.quorum.create_topic("__consumer_offsets", [2])
        broker.quorum.set_fenced(2, True)
        await broker.metadata()
        with pytest.raises(GlasslogError) as caught:
            await broker.coordinators.find("group", listener=GRPC)
        assert caught.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(scenario)
