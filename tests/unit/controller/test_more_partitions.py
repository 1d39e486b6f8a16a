"""Topics get more partitions: what is refused, with which code and words, and where the new ones go."""

from collections import Counter
from collections.abc import Sequence

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import OFFSETS_TOPIC, NodeId
from glasslog.controller.admin_requests import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    EnlargedTopic,
    MorePartitions,
)
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.placement import place
from glasslog.controller.requests import CreateTopicsRequest, CreateTopicsResponse
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.controller.controller_bench import CLUSTER, Bench


@pytest.fixture
def bench() -> Bench:
    result = Bench(settings=ControllerSettings(cluster_id=CLUSTER, max_partitions_per_request=20))
    result.start(1, 2, 3, racks=True)
    result.create_on("t", (1, 2), (2, 3))
    return result


def more(name: str, count: int, *replicas: Sequence[int]) -> MorePartitions:
    assignments = tuple(tuple(map(NodeId, each)) for each in replicas)
    return MorePartitions(name=name, count=count, assignments=assignments)


def enlarge(bench: Bench, *topics: MorePartitions, validate_only: bool = False) -> CreatePartitionsResponse:
    request = CreatePartitionsRequest(topics=topics, validate_only=validate_only)
    return bench.ask(request, CreatePartitionsResponse)


def enlarge_one(bench: Bench, topic: MorePartitions) -> EnlargedTopic:
    (result,) = enlarge(bench, topic).topics
    return result


def test_new_partitions_go_where_the_topic_has_least(bench: Bench) -> None:
    enlarge(bench, more("t", 3))
    added = bench.partition("t", 2)
    assert sorted(added.replicas) == [1, 3]
    assert added.isr == added.replicas
    assert (added.leader, added.leader_epoch, added.partition_epoch) == (3, 0, 0)
    # What was there is untouched.
    assert bench.partition("t", 0).partition_epoch == 0


def test_an_explicit_assignment_is_taken(bench: Bench) -> None:
    bench.fence(3)
    assert not enlarge_one(bench, more("t", 4, (3, 1), (2, 3))).error_code
    assert (bench.partition("t", 2).isr, bench.partition("t", 2).leader) == ((1,), 1)
    assert bench.partition("t", 3).replicas == (2, 3)


def test_validating_adds_nothing(bench: Bench) -> None:
    before = bench.image
    accepted, refused = enlarge(bench, more("t", 5), more("u", 5), validate_only=True).topics
    assert (accepted.error_code, refused.error_code) == (
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    )
    assert bench.image is before


@pytest.mark.parametrize(
    ("topic", "error", "words"),
    [
        (more("t", 2), ErrorCode.INVALID_PARTITIONS, "has 2 partitions; 2 would not be more"),
        (more("t", 1), ErrorCode.INVALID_PARTITIONS, "can not get fewer"),
        (more("t", -1), ErrorCode.INVALID_PARTITIONS, "-1 would not be more"),
        (more("t", 23), ErrorCode.INVALID_PARTITIONS, "20 in all"),
        (more("u", 2), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no topic 'u'"),
        (more("t", 4, (1, 2)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "of 1 partitions, and 2"),
        (more("t", 3, (1,)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "1 replicas and partition 0 2"),
        (more("t", 3, (1, 1)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "different brokers"),
        (more("t", 3, (1, 9)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not registered"),
    ],
)
def test_what_is_wrong_is_named(bench: Bench, topic: MorePartitions, error: ErrorCode, words: str) -> None:
    before = bench.image
    refused = enlarge_one(bench, topic)
    assert refused.error_code is error
    assert words in refused.error_message
    assert bench.image is before


def test_the_bound_counts_all_topics_of_a_request(bench: Bench) -> None:
    bench.create_on("u", (1, 2))
    codes = [each.error_code for each in enlarge(bench, more("t", 17), more("u", 7)).topics]
    assert codes == [ErrorCode.NONE, ErrorCode.INVALID_PARTITIONS]


def test_too_few_active_brokers_are_named(bench: Bench) -> None:
    bench.fence(1, 2)
    refused = enlarge_one(bench, more("t", 3))
    assert refused.error_code is ErrorCode.INVALID_REPLICATION_FACTOR
    assert "1 of 3 registered" in refused.error_message


def test_a_topic_named_twice_is_refused_twice(bench: Bench) -> None:
    codes = {each.error_code for each in enlarge(bench, more("t", 3), more("t", 4)).topics}
    assert codes == {ErrorCode.INVALID_REQUEST}


def test_the_clusters_own_topics_keep_their_number(bench: Bench) -> None:
    """A group's coordinator is the leader of the partition that its name hashes to."""
    made = CreateTopicsRequest(topics=(bench.new_topic(OFFSETS_TOPIC),), internal=True)
    bench.ask(made, CreateTopicsResponse)
    assert enlarge_one(bench, more(OFFSETS_TOPIC, 99)).error_code is ErrorCode.INVALID_TOPIC_EXCEPTION


@given(
    racks=st.integers(1, 4),
    brokers=st.integers(1, 3),
    factor=st.integers(1, 4),
    first=st.integers(1, 20),
    added=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_old_and_new_replicas_together_are_spread_evenly(
    racks: int, brokers: int, factor: int, first: int, added: int, seed: int
) -> None:
    where = {NodeId(rack * 10 + n): f"r{rack}" for rack in range(racks) for n in range(brokers)}
    factor = min(factor, len(where))
    old = place(where, partitions=first, replication_factor=factor, seed=seed)
    new = place(where, partitions=added, replication_factor=factor, seed=seed * 7, existing=old)
    counts = Counter(broker_id for replicas in (*old, *new) for broker_id in replicas)
    held = [counts[broker_id] for broker_id in where]
    assert max(held) - min(held) <= 1
    for replicas in new:
        assert len(set(replicas)) == factor
        assert len({where[each] for each in replicas}) == min(factor, racks)
