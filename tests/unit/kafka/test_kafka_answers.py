"""Answers of a whole broker that once were not Kafka's; a comparison with a real Kafka found them."""

import asyncio
from typing import Any

import pytest
from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.kafka.layout import ApiLayout
from glasslog.broker.kafka.messages import configs, members, metadata, offsets, producers, topics
from glasslog.common.errors import ErrorCode

from tests.unit.broker_shell.test_broker_server import Started, run
from tests.unit.kafka.test_kafka_fuzz import dialled


def answer(layout: "ApiLayout[Any, Any]", version: int, request: Any) -> Any:
    """What a broker without topics and groups answers."""
    found: list[Any] = []

    async def scenario(started: Started) -> None:
        await started.ready()
        connection, client = await dialled(started)
        is_flexible = version >= layout.flexible_from
        head = encode_request_header(layout.key, version, correlation_id=1, client_id="test")
        connection.send((head if is_flexible else head[:-1], bytes(layout.encode_request(request, version))))
        async with asyncio.timeout(5):
            await client.event.wait()
        body = client.frames[0][5 if is_flexible else 4 :]
        found.append(layout.decode_response(Reader(memoryview(body)), version))

    run(scenario)
    return found[0]


def test_a_producer_has_an_id_and_an_epoch_or_neither() -> None:
    """An epoch without an id was given a new id."""
    request = producers.InitProducerIdRequest(transactional_id=None, producer_id=-1, producer_epoch=0)
    assert answer(producers.INIT_PRODUCER_ID, 4, request).error_code == ErrorCode.INVALID_REQUEST


def test_from_version_5_on_a_member_that_syncs_names_its_protocol() -> None:
    request = members.SyncGroupRequest(group_id="g", member_id="m", protocol_type="consumer")
    assert answer(members.SYNC_GROUP, 5, request).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_nobody_leaves_a_group_without_a_name() -> None:
    request = members.LeaveGroupRequest(group_id="", members=(members.MemberIdentity(member_id="m"),))
    assert answer(members.LEAVE_GROUP, 4, request).error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize(("timestamp", "version"), [(-3, 6), (-4, 7), (-5, 8), (-9, 10)])
def test_a_time_that_a_version_does_not_know_is_refused_before_the_topic_is_looked_for(
    timestamp: int, version: int
) -> None:
    """A client must learn that the broker's version is the matter, not its topic."""
    asked = offsets.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    known = offsets.ListOffsetsPartition(partition_index=1, timestamp=-1)
    topic = offsets.ListOffsetsTopic(name="none", partitions=(asked, known))
    found = answer(offsets.LIST_OFFSETS, version, offsets.ListOffsetsRequest(replica_id=-1, topics=(topic,)))
    assert [each.error_code for each in found.topics[0].partitions] == [
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]


def test_a_topic_to_be_deleted_is_named_once() -> None:
    """With a name and an id the name was taken, whatever the id was of."""
    state = topics.DeleteTopicState(name="none", topic_id=bytes([7] * 16))
    found = answer(topics.DELETE_TOPICS, 6, topics.DeleteTopicsRequest(topics=(state,), timeout_ms=100))
    assert [(each.name, each.error_code) for each in found.responses] == [("none", ErrorCode.INVALID_REQUEST)]


def test_one_topic_that_is_named_twice_keeps_no_other_from_being_deleted() -> None:
    """All of the request was refused, where Kafka refuses that topic alone."""
    states = (
        topics.DeleteTopicState(name="both", topic_id=bytes([7] * 16)),
        topics.DeleteTopicState(name=None),
        topics.DeleteTopicState(name=None, topic_id=bytes([8] * 16)),
    )
    found = answer(topics.DELETE_TOPICS, 6, topics.DeleteTopicsRequest(topics=states, timeout_ms=100))
    assert [(each.name, each.error_code) for each in found.responses] == [
        ("both", ErrorCode.INVALID_REQUEST),
        (None, ErrorCode.INVALID_REQUEST),
        (None, ErrorCode.UNKNOWN_TOPIC_ID),
    ]


def test_a_setting_without_a_value_is_refused_when_a_topic_is_created() -> None:
    """The topic was created as if the setting had not been there."""
    setting = topics.CreatableTopicConfig(name="retention.ms", value=None)
    topic = topics.CreatableTopic(name="t", num_partitions=1, replication_factor=1, configs=(setting,))
    found = answer(topics.CREATE_TOPICS, 7, topics.CreateTopicsRequest(topics=(topic,), timeout_ms=100))
    assert [each.error_code for each in found.topics] == [ErrorCode.INVALID_CONFIG]


def test_a_kind_of_resource_that_has_no_settings_has_all_of_the_request_refused() -> None:
    asked = tuple(
        configs.DescribeConfigsResource(resource_type=kind, resource_name=name)
        for kind, name in ((99, "what"), (4, "1"))
    )
    found = answer(configs.DESCRIBE_CONFIGS, 4, configs.DescribeConfigsRequest(resources=asked))
    assert {each.error_code for each in found.results} == {ErrorCode.INVALID_REQUEST}


def test_a_cursor_that_no_answer_gave_is_refused() -> None:
    request = metadata.DescribeTopicPartitionsRequest(
        topics=(metadata.TopicRequest(name="a"),),
        response_partition_limit=10,
        cursor=metadata.Cursor(topic_name="b", partition_index=0),
    )
    found = answer(metadata.DESCRIBE_TOPIC_PARTITIONS, 0, request)
    assert [each.error_code for each in found.topics] == [ErrorCode.INVALID_REQUEST]
