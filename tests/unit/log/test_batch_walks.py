"""Walks along batches, compiled and pure: the same answers about the same bytes, damaged or not."""

import os

import pytest
from glasslog.log.batch import iterate_batches, parse_header, set_base_offset_and_epoch
from glasslog.log.codec import PURE, Codec
from glasslog.log.markers import EndTransactionMarker, decode_marker, encode_marker, is_marker_batch
from glasslog.log.producer_state import ProducerEntry, ProducerStates
from glasslog.log.records import encode_batch
from glasslog.log.walk_types import Scan, ScanState, Stop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.log.codecs import BOTH, compiled, needs_compiled

_LIMIT = 1 << 40
_START = ScanState(0, 0, -1, 0, 0, None)


def _file(shapes: list[tuple[int, int, int, int]]) -> bytearray:
    """Batches of so many records, each of an epoch, with a producer or -1, after a gap in offsets."""
    data, offset = bytearray(), 0
    for count, epoch, producer, gap in shapes:
        offset += gap
        records = [(number, b"k", b"value", ()) for number in range(count)]
        data += encode_batch(
            records, base_offset=offset, leader_epoch=epoch, producer_id=producer, producer_epoch=0
        )
        offset += count
    return data


_shapes = st.tuples(
    st.integers(1, 4), st.integers(0, 2), st.sampled_from([-1, -1, 7]), st.sampled_from([0, 0, 0, 5])
)
_files = st.lists(_shapes, min_size=1, max_size=12).map(_file)
_changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3)


def _change(data: bytearray, changes: list[tuple[int, int]]) -> None:
    for position, byte in changes:
        data[position % len(data)] = byte


@needs_compiled
@given(_files, _changes, st.integers(0, 1500), st.integers(0, 12), st.integers(0, 60), st.integers(0, 80))
@settings(max_examples=500, deadline=None)
def test_both_find_the_same_sound_part(
    data: bytearray, changes: list[tuple[int, int]], limit: int, lowest: int, upper: int, end: int
) -> None:
    _change(data, changes)
    expected = PURE.walk_sound(data, limit, lowest, upper, end)
    for form in (data, bytes(data), memoryview(data)):
        assert compiled().walk_sound(form, limit, lowest, upper, end) == expected


@needs_compiled
@given(_files, _changes, st.integers(0, 40), st.sampled_from([0, 80, 300]), st.integers(0, 200))
@settings(max_examples=500, deadline=None)
def test_both_recover_the_same(
    data: bytearray, changes: list[tuple[int, int]], trusted: int, interval: int, missing: int
) -> None:
    _change(data, changes)
    there = data[: max(0, len(data) - missing)]
    expected = PURE.scan_batches(there, 0, len(data), trusted, interval, _START)
    assert compiled().scan_batches(there, 0, len(data), trusted, interval, _START) == expected


@needs_compiled
@given(st.binary(min_size=61, max_size=300), st.integers(-1, 1 << 62))
def test_both_say_the_same_of_noise(data: bytes, end: int) -> None:
    for noise in (data, b"\x00" * 16 + b"\x02" + data, b"\x7f" + b"\xff" * 15 + b"\x02" + data):
        assert compiled().walk_sound(noise, 1000, 0, end, end) == PURE.walk_sound(noise, 1000, 0, end, end)
        expected = PURE.scan_batches(noise, 0, len(noise), end, 10, _START)
        assert compiled().scan_batches(noise, 0, len(noise), end, 10, _START) == expected


_produced = st.lists(
    st.tuples(
        st.sampled_from([-1, 1, 1, 2, 3]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from(["plain", "plain", "unnumbered", "transactional", "commit", "abort"]),
    ),
    max_size=60,
)


def _batch_of(offset: int, producer: int, producer_epoch: int, kind: str) -> bytearray:
    if producer > 0 and kind in ("commit", "abort"):
        marker = EndTransactionMarker(kind == "commit", offset)
        data = encode_marker(marker, producer_id=producer, producer_epoch=producer_epoch, timestamp_ms=offset)
        set_base_offset_and_epoch(data, 0, base_offset=offset, leader_epoch=0)
        return data
    return encode_batch(
        [(offset, b"k", b"value", ())],
        base_offset=offset,
        leader_epoch=0,
        producer_id=producer,
        producer_epoch=producer_epoch if producer > 0 else -1,
        base_sequence=offset if producer > 0 and kind != "unnumbered" else -1,
        transactional=producer > 0 and kind == "transactional",
    )


def _replayed(data: bytearray, positions: list[int]) -> tuple[dict[int, ProducerEntry], list[object]]:
    states, told = ProducerStates(), list[object]()
    for position in positions:
        header = parse_header(data, position)
        marker = decode_marker(data, position) if is_marker_batch(header) else None
        aborted = states.replay(header, marker=marker)
        told += [] if aborted is None else [aborted]
    return dict(states.entries), [*told, list(states.ongoing.items()), states.first_unstable_offset]


@pytest.mark.parametrize("codec", BOTH)
@given(_produced, st.integers(61, 3000))
@settings(max_examples=300, deadline=None)
def test_producers_are_known_from_the_notable_batches_alone(
    codec: Codec, batches: list[tuple[int, int, str]], chunk_bytes: int
) -> None:
    data = bytearray().join(_batch_of(offset, *batch) for offset, batch in enumerate(batches))
    state, notable = _START, list[int]()
    while state.position < len(data):
        start = state.position
        size_bytes = max(chunk_bytes, parse_header(data, start).size_bytes)
        scan = codec.scan_batches(data[start : start + size_bytes], start, len(data), 0, 100, state)
        state, notable = scan.state, [*notable, *scan.notable]
    positions = [position for _, position in iterate_batches(data)]
    assert _replayed(data, notable) == _replayed(data, positions)
    expected = PURE.scan_batches(data, 0, len(data), 0, 100, _START)
    assert codec.scan_batches(data, 0, len(data), 0, 100, _START) == expected


@pytest.mark.parametrize("codec", BOTH)
def test_of_one_producer_only_the_last_batches_are_notable(codec: Codec) -> None:
    data = bytearray().join(_batch_of(offset, 1, 0, "plain") for offset in range(20))
    positions = [position for _, position in iterate_batches(data)]
    scan = codec.scan_batches(data, 0, len(data), 0, 100, _START)
    assert scan.notable == [positions[0], *positions[-5:]]


@pytest.mark.parametrize("codec", BOTH)
def test_a_walk_stops_where_it_is_told_to(codec: Codec) -> None:
    data = _file([(3, 0, -1, 0), (2, 0, -1, 0), (1, 0, -1, 0)])
    ends = [position + header.size_bytes for header, position in iterate_batches(data)]
    assert codec.walk_sound(data, _LIMIT, 0, 6, 6) == (ends[2], 6, Stop.END, ends[1])
    assert codec.walk_sound(data, ends[1], 0, 6, 6) == (ends[1], 5, Stop.END, ends[0])
    assert codec.walk_sound(data, ends[1] - 1, 0, 6, 6)[:3] == (ends[0], 3, Stop.END)
    assert codec.walk_sound(data, _LIMIT, 0, 4, 6)[:3] == (ends[0], 3, Stop.END)
    assert codec.walk_sound(data, _LIMIT, 0, 6, 5)[:3] == (ends[1], 5, Stop.HEADER)
    assert codec.walk_sound(data, _LIMIT, 1, 6, 6)[:3] == (0, 1, Stop.ORDER)
    data[ends[0] + 65] ^= 1
    assert codec.walk_sound(data, _LIMIT, 0, 6, 6)[:3] == (ends[0], 3, Stop.CHECKSUM)


@pytest.mark.parametrize("codec", BOTH)
def test_a_scan_goes_on_where_the_last_one_ended(codec: Codec) -> None:
    data = _file([(2, number // 7, 9 if number % 5 == 0 else -1, number % 2) for number in range(40)])
    whole = codec.scan_batches(data, 0, len(data), 0, 100, _START)
    assert whole.state.position == len(data)
    assert whole.stop == Stop.END
    state, entries, notable = _START, list[object](), list[int]()
    while state.position < len(data):
        start = state.position
        part: Scan = codec.scan_batches(data[start : start + 300], start, len(data), 0, 100, state)
        assert part.state.position > start
        state, entries, notable = part.state, [*entries, *part.entries], [*notable, *part.notable]
    assert (state, entries, notable) == (whole.state, whole.entries, whole.notable)


@pytest.mark.parametrize("codec", BOTH)
def test_what_was_synced_is_not_summed_again(codec: Codec) -> None:
    data = _file([(2, 0, -1, 0)] * 6)
    data[63] ^= os.urandom(1)[0] | 1
    assert codec.scan_batches(data, 0, len(data), 0, 100, _START).stop == Stop.CHECKSUM
    trusted = codec.scan_batches(data, 0, len(data), 2, 100, _START)
    assert (trusted.stop, trusted.state.next_offset) == (Stop.END, 12)


@pytest.mark.parametrize("codec", BOTH)
def test_the_first_batch_that_is_not_trusted_is_notable_whatever_its_epoch(codec: Codec) -> None:
    """Recovery forgot the epoch in which records were deleted: the log's start, and with it the recovery
    point, lay within it, so that it was to be learned from the batches behind; and none of them was of
    another epoch than the one before it. History 4293 of the log's model found it."""
    data = _file([(1, 0, -1, 0)] * 5)
    positions = [position for _, position in iterate_batches(data)]
    found = [codec.scan_batches(data, 0, len(data), below, 100, _START).notable for below in range(5)]
    assert found == [[0], *([0, positions[below]] for below in range(1, 5))]
