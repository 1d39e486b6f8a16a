"""Kafka's clients and ours read from the follower in their rack (KIP-392) of a real local cluster.

What the brokers count as read by consumers tells who has served them.
"""

import asyncio
import importlib
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from glasslog.client import Consumer as OwnConsumer
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.state import NodeState
from glasslog.common.ids import TopicPartition as OwnTopicPartition
from glasslog.common.node_config import RACK_AWARE_SELECTOR

ADMIN: Any = importlib.import_module("confluent_kafka.admin")
TOPIC = "read-nearby"
RECORDS, SIZE_BYTES = 200, 1_000
DEADLINE_S = 30.0

Read = Callable[[LocalCluster, str], list[bytes]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("nearby") / "local")
    made.up(settings={"replica.selector.class": RACK_AWARE_SELECTOR})
    servers = addresses(made, "KAFKA")
    topic = ADMIN.NewTopic(TOPIC, num_partitions=1, replication_factor=3)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([topic])[TOPIC].result(DEADLINE_S)
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for number in range(RECORDS):
        producer.produce(TOPIC, b"%d" % number + bytes(SIZE_BYTES), partition=0)
    assert producer.flush(DEADLINE_S) == 0
    yield made
    made.down()


def addresses(cluster: LocalCluster, listener: str) -> str:
    return ",".join(broker.address(listener) for broker in cluster.state().brokers)


def bytes_read(broker: NodeState) -> float:
    with urllib.request.urlopen(f"http://{broker.address('HTTP')}/metrics", timeout=DEADLINE_S) as answer:
        text = answer.read().decode()
    return sum(
        map(float, re.findall(r"^kafka_server_brokertopicmetrics_bytesout_total\S* (\S+)$", text, re.M))
    )


def with_confluent(cluster: LocalCluster, rack: str) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": addresses(cluster, "KAFKA"), "group.id": "unused", "client.rack": rack}
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    messages: list[Message] = []
    while len(messages) < RECORDS:
        found = consumer.consume(RECORDS - len(messages), DEADLINE_S)
        assert found, f"{len(messages)} of {RECORDS} records within {DEADLINE_S:g} s"
        messages += found
    consumer.close()
    return [message.value() or b"" for message in messages]


def with_kafka_python(cluster: LocalCluster, rack: str) -> list[bytes]:
    with warnings.catch_warnings():
        # It reads its schemas through an interface of Python's that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        kafka: Any = importlib.import_module("kafka")
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=addresses(cluster, "KAFKA"),
        client_rack=rack,
        consumer_timeout_ms=DEADLINE_S * 1_000,
    )
    place = kafka.TopicPartition(TOPIC, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    values = [message.value for _, message in zip(range(RECORDS), consumer, strict=False)]
    consumer.close()
    return values


def with_ours(cluster: LocalCluster, rack: str) -> list[bytes]:
    async def main() -> list[bytes]:
        async with (
            asyncio.timeout(DEADLINE_S),
            OwnConsumer(
                bootstrap_servers=addresses(cluster, "GRPC"), client_rack=rack, auto_offset_reset="earliest"
            ) as consumer,
        ):
            consumer.assign([OwnTopicPartition(TOPIC, 0)])
            return [(await anext(consumer)).value or b"" for _ in range(RECORDS)]

    return asyncio.run(main())


@pytest.mark.parametrize("read", [with_confluent, with_kafka_python, with_ours])
def test_records_come_from_the_follower_in_the_rack(cluster: LocalCluster, read: Read) -> None:
    admin = AdminClient({"bootstrap.servers": addresses(cluster, "KAFKA")})
    leader = admin.list_topics(TOPIC, timeout=DEADLINE_S).topics[TOPIC].partitions[0].leader
    brokers = cluster.state().brokers
    follower = next(broker for broker in brokers if broker.node_id != leader)
    before = {broker.node_id: bytes_read(broker) for broker in brokers}
    values = read(cluster, follower.rack)
    assert [int(value.rstrip(b"\0")) for value in values] == list(range(RECORDS))
    served = {broker.node_id: bytes_read(broker) - before[broker.node_id] for broker in brokers}
    assert served[follower.node_id] >= RECORDS * SIZE_BYTES
    assert sum(served.values()) == served[follower.node_id], "others have served records as well"
