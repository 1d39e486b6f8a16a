"""Random kills, power losses, cuts and elections by seed: what was acknowledged stays, once, in order."""

import asyncio

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, batch, until

BROKERS = (1, 2, 3)
ROUNDS = 12


class Storm:
    """An idempotent producer with one batch in flight, and what happens around it."""

    def __init__(self, cluster: ReplicaCluster, random: SeededRandom) -> None:
        self.cluster = cluster
        self.random = random
        self.acknowledged: list[str] = []
        self.is_over = False
        self.highest_seen = 0

    async def produce(self) -> None:
        while not self.is_over:
            value = f"v{len(self.acknowledged)}"
            if await self.send(value):
                self.acknowledged.append(value)
                await asyncio.sleep(0.001)
            else:
                await asyncio.sleep(0.02)

    async def send(self, value: str) -> bool:
        leader = self.cluster.image_of().leader
        if leader not in self.cluster.nodes:
            return False
        record = batch(value, producer_id=9, producer_epoch=0, base_sequence=len(self.acknowledged))
        try:
            async with asyncio.timeout(0.3):
                result = await self.cluster.produced(leader, record, timeout_ms=200)
        except TimeoutError:
            return False
        if result.error is ErrorCode.NONE:
            assert result.base_offset == len(self.acknowledged)
        return result.error is ErrorCode.NONE

    async def consume(self) -> None:
        """The high watermark that a client saw never turns out to hold something else later."""
        while not self.is_over:
            leader = self.cluster.image_of().leader
            if leader in self.cluster.nodes and leader not in self.cluster.behind:
                result = await self.cluster.fetched(leader, 0)
                self.highest_seen = max(self.highest_seen, result.high_watermark)
            await asyncio.sleep(0.01)

    async def blow(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(self.random.uniform(0.01, 0.3))
            match self.random.randrange(5):
                case 0:
                    await self.kill_one()
                case 1:
                    self.elect()
                case 2:
                    await self.isolate_leader()
                case 3:
                    await self.cut_two()
                case _:
                    self.cluster.catch_up_all()
            await self.restart_the_dead()

    async def kill_one(self) -> None:
        cluster, isr = self.cluster, self.cluster.image_of().isr
        victim = self.pick([node for node in BROKERS if node in cluster.nodes and set(isr) != {node}])
        cluster.behind.discard(victim)
        keep = self.pick([0, 1, 2])
        await cluster.kill(victim, power_loss=(None, "none", "torn")[keep])
        cluster.fence(victim)
        left = tuple(node for node in isr if node != victim)
        if cluster.image_of().leader == victim:
            cluster.elect(self.pick([int(node) for node in left]), left)
        elif victim in isr:
            cluster.set_isr(left)

    def elect(self) -> None:
        isr = self.cluster.image_of().isr
        alive = [int(node) for node in isr if node in self.cluster.nodes]
        self.cluster.elect(self.pick(alive), tuple(isr))

    async def isolate_leader(self) -> None:
        """It does not hear of its successor, and keeps taking records that nobody else gets."""
        cluster, placed = self.cluster, self.cluster.image_of()
        others = [node for node in placed.isr if node != placed.leader and node in cluster.nodes]
        if not others or placed.leader not in cluster.nodes:
            return
        old = placed.leader
        for node in BROKERS:
            if node != old:
                cluster.world.network.partition(f"b{old}", f"b{node}")
        cluster.behind.add(old)
        await cluster.produced(old, batch("nobody has this"), acks=1)
        cluster.elect(self.pick([int(node) for node in others]), tuple(others))
        await asyncio.sleep(self.random.uniform(0.01, 0.2))
        cluster.world.network.heal()
        cluster.catch_up_all()

    async def cut_two(self) -> None:
        first, second = self.pick([0, 1, 2]), self.pick([1, 2])
        pair = BROKERS[first], BROKERS[(first + second) % 3]
        self.cluster.world.network.partition(f"b{pair[0]}", f"b{pair[1]}")
        await asyncio.sleep(self.random.uniform(0.05, 0.4))
        self.cluster.world.network.heal()

    async def restart_the_dead(self) -> None:
        if self.random.randrange(2):
            for node in BROKERS:
                if node not in self.cluster.nodes:
                    await self.cluster.start(node)

    async def calm(self) -> None:
        cluster = self.cluster
        cluster.world.network.heal()
        cluster.catch_up_all()
        for node in BROKERS:
            if node not in cluster.nodes:
                await cluster.start(node)
        if cluster.image_of().leader == NO_NODE:
            self.elect()

    def pick(self, choices: list[int]) -> int:
        return choices[self.random.randrange(len(choices))]


async def weather(seed: int) -> None:
    cluster = ReplicaCluster(
        MemoryWorld(seed=seed), replica_lag_time_max_ms="200", replica_fetch_wait_max_ms="100"
    )
    for node in BROKERS:
        await cluster.start(node)
    cluster.create(replicas=BROKERS, min_insync_replicas="2")
    storm = Storm(cluster, SeededRandom(seed))
    clients = [asyncio.ensure_future(storm.produce()), asyncio.ensure_future(storm.consume())]
    await storm.blow()
    await storm.calm()
    before = len(storm.acknowledged)
    await until(lambda: len(storm.acknowledged) > before + 3, within_ms=20_000)
    storm.is_over = True
    await asyncio.gather(*clients)
    await until(lambda: len(cluster.leader_state(cluster.image_of().leader).isr) == 3, within_ms=20_000)
    await until(lambda: len({cluster.log_bytes(node) for node in BROKERS}) == 1, within_ms=20_000)
    written = cluster.values(1)
    assert [value for value in written if value.startswith("v")] == storm.acknowledged
    assert storm.highest_seen <= len(written)
    assert cluster.image.partition_by_id(TOPIC_ID, 0) is not None
    await cluster.stop_all()


@pytest.mark.parametrize("seed", range(12))
def test_what_was_acknowledged_survives(seed: int) -> None:
    run_virtual(weather(seed), timeout_ms=300_000)
