"""Partitions that are moved while their leader does not hear of it."""

from glasslog.common.ids import TopicPartition
from glasslog.simulator.cluster import broker_id
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_RECORDS = 20


async def _moved_back(stage: Stage) -> None:
    """A replica is moved away and back; its new copy is empty, and the leader still counts on the old one."""
    (partition,) = await stage.create_topic("kept", replication_factor=2)
    async with stage.clients.producer("producer") as producer:
        for _ in range(_RECORDS):
            await producer.put(partition)
    leader, leaving = stage.replicas(partition)
    await stage.level(partition, leader, leaving)
    (joining,) = (name for name in stage.cluster.broker_names if name not in (leader, leaving))
    # The leader knows of the move, and then hears no controller any more; they hear what it proposes.
    stage.cut(leader, joining)
    await _move(stage, partition, leader, joining)
    await stage.until(lambda: _knows_of_move(stage, leader, partition), f"{leader} knows of the move")
    for controller in stage.cluster.controller_names:
        stage.cut(controller, leader, one_way=True)
    stage.heal(leader, joining)
    await stage.until(lambda: leaving not in stage.replicas(partition), f"{leaving} has left")
    await _move(stage, partition, leaving, leader, via=joining)
    await stage.until(lambda: _holds(stage, leaving, partition), f"{leaving} has a new replica")
    await stage.wait(stage.random.uniform(500, 2_000))


async def _move(stage: Stage, partition: TopicPartition, *targets: str, via: str = "") -> None:
    wanted = {partition: [broker_id(name) for name in targets]}
    async with stage.clients.admin("operator", via=via or targets[0]) as admin:
        refused = await admin.alter_partition_reassignments(wanted)
    stage.expect(not refused, f"the move of {partition} begins: {refused}")


def _knows_of_move(stage: Stage, name: str, partition: TopicPartition) -> bool:
    image = stage.cluster.broker(name).observer.image
    placed = image.partition(partition.topic, partition.partition)
    return placed is not None and placed.is_moving


def _holds(stage: Stage, name: str, partition: TopicPartition) -> bool:
    replicas = stage.cluster.broker(name).replicas
    found = None if replicas is None else replicas.find(partition)
    return found is not None and found.is_online


MOVED_BACK = Scenario(
    name="moved-back",
    description="A replica is moved away and back while its leader hears no controller.",
    origin="a simulated run",
    script=_moved_back,
)
