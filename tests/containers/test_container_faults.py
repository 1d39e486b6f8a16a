"""Containers broken in every way that an engine, Toxiproxy and iptables know, under load, and the verdict.

In each scenario a producer writes steadily, something is done to nodes, the load goes on, everything is made
whole; then every replica must be in sync, everything is read back, and the checker says whether anything was
lost, doubled or reordered.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence

import pytest
from glasslog.client.admin import Admin
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.pytest.real import RealCluster, tell
from glasslog.simulator.clients import RecordingProducer

from tests.containers.container_nodes import ContainerNodes, docker

PAUSE_MS = 5
BEFORE_MS, DURING_MS, AFTER_MS = 500, 2_500, 500
FEWEST_ACKNOWLEDGED = 50
DISK_BYTES = 96 << 20


class ContainerCluster(RealCluster):
    """A cluster of containers, which can be broken in more ways than processes."""

    def __init__(self, containers: ContainerNodes, admin: Admin, runtime: Runtime) -> None:
        super().__init__(containers, admin, runtime)
        self.containers = containers

    async def toxic(self, name: str, kind: str, **attributes: int) -> None:
        """Something is wrong with every line to the node for a while."""

        def poison(node: str) -> None:
            self.containers.toxic(node, kind, **attributes)

        await self.do(poison, name)


Fault = Callable[[ContainerCluster, TopicPartition], Awaitable[None]]


# --- processes ----------------------------------------------------------------------------------------------


async def kill_the_leader(cluster: ContainerCluster, partition: TopicPartition) -> None:
    leader = await cluster.leader(partition)
    await cluster.kill(leader)
    await cluster.wait(DURING_MS)
    assert await cluster.leader(partition) not in ("", leader)


async def stop_the_leader(cluster: ContainerCluster, partition: TopicPartition) -> None:
    leader = await cluster.leader(partition)
    await cluster.stop(leader)
    assert await cluster.leader(partition) not in ("", leader), "it hands over before it goes"


async def pause_the_leader(cluster: ContainerCluster, partition: TopicPartition) -> None:
    leader = await cluster.leader(partition)
    await cluster.pause(leader)
    async with asyncio.timeout(60):
        while await cluster.leader(partition) in ("", leader):
            await cluster.wait(50)
    await cluster.resume(leader)
    await cluster.wait(DURING_MS)


async def restart_the_active_controller(cluster: ContainerCluster, partition: TopicPartition) -> None:
    await cluster.restart(await cluster.active_controller())


async def loss_of_a_rack(cluster: ContainerCluster, partition: TopicPartition) -> None:
    """Rack b: a broker and a controller, at once."""
    await asyncio.gather(cluster.kill("broker-2"), cluster.kill("controller-2"))
    await cluster.wait(DURING_MS)


async def loss_and_return_of_the_majority(cluster: ContainerCluster, partition: TopicPartition) -> None:
    """Two of three controllers: records still flow, nothing can be decided until one is back."""
    active = await cluster.active_controller()
    gone = [active, next(name for name in cluster.controllers if name != active)]
    for name in gone:
        await cluster.kill(name)
    await cluster.wait(DURING_MS)
    for name in gone:
        await cluster.start(name)


async def rolling_upgrade(cluster: ContainerCluster, partition: TopicPartition) -> None:
    """Every node, one after the other, each in another image on the same disk."""
    image = upgraded(cluster.containers.image)
    for name in (*cluster.controllers, *cluster.brokers):
        await cluster.do(lambda node: cluster.containers.upgrade(node, image), name)
        await cluster.recover()
    assert {
        docker("inspect", "--format", "{{.Config.Image}}", cluster.containers.container_of(name))
        for name in (*cluster.controllers, *cluster.brokers)
    } == {image}


def upgraded(image: str) -> str:
    """The same in an image of its own, unless ``GLASSLOG_UPGRADE_IMAGE`` names a later one."""
    if named := os.environ.get("GLASSLOG_UPGRADE_IMAGE"):
        return named
    docker("build", "--tag", f"{image}-upgraded", "-", given=f"FROM {image}\nLABEL upgraded=yes\n")
    return f"{image}-upgraded"


# --- the network --------------------------------------------------------------------------------------------


async def network_partition_of_the_leader(cluster: ContainerCluster, partition: TopicPartition) -> None:
    leader = await cluster.leader(partition)
    await cluster.do(cluster.containers.disconnect, leader)
    async with asyncio.timeout(60):
        while await cluster.leader(partition) in ("", leader):
            await cluster.wait(50)
    await cluster.wait(DURING_MS)


async def latency(cluster: ContainerCluster, partition: TopicPartition) -> None:
    await cluster.toxic(await cluster.leader(partition), "latency", latency=150, jitter=50)
    await cluster.wait(DURING_MS)


async def bandwidth(cluster: ContainerCluster, partition: TopicPartition) -> None:
    await cluster.toxic(await cluster.leader(partition), "bandwidth", rate=20)
    await cluster.wait(DURING_MS)


async def reset(cluster: ContainerCluster, partition: TopicPartition) -> None:
    await cluster.toxic(await cluster.leader(partition), "reset_peer", timeout=100)
    await cluster.wait(DURING_MS)


async def one_way_loss(cluster: ContainerCluster, partition: TopicPartition) -> None:
    """The leader sends and hears nobody."""
    if os.geteuid() != 0 or not (shutil.which("nsenter") and shutil.which("iptables")):
        pytest.skip("one-way loss needs root, nsenter and iptables")
    leader = await cluster.leader(partition)
    await cluster.do(cluster.containers.deafen, leader)
    async with asyncio.timeout(60):
        while await cluster.leader(partition) in ("", leader):
            await cluster.wait(50)
    await cluster.wait(DURING_MS)


FAULTS: Sequence[Fault] = (
    kill_the_leader,
    stop_the_leader,
    pause_the_leader,
    restart_the_active_controller,
    network_partition_of_the_leader,
    latency,
    bandwidth,
    reset,
    one_way_loss,
    loss_of_a_rack,
    loss_and_return_of_the_majority,
    rolling_upgrade,
)


# --- the load -----------------------------------------------------------------------------------------------


async def write(producer: RecordingProducer, partitions: Sequence[TopicPartition]) -> None:
    while True:
        for partition in partitions:
            await producer.send(partition)
        await asyncio.sleep(PAUSE_MS / 1000)


async def under_load(cluster: ContainerCluster, topic: str, fault: Fault) -> None:
    partitions = await cluster.create_topic(topic, partitions=3, configs={"min.insync.replicas": "2"})
    async with cluster.clients.producer("writer", delivery_timeout_ms=90_000) as producer:
        writing = asyncio.create_task(write(producer, partitions))
        try:
            await cluster.wait(BEFORE_MS)
            await fault(cluster, partitions[0])
            await cluster.recover()
            await cluster.wait(AFTER_MS)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await producer.flush()


def judge(nodes: ContainerNodes, fault: Fault) -> None:
    topic = fault.__name__.replace("_", "-")
    try:
        verdict = tell(
            lambda cluster: under_load(cluster, topic, fault),
            topic,
            nodes,
            lambda admin, runtime: ContainerCluster(nodes, admin, runtime),
        )
    except Exception as error:
        for name in (*nodes.controllers, *nodes.brokers):
            error.add_note(f"--- {name}\n{nodes.log_of(name)}")
        raise
    assert verdict.outcomes["ok"] >= FEWEST_ACKNOWLEDGED


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost(nodes: ContainerNodes, fault: Fault) -> None:
    judge(nodes, fault)


async def full_disk(cluster: ContainerCluster, partition: TopicPartition) -> None:
    """A broker that can not write gives up by itself; it comes back on an empty disk."""
    await cluster.do(cluster.containers.fill_disk, "broker-3")
    async with asyncio.timeout(60):
        while cluster.containers.is_running("broker-3"):
            await cluster.wait(100)


def test_a_full_disk_takes_nothing_along(image: str) -> None:
    with ContainerNodes(image, tmpfs_bytes={"broker-3": DISK_BYTES}) as nodes:
        judge(nodes, full_disk)


def test_containers_run_as_somebody_without_rights(nodes: ContainerNodes) -> None:
    for name in (*nodes.controllers, *nodes.brokers):
        assert docker("exec", nodes.container_of(name), "id", "-u") == "9092"


def test_the_image_is_small(image: str) -> None:
    size_bytes = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    assert size_bytes < 250_000_000
