"""Members of our client, librdkafka and kafka-python in one group: whoever leads, all get their share."""

import asyncio
import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer
from glasslog.client import Consumer as OwnConsumer
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.local.cluster import LocalCluster

DEADLINE_S = 30.0
PARTITIONS = 6
Assigned = Callable[[], list[int]]
"""Polls for a moment, and says which partitions are assigned then."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("mixed") / "local")
    made.up()
    yield made
    made.down()


def addresses(cluster: LocalCluster, listener: str) -> str:
    return ",".join(broker.address(listener) for broker in cluster.state().brokers)


class Foreign:
    """A member of another client."""

    def __init__(self, poll: Callable[[], object], assigned: Assigned, close: Callable[[], object]) -> None:
        self.poll = poll
        self.assigned = assigned
        self.close = close


def confluent(cluster: LocalCluster, topic: str, strategy: str) -> Foreign:
    consumer = Consumer(
        {
            "bootstrap.servers": addresses(cluster, "KAFKA"),
            "group.id": topic,
            "partition.assignment.strategy": strategy,
            "heartbeat.interval.ms": 200,
        }
    )
    consumer.subscribe([topic])
    return Foreign(
        lambda: consumer.poll(0.05),
        lambda: [each.partition for each in consumer.assignment()],
        consumer.close,
    )


def kafka_python(cluster: LocalCluster, topic: str, strategy: str) -> Foreign:
    with warnings.catch_warnings():
        # It reads its schemas through an interface of Python's that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        kafka: Any = importlib.import_module("kafka")
        assignors: Any = importlib.import_module(ASSIGNORS[strategy][0])
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=addresses(cluster, "KAFKA"),
        group_id=topic,
        partition_assignment_strategy=[getattr(assignors, ASSIGNORS[strategy][1])],
        heartbeat_interval_ms=200,
    )
    return Foreign(
        lambda: consumer.poll(50), lambda: [each.partition for each in consumer.assignment()], consumer.close
    )


ASSIGNORS = {
    "range": ("kafka.coordinator.assignors.range", "RangePartitionAssignor"),
    "roundrobin": ("kafka.coordinator.assignors.roundrobin", "RoundRobinPartitionAssignor"),
    "sticky": ("kafka.coordinator.assignors.sticky.sticky_assignor", "StickyPartitionAssignor"),
}
GROUPS = [
    ("range", [confluent, kafka_python]),
    ("roundrobin", [confluent, kafka_python]),
    ("sticky", [kafka_python]),
    ("cooperative-sticky", [confluent]),
]


@pytest.mark.parametrize("own_leads", [True, False])
@pytest.mark.parametrize(("strategy", "others"), GROUPS, ids=[strategy for strategy, _ in GROUPS])
def test_everybody_gets_a_share(
    cluster: LocalCluster, strategy: str, others: list[Callable[..., Foreign]], own_leads: bool
) -> None:
    topic = f"mixed-{strategy}-{own_leads}"
    share = PARTITIONS // (1 + len(others))
    members: list[Foreign] = []

    async def main() -> None:
        async with Admin(addresses(cluster, "GRPC")) as admin:
            await admin.create_topics([NewTopic(name=topic, partitions=PARTITIONS, replication_factor=3)])
        async with OwnConsumer(
            bootstrap_servers=addresses(cluster, "GRPC"),
            group_id=topic,
            partition_assignment_strategy=[strategy],
            heartbeat_interval_ms=200,
            client_rack="rack-a",
        ) as own:

            async def until(done: Callable[[], bool], what: str) -> None:
                deadline = time.monotonic() + DEADLINE_S
                while not done():
                    assert time.monotonic() < deadline, what
                    if own.subscription:
                        await own.poll(timeout_ms=50)
                    for member in members:
                        await asyncio.to_thread(member.poll)

            def assigned() -> list[list[int]]:
                ours = [each.partition for each in own.assignment]
                return [ours, *(member.assigned() for member in members)]

            if own_leads:
                own.subscribe([topic])
                await until(lambda: len(own.assignment) == PARTITIONS, "we have all")
                members.extend(other(cluster, topic, strategy) for other in others)
            else:
                members.extend(other(cluster, topic, strategy) for other in others)
                await until(lambda: sum(map(len, assigned())) == PARTITIONS, "they have all")
                own.subscribe([topic])
            await until(lambda: [len(each) for each in assigned()] == [share] * len(assigned()), "all share")
            assert sorted(number for each in assigned() for number in each) == list(range(PARTITIONS))
            for member in members:
                await asyncio.to_thread(member.close)
            members.clear()
            await until(lambda: len(own.assignment) == PARTITIONS, "we have all again")

    try:
        asyncio.run(main())
    finally:
        for member in members:
            member.close()
