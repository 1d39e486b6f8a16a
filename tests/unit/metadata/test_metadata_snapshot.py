"""An image becomes a snapshot and comes back whole; a damaged one is never taken for a sound one."""

from collections.abc import Sequence
from dataclasses import fields

import pytest
from glasslog.common.ids import (
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    ProducerId,
    TopicId,
)
from glasslog.log.inspection.control_records import decode_control_record
from glasslog.log.records import decode_fast
from glasslog.metadata.control_records import (
    KRAFT_VOTERS,
    CorruptControlRecord,
    VoterEntry,
    VotersRecord,
    control_key,
    decode_voters,
    encode_voters,
)
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.features import FeatureRange
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage
from glasslog.metadata.image_records import encoded_image, image_of
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ClientQuotaChange,
    ConfigChange,
    Endpoint,
    FeatureLevel,
    MetadataRecord,
    PartitionChange,
    PartitionCreated,
    ProducerIdsAllocated,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
    UnregisterBroker,
)
from glasslog.metadata.snapshot import (
    CorruptSnapshot,
    Snapshot,
    SnapshotId,
    decode_snapshot,
    encode_snapshot,
)
from glasslog.metadata.wire import decode_record
from hypothesis import given
from hypothesis import strategies as st

ID = SnapshotId(end_offset=1234, epoch=5)
VOTERS = VotersRecord(
    voters=(
        VoterEntry(node_id=NodeId(1), directory_id=b"1" * 16, address="one:9093"),
        VoterEntry(node_id=NodeId(2), directory_id=b"2" * 16, address="[::1]:19093"),
        VoterEntry(node_id=NodeId(3)),
    )
)


def topic_id(number: int) -> TopicId:
    return TopicId(bytes([number]) * 16)


def registration(broker_id: int, epoch: int) -> RegisterBroker:
    return RegisterBroker(
        broker_id=NodeId(broker_id),
        incarnation_id=b"i" * 16,
        broker_epoch=BrokerEpoch(epoch),
        endpoints=(Endpoint(name="GRPC", host="h", port=9092),),
        rack="r1",
        fenced=False,
        log_dir_ids=(b"d" * 16,),
        features=(FeatureRange(name="f", minimum=1, maximum=3), FeatureRange(name="g", minimum=0, maximum=0)),
    )


def partition(topic: int, number: int) -> PartitionCreated:
    return PartitionCreated(
        topic_id=topic_id(topic),
        partition=number,
        replicas=(NodeId(1), NodeId(2)),
        isr=(NodeId(2),),
        leader=NodeId(2),
        leader_epoch=LeaderEpoch(7),
        partition_epoch=PartitionEpoch(9),
        directories=(b"d" * 16, bytes(16)),
        adding_replicas=(NodeId(1),),
        removing_replicas=(NodeId(2),),
        elr=(NodeId(1),),
        last_known_leader=NodeId(1),
        recovering=True,
    )


def replayed(base: MetadataImage, records: Sequence[MetadataRecord]) -> MetadataImage:
    delta = MetadataDelta(base)
    for offset, record in enumerate(records, base.offset + 1):
        delta.replay(Offset(offset), 5, record)
    return delta.apply()


FULL = replayed(
    EMPTY_IMAGE,
    [
        registration(1, 10),
        registration(2, 11),
        BrokerRegistrationChange(
            broker_id=NodeId(2), broker_epoch=BrokerEpoch(11), in_controlled_shutdown=True
        ),
        *[TopicCreated(name=f"t{number}", topic_id=topic_id(number)) for number in (1, 2, 3)],
        *[partition(topic, number) for topic in (1, 2, 3) for number in range(4)],
        ConfigChange(resource_type=ResourceType.TOPIC, resource_name="t1", key="retention.ms", value="5"),
        ConfigChange(resource_type=ResourceType.BROKER, resource_name="1", key="log.retention.ms", value="6"),
        ProducerIdsAllocated(
            broker_id=NodeId(1), broker_epoch=BrokerEpoch(10), next_producer_id=ProducerId(3000)
        ),
        FeatureLevel(name="eligible.leader.replicas.version", level=1),
        ClientQuotaChange(entity=(("client-id", None), ("user", "u")), key="producer_byte_rate", limit=1.5),
        ClientQuotaChange(entity=(("client-id", "c"),), key="request_percentage", limit=50.0),
        ClientQuotaChange(entity=(("client-id", "gone"),), key="request_percentage", limit=50.0),
        ClientQuotaChange(entity=(("client-id", "gone"),), key="request_percentage", limit=None),
    ],
)


def written(image: MetadataImage, *, voters: VotersRecord | None = None) -> bytes:
    return b"".join(encode_snapshot(ID, encoded_image(image), timestamp_ms=77, voters=voters))


def image_in(snapshot: Snapshot) -> MetadataImage:
    records = [decode_record(value) for batch in snapshot.batches for value in batch]
    return image_of(records, offset=snapshot.last_offset, epoch=snapshot.id.epoch)


def test_every_field_of_an_image_is_in_its_snapshot() -> None:
    """Where a field has its default value, forgetting it would go unseen."""
    for field in fields(MetadataImage):
        assert getattr(FULL, field.name) != getattr(EMPTY_IMAGE, field.name), field.name
    image = image_in(decode_snapshot(ID, written(FULL)))
    assert image.offset == ID.end_offset - 1
    assert image.epoch == ID.epoch
    for field in fields(MetadataImage):
        if field.name not in ("offset", "epoch"):
            assert getattr(image, field.name) == getattr(FULL, field.name), field.name


def test_header_footer_and_voters_are_kafkas() -> None:
    data = written(FULL, voters=VOTERS)
    snapshot = decode_snapshot(ID, data)
    assert snapshot.timestamp_ms == 77
    assert snapshot.voters == VOTERS
    head = [decode_control_record(key, value) for _, _, key, value, _ in decode_fast(data, 0)]
    assert [record["control"] for record in head] == ["SNAPSHOT_HEADER", "KRAFT_VERSION", "KRAFT_VOTERS"]
    assert ID.file_name == "00000000000000001234-0000000005.checkpoint"


def test_voters_come_back() -> None:
    data = encode_voters(VOTERS)
    assert decode_voters(data) == VOTERS
    fields_of_it = decode_control_record(control_key(KRAFT_VOTERS), data)
    assert "voters" in fields_of_it
    for size in range(len(data) - 1):
        with pytest.raises(CorruptControlRecord):
            decode_voters(data[:size])


@given(position=st.integers(0, 1 << 30), flip=st.integers(1, 255))
def test_no_flipped_byte_goes_unseen(position: int, flip: int) -> None:
    data = bytearray(written(FULL))
    data[position % len(data)] ^= flip
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(ID, bytes(data))


@given(size=st.integers(0, 1 << 30))
def test_a_part_is_not_the_whole(size: int) -> None:
    data = written(FULL)
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(ID, data[: size % len(data)])


def test_what_follows_the_footer_is_refused() -> None:
    data = written(FULL)
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(ID, data + data)
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(SnapshotId(end_offset=1234, epoch=6), data)


LATER: list[MetadataRecord] = [
    UnregisterBroker(broker_id=NodeId(1), broker_epoch=BrokerEpoch(10)),
    registration(3, 40),
    TopicRemoved(topic_id=topic_id(1)),
    TopicCreated(name="t1", topic_id=topic_id(9)),
    partition(9, 0),
    PartitionChange(topic_id=topic_id(2), partition=1, leader=NodeId(1)),
    partition(2, 4),
    ConfigChange(resource_type=ResourceType.BROKER, resource_name="1", key="log.retention.ms", value=None),
    ConfigChange(resource_type=ResourceType.TOPIC, resource_name="t2", key="retention.ms", value="8"),
    ProducerIdsAllocated(
        broker_id=NodeId(1), broker_epoch=BrokerEpoch(10), next_producer_id=ProducerId(9000)
    ),
]


@given(kept=st.lists(st.booleans(), min_size=len(LATER), max_size=len(LATER)))
def test_the_delta_between_two_images_is_what_replaying_would_have_given(kept: list[bool]) -> None:
    """A broker that gets a snapshot in place of the records it missed must apply the same changes."""
    kept[4] = kept[3] = kept[2] and kept[3]
    records = [record for record, keep in zip(LATER, kept, strict=True) if keep]
    by_replay = MetadataDelta(FULL)
    for offset, record in enumerate(records, FULL.offset + 1):
        by_replay.replay(Offset(offset), 6, record)
    image = by_replay.apply()
    delta = MetadataDelta.between(FULL, image)
    assert delta.apply() == image
    assert delta.base is FULL
    assert set(delta.changed_brokers) == set(by_replay.changed_brokers)
    assert set(delta.changed_configs) == set(by_replay.changed_configs)
    assert set(delta.removed_topics) == set(by_replay.removed_topics)

    def key(changed: object) -> str:
        return repr(changed)

    assert sorted(delta.changed_partitions, key=key) == sorted(by_replay.changed_partitions, key=key)
