"""Creation and deletion of topics: what is refused, with which code and words, and what is written."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import OFFSETS_TOPIC, NodeId, TopicId
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.requests import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeletedTopic,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)

from tests.unit.controller.controller_bench import CLUSTER, Bench


@pytest.fixture
def bench() -> Bench:
    settings = ControllerSettings(
        cluster_id=CLUSTER, num_partitions=4, default_replication_factor=2, max_partitions_per_request=20
    )
    result = Bench(settings=settings)
    result.start(1, 2, 3, racks=True)
    return result


def delete(bench: Bench, *names: str) -> tuple[DeletedTopic, ...]:
    return bench.ask(DeleteTopicsRequest(names=names), DeleteTopicsResponse).topics


def nodes(*ids: int) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, ids))


# --- creation ---


def test_a_topic_is_created_as_asked(bench: Bench) -> None:
    made = bench.create("orders", partitions=6, replication_factor=3, configs={"retention.ms": "60000"})
    assert (made.error_code, made.partitions, made.replication_factor) == (ErrorCode.NONE, 6, 3)
    topic = bench.image.topics[made.topic_id]
    assert (topic.name, len(topic.partitions)) == ("orders", 6)
    for partition in topic.partitions:
        assert partition.isr == partition.replicas
        assert partition.leader == partition.replicas[0]
        assert (partition.leader_epoch, partition.partition_epoch) == (0, 0)
    assert bench.image.topic_config("orders") == {"retention.ms": "60000"}


def test_counts_not_given_come_from_the_settings(bench: Bench) -> None:
    made = bench.create("t")
    assert (made.partitions, made.replication_factor) == (4, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        (".", "folder"),
        ("..", "folder"),
        ("a" * 250, "249"),
        ("a/b", "characters other than"),
        ("../etc", "characters other than"),
        ("größe", "characters other than"),
        ("with space", "characters other than"),
        ("line\n", "characters other than"),
        ("__cluster_metadata", "controllers"),
        (OFFSETS_TOPIC, "cluster's own"),
    ],
)
def test_a_bad_name_is_refused(bench: Bench, name: str, words: str) -> None:
    refused = bench.create(name)
    assert refused.error_code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert words in refused.error_message


def test_the_longest_name_is_accepted(bench: Bench) -> None:
    assert bench.create("a" * 249).error_code is ErrorCode.NONE


def test_a_very_long_name_is_not_repeated_in_full(bench: Bench) -> None:
    assert len(bench.create("x/" * 100_000).error_message) < 600


def test_names_that_collide_in_metrics_are_refused(bench: Bench) -> None:
    bench.create("a.b_c")
    refused = bench.create("a_b.c")
    assert refused.error_code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert "'a.b_c'" in refused.error_message


def test_names_that_collide_within_one_request_are_refused(bench: Bench) -> None:
    request = CreateTopicsRequest(topics=(bench.new_topic("a.b"), bench.new_topic("a_b")))
    codes = [each.error_code for each in bench.ask(request, CreateTopicsResponse).topics]
    assert codes == [ErrorCode.NONE, ErrorCode.INVALID_TOPIC_EXCEPTION]


def test_an_existing_topic_is_refused(bench: Bench) -> None:
    bench.create("t")
    assert bench.create("t").error_code is ErrorCode.TOPIC_ALREADY_EXISTS


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"partitions": 0}, ErrorCode.INVALID_PARTITIONS, "0 partitions"),
        ({"partitions": -2}, ErrorCode.INVALID_PARTITIONS, "-2 partitions"),
        ({"partitions": 21}, ErrorCode.INVALID_PARTITIONS, "20 in all"),
        ({"replication_factor": 0}, ErrorCode.INVALID_REPLICATION_FACTOR, "at least 1"),
        ({"replication_factor": 4}, ErrorCode.INVALID_REPLICATION_FACTOR, "3 of 3 registered"),
        ({"configs": {"no.such": "1"}}, ErrorCode.INVALID_CONFIG, "no.such"),
        ({"configs": {"retention.ms": "soon"}}, ErrorCode.INVALID_CONFIG, "retention.ms"),
        ({"assignments": ((1, nodes(1)),)}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "0 to 0"),
        (
            {"assignments": ((0, nodes(1)), (0, nodes(2)))},
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "each once",
        ),
        ({"assignments": ((0, ()),)}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "different brokers"),
        ({"assignments": ((0, nodes(1, 1)),)}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "different brokers"),
        ({"assignments": ((0, nodes(1, 9)),)}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not registered"),
        (
            {"assignments": ((0, nodes(1, 2)), (1, nodes(3)))},
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partition 1 1 replicas",
        ),
        (
            {"assignments": ((0, nodes(1)),), "partitions": 3},
            ErrorCode.INVALID_REQUEST,
            "3 partitions and assigns 1",
        ),
        (
            {"assignments": ((0, nodes(1)),), "replication_factor": 2},
            ErrorCode.INVALID_REQUEST,
            "2 replicas and assigns 1",
        ),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(
    bench: Bench, changes: dict[str, object], error: ErrorCode, words: str
) -> None:
    length = len(bench.log)
    refused = bench.create("t", **changes)
    assert (refused.error_code, refused.topic_id) == (error, TopicId(bytes(16)))
    assert words in refused.error_message
    assert len(bench.log) == length


def test_an_assignment_without_an_active_broker_is_refused(bench: Bench) -> None:
    bench.fence(3)
    refused = bench.create("t", assignments=((0, nodes(3)),))
    assert refused.error_code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "none of them is active" in refused.error_message


def test_the_replication_factor_is_held_against_active_brokers(bench: Bench) -> None:
    bench.fence(3)
    refused = bench.create("t", replication_factor=3)
    assert refused.error_code is ErrorCode.INVALID_REPLICATION_FACTOR
    assert "2 of 3 registered brokers are active" in refused.error_message


def test_an_internal_topic_waits_for_its_brokers_too(bench: Bench) -> None:
    """A consumer that came while the cluster started once left all offsets on one replica (KAFKA-3959)."""
    bench.fence(2, 3)
    topic = bench.new_topic(OFFSETS_TOPIC, partitions=5, replication_factor=3)
    made = bench.ask(CreateTopicsRequest(topics=(topic,), internal=True), CreateTopicsResponse).topics[0]
    assert made.error_code is ErrorCode.INVALID_REPLICATION_FACTOR


def test_an_internal_topic_needs_some_broker() -> None:
    bench = Bench()
    topic = bench.new_topic(OFFSETS_TOPIC, partitions=5, replication_factor=3)
    made = bench.ask(CreateTopicsRequest(topics=(topic,), internal=True), CreateTopicsResponse).topics[0]
    assert made.error_code is ErrorCode.INVALID_REPLICATION_FACTOR


def test_topics_of_one_request_are_independent(bench: Bench) -> None:
    request = CreateTopicsRequest(
        topics=(
            bench.new_topic("twice"),
            bench.new_topic("good"),
            bench.new_topic("twice"),
            bench.new_topic("bad", partitions=0),
        )
    )
    results = bench.ask(request, CreateTopicsResponse).topics
    assert [(each.name, each.error_code) for each in results] == [
        ("twice", ErrorCode.INVALID_REQUEST),
        ("good", ErrorCode.NONE),
        ("bad", ErrorCode.INVALID_PARTITIONS),
    ]
    assert list(bench.image.topic_ids) == ["good"]


def test_the_bound_on_partitions_is_for_the_whole_request(bench: Bench) -> None:
    request = CreateTopicsRequest(
        topics=(bench.new_topic("a", partitions=15), bench.new_topic("b", partitions=6))
    )
    codes = [each.error_code for each in bench.ask(request, CreateTopicsResponse).topics]
    assert codes == [ErrorCode.NONE, ErrorCode.INVALID_PARTITIONS]


def test_validation_alone_writes_nothing(bench: Bench) -> None:
    length = len(bench.log)
    request = CreateTopicsRequest(
        topics=(bench.new_topic("good"), bench.new_topic("b d")), validate_only=True
    )
    codes = [each.error_code for each in bench.ask(request, CreateTopicsResponse).topics]
    assert codes == [ErrorCode.NONE, ErrorCode.INVALID_TOPIC_EXCEPTION]
    assert len(bench.log) == length


# --- deletion ---


def test_a_topic_is_deleted_with_its_settings_and_may_come_anew(bench: Bench) -> None:
    first = bench.create("t", configs={"retention.ms": "1"}).topic_id
    assert [each.error_code for each in delete(bench, "t")] == [ErrorCode.NONE]
    assert bench.image.topic("t") is None
    second = bench.create("t").topic_id
    assert first != second
    assert bench.image.topic_config("t") == {}
    assert bench.alter("t", (1,), topic_id=first).error_code is ErrorCode.UNKNOWN_TOPIC_ID


def test_deletions_that_can_not_be(bench: Bench) -> None:
    bench.create("t")
    results = delete(bench, "missing", "t", "t", OFFSETS_TOPIC)
    assert [each.error_code for each in results] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]
    assert all(each.error_message for each in results)
    assert bench.image.topic("t") is not None
