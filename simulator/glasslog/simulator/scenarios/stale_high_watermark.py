"""KIP-101: a follower that has not yet heard of the high watermark must not cut its log to it."""

from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage


async def _script(stage: Stage) -> None:
    (partition,) = await stage.create_topic("kept", configs={"min.insync.replicas": "2"})
    async with stage.clients.producer("producer") as producer:
        for _ in range(stage.random.randrange(1, 20)):
            sent = await producer.put(partition)
            stage.expect(sent.is_acknowledged, f"{sent.value} is acknowledged: {sent.error}")
        # Acknowledged: both followers have the last record, and neither has heard so.
        first = stage.leader(partition)
        second, third = (name for name in stage.in_sync(partition) if name != first)
        stage.cut(second, third)
        await stage.kill(first)
        await stage.until(lambda: stage.leader(partition) not in ("", first), "a follower leads")
        await stage.wait(stage.random.uniform(5, 50))
        # Whoever follows now has learned its new leader, and can not fetch from it.
        await stage.kill(stage.leader(partition))
        await stage.wait(stage.random.uniform(200, 2_000))
        stage.heal()
        await producer.send(partition)
        stage.start(first)
        await stage.wait(1_000)


STALE_HIGH_WATERMARK = Scenario(
    name="stale-high-watermark",
    description="A follower with a stale high watermark changes leaders, then is elected itself.",
    origin="KIP-101",
    script=_script,
)
