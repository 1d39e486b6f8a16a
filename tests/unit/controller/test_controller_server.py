"""Three controller servers in memory: brokers come and die, controllers come and die, nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.controller.server import ControllerServer
from glasslog.metadata.image import MetadataImage
from glasslog.v1 import controller_pb2 as pb

from tests.unit.controller.controllers import CLUSTER, Cluster, FakeBroker, controller_config, until

Body = Callable[[Cluster], Awaitable[None]]


def play(body: Body) -> None:
    async def main() -> None:
        cluster = Cluster(MemoryWorld(seed=7))
        cluster.start(1, 2, 3)
        await cluster.active()
        try:
            await body(cluster)
        finally:
            await cluster.stop_all()

    run_virtual(main, timeout_ms=600_000)


async def brokers(cluster: Cluster) -> dict[int, FakeBroker]:
    found = {broker_id: FakeBroker(cluster, broker_id) for broker_id in (11, 12, 13)}
    await asyncio.gather(*(broker.start() for broker in found.values()))
    return found


async def create(cluster: Cluster, name: str) -> pb.CreateTopicsResponse.Topic:
    topic = pb.CreateTopicsRequest.Topic(name=name, partitions=6, replication_factor=3)
    request = pb.CreateTopicsRequest(topics=[topic], timeout_ms=5_000)
    return (await cluster.client().ask("CreateTopics", request, pb.CreateTopicsResponse)).topics[0]


def image(cluster: Cluster) -> MetadataImage:
    return cluster.servers[cluster.active_id].controller._state.committed


def leaders(cluster: Cluster, name: str) -> list[int]:
    topic = image(cluster).topic(name)
    return [] if topic is None else [partition.leader for partition in topic.partitions]


async def images_agree(cluster: Cluster) -> None:
    def agree() -> bool:
        images = [server.controller._state.committed for server in cluster.servers.values()]
        return all(each == images[0] for each in images)

    await until(agree)


async def stop(found: dict[int, FakeBroker]) -> None:
    for broker in found.values():
        await broker.kill()


def test_a_killed_brokers_partitions_have_new_leaders_within_the_grace() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        made = await create(cluster, "t")
        assert (made.error_code, made.partitions, made.replication_factor) == (0, 6, 3)
        assert sorted(leaders(cluster, "t")) == [11, 11, 12, 12, 13, 13]
        await found.pop(12).kill()
        took_ms = await until(lambda: 12 not in leaders(cluster, "t"))
        assert took_ms < 400
        assert -1 not in leaders(cluster, "t")
        topic = image(cluster).topic("t")
        assert topic is not None
        assert all(12 not in partition.isr for partition in topic.partitions)
        await images_agree(cluster)

        returned = FakeBroker(cluster, 12)
        await returned.start()
        assert image(cluster).brokers[NodeId(12)].active
        assert 12 not in leaders(cluster, "t")
        await stop({**found, 12: returned})

    play(body)


def test_an_idle_cluster_writes_nothing() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "t")
        before = image(cluster)
        await asyncio.sleep(30)
        assert image(cluster) == before
        await stop(found)

    play(body)


def test_a_new_controller_goes_on_where_the_killed_one_stopped() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "before")
        before = image(cluster)
        first = cluster.active_id
        await cluster.kill(first)
        took_ms = await until(lambda: cluster.active_id != 0)
        assert took_ms < 2_500
        assert cluster.active_id != first
        made = await create(cluster, "after")
        assert made.error_code == 0
        await asyncio.sleep(5)
        assert leaders(cluster, "before") == [
            p.leader for p in before.topics[before.topic_ids["before"]].partitions
        ]
        assert all(broker.active for broker in image(cluster).brokers.values())
        cluster.start(first)
        await images_agree(cluster)
        await stop(found)

    play(body)


def test_a_broker_that_dies_with_the_active_controller_is_found_before_the_session_timeout() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "t")
        first = cluster.active_id
        await asyncio.gather(cluster.kill(first), found.pop(11).kill())
        await until(lambda: cluster.active_id != 0)
        took_ms = await until(lambda: 11 not in leaders(cluster, "t"))
        assert took_ms < 3_000
        assert -1 not in leaders(cluster, "t")
        await stop(found)

    play(body)


def test_a_paused_broker_is_fenced_by_the_session_timeout_and_not_before() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "t")
        cluster.world.network.pause_host("broker-12")
        await asyncio.sleep(6)
        assert 12 in leaders(cluster, "t")
        await until(lambda: 12 not in leaders(cluster, "t"), within_ms=5_000)
        cluster.world.network.resume_host("broker-12")
        await until(lambda: all(broker.active for broker in image(cluster).brokers.values()))
        await stop(found)

    play(body)


def test_a_cut_off_active_controller_decides_nothing_that_lasts() -> None:
    """It goes on for as long as it does not know better: its answers wait for a majority that it has lost."""

    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        first = cluster.active_id
        for other in {1, 2, 3} - {first}:
            cluster.world.network.partition(f"controller-{first}", f"controller-{other}")
        topic = pb.CreateTopicsRequest.Topic(name="lost", partitions=1, replication_factor=1)
        request = pb.CreateTopicsRequest(topics=[topic])
        with pytest.raises(GlasslogError) as raised:
            await cluster.client().ask_one(first, "CreateTopics", request, pb.CreateTopicsResponse)
        assert raised.value.code is ErrorCode.NOT_CONTROLLER
        await until(lambda: cluster.active_id not in (0, first))
        assert (await create(cluster, "kept")).error_code == 0
        cluster.world.network.heal()
        await images_agree(cluster)
        await until(lambda: not cluster.servers[first].controller_status().is_active)
        assert sorted(image(cluster).topic_ids) == ["kept"]
        await stop(found)

    play(body)


def test_metadata_survives_the_loss_of_all_controllers() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "t")
        before = image(cluster)
        await stop(found)
        for node_id in (1, 2, 3):
            await cluster.kill(node_id)
        cluster.start(1, 2, 3)
        await cluster.active()
        await until(lambda: image(cluster).offset >= before.offset)
        assert image(cluster).topics.keys() == before.topics.keys()

    play(body)


def test_only_the_active_controller_decides_and_the_others_say_so() -> None:
    async def body(cluster: Cluster) -> None:
        standby = next(each for each in cluster.servers if each != cluster.active_id)
        await until(lambda: cluster.servers[standby].is_ready)
        client = cluster.client()
        request = pb.DeleteTopicsRequest(names=["t"])
        with pytest.raises(GlasslogError, match=f"controller {cluster.active_id} is") as raised:
            await client.ask_one(standby, "DeleteTopics", request, pb.DeleteTopicsResponse)
        assert raised.value.code is ErrorCode.NOT_CONTROLLER
        for node_id in cluster.servers:
            answer = await client.ask_one(
                node_id,
                "DescribeController",
                pb.DescribeControllerRequest(),
                pb.DescribeControllerResponse,
            )
            assert (answer.node_id, answer.active_controller_id) == (node_id, cluster.active_id)
            assert answer.cluster_id == CLUSTER

    play(body)


def test_bytes_that_are_no_request_are_refused() -> None:
    async def body(cluster: Cluster) -> None:
        channel = cluster.client().channel(cluster.active_id)
        for method in ("CreateTopics", "BrokerHeartbeat", "RegisterBroker", "AlterPartition", "DeleteTopics"):
            with pytest.raises(GlasslogError, match="not a") as raised:
                await channel.unary(f"/glasslog.v1.Controller/{method}", b"\xff\xff\xff", timeout_ms=1_000)
            assert raised.value.code is ErrorCode.INVALID_REQUEST

    play(body)


def test_a_session_stream_needs_a_hello_of_a_known_broker() -> None:
    async def refusal(cluster: Cluster, data: bytes | None) -> ErrorCode:
        channel = cluster.client().channel(cluster.active_id)
        stream = channel.stream("/glasslog.v1.Controller/HoldSession")
        if data is not None:
            await stream.send(data)
        with pytest.raises(GlasslogError) as raised:
            async for _ in stream:
                pass
        await stream.close()
        return raised.value.code

    async def body(cluster: Cluster) -> None:
        unknown = pb.BrokerSessionHello(broker_id=5, broker_epoch=6).SerializeToString()
        assert await refusal(cluster, unknown) is ErrorCode.STALE_BROKER_EPOCH
        assert await refusal(cluster, b"\xff\xff") is ErrorCode.INVALID_REQUEST
        assert await refusal(cluster, None) is ErrorCode.INVALID_REQUEST

    play(body)


def test_brokers_take_part_through_every_method() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        made = await create(cluster, "t")
        client = cluster.client()
        ids = pb.AllocateProducerIdsRequest(broker_id=11, broker_epoch=found[11].epoch)
        block = await client.ask("AllocateProducerIds", ids, pb.AllocateProducerIdsResponse)
        assert (block.error_code, block.first_producer_id, block.count) == (0, 0, 1000)

        partition = image(cluster).partition("t", 0)
        assert partition is not None
        leader = partition.leader
        proposal = pb.AlterPartitionRequest.Partition(
            topic_id=made.topic_id,
            partition=0,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            new_isr=[leader],
            new_isr_broker_epochs=[found[leader].epoch],
        )
        request = pb.AlterPartitionRequest(
            broker_id=leader, broker_epoch=found[leader].epoch, partitions=[proposal]
        )
        outcome = (await client.ask("AlterPartition", request, pb.AlterPartitionResponse)).partitions[0]
        assert (outcome.error_code, list(outcome.isr), outcome.partition_epoch) == (0, [leader], 1)

        deletion = pb.DeleteTopicsRequest(names=["t", "u"])
        gone = (await client.ask("DeleteTopics", deletion, pb.DeleteTopicsResponse)).topics
        assert [each.error_code for each in gone] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        await stop(found)

    play(body)


def test_a_controller_that_stops_in_order_hands_over_and_is_ready_again() -> None:
    async def body(cluster: Cluster) -> None:
        found = await brokers(cluster)
        await create(cluster, "t")
        first = cluster.active_id
        await cluster.stop(first)
        took_ms = await until(lambda: cluster.active_id != 0)
        assert took_ms < 1_000
        cluster.start(first)
        await until(lambda: cluster.servers[first].is_ready)
        await until(lambda: len(cluster.ready) == 4)
        assert all(broker.active for broker in image(cluster).brokers.values())
        await stop(found)

    play(body)


# --- what does not fit together ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster_id": ""}, "cluster.id"),
        ({"listeners": ("GRPC://localhost:1",)}, "CONTROLLER://"),
        ({"controller_quorum_voters": ("2@localhost:1",)}, "node.id=1"),
        ({"controller_quorum_voters": ()}, "nobody"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    async def main() -> None:
        runtime = MemoryWorld().runtime("controller-1")
        with pytest.raises(ConfigError, match=words):
            ControllerServer(runtime=runtime, config=controller_config(1, **changes))

    run_virtual(main, timeout_ms=1_000)


def test_a_foreign_or_used_data_directory_stops_the_start() -> None:
    async def main() -> None:
        cluster = Cluster(MemoryWorld(seed=3))
        cluster.start(1, 2, 3)
        await cluster.active()
        runtime = cluster.world.runtime("controller-1")
        second = ControllerServer(runtime=runtime, config=controller_config(1))
        with pytest.raises(StorageError, match="in use"):
            await second.run()
        await cluster.stop_all()
        foreign = controller_config(1, cluster_id="another-cluster-1234ab")
        with pytest.raises(StorageError, match="belongs to cluster"):
            await ControllerServer(runtime=cluster.world.runtime("controller-1"), config=foreign).run()

    run_virtual(main, timeout_ms=60_000)
