"""What a topic demands of records when its leader appends them; how the log answers for it."""

from collections.abc import Sequence

import pytest
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.append import AppendInfo
from glasslog.log.batch import (
    NO_TIMESTAMP,
    BatchHeader,
    Compression,
    CorruptBatch,
    TimestampType,
    parse_header,
    set_append_time,
    write_crc,
)
from glasslog.log.config import LogConfig, RecordPolicy
from glasslog.log.log import Log
from glasslog.log.records import NewRecord, decode_fast, encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SOME: list[NewRecord] = [
    (NOW_MS - 5, b"a", b"1" * 50, ()),
    (NOW_MS + 7, b"b", None, (("h", b"c"),)),
    (NOW_MS - 9, b"a", b"2" * 50, ()),
]
APPEND_TIME = RecordPolicy(timestamp_type=TimestampType.LOG_APPEND_TIME)


def log_with(policy: RecordPolicy, *, max_message_bytes: int = 1_000_000) -> Log:
    files = MemoryFileSystem()
    config = LogConfig(records=policy, max_message_bytes=max_message_bytes)
    return Log.open(files=files, directory="orders-0", config=config, clean_shutdown=True)


def append(log: Log, batches: bytes | bytearray, *, from_client: bool = True) -> AppendInfo:
    return log.append_as_leader(batches, leader_epoch=0, now_ms=NOW_MS, origin_is_client=from_client)


def read_back(log: Log, offset: int = 0) -> bytes:
    return bytes(log.read(offset, max_bytes=1 << 20))


def refused(log: Log, batches: bytes | bytearray) -> GlasslogError:
    with pytest.raises(GlasslogError) as caught:
        append(log, batches)
    assert log.log_end_offset == 0
    return caught.value


def with_timestamps(*timestamps: int) -> list[NewRecord]:
    return [(timestamp, b"k", b"v", ()) for timestamp in timestamps]


def fields(header: BatchHeader) -> Sequence[int]:
    """What must survive whatever is done to a batch."""
    return (
        header.record_count,
        header.last_offset_delta,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.is_transactional,
    )


# --- log append time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", Compression)
def test_log_append_time_is_what_readers_see(compression: Compression) -> None:
    log = log_with(APPEND_TIME)
    batch = encode_batch(SOME, producer_id=7, producer_epoch=1, base_sequence=0, compression=compression)
    info = append(log, batch)
    assert (info.log_append_time, info.max_timestamp) == (NOW_MS, NOW_MS)
    stored = read_back(log)
    assert [record[1] for record in decode_fast(stored)] == [NOW_MS] * 3
    assert [record[2:] for record in decode_fast(stored)] == [record[1:] for record in SOME]
    header = parse_header(stored)
    assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert header.base_timestamp == NOW_MS - 5
    assert fields(header) == fields(parse_header(batch))
    assert log.offset_for_timestamp(NOW_MS) is not None
    assert log.offset_for_timestamp(NOW_MS + 1) is None


def test_without_it_nobody_chose_a_time() -> None:
    log = log_with(RecordPolicy())
    assert append(log, encode_batch(SOME)).log_append_time == NO_TIMESTAMP
    assert [record[1] for record in decode_fast(read_back(log))] == [record[0] for record in SOME]


def test_a_repeated_batch_has_the_time_of_its_first_append() -> None:
    log = log_with(APPEND_TIME)
    batch = encode_batch(SOME, producer_id=7, producer_epoch=1, base_sequence=0)
    append(log, bytes(batch))
    again = log.append_as_leader(bytes(batch), leader_epoch=0, now_ms=NOW_MS + 60)
    assert (again.duplicate, again.log_append_time) == (True, NOW_MS)


def test_a_refused_request_is_not_stamped() -> None:
    """Else a second attempt with the same bytes would be refused for a time the first one wrote."""
    log = log_with(APPEND_TIME)
    batch = encode_batch(SOME, producer_id=7, producer_epoch=1, base_sequence=5)
    before = bytes(batch)
    append(log, encode_batch(SOME, producer_id=7, producer_epoch=1, base_sequence=0))
    with pytest.raises(GlasslogError) as caught:
        append(log, batch)
    assert caught.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert bytes(batch) == before


@pytest.mark.parametrize("policy", [RecordPolicy(), APPEND_TIME, RecordPolicy(needs_keys=True)])
def test_a_client_may_not_say_that_the_leader_stamped(policy: RecordPolicy) -> None:
    batch = encode_batch(SOME)
    set_append_time(batch, 0, timestamp_ms=5)
    assert refused(log_with(policy), batch).code is ErrorCode.INVALID_TIMESTAMP


def test_the_brokers_own_batches_are_stamped_too() -> None:
    log = log_with(APPEND_TIME)
    append(log, encode_batch(with_timestamps(1), control=True), from_client=False)
    assert parse_header(read_back(log)).max_timestamp == NOW_MS


# --- bounds on producers' timestamps -----------------------------------------------------------------------

BOUNDED = RecordPolicy(before_max_ms=100, after_max_ms=50)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
@pytest.mark.parametrize(
    ("timestamps", "accepted"),
    [
        ([NOW_MS - 100, NOW_MS + 50], True),
        ([NOW_MS, NOW_MS - 101, NOW_MS], False),
        ([NOW_MS, NOW_MS + 51], False),
        ([NO_TIMESTAMP], True),
        ([NO_TIMESTAMP, NOW_MS], True),
        ([NO_TIMESTAMP, NOW_MS - 101], False),
    ],
)
def test_timestamps_are_held_to_their_bounds(
    compression: Compression, timestamps: list[int], accepted: bool
) -> None:
    log = log_with(BOUNDED)
    batch = encode_batch(with_timestamps(*timestamps), compression=compression)
    if accepted:
        append(log, batch)
    else:
        assert refused(log, batch).code is ErrorCode.INVALID_TIMESTAMP


def test_a_header_that_understates_its_highest_timestamp_does_not_help() -> None:
    batch = encode_batch(with_timestamps(NOW_MS, NOW_MS + 51))
    batch[35:43] = NOW_MS.to_bytes(8, "big")
    write_crc(batch, 0, len(batch))
    assert refused(log_with(BOUNDED), batch).code is ErrorCode.INVALID_TIMESTAMP


def test_the_future_is_bounded_by_the_header_alone() -> None:
    policy = RecordPolicy(after_max_ms=50)
    assert not policy.looks_at_batches
    append(log_with(policy), encode_batch(with_timestamps(NOW_MS + 50)))
    error = refused(log_with(policy), encode_batch(with_timestamps(NOW_MS + 51)))
    assert error.code is ErrorCode.INVALID_TIMESTAMP
    assert str(NOW_MS + 50) in str(error)


def test_bounds_do_not_bind_where_the_leader_stamps() -> None:
    policy = RecordPolicy(timestamp_type=TimestampType.LOG_APPEND_TIME, before_max_ms=1, after_max_ms=1)
    append(log_with(policy), encode_batch(with_timestamps(5, NOW_MS + 10 * HOUR_MS)))


def test_a_negative_bound_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"message\.timestamp\.before\.max\.ms=-1"):
        RecordPolicy(before_max_ms=-1)


# --- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4])
def test_a_compacted_topic_refuses_records_without_a_key(compression: Compression) -> None:
    policy = RecordPolicy(needs_keys=True)
    bad: list[NewRecord] = [*SOME, (NOW_MS, None, b"v", ())]
    error = refused(log_with(policy), encode_batch(bad, compression=compression))
    assert error.code is ErrorCode.INVALID_RECORD
    assert "1 of 4 records have no key" in str(error)
    empty_key: list[NewRecord] = [(NOW_MS, b"", b"v", ())]
    assert append(log_with(policy), encode_batch(empty_key, compression=compression)).last_offset == 0


# --- compression -------------------------------------------------------------------------------------------

records = st.tuples(
    st.integers(min_value=0, max_value=1 << 41),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=100),
    st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2).map(tuple),
)


@given(
    st.lists(st.lists(records, min_size=1, max_size=8), min_size=1, max_size=3),
    st.sampled_from(Compression),
    st.sampled_from(Compression),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_the_leader_stores_what_was_sent_in_the_topics_compression(
    requests: list[list[NewRecord]], sent: Compression, wanted: Compression, transactional: bool
) -> None:
    log = log_with(RecordPolicy(compression=wanted))
    batches = [
        encode_batch(
            given,
            compression=sent,
            producer_id=number,
            producer_epoch=2,
            base_sequence=0,
            transactional=transactional,
        )
        for number, given in enumerate(requests)
    ]
    append(log, b"".join(batches))
    stored, position, offset = read_back(log), 0, 0
    for batch, given_records in zip(batches, requests, strict=True):
        header = parse_header(stored, position)
        assert header.compression is wanted
        assert fields(header) == fields(parse_header(batch))
        assert header.max_timestamp == max(record[0] for record in given_records)
        assert decode_fast(stored, position) == [
            (offset + number, *record) for number, record in enumerate(given_records)
        ]
        position += header.size_bytes
        offset += header.record_count
    assert position == len(stored)


def test_a_batch_of_the_topics_compression_is_not_touched() -> None:
    log = log_with(RecordPolicy(compression=Compression.GZIP))
    batch = encode_batch(SOME, leader_epoch=0, compression=Compression.GZIP)
    append(log, bytes(batch))
    assert read_back(log) == bytes(batch)


def test_records_that_lie_about_their_offsets_are_refused_when_compressed_anew() -> None:
    batch = encode_batch(SOME)
    at = bytes(batch).index(b"\x00\x18\x02\x02b")
    batch[at + 2] = 4
    write_crc(batch, 0, len(batch))
    log = log_with(RecordPolicy(compression=Compression.LZ4))
    with pytest.raises(CorruptBatch, match="offset delta 2"):
        append(log, batch)


def test_too_large_a_batch_is_refused_before_and_after() -> None:
    large: list[NewRecord] = [(NOW_MS, b"k", b"v" * 5000, ())]
    packed = encode_batch(large, compression=Compression.GZIP)
    to_plain = log_with(RecordPolicy(compression=Compression.NONE), max_message_bytes=1000)
    assert refused(to_plain, packed).code is ErrorCode.MESSAGE_TOO_LARGE
    to_zstd = log_with(RecordPolicy(compression=Compression.ZSTD), max_message_bytes=1000)
    assert refused(to_zstd, encode_batch(large)).code is ErrorCode.MESSAGE_TOO_LARGE


def test_a_bomb_is_refused_at_the_leader() -> None:
    bomb: list[NewRecord] = [(NOW_MS, b"k", bytes(70_000_000), ())]
    batch = encode_batch(bomb, compression=Compression.ZSTD)
    assert len(batch) < 100_000
    assert refused(log_with(RecordPolicy(needs_keys=True)), batch).code is ErrorCode.CORRUPT_MESSAGE
