"""A quorum grows from three voters to five and shrinks back, under load and faults.

Topics are created and deleted all along by a client that repeats what was not answered: none may be lost, and
a change that was made twice would contradict the metadata and stop a node, which fails the run.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
PAUSE_S = 2.0
SETTINGS = {
    "metadata.log.max.record.bytes.between.snapshots": "4000",
    "metadata.max.retention.bytes": "0",
}


class Load:
    """Creates topics and deletes every second one; knows which ones must be there in the end."""

    def __init__(self, admin: Admin, prefix: str) -> None:
        self._admin = admin
        self.prefix = prefix
        self.there: set[str] = set()
        self.done = 0
        self.task = asyncio.create_task(self._run(), name=f"load {prefix}")

    @property
    def undecided(self) -> str:
        """The topic that it was at when it was stopped."""
        return f"{self.prefix}-{self.done}"

    async def _run(self) -> None:
        while True:
            name = self.undecided
            await self._create(name)
            if self.done % 2:
                await self._delete(name)
            else:
                self.there.add(name)
            self.done += 1
            await asyncio.sleep(0.1)

    async def _create(self, name: str) -> None:
        topic = NewTopic(name=name, partitions=2, replication_factor=2)
        await until_made(
            lambda: self._admin.create_topics([topic], wait_for_leaders=False),
            ErrorCode.TOPIC_ALREADY_EXISTS,
        )

    async def _delete(self, name: str) -> None:
        await until_made(lambda: self._admin.delete_topics([name]), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until_made(change: Callable[[], Awaitable[object]], made_before: ErrorCode) -> None:
    """As patient clients do: an attempt whose answer was lost may have been the one."""
    while True:
        try:
            await change()
        except GlasslogError as error:
            if error.code is made_before:
                return
            if not error.retriable and error.code is not ErrorCode.REQUEST_TIMED_OUT:
                raise
        else:
            return


class Disasters:
    """Kills controllers, starts them again, and breaks the network for moments; ``stop`` heals all."""

    def __init__(self, cluster: MemoryCluster, seed: int) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._task = asyncio.create_task(self._run(), name="disasters")

    async def _run(self) -> None:
        cluster, chance = self._cluster, self._chance
        network = cluster.world.network
        while True:
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            victim = chance.choice([cluster.active_controller() or "controller-1", *cluster.controller_names])
            match chance.choice(["kill", "kill", "power", "isolate", "pause"]):
                case "kill":
                    await cluster.kill(victim)
                case "power":
                    await cluster.kill(victim, power_loss="torn")
                case "isolate":
                    network.isolate(victim)
                case _:
                    cluster.pause(victim)
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            self._heal()

    def _heal(self) -> None:
        self._cluster.world.network.heal()
        for name in self._cluster.controller_names:
            self._cluster.resume(name)
            if not self._cluster.is_alive(name):
                self._cluster.start(name)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._heal()


async def persist(change: Callable[[], Awaitable[object]], made_before: ErrorCode) -> None:
    """Ask again whatever is refused: with a controller down even a sound change may have to wait."""
    for _ in range(200):
        try:
            await change()
        except GlasslogError as error:
            if error.code is made_before:
                return
            await asyncio.sleep(0.2)
        else:
            return
    raise AssertionError("the change was never made")


async def grow_and_shrink(admin: Admin) -> None:
    """With time in between for things to go wrong."""
    for node_id in (104, 105):
        await asyncio.sleep(PAUSE_S)
        await persist(partial(admin.add_voter, node_id), ErrorCode.DUPLICATE_VOTER)
    assert len((await admin.describe_quorum()).voters) == 5
    for node_id in (101, 102):
        await asyncio.sleep(PAUSE_S)
        await persist(partial(admin.remove_voter, node_id), ErrorCode.VOTER_NOT_FOUND)


@pytest.mark.parametrize("seed", range(3))
def test_three_voters_become_five_and_three_again(seed: int) -> None:
    async def main() -> None:
        cluster = MemoryCluster(controllers=5, first_voters=3, seed=seed, settings=SETTINGS)
        async with (
            cluster,
            Admin(BOOTSTRAP, runtime=cluster.world.runtime("load")) as loader,
            Admin(BOOTSTRAP, runtime=cluster.world.runtime("admin")) as admin,
        ):
            loads = [Load(loader, prefix) for prefix in ("a", "b")]
            disasters = Disasters(cluster, seed)
            await grow_and_shrink(admin)
            await disasters.stop()
            before = [load.done for load in loads]
            await cluster.until(
                lambda: all(load.done > was + 5 for load, was in zip(loads, before, strict=True)),
                within_ms=30_000,
                what="progress",
            )
            for load in loads:
                await load.stop()
            await check(cluster, admin, loads)

    run_virtual(main, timeout_ms=900_000)


async def observers(admin: Admin) -> set[int]:
    return {each.node_id for each in (await admin.describe_quorum()).observers}


async def check(cluster: MemoryCluster, admin: Admin, loads: Sequence[Load]) -> None:
    status = await admin.describe_quorum()
    assert {voter.node_id for voter in status.voters} == {103, 104, 105}
    undecided = {load.undecided for load in loads}
    expected = {name for load in loads for name in load.there}
    assert set(await admin.list_topics()) - undecided == expected - undecided

    def all_agree() -> bool:
        images = [cluster.controller(name).controller.committed for name in cluster.controller_names]
        images += [cluster.broker(name).observer.image for name in cluster.broker_names]
        return all(image.topics == images[0].topics for image in images)

    # Those that vote no more follow all the same.
    await cluster.until(all_agree, within_ms=30_000, what="the same topics everywhere")
    assert {101, 102} <= await observers(admin)
