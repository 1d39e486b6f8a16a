"""Records, delta and image: what is replayed is what is seen, and contradictions stop the node."""

from contextlib import suppress

import pytest
from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import (
    NO_NODE,
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    Endpoint,
    FeatureLevel,
    MetadataRecord,
    NoOp,
    PartitionChange,
    PartitionCreated,
    ProducerIdsAllocated,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
    UnregisterBroker,
)
from glasslog.metadata.wire import decode_record, encode_record
from hypothesis import given
from hypothesis import strategies as st

TOPIC = TopicId(b"t" * 16)
nodes = st.integers(-1, 2**31 - 1).map(NodeId)
node_tuples = st.lists(nodes, max_size=5).map(tuple)
ids = st.binary(min_size=16, max_size=16).map(TopicId)
epochs = st.integers(0, 2**31 - 1)


def partition(index: int, *, leader: int = 1) -> PartitionCreated:
    return PartitionCreated(
        topic_id=TOPIC,
        partition=index,
        replicas=(NodeId(1), NodeId(2)),
        isr=(NodeId(1), NodeId(2)),
        leader=NodeId(leader),
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
    )


def register(broker_id: int, epoch: int) -> RegisterBroker:
    return RegisterBroker(
        broker_id=NodeId(broker_id),
        incarnation_id=bytes(16),
        broker_epoch=BrokerEpoch(epoch),
        endpoints=(Endpoint(name="GRPC", host="localhost", port=9192),),
        rack="a",
    )


def replay(image: MetadataImage, *records: MetadataRecord) -> MetadataImage:
    delta = MetadataDelta(image)
    for index, record in enumerate(records):
        delta.replay(Offset(image.offset + 1 + index), 1, record)
    return delta.apply()


@pytest.fixture
def image() -> MetadataImage:
    return replay(
        EMPTY_IMAGE, register(1, 0), TopicCreated(name="topic", topic_id=TOPIC), partition(0), partition(1)
    )


def test_a_topic_is_found_by_name_and_by_id(image: MetadataImage) -> None:
    topic = image.topic("topic")
    assert topic is not None
    assert [p.partition for p in topic.partitions] == [0, 1]
    assert image.partition("topic", 1) == image.partition_by_id(TOPIC, 1)
    assert image.partition("topic", 2) is None
    assert image.partition("topic", -1) is None
    assert image.topic("other") is None


def test_a_change_without_leader_keeps_the_leader_epoch(image: MetadataImage) -> None:
    changed = replay(image, PartitionChange(topic_id=TOPIC, partition=0, isr=(NodeId(1),)))
    state = changed.partition("topic", 0)
    assert state is not None
    assert (state.isr, state.leader_epoch, state.partition_epoch) == ((1,), 0, 1)


def test_a_change_with_leader_bumps_both_epochs_even_to_nobody(image: MetadataImage) -> None:
    changed = replay(image, PartitionChange(topic_id=TOPIC, partition=0, leader=NO_NODE))
    state = changed.partition("topic", 0)
    assert state is not None
    assert not state.has_leader
    assert (state.leader_epoch, state.partition_epoch) == (1, 1)


def test_an_image_never_changes(image: MetadataImage) -> None:
    before = (dict(image.brokers), dict(image.topics), dict(image.topic_ids), image.offset)
    replay(
        image,
        TopicRemoved(topic_id=TOPIC),
        register(2, 9),
        ProducerIdsAllocated(
            broker_id=NodeId(1), broker_epoch=BrokerEpoch(0), next_producer_id=ProducerId(1000)
        ),
    )
    assert (dict(image.brokers), dict(image.topics), dict(image.topic_ids), image.offset) == before


def test_removing_a_topic_takes_its_settings_and_name_and_allows_its_return(image: MetadataImage) -> None:
    setting = ConfigChange(
        resource_type=ResourceType.TOPIC, resource_name="topic", key="min.insync.replicas", value="2"
    )
    configured = replay(image, setting)
    assert configured.topic_config("topic") == {"min.insync.replicas": "2"}
    delta = MetadataDelta(configured)
    delta.replay(Offset(configured.offset + 1), 1, TopicRemoved(topic_id=TOPIC))
    assert [topic.name for topic in delta.removed_topics] == ["topic"]
    gone = delta.apply()
    assert gone.topic("topic") is None
    assert gone.topic_config("topic") == {}
    back = replay(gone, TopicCreated(name="topic", topic_id=TopicId(b"u" * 16)))
    assert back.topic("topic") is not None


def test_fencing_and_unregistering(image: MetadataImage) -> None:
    epoch = BrokerEpoch(0)
    unfenced = replay(image, BrokerRegistrationChange(broker_id=NodeId(1), broker_epoch=epoch, fenced=False))
    assert unfenced.brokers[NodeId(1)].active
    leaving = replay(
        unfenced,
        BrokerRegistrationChange(broker_id=NodeId(1), broker_epoch=epoch, in_controlled_shutdown=True),
    )
    assert not leaving.brokers[NodeId(1)].active
    assert NodeId(1) not in replay(leaving, UnregisterBroker(broker_id=NodeId(1), broker_epoch=epoch)).brokers


@pytest.mark.parametrize(
    "record",
    [
        TopicCreated(name="topic", topic_id=TopicId(b"v" * 16)),
        TopicRemoved(topic_id=TopicId(b"x" * 16)),
        partition(0),
        partition(3),
        PartitionChange(topic_id=TOPIC, partition=7, isr=()),
        BrokerRegistrationChange(broker_id=NodeId(1), broker_epoch=BrokerEpoch(5), fenced=True),
        UnregisterBroker(broker_id=NodeId(4), broker_epoch=BrokerEpoch(0)),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_contradicts_the_image_stops_the_node(
    image: MetadataImage, record: MetadataRecord
) -> None:
    with pytest.raises(InvariantViolation):
        replay(image, record)


def test_an_offset_is_replayed_once(image: MetadataImage) -> None:
    with pytest.raises(InvariantViolation, match="replayed after"):
        MetadataDelta(image).replay(image.offset, 1, NoOp())


records = st.one_of(
    st.builds(
        RegisterBroker,
        broker_id=nodes,
        incarnation_id=ids,
        broker_epoch=epochs.map(BrokerEpoch),
        endpoints=st.lists(
            st.builds(
                Endpoint, name=st.text(max_size=5), host=st.text(max_size=9), port=st.integers(0, 65535)
            ),
            max_size=3,
        ).map(tuple),
        rack=st.text(max_size=4),
        fenced=st.booleans(),
        log_dir_ids=st.lists(ids, max_size=2).map(tuple),
    ),
    st.builds(
        BrokerRegistrationChange,
        broker_id=nodes,
        broker_epoch=epochs.map(BrokerEpoch),
        fenced=st.none() | st.booleans(),
        in_controlled_shutdown=st.none() | st.booleans(),
    ),
    st.builds(TopicCreated, name=st.text(max_size=9), topic_id=ids),
    st.builds(TopicRemoved, topic_id=ids),
    st.builds(
        PartitionCreated,
        topic_id=ids,
        partition=epochs,
        replicas=node_tuples,
        isr=node_tuples,
        leader=nodes,
        leader_epoch=epochs.map(LeaderEpoch),
        partition_epoch=epochs.map(PartitionEpoch),
        adding_replicas=node_tuples,
        removing_replicas=node_tuples,
        elr=node_tuples,
        last_known_leader=nodes,
    ),
    st.builds(
        PartitionChange,
        topic_id=ids,
        partition=epochs,
        leader=st.none() | nodes,
        isr=st.none() | node_tuples,
        replicas=st.none() | node_tuples,
        adding_replicas=st.none() | node_tuples,
        removing_replicas=st.none() | node_tuples,
        elr=st.none() | node_tuples,
        last_known_leader=st.none() | nodes,
    ),
    st.builds(
        ConfigChange,
        resource_type=st.sampled_from(ResourceType),
        resource_name=st.text(max_size=5),
        key=st.text(max_size=5),
        value=st.none() | st.text(max_size=5),
    ),
    st.builds(
        ClientQuotaChange,
        entity=st.sampled_from(
            [(("user", None),), (("client-id", "c"),), (("client-id", None), ("user", "u"))]
        ),
        key=st.text(max_size=5),
        limit=st.none() | st.floats(allow_nan=False),
    ),
    st.builds(FeatureLevel, name=st.text(max_size=5), level=st.integers(0, 99)),
    st.just(NoOp()),
)


@given(record=records)
def test_a_record_survives_its_bytes(record: MetadataRecord) -> None:
    assert decode_record(encode_record(record)) == record


@given(data=st.binary(max_size=40))
def test_foreign_bytes_stop_the_node_cleanly(data: bytes) -> None:
    with suppress(InvariantViolation):
        decode_record(data)
