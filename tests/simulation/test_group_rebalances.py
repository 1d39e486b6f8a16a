"""Groups under faults drawn from a seed: members come, crash and leave, brokers die, all on virtual time.

What must hold however it goes: no partition is read by two members in one generation, and what a member was
told to be committed is neither lost nor moved back.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from glasslog.broker.group.hashing import partition_of_group
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

TOPIC, GROUP = "orders", "g"
PARTITIONS = 6
BROKERS = ("broker-1", "broker-2", "broker-3")
BOOTSTRAP = ",".join(f"{name}:9192" for name in BROKERS)
FAULTS = 8
SESSION_TIMEOUT_MS = 6_000


class Ledger:
    """What all members together did and were told."""

    def __init__(self) -> None:
        self.readers: dict[tuple[int, TopicPartition], str] = {}
        """By generation and partition: who got records of it."""

        self.stored: dict[TopicPartition, int] = {}
        """The furthest position that a member was told to be committed."""

        self.seen: set[bytes] = set()
        self.assignments = 0

    def read(self, generation: int, partition: TopicPartition, member: str) -> None:
        # Who was expelled is in none: others may read already, in a newer one.
        if generation >= 0:
            reader = self.readers.setdefault((generation, partition), member)
            assert reader == member, f"{reader} and {member} read {partition} in generation {generation}"

    def store(self, partition: TopicPartition, offset: int, member: str) -> None:
        before = self.stored.get(partition, 0)
        assert offset >= before, f"{member} moved {partition} back from {before} to {offset}"
        self.stored[partition] = offset


class Member:
    """One consumer that reads, commits, and checks what it is given; it ends in order or by a crash."""

    def __init__(self, cluster: MemoryCluster, ledger: Ledger, name: str, strategy: str) -> None:
        self.name = name
        self._ledger = ledger
        self.consumer = Consumer(
            TOPIC,
            bootstrap_servers=BOOTSTRAP,
            group_id=GROUP,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=300,
            max_poll_interval_ms=10_000,
            partition_assignment_strategy=[strategy],
            listener=self,
            runtime=cluster.world.runtime(name),
        )
        self._task = asyncio.create_task(self._run(), name=name)

    @property
    def generation(self) -> int:
        assert self.consumer._group is not None
        return self.consumer._group.membership.generation_id

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        pass

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        pass

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._ledger.assignments += 1
        for partition in partitions:
            known = self._ledger.stored.get(partition, 0)
            found = await self.consumer.committed(partition)
            offset = 0 if found is None else found.offset
            assert offset >= known, f"{known} was committed for {partition}, {self.name} finds {offset}"

    async def _run(self) -> None:
        async with self.consumer:
            while True:
                runs = await self.consumer.poll_batches(20, timeout_ms=100)
                generation = self.generation
                for partition, records, _ in runs:
                    self._ledger.read(generation, partition, self.name)
                    self._ledger.seen.update(record[3] or b"" for record in records)
                if runs:
                    await self._commit()

    async def _commit(self) -> None:
        positions = self.consumer.positions()
        try:
            await self.consumer.commit(positions)
        except GlasslogError:
            # Fenced, or in a rebalance: then nobody was told that anything is stored.
            return
        for partition, position in positions.items():
            self._ledger.store(partition, position.offset, self.name)

    async def leave(self) -> None:
        await self._end()

    async def crash(self) -> None:
        """Without a word to anybody."""
        await self.consumer._session.close()
        await self._end()

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raise what went wrong in it, if anything did."""
        if self._task.done():
            self._task.result()


async def create(cluster: MemoryCluster) -> None:
    async with Admin(BOOTSTRAP, runtime=cluster.world.runtime("admin")) as admin:
        await admin.create_topics([NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=3)])


async def write_on(cluster: MemoryCluster, written: set[bytes], stop: asyncio.Event) -> None:
    numbers: Iterator[int] = iter(range(1_000_000))
    async with Producer(BOOTSTRAP, runtime=cluster.world.runtime("writer")) as producer:
        while not stop.is_set():
            values = [b"%d" % next(numbers) for _ in range(6)]
            for partition, value in enumerate(values):
                await producer.send(TOPIC, value, partition=partition)
            written.update(values)
            await asyncio.sleep(0.05)
        await producer.flush()


async def until(condition: Callable[[], bool], members: Sequence[Member]) -> None:
    """Sooner or later, and no member fails meanwhile."""
    async with asyncio.timeout(60):
        while not condition():
            for member in members:
                member.check()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_partition_has_two_readers_and_no_commit_is_lost(seed: int, strategy: str) -> None:
    async def main() -> None:
        draw = random.Random(seed)
        async with MemoryCluster(seed=seed) as cluster:
            await create(cluster)
            ledger, written, stop = Ledger(), set[bytes](), asyncio.Event()
            writing = asyncio.create_task(write_on(cluster, written, stop))
            members = [Member(cluster, ledger, f"member-{number}", strategy) for number in range(3)]
            names = iter(range(3, 100))
            for _ in range(FAULTS):
                await asyncio.sleep(draw.uniform(0.2, 2.5))
                match draw.choice(["join", "crash", "leave", "coordinator", "broker"]):
                    case "crash" if len(members) > 1:
                        await members.pop(draw.randrange(len(members))).crash()
                    case "leave" if len(members) > 1:
                        await members.pop(draw.randrange(len(members))).leave()
                    case "coordinator":
                        partition = partition_of_group(GROUP, 50)
                        victim = cluster.leader_of("__consumer_offsets", partition)
                        await kill_and_restart(cluster, victim, draw)
                    case "broker":
                        await kill_and_restart(cluster, draw.choice(BROKERS), draw)
                    case _:
                        members.append(Member(cluster, ledger, f"member-{next(names)}", strategy))
                for member in members:
                    member.check()
            stop.set()
            await writing
            await until(lambda: written <= ledger.seen, members)
            for member in members:
                await member.leave()
            assert ledger.stored.keys() == {TopicPartition(TOPIC, number) for number in range(PARTITIONS)}

    run_virtual(main, timeout_ms=600_000)


async def kill_and_restart(cluster: MemoryCluster, name: str, draw: random.Random) -> None:
    await cluster.kill(name)
    await asyncio.sleep(draw.uniform(0.1, 1.5))
    await cluster.restart(name)
    await cluster.healthy(within_ms=30_000)


def test_live_members_keep_their_generation_when_their_coordinator_dies() -> None:
    """The next coordinator knows the group from its log: nobody joins again, nobody is given anything."""

    async def main() -> None:
        async with MemoryCluster(seed=4) as cluster:
            await create(cluster)
            ledger, written, stop = Ledger(), set[bytes](), asyncio.Event()
            writing = asyncio.create_task(write_on(cluster, written, stop))
            members = [Member(cluster, ledger, f"member-{number}", "range") for number in range(3)]
            await until(lambda: all(len(each.consumer.assignment) == 2 for each in members), members)
            generations, assignments = [member.generation for member in members], ledger.assignments
            assert len(set(generations)) == 1
            await cluster.kill(cluster.leader_of("__consumer_offsets", partition_of_group(GROUP, 50)))
            # Far beyond the session's end: they stay members only because the next coordinator knows them.
            before = dict(ledger.stored)
            await asyncio.sleep(4 * SESSION_TIMEOUT_MS / 1_000)
            assert [member.generation for member in members] == generations
            assert ledger.assignments == assignments
            stop.set()
            await writing
            await until(lambda: written <= ledger.seen, members)
            assert all(ledger.stored[partition] > offset for partition, offset in before.items())
            for member in members:
                await member.leave()

    run_virtual(main, timeout_ms=600_000)
