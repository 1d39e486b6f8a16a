"""Metadata of the Kafka listener: what is kept of it between requests, and when it has to be made anew."""

from collections.abc import Mapping
from dataclasses import replace

from glasslog.broker.kafka.codec import Reader
from glasslog.broker.kafka.messages import metadata as wire
from glasslog.broker.kafka.metadata_api import MetadataApis
from glasslog.broker.kafka.serving import Caller
from glasslog.broker.topic_lookup import AutoTopics
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.protocols import Peer
from glasslog.metadata.image import BrokerImage, MetadataImage, PartitionImage, TopicImage
from glasslog.metadata.records import Endpoint


def broker(number: int, *, fenced: bool = False) -> BrokerImage:
    return BrokerImage(
        broker_id=NodeId(number),
        incarnation_id=b"",
        broker_epoch=BrokerEpoch(1),
        endpoints=(Endpoint(name="KAFKA", host=f"b{number}", port=9092),),
        rack="",
        fenced=fenced,
        in_controlled_shutdown=False,
        log_dir_ids=(),
    )


def topic(number: int, *, leader: int = 1) -> TopicImage:
    name, topic_id = f"t{number}", TopicId(bytes([number] * 16))
    partition = PartitionImage(
        topic_id=topic_id,
        topic=name,
        partition=0,
        replicas=(NodeId(1), NodeId(2)),
        isr=(NodeId(1), NodeId(2)),
        leader=NodeId(leader),
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
    )
    return TopicImage(topic_id=topic_id, name=name, partitions=(partition,))


def image_of(*topics: TopicImage) -> MetadataImage:
    return MetadataImage(
        brokers={NodeId(number): broker(number) for number in (1, 2)},
        topics={each.topic_id: each for each in topics},
        topic_ids={each.name: each.topic_id for each in topics},
    )


class View:
    """An image that a test replaces."""

    def __init__(self, image: MetadataImage) -> None:
        self.image = image

    async def wait_for_offset(self, offset: Offset) -> None:
        """It is there."""


class Creates(AutoTopics):
    """Creates nothing."""

    def __init__(self) -> None: ...

    async def create_missing(self, names: object) -> Mapping[str, ErrorCode]:
        return {}


def apis(view: View) -> MetadataApis:
    return MetadataApis(view, Creates(), node_id=NodeId(2), cluster_id="c", listener="KAFKA")


def ask(
    given: MetadataApis, version: int = 12, request: wire.MetadataRequest | None = None
) -> wire.MetadataResponse:
    """As a client decodes it."""
    asked = request or wire.MetadataRequest(topics=None if version else ())
    answers: list[wire.MetadataResponse] = []

    async def main() -> None:
        answers.append(await given.metadata(asked, Caller(version, "", Peer("x:1"), "KAFKA")))

    run_virtual(main)
    data = wire.METADATA.encode_response(answers[0], version)
    return wire.METADATA.decode_response(Reader(memoryview(data)), version)


def leaders(answer: wire.MetadataResponse) -> dict[str | None, int]:
    topics = [each for each in answer.topics if isinstance(each, wire.MetadataResponseTopic)]
    return {each.name: each.partitions[0].leader_id for each in topics if each.partitions}


def test_a_changed_topic_is_told_anew_and_a_deleted_one_no_more() -> None:
    view = View(image_of(topic(1), topic(2), topic(3)))
    given = apis(view)
    assert leaders(ask(given)) == {"t1": 1, "t2": 1, "t3": 1}
    view.image = image_of(topic(1, leader=2), topic(2))
    for version in (0, 4, 9, 12, 13):
        assert leaders(ask(given, version)) == {"t1": 2, "t2": 1}


def test_a_fenced_broker_changes_what_is_told_of_topics_that_did_not_change() -> None:
    before = image_of(topic(1))
    view = View(before)
    given = apis(view)
    assert leaders(ask(given)) == {"t1": 1}
    view.image = replace(before, brokers={**before.brokers, NodeId(1): broker(1, fenced=True)})
    answer = ask(given)
    (told,) = answer.topics
    assert isinstance(told, wire.MetadataResponseTopic)
    assert told.partitions[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE
    assert (told.partitions[0].leader_id, told.partitions[0].offline_replicas) == (-1, (1,))
    assert [each.node_id for each in answer.brokers] == [2]


def test_topics_are_found_by_name_and_by_id_and_each_miss_has_its_error() -> None:
    given = apis(View(image_of(topic(1), topic(2))))
    request = wire.MetadataRequest(
        topics=(
            wire.MetadataRequestTopic(name="t1"),
            wire.MetadataRequestTopic(name="nope"),
            wire.MetadataRequestTopic(name="not/legal"),
        )
    )
    assert outcomes(ask(given, 12, request)) == [
        ("t1", 0),
        ("nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("not/legal", ErrorCode.INVALID_TOPIC_EXCEPTION),
    ]
    by_id = wire.MetadataRequest(
        topics=(
            wire.MetadataRequestTopic(name=None, topic_id=bytes([2] * 16)),
            wire.MetadataRequestTopic(name=None, topic_id=bytes([9] * 16)),
        )
    )
    assert outcomes(ask(given, 12, by_id)) == [("t2", 0), (None, ErrorCode.UNKNOWN_TOPIC_ID)]


def outcomes(answer: wire.MetadataResponse) -> list[tuple[str | None, int]]:
    told = [each for each in answer.topics if isinstance(each, wire.MetadataResponseTopic)]
    return [(each.name, each.error_code) for each in told]


def test_as_soon_as_one_topic_is_named_by_its_id_names_are_not_looked_at() -> None:
    """A topic was looked for by its name although the id beside it was of none: Kafka asks for the id alone,
    and versions 10 and 11, which have a place for ids, are refused as a whole."""
    given = apis(View(image_of(topic(1), topic(2))))
    request = wire.MetadataRequest(
        topics=(
            wire.MetadataRequestTopic(name="t1", topic_id=bytes([9] * 16)),
            wire.MetadataRequestTopic(name="t2"),
        )
    )
    assert outcomes(ask(given, 12, request)) == [(None, ErrorCode.UNKNOWN_TOPIC_ID)]
    refused = ask(given, 10, request)
    assert outcomes(refused) == [("t1", ErrorCode.INVALID_REQUEST), ("t2", ErrorCode.INVALID_REQUEST)]
    assert (refused.brokers, refused.controller_id) == ((), -1)


def test_this_broker_is_the_controller_while_clients_can_reach_it() -> None:
    image = image_of(topic(1))
    view = View(image)
    given = apis(view)
    assert ask(given).controller_id == 2
    view.image = replace(image, brokers={**image.brokers, NodeId(2): broker(2, fenced=True)})
    assert ask(given).controller_id == 1


def test_partitions_are_described_page_by_page() -> None:
    given = apis(View(image_of(topic(1), topic(2), topic(3))))
    request = wire.DescribeTopicPartitionsRequest(response_partition_limit=2)
    caller = Caller(0, "", Peer("x:1"), "KAFKA")
    first = given.describe_topic_partitions(request, caller)
    assert [each.name for each in first.topics] == ["t1", "t2"]
    assert first.next_cursor == wire.Cursor(topic_name="t3", partition_index=0)
    rest = given.describe_topic_partitions(replace(request, cursor=first.next_cursor), caller)
    assert ([each.name for each in rest.topics], rest.next_cursor) == (["t3"], None)


def test_who_may_lead_a_partition_is_described() -> None:
    known = topic(1)
    elr, last = (NodeId(2),), NodeId(1)
    placed = known.partitions[0]._replace(leader=NO_NODE, isr=(), elr=elr, last_known_leader=last)
    image = image_of(replace(known, partitions=(placed, *known.partitions[1:])))
    answer = apis(View(image)).describe_topic_partitions(
        wire.DescribeTopicPartitionsRequest(response_partition_limit=9), Caller(0, "", Peer("x:1"), "KAFKA")
    )
    told = answer.topics[0].partitions[0]
    assert (told.isr_nodes, told.eligible_leader_replicas, told.last_known_elr) == ((), (2,), (1,))


def test_a_controllers_endpoint_is_not_told_here() -> None:
    given = apis(View(image_of()))
    answer = given.describe_cluster(
        wire.DescribeClusterRequest(endpoint_type=2), Caller(2, "", Peer("x:1"), "KAFKA")
    )
    assert answer.error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE
