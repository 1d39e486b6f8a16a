"""Bits that rot, and files that end too soon, on the disks of a minority."""

from contextlib import suppress

from glasslog.common.ids import TopicPartition
from glasslog.log.batch import CorruptBatch, iterate_batches
from glasslog.log.directory import CLEAN_SHUTDOWN_FILE
from glasslog.simulator.convergence import recover
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_GUARDED_FROM = 16
"""Of a batch: before it lie its offset and length, which its neighbours confirm, and the leader epoch."""


async def _bit_rot(stage: Stage) -> None:
    """One replica rots, some of the time while its broker is down; then it leads, and all is read from it."""
    (partition,) = await stage.create_topic(
        "kept", configs={"min.insync.replicas": "2", "segment.bytes": "1024"}
    )
    names = stage.replicas(partition)
    async with stage.clients.producer("producer") as producer:
        for _ in range(stage.random.randrange(20, 80)):
            await producer.put(partition)
        await stage.level(partition, *names)
        victim = stage.random.choice(names)
        is_down = stage.random.random() < 0.5
        if is_down:
            await stage.stop(victim)
        for _ in range(stage.random.randrange(1, 4)):
            _rot(stage, victim, partition)
        if is_down:
            stage.start(victim)
        await _lead(stage, victim, partition)
        for _ in range(5):
            await producer.put(partition)
        reader = stage.clients.consumer("reader")
        async with reader.consumer:
            reader.assign([partition])
            end = stage.end_of(victim, partition)
            while await reader.consumer.position(partition) < end:
                await reader.poll(timeout_ms=200)
    await stage.until(lambda: not stage.damaged(victim), "nothing is damaged any more")


def _rot(stage: Stage, name: str, partition: TopicPartition) -> None:
    """A bit of some batch, wherever it lies."""
    disk, folder = stage.cluster.world.disk(name), f"data/{partition}"
    paths = [f"{folder}/{file}" for file in disk.list(folder) if file.endswith(".log")]
    path = stage.random.choice([path for path in paths if disk.read(path)])
    starts = _starts(disk.read(path))
    number = stage.random.randrange(len(starts) - 1)
    position = stage.random.randrange(starts[number] + _GUARDED_FROM, starts[number + 1])
    stage.note(f"a bit flips in {path} of {name} at {position}")
    disk.flip_bit(path, position, bit=stage.random.randrange(8))


def _starts(content: bytes) -> list[int]:
    """Where batches begin, and where the last one ends: only what still looks like one is known."""
    starts = [0]
    with suppress(CorruptBatch):
        for header, at in iterate_batches(content):
            starts.append(at + header.size_bytes)
    return starts if len(starts) > 1 else [0, len(content)]


async def _lost_tail(stage: Stage) -> None:
    """A follower comes up after a crash, and some of what it had synced can not be read any more."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    names = stage.replicas(partition)
    async with stage.clients.producer("producer") as producer:
        for _ in range(stage.random.randrange(20, 60)):
            await producer.put(partition)
        await stage.level(partition, *names)
        victim = stage.random.choice(names)
        # As a crash just after a checkpoint of the recovery point: all was synced, nothing says that it was.
        await stage.stop(victim)
        stage.cluster.world.disk(victim).remove(f"data/{CLEAN_SHUTDOWN_FILE}")
        _lose_tail(stage, victim, partition)
        for _ in range(stage.random.randrange(5)):
            await producer.put(partition)
        stage.start(victim)
        await _lead(stage, victim, partition)
        for _ in range(5):
            await producer.put(partition)


def _lose_tail(stage: Stage, name: str, partition: TopicPartition) -> None:
    """From some batch on: its header makes no sense, or the file ends there."""
    disk, path = stage.cluster.world.disk(name), f"data/{partition}/{0:020d}.log"
    starts = _starts(disk.read(path))
    position = starts[stage.random.randrange(len(starts) - 1)]
    if stage.random.randrange(2):
        stage.note(f"a bit flips in {path} of {name} at {position + _GUARDED_FROM}")
        disk.flip_bit(path, position + _GUARDED_FROM, bit=stage.random.randrange(8))
    else:
        stage.note(f"{path} of {name} ends at {position}")
        disk.open(path).truncate(position)


async def _lead(stage: Stage, name: str, partition: TopicPartition) -> None:
    """Kill whoever leads before ``name`` does, and start them again."""
    await recover(stage.cluster)
    killed = list[str]()
    while stage.leader(partition) != name:
        killed.append(stage.leader(partition))
        await stage.kill(killed[-1])
        await stage.until(lambda: stage.leader(partition) not in ("", *killed), "another leads")
    for other in killed:
        stage.start(other)


BIT_ROT = Scenario(
    name="bit-rot",
    description="Bits rot on one replica's disk; when it leads, nothing acknowledged is lost or wrong.",
    origin="nats 7549",
    script=_bit_rot,
)

LOST_TAIL = Scenario(
    name="lost-tail",
    description="After a crash a replica lacks records it had synced; it comes back with all of them.",
    origin="KIP-966",
    script=_lost_tail,
)
