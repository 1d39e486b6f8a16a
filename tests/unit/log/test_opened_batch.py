"""A batch opened for compaction: its keys, its survey, a batch of some of its records."""

import pytest
from glasslog.log.batch import (
    HEADER_BYTES,
    Compression,
    CorruptBatch,
    TimestampType,
    parse_header,
    set_append_time,
    set_producer_state,
    validate_batch,
    write_crc,
)
from glasslog.log.opened_batch import OpenedBatch, emptied
from glasslog.log.record_types import NewRecord, Survey
from glasslog.log.records import decode_fast, encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

SOME: list[NewRecord] = [
    (1000, b"a", b"1", ()),
    (1009, b"b", None, (("h", b"c"),)),
    (1003, None, b"3", ()),
    (1007, b"a", b"4", ()),
]

codecs = st.sampled_from(Compression)
timestamps = st.integers(min_value=0, max_value=1 << 50)
records = st.tuples(
    timestamps,
    st.none() | st.binary(max_size=12),
    st.none() | st.binary(max_size=100),
    st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2).map(tuple),
)


def test_keys_and_survey() -> None:
    opened = OpenedBatch(encode_batch(SOME, base_offset=70, compression=Compression.LZ4))
    assert opened.keys() == [(70, b"a", True), (71, b"b", False), (72, None, True), (73, b"a", True)]
    assert opened.survey() == Survey(min_timestamp=1000, max_timestamp=1009, keyless=1)
    assert [record[0] for record in opened.records()] == [70, 71, 72, 73]


@given(st.lists(records, min_size=1, max_size=12), st.data(), codecs, st.booleans(), st.none() | timestamps)
@settings(max_examples=150, deadline=None)
def test_what_is_kept_stays_as_it_was(
    given_records: list[NewRecord],
    data: st.DataObject,
    codec: Compression,
    transactional: bool,
    horizon_ms: int | None,
) -> None:
    batch = encode_batch(
        given_records,
        base_offset=500,
        leader_epoch=3,
        producer_id=9,
        producer_epoch=1,
        base_sequence=40,
        compression=codec,
        transactional=transactional,
    )
    keep = bytes(data.draw(st.lists(st.booleans(), min_size=len(given_records), max_size=len(given_records))))
    filtered = OpenedBatch(b"xyz" + batch, 3).filtered(keep, delete_horizon_ms=horizon_ms)
    kept = [record for record, wanted in zip(decode_fast(batch), keep, strict=True) if wanted]
    assert decode_fast(filtered) == kept
    before, after = parse_header(batch), validate_batch(filtered)
    assert after.next_offset == before.next_offset
    assert after.base_offset == before.base_offset
    assert after.last_sequence == before.last_sequence
    assert after.partition_leader_epoch == before.partition_leader_epoch
    assert (after.producer_id, after.producer_epoch, after.base_sequence) == (9, 1, 40)
    assert after.is_transactional == transactional
    assert after.record_count == len(kept)
    assert after.delete_horizon_ms == horizon_ms
    assert after.compression is (codec if kept else Compression.NONE)
    assert after.max_timestamp == max((record[1] for record in kept), default=before.max_timestamp)


def test_filtering_again_keeps_offsets_and_the_horizon() -> None:
    once = OpenedBatch(encode_batch(SOME, base_offset=5)).filtered(b"\1\0\1\1", delete_horizon_ms=77)
    twice = OpenedBatch(once).filtered(b"\0\1\1")
    assert [record[:3] for record in decode_fast(twice)] == [(7, 1003, None), (8, 1007, b"a")]
    assert parse_header(twice).delete_horizon_ms == 77


def test_the_leaders_time_stays() -> None:
    batch = encode_batch(SOME)
    set_append_time(batch, 0, timestamp_ms=2000)
    filtered = OpenedBatch(batch).filtered(b"\1\0\0\0")
    assert parse_header(filtered).timestamp_type is TimestampType.LOG_APPEND_TIME
    assert decode_fast(filtered)[0][1] == 2000


@pytest.mark.parametrize("codec", Compression)
def test_an_emptied_batch_keeps_its_place(codec: Compression) -> None:
    batch = encode_batch(
        SOME, base_offset=5, producer_id=9, producer_epoch=1, base_sequence=2, compression=codec
    )
    empty = emptied(parse_header(batch))
    assert empty == OpenedBatch(batch).filtered(bytes(4))
    assert len(empty) == HEADER_BYTES
    header = validate_batch(empty)
    assert (header.next_offset, header.last_sequence, header.record_count) == (9, 5, 0)
    assert decode_fast(empty) == []
    assert OpenedBatch(empty).keys() == []


def test_malformed_records_are_named_by_every_method() -> None:
    batch = encode_batch(SOME, base_offset=12)
    batch[HEADER_BYTES] = 0x7F
    set_producer_state(batch, producer_id=-1, producer_epoch=-1, base_sequence=-1)
    opened = OpenedBatch(batch)
    for work in (opened.keys, opened.survey, opened.records, lambda: opened.filtered(bytes(4))):
        with pytest.raises(CorruptBatch, match="base offset 12"):
            work()


def test_a_batch_beyond_the_last_offset_there_can_be_is_refused() -> None:
    batch = encode_batch(SOME, base_offset=(1 << 63) - 2)
    write_crc(batch, 0, len(batch))
    with pytest.raises(CorruptBatch, match="64 bits"):
        OpenedBatch(batch)
