"""A broker's data directory with files damaged or gone: its start never ends of it, nothing wrong is served.

``DAMAGED_DIRECTORIES=17`` replays one.
"""

import os
from collections.abc import Mapping
from random import Random

import pytest
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.stored_logs import BrokenLog, StoredLog
from glasslog.common.config import parse
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.topic_config import topic_config
from glasslog.log.batch import iterate_batches
from glasslog.log.checkpoint import read_meta_properties
from glasslog.log.directories import open_directories
from glasslog.log.directory import LogDirectory
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

from tests.golden.kafka_files import CLEAN, recorded_files
from tests.unit.log.test_inspection_hostile_files import mutated

FOLDER = "/d"
CONFIG = parse(NodeConfig, {"node.id": "1", "process.roles": "broker", "log.dirs": FOLDER}, where="test")
MARKER = f"{FOLDER}/.kafka_cleanshutdown"
RECORDED = {
    f"{FOLDER}/{path.relative_to(CLEAN).as_posix()}": path.read_bytes() for path in recorded_files(CLEAN)
}

Batches = Mapping[int, bytes]
"""By base offset, without the leader epoch, which no checksum guards."""


def disk_of(world: MemoryWorld) -> MemoryFileSystem:
    disk = world.disk("b1")
    for path, data in RECORDED.items():
        disk.make_dirs(path.rpartition("/")[0])
        disk.write_atomic(path, data)
    return disk


def damage(disk: MemoryFileSystem, random: Random) -> None:
    """Some files; of a log that nobody closed in order what was not synced is not promised."""
    paths = [path for path in RECORDED if not path.endswith("recovery-point-offset-checkpoint")]
    for path in random.sample(paths, random.choice((1, 1, 2, 4))):
        if random.randrange(6):
            disk.write_atomic(path, mutated(RECORDED[path], random, renews_checksums=False))
        else:
            disk.remove(path)
    if random.random() < 0.4 and disk.exists(MARKER):
        disk.remove(MARKER)


def opened(world: MemoryWorld) -> LogDirectory | None:
    runtime = world.runtime("b1")
    try:
        identity = read_meta_properties(runtime.files, f"{FOLDER}/meta.properties")
        assert identity is not None
        (directory,) = open_directories(
            files=runtime.files,
            paths=[FOLDER],
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            new_directory_id=runtime.random.uuid,
        ).usable
    except (GlasslogError, AssertionError):
        return None
    return directory


def read_all(log: Log) -> Batches:
    found: dict[int, bytes] = {}
    offset = log.log_start_offset
    while data := bytes(log.read(offset, max_bytes=3000)):
        for header, position in iterate_batches(data):
            batch = data[position : position + header.size_bytes]
            found[header.base_offset] = batch[:12] + batch[16:]
            offset = header.next_offset
    return found


def use(log: Log) -> None:
    """What a broker does all day."""
    end = log.log_end_offset
    log.aborted_transactions(0, upper_offset=end)
    log.offset_for_timestamp(1)
    log.offset_of_max_timestamp()
    data = bytearray(encode_batch([(1, b"k", b"v", ())]))
    log.append_as_leader(data, leader_epoch=max(log.latest_epoch, 0) + 1, now_ms=1)
    log.truncate_to(max(end - 2, 0))
    log.flush()


async def served(world: MemoryWorld) -> dict[TopicPartition, Batches]:
    """What can be read of each partition, before the logs are used and closed."""
    directory = opened(world)
    found: dict[TopicPartition, Batches] = {}
    if directory is None:
        return found
    logs = PartitionLogs(runtime=world.runtime("b1"), config=CONFIG, directories=[directory])
    await logs.recover()
    for name in NAMES if logs.has_directory else ():
        stored = logs.adopt(name, TOPIC_IDS[name], topic_config(CONFIG, {}))
        assert isinstance(stored, StoredLog | BrokenLog)
        try:
            if isinstance(stored, StoredLog):
                found[name] = read_all(stored.log)
                use(stored.log)
        except GlasslogError:
            continue
    await logs.close(high_watermarks={})
    return found


def _topic_ids() -> dict[TopicPartition, TopicId]:
    world = MemoryWorld()
    disk_of(world)
    directory = opened(world)
    assert directory is not None
    found = {name: directory.topic_id_of(name) for name in directory.partitions()}
    return {name: id for name, id in found.items() if id is not None and name.topic != "__cluster_metadata"}


TOPIC_IDS = _topic_ids()
NAMES = tuple(TOPIC_IDS)


def _served(world: MemoryWorld) -> dict[TopicPartition, Batches]:
    found: list[dict[TopicPartition, Batches]] = []

    async def main() -> None:
        found.append(await served(world))

    run_virtual(main)
    return found[0]


def numbers() -> range:
    first, _, end = os.environ.get("DAMAGED_DIRECTORIES", "0-160").partition("-")
    return range(int(first), int(end) if end else int(first) + 1)


@pytest.mark.parametrize("chunk", [numbers()[at : at + 40] for at in range(0, len(numbers()), 40)])
def test_damage_is_refused_or_left_out_but_never_served(chunk: range) -> None:
    """A batch whose offset had rotted ended the start of the whole broker, a lost file cut a log short."""
    whole = MemoryWorld()
    disk_of(whole)
    truth = _served(whole)
    assert truth.keys() == set(NAMES)
    for number in chunk:
        world = MemoryWorld(seed=number)
        damage(disk_of(world), Random(number))
        for name, batches in _served(world).items():
            for offset, batch in batches.items():
                assert truth[name].get(offset) == batch, f"{number}: {name} at {offset}"
            if "compact" in name.topic:
                # Kafka's compaction leaves gaps, so that nobody misses what is gone from a segment's end.
                continue
            gone = batches.keys() ^ truth[name].keys()
            assert not gone or not batches, f"{number}: {name} lacks {sorted(gone)}"
