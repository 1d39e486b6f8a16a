"""Snapshots of the metadata that are damaged: nats 7556."""

from glasslog.common.errors import StorageError
from glasslog.controller.raft.core import RaftCore
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_METADATA = "data/__cluster_metadata-0"
_RECORDS = 10
_BACK_WITHIN_MS = 30_000


def _core(stage: Stage, name: str) -> RaftCore:
    core = stage.cluster.controller(name).raft.core
    assert core is not None, f"{name} has not started yet"
    return core


def _newest(stage: Stage, name: str) -> str:
    files = stage.cluster.world.disk(name).list(_METADATA)
    return f"{_METADATA}/{max(file for file in files if file.endswith('.checkpoint'))}"


async def _corrupt_snapshot(stage: Stage) -> None:
    """Logs that begin at a snapshot: one is damaged on a dead controller, one under the active controller."""
    cluster = stage.cluster
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    async with stage.clients.producer("producer") as producer:
        for _ in range(_RECORDS):
            await producer.put(partition)
    number = 0
    while not all(_core(stage, name).log.start_offset > 0 for name in cluster.controller_names):
        await stage.create_topic(f"more-{number}")
        number += 1
    leader = cluster.active_controller()
    victim = stage.random.choice([name for name in cluster.controller_names if name != leader])
    await _return_with_damage(stage, victim)
    # Now the one that was damaged is needed for a majority, and may lead.
    await stage.kill(leader)
    await stage.until(lambda: cluster.active_controller() != "", "a controller leads")
    await _serve_damaged(stage, stage.replicas(partition)[-1])
    stage.start(leader)
    await stage.wait(1_000)


async def _return_with_damage(stage: Stage, victim: str) -> None:
    """It must not take part without what its log rests on; it says so, and has it back from a backup."""
    disk = stage.cluster.world.disk(victim)
    await stage.kill(victim)
    path = _newest(stage, victim)
    backup = disk.read(path)
    stage.damage(victim, path)
    stage.start(victim)
    error = await stage.cluster.ended(victim)
    stage.expect(isinstance(error, StorageError), f"{victim} refuses to start, but it ended with {error!r}")
    disk.write_atomic(path, backup)
    stage.start(victim)
    await stage.cluster.healthy()


async def _serve_damaged(stage: Stage, broker: str) -> None:
    """A broker needs the snapshot under the active controller's hands, which is no good any more."""
    leader = stage.cluster.active_controller()
    disk = stage.cluster.world.disk(leader)
    await stage.kill(broker)
    await stage.wait(1_000)
    path = _newest(stage, leader)
    stage.damage(leader, path)
    damaged = disk.read(path)
    stage.start(broker)
    await stage.until(
        lambda: stage.cluster.broker(broker).status().is_ready,
        f"{broker} is back",
        within_ms=_BACK_WITHIN_MS,
    )
    stage.expect(
        not disk.exists(path) or disk.read(path) != damaged, f"{path} is kept although it is damaged"
    )


CORRUPT_SNAPSHOT = Scenario(
    name="corrupt-snapshot",
    description="Snapshots of the metadata are damaged: nobody takes one for the truth, no data is lost.",
    origin="nats 7556",
    script=_corrupt_snapshot,
    settings={
        "metadata.log.max.record.bytes.between.snapshots": "2000",
        "metadata.max.retention.bytes": "0",
    },
)
