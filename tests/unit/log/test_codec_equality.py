"""The compiled codec of records and the pure one: the same bytes, the same records, the same refusals."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from glasslog.log.batch import HEADER_BYTES, BatchHeader, parse_header
from glasslog.log.codec import PURE, Codec, Encoder
from glasslog.log.pure_codec import encode_varint
from glasslog.log.record_types import NewRecord
from glasslog.log.records import encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.log.codecs import BOTH, compiled, needs_compiled

INT64 = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
timestamps = st.integers(min_value=0, max_value=1 << 45) | st.sampled_from([-1, 0, 1, 1000]) | INT64
# Around the lengths at which varints grow; zeros, since drawing random bytes takes longer than all else.
blobs = st.binary(max_size=20) | st.sampled_from([63, 64, 8191, 8192, 8200]).map(bytes)
headers = st.lists(st.tuples(st.text(max_size=6), st.none() | st.binary(max_size=9)), max_size=3).map(tuple)
records = st.tuples(timestamps, st.none() | blobs, st.none() | blobs, headers)
record_lists = st.lists(records, max_size=20)
small_records = st.tuples(
    st.integers(min_value=0, max_value=200),
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
    headers,
)


def outcome(work: Callable[[], object]) -> object:
    """What came of it: the result, or that it was refused. Anything but a refusal is let through."""
    try:
        return work()
    except (ValueError, IndexError):
        return "refused"
    except (TypeError, OverflowError) as error:
        return type(error)


def state_of(encoder: Encoder) -> tuple[object, ...]:
    count = encoder.record_count
    stamps = (encoder.base_timestamp, encoder.max_timestamp) if count else ()
    return count, encoder.size_bytes, encoder.body(), stamps


@needs_compiled
@given(st.lists(st.lists(records, max_size=6), max_size=4), st.integers(min_value=0, max_value=20_000))
@settings(max_examples=300, deadline=None)
def test_both_encode_the_same(parts: list[list[NewRecord]], max_bytes: int) -> None:
    ours, pure = compiled().encoder(max_bytes), PURE.encoder(max_bytes)
    for part in parts:
        assert outcome(partial(ours.extend_many, part)) == outcome(partial(pure.extend_many, part))
        assert state_of(ours) == state_of(pure)


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize(
    "bad",
    [
        (1, "text", b"", ()),
        (1, b"", 5, ()),
        (1, b"", [1], ()),
        (1, b"", b"", ((b"name", b""),)),
        (1, b"", b"", (("name", "text"),)),
        (1, b"", b"", 3),
        ("1", b"", b"", ()),
        (1 << 63, b"", b"", ()),
        (-(1 << 63), b"", b"", ()),
        (1, b"", b""),
        None,
    ],
)
def test_what_can_not_be_encoded_leaves_no_trace(codec: Codec, bad: object) -> None:
    encoder = codec.encoder()
    encoder.append(7, b"key", b"value")
    before = state_of(encoder)
    batch: Iterable[object] = [(9, b"k", b"v", ()), bad]
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
        encoder.extend_many(batch)  # type: ignore[arg-type]  # what a caller must not give
    assert state_of(encoder) == before
    assert encoder.append(8, None, None)


@pytest.mark.parametrize("codec", BOTH)
def test_a_record_that_did_not_fit_leaves_no_timestamp_behind(codec: Codec) -> None:
    """Once a batch took its highest timestamp from a record that was left out of it, for it did not fit."""
    encoder = codec.encoder(HEADER_BYTES + 30)
    assert encoder.append(5, None, b"v")
    assert not encoder.append(9, None, b"v" * 100)
    assert encoder.max_timestamp == 5
    assert encoder.append(9, None, b"v")
    assert encoder.max_timestamp == 9


@pytest.mark.parametrize("codec", BOTH)
def test_other_buffers_are_taken_as_bytes(codec: Codec) -> None:
    ours, expected = codec.encoder(), codec.encoder()
    other: Any = (1, bytearray(b"k"), memoryview(b"value"), (("h", bytearray(b"c")),))
    ours.append(*other)
    expected.append(1, b"k", b"value", (("h", b"c"),))
    assert ours.body() == expected.body()


@pytest.mark.parametrize("codec", BOTH)
def test_an_iterator_that_uses_the_encoder_meanwhile_does_no_harm(codec: Codec) -> None:
    encoder = codec.encoder()

    def meddling() -> Iterable[NewRecord]:
        for number in range(50):
            yield (number, b"k", b"v" * 100, ())
            encoder.body()
            len(encoder.body())

    assert encoder.extend_many(meddling()) == 50


def batch_of(given_records: list[NewRecord]) -> tuple[BatchHeader, bytes]:
    batch = encode_batch(given_records)
    return parse_header(batch), bytes(batch[HEADER_BYTES:])


def everything(
    codec: Codec, data: bytes, header: BatchHeader, keep: bytes, base_timestamp: int
) -> list[object]:
    return [
        outcome(partial(codec.decode_body, data, header)),
        outcome(partial(codec.read_keys, data, header)),
        outcome(partial(codec.survey_records, data, header)),
        outcome(partial(codec.select_records, data, header, keep, base_timestamp)),
        outcome(partial(codec.select_records, data, header, keep, header.base_timestamp)),
    ]


@needs_compiled
@given(st.lists(small_records | records, min_size=1, max_size=20), st.data())
@settings(max_examples=250, deadline=None)
def test_both_read_the_same_or_refuse_the_same(given_records: list[NewRecord], data: st.DataObject) -> None:
    """Sound and damaged bytes, sound and lying headers."""
    encoder = PURE.encoder()
    if outcome(partial(encoder.extend_many, given_records)) != len(given_records):
        return
    body = bytearray(encoder.body())
    for _ in range(data.draw(st.integers(min_value=0, max_value=3))):
        position = data.draw(st.integers(min_value=0, max_value=len(body) - 1))
        body[position] = data.draw(st.integers(min_value=0, max_value=255))
    body = body[
        : data.draw(st.sampled_from([len(body), data.draw(st.integers(min_value=0, max_value=len(body)))]))
    ]
    count = len(given_records)
    base_timestamp = data.draw(st.just(encoder.base_timestamp) | INT64)
    header = BatchHeader(
        base_offset=data.draw(st.integers(min_value=0, max_value=1 << 40)),
        batch_length=0,
        partition_leader_epoch=0,
        magic=2,
        crc=0,
        attributes=data.draw(st.sampled_from([0, 8])),
        last_offset_delta=count - 1 + data.draw(st.sampled_from([0, 0, 1, 500])),
        base_timestamp=base_timestamp,
        max_timestamp=data.draw(timestamps),
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=count,
    )
    keep = data.draw(st.binary(min_size=count, max_size=count))
    other = data.draw(INT64)
    assert everything(compiled(), bytes(body), header, keep, other) == everything(
        PURE, bytes(body), header, keep, other
    )


@needs_compiled
@given(
    st.lists(st.integers(min_value=0, max_value=(1 << 80) - 1), min_size=1, max_size=4),
    st.binary(max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_varints_of_any_length_mean_the_same(numbers: list[int], tail: bytes) -> None:
    """Records made of varints that no encoder writes: too long, too large, not the shortest."""
    parts = bytearray(b"\0")
    for number in numbers:
        while number >= 0x80:
            parts.append(number & 0x7F | 0x80)
            number >>= 7
        parts.append(number)
    parts += tail
    body = encode_varint(len(parts)) + bytes(parts)
    header = parse_header(encode_batch([(0, b"k", b"v", ())]))._replace(last_offset_delta=70_000)
    assert everything(compiled(), body, header, b"\1", 5) == everything(PURE, body, header, b"\1", 5)


@pytest.mark.parametrize("codec", BOTH)
def test_decisions_must_be_as_many_as_records(codec: Codec) -> None:
    header, body = batch_of([(1, b"k", b"v", ())] * 3)
    with pytest.raises(ValueError, match="2 decisions on 3 records"):
        codec.select_records(body, header, b"\1\1", 1)


@pytest.mark.parametrize("codec", BOTH)
def test_a_negative_length_is_never_taken_for_a_positive_one(codec: Codec) -> None:
    """Once a record's length of -8 passed for 7: both are one odd or even bit apart on the wire."""
    header, body = batch_of([(1, b"k", b"", ())])
    length = body[0]
    assert not length & 1
    with pytest.raises(ValueError, match="record"):
        codec.decode_body(bytes([length + 1]) + body[1:], header)
