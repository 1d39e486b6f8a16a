"""The bytes of ``__consumer_offsets``: ours are Kafka's, and foreign ones do no harm."""

from contextlib import suppress

import pytest
from glasslog.broker.group.hashing import java_string_hash, partition_of_group
from glasslog.broker.group.records import (
    GroupLogRecord,
    GroupRecord,
    GroupValue,
    MemberRecord,
    OffsetRecord,
    Unknown,
    decode,
    encode,
)
from glasslog.broker.group.types import CommittedOffset
from glasslog.common.errors import StorageError
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

text = st.text(max_size=8)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
members = st.builds(
    MemberRecord,
    member_id=text,
    group_instance_id=text,
    client_id=text,
    client_host=text,
    rebalance_timeout_ms=int32,
    session_timeout_ms=int32,
    subscription=st.binary(max_size=8),
    assignment=st.binary(max_size=8),
)
records: st.SearchStrategy[GroupLogRecord] = st.one_of(
    st.builds(
        OffsetRecord,
        group_id=text,
        partition=st.builds(TopicPartition, text, int32),
        committed=st.none()
        | st.builds(
            CommittedOffset,
            offset=int64.map(Offset),
            leader_epoch=int32.map(LeaderEpoch),
            metadata=text,
            commit_timestamp_ms=int64,
        ),
    ),
    st.builds(
        GroupRecord,
        group_id=text,
        value=st.none()
        | st.builds(
            GroupValue,
            protocol_type=text,
            generation_id=int32,
            protocol_name=text,
            leader=text,
            state_timestamp_ms=int64,
            members=st.lists(members, max_size=3).map(tuple),
        ),
    ),
)


@given(record=records)
def test_a_record_survives_its_bytes(record: GroupLogRecord) -> None:
    assert decode(*encode(record)) == record


@given(key=st.binary(max_size=20), value=st.none() | st.binary(max_size=40))
def test_foreign_bytes_give_a_clean_error(key: bytes, value: bytes | None) -> None:
    with suppress(StorageError):
        decode(key, value)


def test_golden_bytes_of_an_offset_commit() -> None:
    record = OffsetRecord(
        group_id="g",
        partition=TopicPartition("t", 5),
        committed=CommittedOffset(
            offset=Offset(7), leader_epoch=LeaderEpoch(2), metadata="m", commit_timestamp_ms=9
        ),
    )
    key, value = encode(record)
    assert key == bytes.fromhex("0001 0001 67 0001 74 00000005")
    assert value == bytes.fromhex("0003 0000000000000007 00000002 0001 6d 0000000000000009")


def test_a_newer_kind_is_passed_over() -> None:
    assert decode(b"\x00\x09whatever", b"x") == Unknown(key_version=9)


@pytest.mark.parametrize(
    ("group", "code"), [("", 0), ("a", 97), ("demo", 3079651), ("polygenelubricants", -(2**31))]
)
def test_javas_string_hash(group: str, code: int) -> None:
    assert java_string_hash(group) == code
    assert 0 <= partition_of_group(group, 50) < 50
