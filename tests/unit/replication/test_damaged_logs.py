"""Bits that rot under one replica: never served, found again, and put right from the others."""

import asyncio
from collections.abc import Awaitable, Callable

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.batch import iterate_batches
from glasslog.log.records import BatchBuilder, decode_records

from tests.unit.replication.replica_cluster import PARTITION, ReplicaCluster, batch, until

_FOLDER = f"/data/{PARTITION}"
_VALUES = [f"value {number:02d}" for number in range(40)]
Story = Callable[[ReplicaCluster], Awaitable[None]]


def play(
    story: Story, *, brokers: tuple[int, ...] = (1, 2, 3), policy: str = "delete", **settings: str
) -> None:
    """Tell ``story`` with brokers that all hold the partition, the first one leading."""

    async def run() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=1), **settings)
        for node_id in brokers:
            await cluster.start(node_id)
        cluster.create(replicas=brokers, segment_bytes="1024", cleanup_policy=policy)
        await story(cluster)
        assert not cluster.fatal
        await cluster.stop_all()

    run_virtual(run())


async def _fill(cluster: ReplicaCluster, *values: str) -> None:
    for value in values:
        result = await cluster.produced(1, batch(value))
        assert result.error is ErrorCode.NONE, result
    end = cluster.partition(1).log_end_offset
    await until(lambda: all(cluster.partition(each).high_watermark == end for each in cluster.nodes))


def _disk(cluster: ReplicaCluster, node_id: int) -> MemoryFileSystem:
    return cluster.world.disk(f"b{node_id}")


def _segments(cluster: ReplicaCluster, node_id: int) -> dict[str, bytes]:
    disk = _disk(cluster, node_id)
    return {name: disk.read(f"{_FOLDER}/{name}") for name in disk.list(_FOLDER) if name.endswith(".log")}


def _damage(cluster: ReplicaCluster, node_id: int, value: str) -> None:
    """One bit of the record with ``value``, wherever it lies."""
    for name, content in _segments(cluster, node_id).items():
        position = content.find(value.encode())
        if position >= 0:
            _disk(cluster, node_id).flip_bit(f"{_FOLDER}/{name}", position + 2)
            return
    raise AssertionError(f"{value} is nowhere on broker {node_id}")


async def _mended(cluster: ReplicaCluster, node_id: int, *, count: int = 1, within_ms: int = 10_000) -> None:
    manager = cluster.nodes[node_id].manager
    await until(
        lambda: manager.counters.damages_mended >= count and not manager.damaged(), within_ms=within_ms
    )


def test_a_leaders_damaged_batch_comes_from_a_follower() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        before = _segments(cluster, 1)
        _damage(cluster, 1, "value 17")
        refused = await cluster.fetched(1, 17)
        assert refused.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert not refused.records
        ((damaged, damage),) = cluster.nodes[1].manager.damaged()
        assert (damaged.name, damage.offset) == (PARTITION, 17)
        assert cluster.partition(1).is_online, "a damaged batch is no failed disk"
        await _mended(cluster, 1)
        assert cluster.values(1) == _VALUES
        assert _segments(cluster, 1) == before

    play(story)


def test_the_segment_that_grows_is_mended_too() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        _damage(cluster, 1, _VALUES[-1])
        assert (await cluster.fetched(1, len(_VALUES) - 1)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 1)
        assert cluster.values(1) == _VALUES
        await _fill(cluster, "one more")
        assert cluster.values(2) == [*_VALUES, "one more"]

    play(story)


def test_a_scrub_finds_what_nobody_reads_and_the_leader_has_it() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        before = _segments(cluster, 2)
        _damage(cluster, 2, "value 03")
        _damage(cluster, 2, "value 20")
        await _mended(cluster, 2, count=2)
        assert _segments(cluster, 2) == before
        assert cluster.nodes[2].manager.counters.bytes_scrubbed > 0

    play(story, log_scrub_interval_ms="1000")


def test_a_wrong_leader_epoch_is_found_by_a_scrub_and_mended() -> None:
    """No checksum guards the epoch in a batch. Whoever read that batch took the epoch for real: a follower's
    cache of epochs was wrong from then on, and so was where it cut its log after the next election.
    """

    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        before = _segments(cluster, 2)
        name = min(before)
        starts = [position for _, position in iterate_batches(before[name])]
        _disk(cluster, 2).flip_bit(f"{_FOLDER}/{name}", starts[2] + 14, bit=3)
        _disk(cluster, 2).flip_bit(f"{_FOLDER}/{name}", starts[5] + 15, bit=0)
        await _mended(cluster, 2)
        assert _segments(cluster, 2) == before

    play(story, log_scrub_interval_ms="1000")


def test_two_replicas_with_different_wounds_heal_each_other() -> None:
    """Had each asked for the whole segment, neither would have got it."""

    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        before = _segments(cluster, 1)
        _damage(cluster, 1, "value 09")
        _damage(cluster, 2, "value 10")
        assert (await cluster.fetched(1, 9)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 1)
        cluster.elect(2, (1, 2))
        await until(lambda: cluster.partition(2).leader_id == 2)
        assert (await cluster.fetched(2, 10)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 2)
        assert cluster.values(2) == _VALUES
        assert _segments(cluster, 1) == before

    play(story, brokers=(1, 2))


def test_a_source_that_is_damaged_at_the_same_place_is_passed_over() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        for node_id in (1, 2):
            _damage(cluster, node_id, "value 05")
        assert (await cluster.fetched(1, 5)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 1)
        assert cluster.values(1) == _VALUES
        await _mended(cluster, 2)

    play(story)


def test_without_another_replica_the_damage_is_told_and_all_else_is_served() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        _damage(cluster, 1, "value 07")
        manager = cluster.nodes[1].manager
        assert (await cluster.fetched(1, 7)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await asyncio.sleep(1)
        assert (await cluster.fetched(1, 7)).error is ErrorCode.CORRUPT_MESSAGE
        offsets = [header.base_offset for header, _ in iterate_batches((await cluster.fetched(1, 0)).records)]
        assert offsets == list(range(7)), "what lies before it is served"
        assert (await cluster.fetched(1, 8)).error is ErrorCode.NONE
        await _fill(cluster, "one more")
        assert manager.damaged()
        assert manager.counters.damages_found == 1

    play(story, brokers=(1,))


def test_a_replica_that_comes_back_helps_at_last() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        _damage(cluster, 1, "value 30")
        await cluster.stop(2)
        assert (await cluster.fetched(1, 30)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await asyncio.sleep(20)
        assert (await cluster.fetched(1, 30)).error is ErrorCode.CORRUPT_MESSAGE
        await cluster.start(2)
        cluster.elect(1, (1, 2))
        await _mended(cluster, 1, within_ms=60_000)
        assert cluster.values(1) == _VALUES

    play(story, brokers=(1, 2))


def test_all_zeros_in_the_place_of_a_segments_middle() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await _fill(cluster, *_VALUES)
        before = _segments(cluster, 1)
        name = sorted(before)[1]
        file = _disk(cluster, 1).open(f"{_FOLDER}/{name}")
        file.pwrite(bytes(500), 100)
        first = int(name.partition(".")[0])
        assert (await cluster.fetched(1, first + 3)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 1)
        assert _segments(cluster, 1) == before

    play(story)


def _kept(cluster: ReplicaCluster, node_id: int) -> list[str]:
    """Every record's value in a compacted log, which has batches without any."""
    log = cluster.partition(node_id).log
    offset, values = log.log_start_offset, list[str]()
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes=1)
        values += [(each.value or b"").decode() for each in decode_records(data)]
        offset = next(iterate_batches(data))[0].next_offset
    return values


def _keyed(key: str, value: str) -> bytearray:
    builder = BatchBuilder()
    builder.append(1_000, key.encode(), value.encode())
    return builder.close()


def test_a_compacted_log_is_copied_as_a_whole() -> None:
    """Replicas compact by themselves: what one has dropped another may still have."""

    async def story(cluster: ReplicaCluster) -> None:
        for number in range(120):
            await cluster.produced(1, _keyed(f"key {number % 7}", f"value {number:03d}"))
        await until(lambda: cluster.partition(1).log.cleaner_offset > 0, within_ms=100_000)
        await until(lambda: cluster.partition(2).log.cleaner_offset > 0, within_ms=100_000)
        for number in range(120, 160):
            await cluster.produced(1, _keyed(f"key {number % 7}", f"value {number:03d}"))
        (first, *_) = [each for each in _kept(cluster, 1) if each < "value 100"] or _kept(cluster, 1)
        _damage(cluster, 1, first)
        end = cluster.partition(1).log_end_offset
        offset = 0
        while (found := await cluster.fetched(1, offset)).error is ErrorCode.NONE and offset < end:
            offset = max(header.next_offset for header, _ in iterate_batches(found.records))
        assert found.error is ErrorCode.KAFKA_STORAGE_ERROR
        await _mended(cluster, 1)
        await until(lambda: cluster.partition(2).high_watermark == end)
        assert _kept(cluster, 1)[-7:] == [f"value {number:03d}" for number in range(153, 160)]
        assert cluster.partition(1).log_end_offset == end
        await cluster.stop(1)
        await cluster.start(1)
        cluster.elect(1, (1, 2, 3))
        await until(lambda: cluster.partition(1).leader_id == 1)
        assert _kept(cluster, 1)[-7:] == [f"value {number:03d}" for number in range(153, 160)]

    play(story, policy="compact", log_cleaner_backoff_ms="500", log_cleaner_min_cleanable_ratio="0.01")
