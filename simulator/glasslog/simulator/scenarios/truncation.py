"""KIP-320: a consumer must notice that what it has read is gone, instead of reading on behind it."""

from glasslog.client.consumer import Consumer
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage


async def _truncated_consumer(stage: Stage) -> None:
    """A leader alone in sync dies after it was read, and an unclean election loses its tail.

    The successor's log grows beyond the consumer's position before the consumer is back.
    """
    configs = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    (partition,) = await stage.create_topic("kept", replication_factor=2, configs=configs)
    first, second = stage.replicas(partition)
    careless = stage.clients.producer("careless", validated=False)
    # What it reads is not recorded: it will not be there in the end, and nobody promised that.
    reader = stage.clients.consumer("reader").consumer
    async with careless, reader:
        reader.assign([partition])
        for _ in range(stage.random.randrange(1, 10)):
            await careless.put(partition)
        await stage.level(partition, first, second)
        shared = stage.end_of(first, partition)
        await stage.kill(second)
        await stage.until(lambda: stage.in_sync(partition) == [first], "the first is alone in sync")
        lost = stage.random.randrange(1, 10)
        for _ in range(lost):
            await careless.put(partition)
        while await reader.position(partition) < shared + lost:
            await reader.poll(timeout_ms=100)
        stage.cut("reader", *stage.cluster.broker_names)
        await stage.kill(first)
        stage.start(second)
        await stage.until(lambda: stage.leader(partition) == second, "the second leads, uncleanly")
        for _ in range(lost + stage.random.randrange(1, 10)):
            await careless.put(partition)
        stage.heal()
        next_offset = await _next_offset(reader)
        stage.expect(next_offset == shared, f"reading goes on at {next_offset}, the logs part at {shared}")


async def _next_offset(reader: Consumer) -> int:
    while True:
        for record in await reader.poll(timeout_ms=200):
            return record.offset


TRUNCATED_CONSUMER = Scenario(
    name="truncated-consumer",
    description="A consumer notices that an unclean election has lost what it read, and reads what is there.",
    origin="KIP-320",
    script=_truncated_consumer,
    may_lose=True,
)
