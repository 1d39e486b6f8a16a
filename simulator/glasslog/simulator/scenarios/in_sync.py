"""Who may be in sync: brokers without their data, and brokers on their way out. KIP-903, KIP-841.

And who may lead when nobody is: KIP-966."""

from glasslog.broker.partition.isr import PendingExpand
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.simulator.cluster import broker_id
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage


async def _empty_disk(stage: Stage) -> None:
    """A follower catches up, the leader's word of it is slow; meanwhile the follower loses its disk."""
    (partition,) = await stage.create_topic(
        "kept", replication_factor=2, configs={"min.insync.replicas": "1"}
    )
    leader, follower = stage.replicas(partition)
    async with stage.clients.producer("producer") as producer:
        await stage.kill(follower)
        await stage.until(lambda: stage.in_sync(partition) == [leader], "the leader is alone in sync")
        for _ in range(stage.random.randrange(1, 20)):
            await producer.put(partition)
        stage.cut(leader, follower)
        stage.start(follower)
        await stage.until(lambda: _knows(stage, leader, follower), "the leader knows that it is back")
        slow_ms = stage.random.uniform(1_000, 1_800)
        for controller in stage.cluster.controller_names:
            stage.network.set_delay(leader, controller, minimum_ms=slow_ms)
        stage.note(f"{leader} takes {slow_ms:.0f} ms to the controllers")
        stage.heal(leader, follower)
        await stage.until(lambda: _is_expanding(stage, leader), "the leader asks for its follower")
        stage.cut(leader, follower)
        await stage.kill(follower, power_loss="none")
        stage.start(follower, empty_disk=True)
        await stage.wait(slow_ms + 500)
        await stage.kill(leader)
        for controller in stage.cluster.controller_names:
            stage.network.set_delay(leader, controller, minimum_ms=0.2, jitter_ms=0.3)
        await stage.wait(1_000)


def _knows(stage: Stage, leader: str, follower: str) -> bool:
    """Whether ``follower`` is registered and active in its present life, as ``leader`` sees it."""
    cluster = stage.cluster
    known = cluster.broker(leader).observer.image.brokers[broker_id(follower)]
    return known.active and known.broker_epoch == cluster.broker(follower).status().broker_epoch


def _is_expanding(stage: Stage, leader: str) -> bool:
    replicas = stage.cluster.broker(leader).replicas
    roles = [] if replicas is None else [each.role for each in replicas.partitions()]
    return any(isinstance(role, LeaderState) and isinstance(role.isr_state, PendingExpand) for role in roles)


EMPTY_DISK = Scenario(
    name="empty-disk",
    description="A broker comes back with an empty disk while a delayed ISR change still counts it in.",
    origin="KIP-903",
    script=_empty_disk,
)


async def _fenced_replica(stage: Stage) -> None:
    """A follower that the controllers do not hear goes on fetching; then one is stopped in order."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    _, second, third = stage.replicas(partition)
    async with stage.clients.producer("producer") as producer:
        stage.cut(second, *stage.cluster.controller_names)
        await stage.until(
            lambda: second not in stage.in_sync(partition), "it is out of sync", within_ms=30_000
        )
        for _ in range(20):
            await producer.put(partition)
            await stage.wait(stage.random.uniform(10, 100))
        stage.expect(second not in stage.in_sync(partition), f"{second} is fenced and not in sync")
        stage.heal()
        await stage.until(lambda: second in stage.in_sync(partition), "it is in sync again")
        await stage.stop(third)
        for _ in range(5):
            await producer.put(partition)
    stage.start(third)


FENCED_REPLICA = Scenario(
    name="fenced-replica",
    description="A fenced follower, and then a stopping one, fetches on without getting into the ISR again.",
    origin="KIP-841",
    script=_fenced_replica,
    settings={"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"},
)


async def _last_replica(stage: Stage) -> None:
    """The ISR shrinks to its leader, which then loses what it had not synced and is the first one back."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    leader, *others = stage.replicas(partition)
    async with stage.clients.producer("producer") as producer:
        for _ in range(stage.random.randrange(1, 20)):
            await producer.put(partition)
        stage.expect(stage.leader(partition) == leader, f"{leader} leads")
        for other in others:
            stage.cut(other, leader, *stage.cluster.controller_names)
        await stage.until(
            lambda: stage.in_sync(partition) == [leader], "the leader is alone in sync", within_ms=30_000
        )
        await producer.send(partition)
        await stage.wait(stage.random.uniform(10, 500))
        await stage.kill(leader, power_loss="none")
        await stage.wait(stage.random.uniform(10, 1_000))
        stage.start(leader)
        # It is back and active before anybody who has everything can be.
        await stage.until(
            lambda: stage.cluster.broker(leader).status().is_ready, f"{leader} is ready", within_ms=30_000
        )
        await stage.wait(stage.random.uniform(10, 500))
        stage.heal()
        await stage.until(lambda: stage.leader(partition) != "", "somebody leads", within_ms=30_000)
        for _ in range(5):
            await producer.send(partition)


LAST_REPLICA = Scenario(
    name="last-replica",
    description="The ISR shrinks to one, which loses its unsynced tail and is back before the others.",
    origin="KIP-966",
    script=_last_replica,
    settings={"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"},
)
