"""Kafka's clients, unchanged, against a real local cluster: confluent-kafka, kafka-python, aiokafka; and
kcat and Kafka's own tools where they are installed (``GLASSLOG_KAFKA_LIBS`` names the folder of the jars)."""

import asyncio
import importlib
import json
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from confluent_kafka import (
    Consumer,
    ElectionType,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from glasslog.client import Consumer as OwnConsumer
from glasslog.client import Producer as OwnProducer
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.client_quotas import QuotaEntity
from glasslog.client.sync import Admin
from glasslog.client.types import ConsumerRecord
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition as OwnTopicPartition

from tests.golden.kafka_tools import class_path

# Not all of what this module offers is typed or said to be exported.
ADMIN: Any = importlib.import_module("confluent_kafka.admin")

DEADLINE_S = 30.0
HEADERS: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("b", None), ("a", b"")]
needs_kcat = pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("kafka") / "local")
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="module")
def servers(cluster: LocalCluster) -> str:
    return ",".join(broker.address("KAFKA") for broker in cluster.state().brokers)


def created(servers: str, name: str, *, partitions: int = 1, **configs: str) -> str:
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    topic = ADMIN.NewTopic(name, num_partitions=partitions, replication_factor=3, config=settings)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([topic])[name].result(DEADLINE_S)
    return name


def produced(servers: str, topic: str, values: list[bytes], **options: object) -> list[int]:
    """The offsets that the values were given."""
    producer = Producer({"bootstrap.servers": servers, **options})
    offsets: list[int] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offsets.append(message.offset() or 0)

    for number, value in enumerate(values):
        producer.produce(
            topic,
            value=value,
            key=b"key",
            headers=HEADERS,
            timestamp=1_700_000_000_000 + number,
            on_delivery=on_delivery,
        )
    assert producer.flush(DEADLINE_S) == 0
    return offsets


def consumed(consumer: Consumer, count: int) -> list[Message]:
    deadline = time.monotonic() + DEADLINE_S
    messages: list[Message] = []
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} records within {DEADLINE_S:g} s"
        for message in consumer.consume(count - len(messages), 1.0):
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def reader(servers: str, group: str, **options: object) -> Consumer:
    return Consumer(
        {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", **options}
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


# --- confluent-kafka --------------------------------------------------------------------------------------


def test_every_acks_and_compression_arrives(servers: str) -> None:
    topic = created(servers, "each-codec")
    sent: list[bytes] = []
    for acks, codec in product(("0", "1", "all"), ("none", "gzip", "snappy", "lz4", "zstd")):
        values = [f"{acks} {codec} {number} ".encode() * 9 for number in range(30)]
        offsets = produced(servers, topic, values, **{"acks": acks, "compression.type": codec})
        if acks != "0":
            assert offsets == list(range(len(sent), len(sent) + 30))
        sent += values
    consumer = reader(servers, "unused")
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumed(consumer, len(sent))
    consumer.close()
    assert [message.value() for message in messages] == sent
    assert messages[0].headers() == HEADERS
    assert messages[1].timestamp() == (1, 1_700_000_000_001)


@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
def test_a_group_shares_partitions_and_takes_them_over(servers: str, assignor: str) -> None:
    topic = created(servers, f"shared-{assignor}", partitions=4)
    options = {"partition.assignment.strategy": assignor, "heartbeat.interval.ms": 200}
    first, second = (reader(servers, f"group-{assignor}", **options) for _ in range(2))
    first.subscribe([topic])
    second.subscribe([topic])

    def is_shared() -> bool:
        first.poll(0.1)
        second.poll(0.1)
        return len(first.assignment()) == len(second.assignment()) == 2

    until(is_shared, "each has half of the partitions")
    second.close()

    def is_taken_over() -> bool:
        first.poll(0.1)
        return len(first.assignment()) == 4

    until(is_taken_over, "the one that is left has all of them")
    first.close()


def test_committed_offsets_are_where_a_group_goes_on(servers: str) -> None:
    topic = created(servers, "resumed")
    produced(servers, topic, [b"%d" % number for number in range(10)])
    consumer = reader(servers, "resumes", **{"enable.auto.commit": False})
    consumer.subscribe([topic])
    messages = consumed(consumer, 4)
    consumer.commit(message=messages[-1], asynchronous=False)
    consumer.close()
    again = reader(servers, "resumes")
    again.subscribe([topic])
    assert [message.value() for message in consumed(again, 6)] == [b"%d" % number for number in range(4, 10)]
    again.close()


def test_a_static_member_comes_back_without_a_rebalance(servers: str) -> None:
    topic = created(servers, "static", partitions=2)
    rebalances = []
    options = {"session.timeout.ms": 30_000}
    other = reader(servers, "statics", **options, **{"group.instance.id": "other"})
    other.subscribe([topic], on_assign=lambda _, given: rebalances.append(len(given)))
    member = reader(servers, "statics", **options, **{"group.instance.id": "member"})
    member.subscribe([topic])

    def is_shared() -> bool:
        member.poll(0.1)
        other.poll(0.1)
        return len(member.assignment()) == len(other.assignment()) == 1

    until(is_shared, "both have a partition")
    before = len(rebalances)
    member.close()
    member = reader(servers, "statics", **options, **{"group.instance.id": "member"})
    member.subscribe([topic])
    until(is_shared, "it has its partition again")
    assert len(rebalances) == before
    member.close()
    other.close()


def test_offsets_by_time(servers: str) -> None:
    topic = created(servers, "timed")
    produced(servers, topic, [b"x"] * 10)
    consumer = reader(servers, "unused")
    (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 1_700_000_000_004)])
    assert found.offset == 4
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 10)
    consumer.close()
    admin = AdminClient({"bootstrap.servers": servers})
    partition = TopicPartition(topic, 0)
    for spec, offset in (
        (ADMIN.OffsetSpec.latest(), 10),
        (ADMIN.OffsetSpec.earliest(), 0),
        (ADMIN.OffsetSpec.max_timestamp(), 9),
    ):
        assert admin.list_offsets({partition: spec})[partition].result(DEADLINE_S).offset == offset


def test_old_records_are_deleted(servers: str) -> None:
    topic = created(servers, "shortened")
    produced(servers, topic, [b"x"] * 10)
    admin = AdminClient({"bootstrap.servers": servers})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 7)]).values()
    assert deleted.result(DEADLINE_S).low_watermark == 7
    consumer = reader(servers, "unused")
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (7, 10)
    consumer.close()


def test_settings_are_changed(servers: str) -> None:
    topic = created(servers, "adjusted", delete_retention_ms="7")
    admin = AdminClient({"bootstrap.servers": servers})

    def change(key: str, value: str | None, operation: str) -> None:
        entry = ADMIN.ConfigEntry(
            key, value, incremental_operation=getattr(ADMIN.AlterConfigOpType, operation)
        )
        resource = ADMIN.ConfigResource("topic", topic, incremental_configs=[entry])
        (done,) = admin.incremental_alter_configs([resource]).values()
        done.result(DEADLINE_S)

    def shows(key: str, value: str, *, is_default: bool) -> None:
        """Brokers follow the metadata, each in its own time."""

        def is_shown() -> bool:
            (described,) = admin.describe_configs([ADMIN.ConfigResource("topic", topic)]).values()
            entry = described.result(DEADLINE_S)[key]
            return (entry.value, entry.is_default) == (value, is_default)

        until(is_shown, f"{key}={value}")

    change("cleanup.policy", "compact", "APPEND")
    shows("cleanup.policy", "delete,compact", is_default=False)
    change("delete.retention.ms", None, "DELETE")
    shows("delete.retention.ms", "86400000", is_default=True)
    with pytest.raises(KafkaException, match="not an integer"):
        change("retention.ms", "soon", "SET")
    whole = ADMIN.ConfigResource("topic", topic, set_config={"retention.ms": "5000"})
    with pytest.warns(DeprecationWarning, match="incremental"):
        (replaced,) = admin.alter_configs([whole]).values()
    replaced.result(DEADLINE_S)
    shows("retention.ms", "5000", is_default=False)
    shows("cleanup.policy", "delete", is_default=True)


def test_partitions_are_added_and_clients_notice(servers: str) -> None:
    topic = created(servers, "enlarged", partitions=2)
    consumer = reader(servers, "enlarged-group", **{"topic.metadata.refresh.interval.ms": 200})
    consumer.subscribe([topic])
    admin = AdminClient({"bootstrap.servers": servers})

    def assigned(count: int) -> bool:
        consumer.poll(0.1)
        return len(consumer.assignment()) == count

    until(lambda: assigned(2), "both partitions are assigned")
    (added,) = admin.create_partitions([ADMIN.NewPartitions(topic, 4, [[2, 1, 3], [3, 1, 2]])]).values()
    added.result(DEADLINE_S)
    until(lambda: assigned(4), "all four are")
    consumer.close()
    partitions = admin.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions
    assert [partitions[number].replicas for number in (2, 3)] == [[2, 1, 3], [3, 1, 2]]
    (refused,) = admin.create_partitions([ADMIN.NewPartitions(topic, 3)]).values()
    with pytest.raises(KafkaException, match="has 4 partitions; 3 would not be more"):
        refused.result(DEADLINE_S)


def test_leaders_are_elected_when_asked(servers: str) -> None:
    topic = created(servers, "elected")
    admin = AdminClient({"bootstrap.servers": servers})

    def refusal(kind: str, number: int) -> int:
        places = [TopicPartition(topic, number)]
        elected = admin.elect_leaders(getattr(ElectionType, kind), places)
        (error,) = elected.result(DEADLINE_S).values()
        return int(error.code())

    assert refusal("PREFERRED", 0) == KafkaError.ELECTION_NOT_NEEDED
    assert refusal("UNCLEAN", 0) == KafkaError.ELECTION_NOT_NEEDED
    assert refusal("PREFERRED", 9) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_administration(servers: str) -> None:
    topic = created(servers, "administered", partitions=2, min_insync_replicas="2")
    admin = AdminClient({"bootstrap.servers": servers})
    # Brokers follow the metadata, each in its own time.
    until(lambda: topic in admin.list_topics(timeout=DEADLINE_S).topics, "the topic is listed")
    metadata = admin.list_topics(timeout=DEADLINE_S).topics[topic]
    assert sorted(metadata.partitions[0].replicas) == [1, 2, 3]
    (described,) = admin.describe_configs([ADMIN.ConfigResource("topic", topic)]).values()
    entry = described.result(DEADLINE_S)["min.insync.replicas"]
    assert (entry.value, entry.is_default) == ("2", False)
    (of_broker,) = admin.describe_configs([ADMIN.ConfigResource("broker", "1")]).values()
    assert of_broker.result(DEADLINE_S)["node.id"].value == "1"
    assert len(admin.describe_cluster().result(DEADLINE_S).nodes) == 3
    produced(servers, topic, [b"x"])
    consumer = reader(servers, "administered-group")
    consumer.subscribe([topic])
    consumed(consumer, 1)
    consumer.commit(asynchronous=False)
    (group,) = admin.describe_consumer_groups(["administered-group"]).values()
    assert group.result(DEADLINE_S).state.name == "STABLE"
    consumer.close()
    listed = admin.list_consumer_groups().result(DEADLINE_S).valid
    assert "administered-group" in {each.group_id for each in listed}
    admin.delete_consumer_groups(["administered-group"])["administered-group"].result(DEADLINE_S)
    listed = admin.list_consumer_groups().result(DEADLINE_S).valid
    assert "administered-group" not in {each.group_id for each in listed}
    admin.delete_topics([topic])[topic].result(DEADLINE_S)
    # A client that has asked for a topic by name goes on doing so, which would create it again.
    other = AdminClient({"bootstrap.servers": servers})
    assert topic not in other.list_topics(timeout=DEADLINE_S).topics


def test_an_idempotent_producer_outlives_the_leader(cluster: LocalCluster, servers: str) -> None:
    topic = created(servers, "survivor", min_insync_replicas="2")
    admin = AdminClient({"bootstrap.servers": servers})
    leader = admin.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions[0].leader
    errors: list[KafkaError] = []
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1, "retry.backoff.ms": 20}
    )
    for number in range(2_000):
        if number == 1_000:
            cluster.kill(f"broker-{leader}")
        producer.produce(
            topic, b"%d" % number, on_delivery=lambda error, _: errors.append(error) if error else None
        )
        producer.poll(0.0005)
    assert producer.flush(DEADLINE_S) == 0
    assert errors == []
    cluster.restart(f"broker-{leader}")
    consumer = reader(servers, "unused")
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert [message.value() for message in consumed(consumer, 2_000)] == [b"%d" % n for n in range(2_000)]
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 2_000)
    consumer.close()


# --- both listeners ---------------------------------------------------------------------------------------


def test_what_kafka_wrote_is_read_through_grpc(cluster: LocalCluster, servers: str) -> None:
    topic = created(servers, "kafka-to-grpc")
    produced(servers, topic, [b"one", b"\x00\xff"], **{"compression.type": "lz4"})

    async def main() -> list[ConsumerRecord]:
        bootstrap = grpc_servers(cluster)
        async with (
            asyncio.timeout(DEADLINE_S),
            OwnConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
        ):
            consumer.assign([OwnTopicPartition(topic, 0)])
            return [await anext(consumer) for _ in range(2)]

    records = asyncio.run(main())
    assert [(each.key, each.value, list(each.headers), each.timestamp) for each in records] == [
        (b"key", b"one", HEADERS, 1_700_000_000_000),
        (b"key", b"\x00\xff", HEADERS, 1_700_000_000_001),
    ]


def test_what_grpc_wrote_is_read_through_kafka(cluster: LocalCluster, servers: str) -> None:
    topic = created(servers, "grpc-to-kafka")

    async def main() -> None:
        async with OwnProducer(grpc_servers(cluster), compression_type="zstd") as producer:
            headers = (("a", b"1"), ("b", None), ("a", b""))
            await producer.send(topic, b"\x00v", key=b"k", headers=headers, timestamp_ms=1_700_000_000_007)

    asyncio.run(main())
    consumer = reader(servers, "unused")
    consumer.assign([TopicPartition(topic, 0, 0)])
    (message,) = consumed(consumer, 1)
    consumer.close()
    assert (message.key(), message.value(), message.headers()) == (b"k", b"\x00v", HEADERS)
    assert message.timestamp() == (1, 1_700_000_000_007)


def grpc_servers(cluster: LocalCluster) -> str:
    return ",".join(broker.address("GRPC") for broker in cluster.state().brokers)


# --- other clients ----------------------------------------------------------------------------------------


def test_kafka_python(servers: str) -> None:
    with warnings.catch_warnings():
        # It reads its schemas through an interface of Python's that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        kafka: Any = importlib.import_module("kafka")
    producer = kafka.KafkaProducer(bootstrap_servers=servers)
    for number in range(20):
        producer.send("made-by-kafka-python", b"%d" % number)
    producer.flush()
    producer.close()
    consumer = kafka.KafkaConsumer(
        "made-by-kafka-python",
        bootstrap_servers=servers,
        group_id="kafka-python",
        auto_offset_reset="earliest",
    )
    values = [message.value for _, message in zip(range(20), consumer, strict=False)]
    consumer.close()
    assert sorted(map(int, values)) == list(range(20))


def test_aiokafka(servers: str) -> None:
    aiokafka: Any = importlib.import_module("aiokafka")

    async def main() -> list[bytes | None]:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
        await producer.start()
        for number in range(20):
            await producer.send_and_wait("made-by-aiokafka", b"%d" % number)
        await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(
            "made-by-aiokafka", bootstrap_servers=servers, group_id="aiokafka", auto_offset_reset="earliest"
        )
        await consumer.start()
        async with asyncio.timeout(DEADLINE_S):
            values = [(await consumer.getone()).value for _ in range(20)]
        await consumer.stop()
        return values

    assert asyncio.run(main()) == [b"%d" % number for number in range(20)]


def tool(*arguments: str, text: str = "") -> str:
    done = subprocess.run(
        arguments, input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kafka_python_reads_and_changes_features(servers: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        kafka: Any = importlib.import_module("kafka")
    admin = kafka.KafkaAdminClient(bootstrap_servers=servers)
    told = admin.describe_features()
    assert told["metadata.version"]["finalized"] == (25, 25)
    elr = "eligible.leader.replicas.version"
    assert told[elr]["finalized"] == (1, 1)
    assert admin.update_features({elr: ("SAFE_DOWNGRADE", 0)}, validate_only=True) == {elr: "OK"}
    with pytest.raises(Exception, match="levels 0 to 1 here, not 9"):
        admin.update_features({elr: 9})
    admin.close()


def test_kafka_python_moves_partitions(servers: str) -> None:
    topic = created(servers, "moved-by-kafka-python", partitions=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        kafka: Any = importlib.import_module("kafka")
    admin = kafka.KafkaAdminClient(bootstrap_servers=servers)
    first, second, unknown = (
        kafka.TopicPartition(*each) for each in ((topic, 0), (topic, 1), ("no-such", 0))
    )
    codes = admin.alter_partition_reassignments({first: [3, 1], second: None, unknown: [1]})
    assert {name: error and error.errno for name, error in codes.items()} == {
        first: None,
        second: ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
        unknown: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    until(lambda: admin.list_partition_reassignments() == {}, "the move to end")
    metadata = AdminClient({"bootstrap.servers": servers}).list_topics(topic, DEADLINE_S)
    assert metadata.topics[topic].partitions[0].replicas == [3, 1]
    admin.close()


def test_a_client_over_its_quota_is_told_and_held_back(cluster: LocalCluster, servers: str) -> None:
    topic = created(servers, "held-back")
    rate, size_bytes = 20_000, 1_000
    limits = {"producer_byte_rate": rate, "consumer_byte_rate": rate}
    told: list[float] = []

    def note(event: Any) -> None:
        told.append(event.throttle_time)

    with Admin(grpc_servers(cluster)) as admin:
        admin.alter_client_quotas({QuotaEntity(client_id="held-back"): limits})
        # Ten seconds of the rate may be used at once; this is one second's more.
        values = [b"%d" % number + bytes(size_bytes) for number in range(10 * rate // size_bytes + 20)]
        options: dict[str, object] = {"client.id": "held-back", "throttle_cb": note}
        began = time.monotonic()
        produced(servers, topic, values[:-1], **options)
        # The one behind those that were too much has to wait.
        produced(servers, topic, values[-1:], **options)
        until(lambda: bool(told) and max(told) > 0, "the producer is told")
        told.clear()
        consumer = reader(servers, "unused", **options)
        consumer.assign([TopicPartition(topic, 0, 0)])
        assert [message.value() for message in consumed(consumer, len(values))] == values
        assert told
        assert max(told) > 0
        consumer.close()
        assert time.monotonic() - began > 0.5
        admin.alter_client_quotas({QuotaEntity(client_id="held-back"): dict.fromkeys(limits)})


@needs_kcat
def test_kcat(servers: str) -> None:
    tool("kcat", "-P", "-b", servers, "-t", "made-by-kcat", text="one\ntwo\n")
    assert tool("kcat", "-C", "-e", "-q", "-b", servers, "-t", "made-by-kcat") == "one\ntwo\n"
    listed = json.loads(tool("kcat", "-L", "-J", "-b", servers, "-t", "made-by-kcat"))
    assert len(listed["brokers"]) == 3


def test_kafkas_own_tools(servers: str) -> None:
    def java(name: str, *arguments: str, text: str = "") -> str:
        command = ("java", "-XX:TieredStopAtLevel=1", "-cp", class_path(), name)
        return tool(*command, "--bootstrap-server", servers, *arguments, text=text)

    tools = "org.apache.kafka.tools."
    topic = ("--topic", "made-by-java")
    assert "Created topic" in java(tools + "TopicCommand", "--create", *topic, "--replication-factor", "3")
    java(tools + "ConsoleProducer", *topic, text="one\ntwo\n")
    reading = ("--from-beginning", "--max-messages", "2", "--group", "java")
    assert java(tools + "consumer.ConsoleConsumer", *topic, *reading) == "one\ntwo\n"
    described = java(tools + "consumer.group.ConsumerGroupCommand", "--describe", "--group", "java")
    assert "made-by-java" in described
    assert "(id: 1 rack: rack-a" in java(tools + "BrokerApiVersionsCommand")
    entity = (
        "--entity-type",
        "clients",
        "--entity-name",
        "java",
        "--entity-type",
        "users",
        "--entity-default",
    )
    java("kafka.admin.ConfigCommand", "--alter", *entity, "--add-config", "producer_byte_rate=1024")
    described = java("kafka.admin.ConfigCommand", "--describe", *entity)
    assert "producer_byte_rate=1024.0" in described
    java("kafka.admin.ConfigCommand", "--alter", *entity, "--delete-config", "producer_byte_rate")
    assert "1024" not in java("kafka.admin.ConfigCommand", "--describe", *entity)
