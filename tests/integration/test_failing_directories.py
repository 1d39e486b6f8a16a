"""Brokers with several data directories of which one fails, in a whole cluster on virtual time (KIP-858)."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from glasslog.broker.partition.partition import Offline
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.log.batch import iterate_batches
from glasslog.log.records import decode_records
from glasslog.metadata.image import PartitionImage
from glasslog.metadata.records import UNASSIGNED_DIRECTORY
from glasslog.simulator.cluster import MemoryCluster, broker_id

PARTITIONS = 8
BAD_DISK = OSError(errno.EIO, "bad disk")
TWO_DIRECTORIES = {"log.dirs": "/d1,/d2", "min.insync.replicas": "2"}


def run(scenario: Callable[[MemoryCluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with MemoryCluster(settings=TWO_DIRECTORIES) as cluster:
            await scenario(cluster)

    run_virtual(main, timeout_ms=300_000)


def directories(cluster: MemoryCluster, name: str, topic: str = "t") -> dict[int, str]:
    """In which directory of a broker each partition lies."""
    files = cluster.world.disk(name)
    return {
        partition: path
        for partition in range(len(placed(cluster, topic)))
        for path in ("/d1", "/d2")
        if files.exists(f"{path}/{topic}-{partition}")
    }


def is_offline(cluster: MemoryCluster, name: str, partition: int, topic: str = "t") -> bool:
    replicas = cluster.broker(name).replicas
    assert replicas is not None
    found = replicas.find(TopicPartition(topic, partition))
    return found is not None and isinstance(found.role, Offline)


async def produce_until_taken(cluster: MemoryCluster, partition: int, value: bytes) -> None:
    async with asyncio.timeout(20):
        while True:
            leader = cluster.leader_of("t", partition)
            if leader and cluster.is_alive(leader):
                answer = await cluster.produce(leader, "t", [value], partition=partition)
                if answer.error_code == 0:
                    return
            await asyncio.sleep(0.02)


async def values(cluster: MemoryCluster, partition: int) -> list[bytes]:
    found: list[bytes] = []
    while True:
        answer = await cluster.fetch(
            cluster.leader_of("t", partition), "t", offset=len(found), partition=partition
        )
        assert answer.error_code == 0
        for _, position in iterate_batches(answer.records):
            found += [record.value or b"" for record in decode_records(answer.records, position)]
        if not answer.records:
            return found


def fail(cluster: MemoryCluster, name: str, path: str) -> None:
    cluster.world.disk(name).fail_next("*", f"{path}/*", BAD_DISK, times=None)


def placed(cluster: MemoryCluster, topic: str = "t") -> list[PartitionImage]:
    found = cluster.image.topic(topic)
    return [] if found is None else list(found.partitions)


def are_placed(cluster: MemoryCluster) -> bool:
    """Whether the metadata says of every replica in which directory it lies."""
    return all(
        each.directory_of(replica) != UNASSIGNED_DIRECTORY
        for each in placed(cluster)
        for replica in each.replicas
    )


async def with_topic(cluster: MemoryCluster, *, replication_factor: int = 3, minimum: int = 2) -> None:
    await cluster.create_topic(
        "t",
        partitions=PARTITIONS,
        replication_factor=replication_factor,
        configs={"min.insync.replicas": str(minimum)},
    )
    await cluster.until(lambda: are_placed(cluster), what="every replica is in a known directory")
    for partition in range(PARTITIONS):
        await produce_until_taken(cluster, partition, b"first")


def test_replicas_are_spread_over_the_directories_and_the_controller_knows_where() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        for name in cluster.broker_names:
            where = directories(cluster, name)
            assert sorted(where.values()) == ["/d1"] * 4 + ["/d2"] * 4
            ids = dict(zip(("/d1", "/d2"), cluster.image.brokers[broker_id(name)].log_dir_ids, strict=True))
            for each in placed(cluster):
                assert each.directory_of(broker_id(name)) == ids[where[each.partition]]

    run(scenario)


def test_a_failed_directory_takes_only_its_own_partitions_along() -> None:
    """One of two disks failed: the broker went on, its heartbeats too, and it kept the leadership of what it
    could not serve any more. Those partitions were unavailable until somebody restarted it.
    """

    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        victim = cluster.leader_of("t")
        where = directories(cluster, victim)
        bad = where[0]
        fail(cluster, victim, bad)
        for partition in range(PARTITIONS):
            await produce_until_taken(cluster, partition, b"second")
        lost = [partition for partition, path in where.items() if path == bad]
        await cluster.until(
            lambda: all(broker_id(victim) not in cluster.partition("t", each).isr for each in lost)
        )
        for partition in range(PARTITIONS):
            await produce_until_taken(cluster, partition, b"third")
            assert await values(cluster, partition) == [b"first", b"second", b"third"]
            assert is_offline(cluster, victim, partition) == (partition in lost)
            assert (broker_id(victim) in cluster.partition("t", partition).isr) == (partition not in lost)
        assert cluster.is_alive(victim)
        answer = await cluster.produce(victim, "t", [b"no"], partition=lost[0])
        assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR

    run(scenario)


def test_a_repaired_directory_is_used_again_after_a_restart() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        victim = cluster.leader_of("t")
        fail(cluster, victim, directories(cluster, victim)[0])
        for partition in range(PARTITIONS):
            await produce_until_taken(cluster, partition, b"second")
        cluster.world.disk(victim).clear_failures()
        await cluster.restart(victim)
        await cluster.healthy(within_ms=60_000)
        await cluster.until(
            lambda: all(len(each.isr) == 3 for each in placed(cluster)), within_ms=60_000, what="in sync"
        )
        assert not any(is_offline(cluster, victim, partition) for partition in range(PARTITIONS))

    run(scenario)


def test_a_directory_that_can_not_be_read_at_the_start_is_done_without() -> None:
    """The broker did not start at all. Nor may it make anew, elsewhere, what lies in that directory."""

    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        victim = cluster.leader_of("t")
        where = directories(cluster, victim)
        await cluster.kill(victim)
        fail(cluster, victim, "/d2")
        cluster.start(victim)
        await cluster.healthy(within_ms=60_000)
        await cluster.until(lambda: all(is_offline(cluster, victim, n) for n in where if where[n] == "/d2"))
        cluster.world.disk(victim).clear_failures()
        assert directories(cluster, victim) == where
        await cluster.restart(victim)
        await cluster.healthy(within_ms=60_000)
        await cluster.until(
            lambda: all(len(each.isr) == 3 for each in placed(cluster)), within_ms=60_000, what="in sync"
        )

    run(scenario)


def empty(cluster: MemoryCluster, name: str, path: str) -> None:
    """As a disk that was replaced: the folder is there, nothing is in it."""
    files = cluster.world.disk(name)
    files.remove_tree(path)
    files.make_dirs(path)


def test_an_emptied_directory_is_filled_from_the_others() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        victim = cluster.leader_of("t")
        await cluster.kill(victim)
        empty(cluster, victim, "/d2")
        cluster.start(victim)
        await cluster.healthy(within_ms=60_000)
        await cluster.until(
            lambda: all(len(each.isr) == 3 for each in placed(cluster)), within_ms=60_000, what="in sync"
        )
        await cluster.until(lambda: are_placed(cluster))
        for partition in range(PARTITIONS):
            assert await values(cluster, partition) == [b"first"]
        assert len(directories(cluster, victim)) == PARTITIONS

    run(scenario)


def test_the_last_replica_does_not_come_back_empty() -> None:
    """The only replica in sync lay on a disk that was replaced. Its broker came back with an empty log, was
    elected as the last member of the ISR, and served a partition from which everything was gone.
    """

    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster, replication_factor=1, minimum=1)
        victim = cluster.leader_of("t")
        where = directories(cluster, victim)
        mine = [each.partition for each in placed(cluster) if each.replicas == (broker_id(victim),)]
        emptied = where[mine[0]]
        await cluster.kill(victim)
        empty(cluster, victim, emptied)
        cluster.start(victim)
        await cluster.healthy(within_ms=60_000)
        await asyncio.sleep(5)
        for partition in mine:
            leader = cluster.partition("t", partition).leader
            assert leader == (NO_NODE if where[partition] == emptied else broker_id(victim))

    run(scenario)


def test_an_empty_replica_leads_where_the_topic_would_rather_go_on() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic(
            "t", replication_factor=1, configs={"unclean.leader.election.enable": "true"}
        )
        await cluster.until(lambda: are_placed(cluster))
        victim = cluster.leader_of("t")
        await cluster.kill(victim)
        for path in ("/d1", "/d2"):
            empty(cluster, victim, path)
        cluster.start(victim)
        await cluster.until(lambda: cluster.leader_of("t") == victim, within_ms=60_000)
        await cluster.until(lambda: are_placed(cluster))

    run(scenario)


def test_a_failed_sync_fails_the_directory() -> None:
    """Only that log was marked, its replica led on, and what it had not synced was believed to be safe."""

    async def scenario(cluster: MemoryCluster) -> None:
        await with_topic(cluster)
        victim = cluster.leader_of("t")
        where = directories(cluster, victim)
        bad = where[0]
        cluster.world.disk(victim).fail_next("sync", f"{bad}/*.log", BAD_DISK, times=None)
        cluster.world.disk(victim).fail_next("sync", f"{bad}/*", BAD_DISK, times=None)
        lost = [partition for partition, path in where.items() if path == bad]
        await cluster.until(
            lambda: all(broker_id(victim) not in cluster.partition("t", each).isr for each in lost),
            within_ms=120_000,
        )
        assert cluster.is_alive(victim)

    run(scenario)
