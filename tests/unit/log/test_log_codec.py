"""Batches and records: golden bytes, kafka-python as the oracle, round trips, damaged input."""

import gzip
import warnings
from contextlib import suppress

import pytest
from glasslog.log.batch import (
    HEADER_BYTES,
    Compression,
    CorruptBatch,
    iterate_batches,
    parse_header,
    set_base_offset_and_epoch,
    set_producer_state,
    validate_batch,
    write_crc,
)
from glasslog.log.compression import compress, decompress
from glasslog.log.pure_codec import decode_varint, encode_varint
from glasslog.log.records import (
    BatchBuilder,
    NewRecord,
    Record,
    decode_fast,
    decode_records,
    encode_batch,
)
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    # Importing kafka-python uses a deprecated call of the standard library.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.record.default_records import (  # type: ignore[import-untyped]  # it ships no types
        DefaultRecordBatch,
        DefaultRecordBatchBuilder,
    )

SIMPLE: list[NewRecord] = [(1000, b"k", b"one", ()), (1005, None, None, ()), (990, b"k", b"", (("h", b"v"),))]

texts = st.text(max_size=10)
blobs = st.binary(max_size=200)
records = st.tuples(
    st.integers(min_value=0, max_value=1 << 45),
    st.none() | blobs,
    st.none() | blobs,
    st.lists(st.tuples(texts, st.none() | blobs), max_size=3).map(tuple),
)
record_lists = st.lists(records, min_size=1, max_size=30)
codecs = st.sampled_from(Compression)


def kafka_python_batch(given_records: list[NewRecord], *, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=7,
        producer_epoch=1,
        base_sequence=3,
        batch_size=1 << 30,
    )
    for offset, (timestamp, key, value, headers) in enumerate(given_records):
        assert builder.append(offset, timestamp, key, value, list(headers)) is not None
    return bytes(builder.build())


def ours(given_records: list[NewRecord]) -> bytes:
    return bytes(
        encode_batch(given_records, leader_epoch=-1, producer_id=7, producer_epoch=1, base_sequence=3)
    )


@given(record_lists)
@settings(max_examples=150, deadline=None)
def test_encoding_is_byte_for_byte_what_kafka_python_writes(given_records: list[NewRecord]) -> None:
    theirs = bytearray(kafka_python_batch(given_records))
    # kafka-python leaves the leader epoch at 0, which the leader overwrites anyway.
    set_base_offset_and_epoch(theirs, 0, base_offset=0, leader_epoch=-1)
    assert ours(given_records) == bytes(theirs)


@given(record_lists, codecs, st.integers(min_value=0, max_value=1 << 40))
@settings(max_examples=150, deadline=None)
def test_decoding_gives_back_what_was_encoded(
    given_records: list[NewRecord], codec: Compression, base_offset: int
) -> None:
    batch = encode_batch(given_records, base_offset=base_offset, compression=codec)
    expected = [Record(base_offset + i, *record) for i, record in enumerate(given_records)]
    assert decode_records(batch) == expected
    assert decode_fast(b"xx" + batch, 2) == expected
    header = parse_header(batch)
    assert header.compression is codec
    assert header.max_timestamp == max(record[0] for record in given_records)
    assert header.last_offset == base_offset + len(given_records) - 1


def test_kafka_python_reads_our_gzip() -> None:
    batch = encode_batch(SIMPLE, base_offset=40, compression=Compression.GZIP)
    read = DefaultRecordBatch(bytes(batch))
    assert read.validate_crc()
    assert [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in read] == decode_fast(batch)


def test_we_read_kafka_pythons_gzip() -> None:
    assert decode_fast(kafka_python_batch(SIMPLE, compression=1)) == [
        (i, *record) for i, record in enumerate(SIMPLE)
    ]


def test_golden_bytes_of_a_header() -> None:
    batch = encode_batch(
        [(0x0102030405, b"k", b"v", ())],
        base_offset=9,
        leader_epoch=4,
        producer_id=7,
        producer_epoch=1,
        base_sequence=3,
        transactional=True,
    )
    assert batch.hex(" ", 4) == bytes.fromhex(
        "0000000000000009"  # base offset
        "0000003a"  # length after this field
        "00000004"  # leader epoch
        "02"  # magic
        f"{parse_header(batch).crc:08x}"
        "0010"  # attributes: transactional
        "00000000"  # last offset delta
        "0000000102030405"  # base timestamp
        "0000000102030405"  # max timestamp
        "0000000000000007"  # producer id
        "0001"  # producer epoch
        "00000003"  # base sequence
        "00000001"  # record count
        "10 00 00 00 02 6b 02 76 00"
    ).hex(" ", 4)


@given(st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1))
def test_varints_round_trip(number: int) -> None:
    encoded = encode_varint(number)
    assert decode_varint(encoded, 0) == (number, len(encoded))


def test_large_records_leave_the_fast_path() -> None:
    given_records: list[NewRecord] = [
        (5_000_000, b"k" * 70_000, b"v" * 3_000_000, (("n" * 100, b"c" * 9000),)),
        (0, b"", b"x" * 64, ()),
    ]
    assert [tuple(r[1:]) for r in decode_fast(encode_batch(given_records))] == given_records


def test_a_builder_takes_what_fits_and_a_first_record_always() -> None:
    builder = BatchBuilder(200)
    assert builder.append(1, b"key", b"v" * 500)
    assert not builder.append(1, b"key", b"")
    assert builder.record_count == 1
    assert len(builder.close()) == builder.size_bytes

    builder = BatchBuilder(200)
    taken = builder.extend_many([(i, b"key", b"v" * 20, ()) for i in range(100)])
    assert 0 < taken < 100
    assert builder.size_bytes <= 200
    assert [r[0] for r in decode_fast(builder.close())] == list(range(taken))


def test_a_builder_goes_on_where_it_was() -> None:
    one_by_one, at_once = BatchBuilder(), BatchBuilder()
    for record in SIMPLE * 3:
        one_by_one.append(*record)
    at_once.extend_many(SIMPLE * 3)
    assert one_by_one.close() == at_once.close() == encode_batch(SIMPLE * 3)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        encode_batch([])


def test_producer_state_can_be_set_late_and_again() -> None:
    batch = encode_batch(SIMPLE)
    set_producer_state(batch, producer_id=1, producer_epoch=2, base_sequence=3)
    set_producer_state(batch, producer_id=7, producer_epoch=1, base_sequence=(1 << 31) - 2)
    header = validate_batch(batch)
    assert (header.producer_id, header.producer_epoch) == (7, 1)
    assert header.last_sequence == 0  # 2^31-2, 2^31-1, 0
    assert len(decode_fast(batch)) == 3


def test_offset_and_epoch_lie_outside_the_checksum() -> None:
    batch = encode_batch(SIMPLE)
    set_base_offset_and_epoch(batch, 0, base_offset=77, leader_epoch=5)
    header = validate_batch(batch)
    assert (header.base_offset, header.partition_leader_epoch) == (77, 5)
    assert decode_fast(batch)[0][0] == 77


def test_log_append_time_replaces_the_records_timestamps() -> None:
    batch = encode_batch(SIMPLE)
    batch[22] |= 0x08
    set_producer_state(batch, producer_id=-1, producer_epoch=-1, base_sequence=-1)
    assert {timestamp for _, timestamp, *_ in decode_fast(batch)} == {1005}


def compacted(deltas: list[int], last_offset_delta: int) -> bytearray:
    """A batch as compaction leaves it: some records are gone, the last offset delta stays."""
    body = b"".join(
        encode_varint(len(tail)) + tail
        for tail in (b"\0\0" + encode_varint(delta) + b"\2k\2v\0" for delta in deltas)
    )
    batch = encode_batch([(0, b"k", b"v", ())])[:HEADER_BYTES] + body
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    batch[23:27] = last_offset_delta.to_bytes(4, "big")
    batch[57:61] = len(deltas).to_bytes(4, "big")
    write_crc(batch, 0, len(batch))
    return batch


def test_a_compacted_batch_keeps_its_offsets() -> None:
    deltas = [0, 1, 7, 300, 20_000]
    batch = compacted(deltas, 30_000)
    assert [record[0] for record in decode_fast(batch)] == deltas
    assert parse_header(batch).next_offset == 30_001


@pytest.mark.parametrize(
    ("deltas", "last_offset_delta"),
    [([0, 2], 1), ([0, -1], 5), ([0, 7], 5), ([3, 1], 5), ([0, 0], 5), ([1, 0], 1), ([0, 70_000], 20_000)],
)
def test_lying_offset_deltas_are_refused(deltas: list[int], last_offset_delta: int) -> None:
    with pytest.raises(CorruptBatch, match="offset"):
        decode_fast(compacted(deltas, last_offset_delta))


def test_iterate_names_the_position_of_a_torn_batch() -> None:
    data = bytes(encode_batch(SIMPLE) * 2)
    assert [position for _, position in iterate_batches(data)] == [0, len(data) // 2]
    with pytest.raises(CorruptBatch, match=f"position {len(data) // 2}"):
        list(iterate_batches(data[:-1]))


@pytest.mark.parametrize(
    ("position", "value", "text"),
    [
        (16, 1, "magic is 1"),
        (8, 0x80, "below the minimum"),
        (8, 0x7F, "are there"),
        (0, 0x80, "negative base offset"),
        (57, 0x7F, "records can not have"),
        (30, 1, "checksum"),
    ],
)
def test_a_lying_header_is_named(position: int, value: int, text: str) -> None:
    batch = encode_batch(SIMPLE)
    batch[position] = value
    with pytest.raises(CorruptBatch, match=text):
        validate_batch(batch)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_records_raise_nothing_but_our_errors(data: st.DataObject) -> None:
    """The checksum is made to hold, so that the damage reaches the decoder of records."""
    codec = data.draw(codecs)
    batch = encode_batch(data.draw(record_lists), compression=codec)
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        position = data.draw(st.integers(min_value=HEADER_BYTES, max_value=len(batch) - 1))
        batch[position] = data.draw(st.integers(min_value=0, max_value=255))
    set_producer_state(batch, producer_id=-1, producer_epoch=-1, base_sequence=-1)
    with suppress(CorruptBatch):
        decode_fast(batch, max_bytes=1 << 20)


@given(st.binary(max_size=150))
def test_noise_raises_nothing_but_our_errors(noise: bytes) -> None:
    with pytest.raises(CorruptBatch):
        decode_fast(noise)


@given(codecs, st.binary(max_size=100_000))
@settings(max_examples=60, deadline=None)
def test_codecs_round_trip(codec: Compression, data: bytes) -> None:
    assert decompress(codec, compress(codec, data)) == data


@pytest.mark.parametrize("codec", [c for c in Compression if c is not Compression.NONE])
def test_a_bomb_is_refused(codec: Compression) -> None:
    packed = compress(codec, bytes(5_000_000))
    assert decompress(codec, packed, max_bytes=5_000_000) == bytes(5_000_000)
    with pytest.raises(CorruptBatch, match=r"4999999|expands beyond"):
        decompress(codec, packed, max_bytes=4_999_999)


@pytest.mark.parametrize("codec", [c for c in Compression if c is not Compression.NONE])
def test_torn_compressed_data_is_refused(codec: Compression) -> None:
    packed = compress(codec, bytes(range(256)) * 500)
    for end in (len(packed) - 1, len(packed) // 2, 20, 1):
        with pytest.raises(CorruptBatch):
            decompress(codec, packed[:end])


def test_snappy_is_framed_as_javas_clients_do_and_read_bare_too() -> None:
    import cramjam

    data = bytes(range(200)) * 400
    framed = compress(Compression.SNAPPY, data)
    assert framed[:16] == b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(data))) == data


def test_lz4_blocks_are_independent() -> None:
    """Kafka's Java clients refuse frames of linked blocks."""
    frame = compress(Compression.LZ4, bytes(200_000))
    assert frame[:4] == b"\x04\x22\x4d\x18"
    assert frame[4] & 0x20


def test_gzip_of_several_members_is_read_whole() -> None:
    assert decompress(Compression.GZIP, gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"


def test_gzip_of_very_many_members_is_refused() -> None:
    """Each member was once copied with everything behind it: a megabyte of empty ones took seconds."""
    with pytest.raises(CorruptBatch, match="more than 100 members"):
        decompress(Compression.GZIP, gzip.compress(b"") * 50_000)
