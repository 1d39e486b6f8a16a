"""Leaders that change faster than logs agree: KIP-279, KAFKA-3924."""

from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage


async def _diverged_epochs(stage: Stage) -> None:
    """The second leader misses what the third has, adds records of its own, and comes back to follow it."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "1"})
    first, second, third = stage.replicas(partition)
    one, two = stage.clients.producer("one"), stage.clients.producer("two")
    async with one, two:
        for _ in range(stage.random.randrange(1, 6)):
            await one.put(partition)
        # What comes now reaches the third replica only, and nobody else writes it.
        stage.cut(second, first, third)
        stage.cut("one", second)
        await stage.until(
            lambda: stage.end_of(third, partition) == stage.end_of(first, partition), "third is level"
        )
        for _ in range(stage.random.randrange(1, 4)):
            await one.send(partition)
        await stage.until(
            lambda: stage.end_of(third, partition) > stage.end_of(second, partition), "third is ahead"
        )
        await stage.kill(first)
        await stage.until(lambda: stage.leader(partition) == second, "the second leads")
        shared = stage.end_of(second, partition)
        for _ in range(5):
            await two.send(partition)
            # A batch each: a log is never cut within one.
            await stage.wait(5)
        await stage.until(
            lambda: stage.end_of(second, partition) > shared, "the second has records of its own"
        )
        await stage.kill(second)
        await stage.until(lambda: stage.leader(partition) == third, "the third leads")
        stage.heal()
        for _ in range(stage.random.randrange(4)):
            await two.send(partition)
        stage.start(second)
        await stage.until(lambda: second in stage.in_sync(partition), "the second is in sync")
        await stage.kill(third)
        await stage.wait(500)
        stage.start(third)
        stage.start(first)


DIVERGED_EPOCHS = Scenario(
    name="diverged-epochs",
    description="After two fast failovers a follower's last epoch is unknown to its leader.",
    origin="KIP-279",
    script=_diverged_epochs,
)


async def _follower_ahead(stage: Stage) -> None:
    """The last replica in sync loses power and its tail with it; the others, ahead of it, come back."""
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "1"})
    first, *others = stage.replicas(partition)
    async with stage.clients.producer("careless", validated=False) as producer:
        for _ in range(stage.random.randrange(5, 40)):
            await producer.put(partition)
        await stage.level(partition, first, *others)
        for name in others:
            await stage.kill(name)
        await stage.until(lambda: stage.in_sync(partition) == [first], "the first is alone in sync")
        await stage.kill(first, power_loss=stage.random.choice(("none", "torn")))
        await stage.wait(stage.random.uniform(0, 500))
        stage.start(first)
        await stage.until(lambda: stage.leader(partition) == first, "the first leads again")
        for name in others:
            stage.start(name)
        await producer.put(partition)
    await stage.wait(2_000)
    alive = all(map(stage.cluster.is_alive, stage.cluster.broker_names))
    stage.expect(alive, "every broker runs")


FOLLOWER_AHEAD = Scenario(
    name="follower-ahead",
    description="Followers that are ahead of a leader which lost its tail cut their logs and live on.",
    origin="KAFKA-3924",
    script=_follower_ahead,
    may_lose=True,
)
