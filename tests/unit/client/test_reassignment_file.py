"""Plans in Kafka's JSON, both ways."""

import json

import pytest
from glasslog.client.reassignment_file import Plan, read, written
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

nodes = st.lists(st.integers(0, 99).map(NodeId), min_size=1, max_size=5).map(tuple)
names = st.builds(TopicPartition, st.text(min_size=1, max_size=9), st.integers(0, 10_000))


@given(assignment=st.dictionaries(names, nodes, max_size=9))
def test_what_is_written_is_read_back(assignment: dict[TopicPartition, tuple[NodeId, ...]]) -> None:
    assert read(written(assignment)) == Plan(replicas=assignment, directories={})


def test_what_kafkas_tool_writes_is_read() -> None:
    text = (
        '{"version":1,"partitions":[{"topic":"foo","partition":0,"replicas":[3,1],"log_dirs":["any","any"]},'
        '{"topic":"foo","partition":1,"replicas":[2]}]}'
    )
    plan = read(text)
    assert plan.replicas == {TopicPartition("foo", 0): (3, 1), TopicPartition("foo", 1): (2,)}
    assert plan.directories == {}


def test_data_directories_are_read_by_broker() -> None:
    text = (
        '{"version":1,"partitions":[{"topic":"foo","partition":0,"replicas":[3,1],"log_dirs":["/a","any"]},'
        '{"topic":"foo","partition":1,"replicas":[3],"log_dirs":["/b"]}]}'
    )
    assert read(text).directories == {
        3: {TopicPartition("foo", 0): "/a", TopicPartition("foo", 1): "/b"},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON"),
        ("[]", "expected"),
        ('{"version": 2, "partitions": []}', "expected"),
        ('{"version": 1}', "no list"),
        ('{"version": 1, "partitions": [1]}', "1 is no partition"),
        ('{"version": 1, "partitions": [{"topic": "t", "partition": true}]}', "topic and a partition"),
        ('{"version": 1, "partitions": [{"topic": "t", "partition": -1}]}', "topic and a partition"),
        ('{"version": 1, "partitions": [{"topic": "t", "partition": 0}]}', "t-0 does not name its replicas"),
        (
            '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": ["1"]}]}',
            "t-0 does not name its replicas",
        ),
        (
            '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1], '
            '"log_dirs": [""]}]}',
            "a data directory, or any, for each",
        ),
        (
            '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1, 2], '
            '"log_dirs": ["any"]}]}',
            "a data directory, or any, for each",
        ),
    ],
)
def test_what_is_no_plan_is_refused_with_a_reason(text: str, problem: str) -> None:
    with pytest.raises(GlasslogError, match=problem) as refused:
        read(text)
    assert refused.value.code is ErrorCode.INVALID_REQUEST


def test_a_partition_that_is_named_twice_is_refused() -> None:
    one = {"topic": "t", "partition": 0, "replicas": [1]}
    with pytest.raises(GlasslogError, match="t-0 is named twice"):
        read(json.dumps({"version": 1, "partitions": [one, one]}))
