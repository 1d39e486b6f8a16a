"""The client against real brokers and controllers in memory: a group reads while the leaders die."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from glasslog.broker.group.hashing import partition_of_group
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.protocols import Runtime
from glasslog.simulator.cluster import MemoryCluster

TOPIC = "orders"
PARTITIONS = 3
RECORDS = 3_000
BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"


class Owners:
    """Who has which partition, by what the members are told: never two, unless one has lost it unawares."""

    def __init__(self) -> None:
        self.of: dict[TopicPartition, str] = {}

    def told_by(self, name: str) -> "OwnersListener":
        return OwnersListener(self, name)

    async def until(self, members: int) -> None:
        """As many have something to read."""
        async with asyncio.timeout(30):
            while len({*self.of.values()}) < members:  # noqa: ASYNC110 - simple beats quick here
                await asyncio.sleep(0.05)


class OwnersListener:
    def __init__(self, owners: Owners, name: str) -> None:
        self._owners = owners
        self._name = name

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            owner = self._owners.of.setdefault(partition, self._name)
            assert owner == self._name, f"{partition} is given to {self._name}, {owner} has it"

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            assert self._owners.of.pop(partition) == self._name

    on_lost = on_revoked


class Readers:
    """A group of consumers, and what they got: by partition and offset, with the number of deliveries."""

    def __init__(
        self,
        cluster: MemoryCluster,
        count: int,
        strategy: Sequence[str] = ("range", "cooperative-sticky"),
        name: str = "reader",
    ) -> None:
        self._cluster = cluster
        self._strategy = strategy
        self.owners = Owners()
        self.values: dict[tuple[int, int], bytes] = {}
        self.deliveries: Counter[tuple[int, int]] = Counter()
        self.tasks = [
            asyncio.create_task(self._read(f"{name}-{n}"), name=f"{name}-{n}") for n in range(count)
        ]

    async def _read(self, name: str) -> None:
        async with Consumer(
            TOPIC,
            bootstrap_servers=BOOTSTRAP,
            group_id="g",
            auto_offset_reset="earliest",
            auto_commit_interval_ms=200,
            heartbeat_interval_ms=300,
            partition_assignment_strategy=self._strategy,
            listener=self.owners.told_by(name),
            client_rack="r1",
            runtime=self._cluster.world.runtime(name),
        ) as consumer:
            while True:
                for partition, records, _ in await consumer.poll_batches(timeout_ms=100):
                    for offset, _, _, value, _ in records:
                        place = (partition.partition, offset)
                        assert value is not None
                        assert self.values.setdefault(place, value) == value
                        self.deliveries[place] += 1

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.values) < count:
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def create(runtime: Runtime) -> None:
    async with Admin(BOOTSTRAP, runtime=runtime) as admin:
        await admin.create_topics([NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=3)])


async def write(producer: Producer, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 20):
        pairs = [(b"key-%d" % (n % 17), b"%06d" % n) for n in range(start, min(start + 20, numbers.stop))]
        await producer.send_records(TOPIC, pairs)
        await asyncio.sleep(0.01)


def check(readers: Readers, expected: int) -> None:
    """Nothing lost, nothing in two places, and each key's records in the order they were sent."""
    numbers = Counter(int(value) for value in readers.values.values())
    assert set(numbers) == set(range(expected))
    assert set(numbers.values()) == {1}, "a record is at two offsets"
    for partition in range(PARTITIONS):
        by_key: dict[int, list[int]] = {}
        for (number, _), value in sorted(readers.values.items()):
            if number == partition:
                by_key.setdefault(int(value) % 17, []).append(int(value))
        assert all(some == sorted(some) for some in by_key.values())


def test_a_killed_leader_loses_and_doubles_nothing() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=1) as cluster:
            runtime = cluster.world.runtime("writer")
            await create(runtime)
            readers = Readers(cluster, 3)
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                await write(producer, range(RECORDS // 2))
                victim = cluster.leader_of(TOPIC, 0)
                await cluster.kill(victim)
                await write(producer, range(RECORDS // 2, RECORDS))
                cluster.start(victim)
                await producer.flush()
                assert producer.stats.records_failed == 0
                assert producer.stats.longest_stall_ms < 2_000
            await readers.until(RECORDS)
            await readers.close()
            check(readers, RECORDS)
            assert sum(readers.deliveries.values()) < 2 * RECORDS

    run_virtual(main, timeout_ms=300_000)


def test_a_group_outlives_its_coordinator() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=2) as cluster:
            runtime = cluster.world.runtime("writer")
            await create(runtime)
            readers = Readers(cluster, 2)
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                await write(producer, range(500))
                await readers.until(500)
                victim = cluster.leader_of("__consumer_offsets", _coordinating_partition(cluster))
                await cluster.kill(victim)
                await write(producer, range(500, 1_000))
                await producer.flush()
            await readers.until(1_000)
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                (group,) = await admin.describe_groups(["g"])
                assert group.state == "Stable"
                assert len(group.members) == 2
                assigned = [partition for member in group.members for partition in member.assignment]
                assert sorted(assigned) == [TopicPartition(TOPIC, n) for n in range(PARTITIONS)]
            await readers.close()
            check(readers, 1_000)

    run_virtual(main, timeout_ms=300_000)


@pytest.mark.parametrize("strategy", ["roundrobin", "sticky", "cooperative-sticky"])
def test_members_come_and_go_and_nothing_is_read_by_two(strategy: str) -> None:
    """Two join, then a third, the coordinator dies, one leaves; every record is read."""

    async def main() -> None:
        async with MemoryCluster(seed=3) as cluster:
            runtime = cluster.world.runtime("writer")
            await create(runtime)
            readers = Readers(cluster, 2, [strategy])
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                await write(producer, range(300))
                await readers.until(300)
                late = Readers(cluster, 1, [strategy], "late")
                late.owners, late.values = readers.owners, readers.values
                await readers.owners.until(3)
                await cluster.kill(cluster.leader_of("__consumer_offsets", _coordinating_partition(cluster)))
                await write(producer, range(300, 600))
                await producer.flush()
                await late.close()
                await write(producer, range(600, 900))
                await producer.flush()
            await readers.until(900)
            assert len(readers.owners.of) == PARTITIONS
            await readers.close()
            check(readers, 900)

    run_virtual(main, timeout_ms=300_000)


def test_batches_that_a_topic_finds_too_large_are_split() -> None:
    """max.message.bytes is far below what the producer puts into a batch; a leader dies meanwhile."""

    async def main() -> None:
        async with MemoryCluster(seed=8) as cluster:
            runtime = cluster.world.runtime("writer")
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                topic = NewTopic(
                    name=TOPIC, partitions=1, replication_factor=3, configs={"max.message.bytes": "1000"}
                )
                await admin.create_topics([topic])
            values = [b"%05d" % number + b"." * 95 for number in range(600)]
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                first = await producer.send_many(TOPIC, values[:300], partition=0)
                await cluster.kill(cluster.leader_of(TOPIC, 0))
                await producer.send_many(TOPIC, values[300:], partition=0)
                assert sum(run.record_count for run in await first) == 300
                with pytest.raises(GlasslogError) as caught:
                    await (await producer.send(TOPIC, b"x" * 2_000, partition=0))
                assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
                await (await producer.send(TOPIC, b"last", partition=0))
            async with Consumer(
                bootstrap_servers=BOOTSTRAP, runtime=runtime, auto_offset_reset="earliest"
            ) as consumer:
                consumer.assign([TopicPartition(TOPIC, 0)])
                found = [(await anext(consumer)).value for _ in range(601)]
            assert found == [*values, b"last"]

    run_virtual(main, timeout_ms=300_000)


def test_seeking_to_a_time() -> None:
    """To the first record from then on; where there is none, behind the last."""

    async def main() -> None:
        async with MemoryCluster(seed=4) as cluster:
            runtime = cluster.world.runtime("writer")
            await create(runtime)
            place = TopicPartition(TOPIC, 0)
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                for number in range(10):
                    await producer.send(TOPIC, b"%d" % number, partition=0, timestamp_ms=1_000 * number)
            async with Consumer(bootstrap_servers=BOOTSTRAP, runtime=runtime) as consumer:
                consumer.assign([place])
                consumer.seek_to_timestamp({place: 6_500})
                assert await consumer.position(place) == 7
                consumer.seek_to_timestamp({place: 99_000})
                assert await consumer.position(place) == 10

    run_virtual(main, timeout_ms=300_000)


def _coordinating_partition(cluster: MemoryCluster) -> int:
    topic = cluster.image.topic("__consumer_offsets")
    assert topic is not None
    return partition_of_group("g", len(topic.partitions))


def test_the_first_record_makes_its_topic() -> None:
    """A producer to a missing topic once waited a minute, although topics may create themselves."""

    async def main() -> None:
        async with MemoryCluster(brokers=1, controllers=1) as cluster:
            runtime = cluster.world.runtime("writer")
            async with Producer("broker-1:9192", runtime=runtime) as producer:
                metadata = await (await producer.send("made-by-itself", b"first"))
            assert (metadata.topic, metadata.offset) == ("made-by-itself", 0)

    run_virtual(main(), timeout_ms=20_000)


def test_where_topics_do_not_create_themselves_a_missing_one_is_named() -> None:
    async def main() -> None:
        settings = {"auto.create.topics.enable": "false"}
        async with MemoryCluster(brokers=1, controllers=1, settings=settings) as cluster:
            runtime = cluster.world.runtime("writer")
            async with Producer("broker-1:9192", max_block_ms=500, runtime=runtime) as producer:
                with pytest.raises(GlasslogError, match="'missing' was not found within 500 ms"):
                    await producer.send("missing", b"first")

    run_virtual(main(), timeout_ms=20_000)


def test_old_records_are_deleted_on_every_replica() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=3) as cluster:
            runtime = cluster.world.runtime("writer")
            await create(runtime)
            async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                await write(producer, range(600))
                await producer.flush()
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                ends = await admin.end_offsets(TOPIC)
                first, *rest = sorted(ends)
                wanted = {first: ends[first] // 2, **dict.fromkeys(rest, -1)}
                expected = {first: ends[first] // 2, **{each: ends[each] for each in rest}}
                assert await admin.delete_records(wanted) == expected
                assert await admin.beginning_offsets(TOPIC) == expected
                # Whoever leads next begins there too.
                await cluster.kill(cluster.leader_of(TOPIC, first.partition))
                assert await admin.beginning_offsets(TOPIC) == expected
                with pytest.raises(GlasslogError, match="is not between 0 and the high watermark") as caught:
                    await admin.delete_records({first: ends[first] + 1})
                assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
                with pytest.raises(GlasslogError, match="partition orders-9 does not exist"):
                    await admin.delete_records({TopicPartition(TOPIC, 9): 0})

    run_virtual(main, timeout_ms=300_000)


def test_a_paused_broker_does_not_hold_up_questions() -> None:
    """Whoever asked a broker that was paused got its answer after 30 s, though the others had it.

    Where the time of one request was as long as that of all attempts, it got none.  And every third question
    went to that broker again.
    """

    async def main() -> None:
        async with MemoryCluster(seed=6) as cluster:
            runtime = cluster.world.runtime("admin")
            async with Admin(
                BOOTSTRAP, runtime=runtime, request_timeout_ms=60_000, default_api_timeout_ms=60_000
            ) as admin:
                await admin.create_topics([NewTopic(name=TOPIC, partitions=1, replication_factor=3)])
                cluster.pause("broker-2")
                began = asyncio.get_running_loop().time()
                for _ in range(9):
                    (topic,) = await admin.describe_topics([TOPIC])
                    assert topic.name == TOPIC
                assert asyncio.get_running_loop().time() - began < 2
                cluster.resume("broker-2")

    run_virtual(main, timeout_ms=300_000)
