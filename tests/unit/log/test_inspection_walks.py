"""Walks through segments and records: what is sound is seen whole, what is not is named and passed."""

from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import HEADER_BYTES, Compression, parse_header, write_crc
from glasslog.log.inspection.dump import DumpOptions, dump_file
from glasslog.log.inspection.items import FileEnd, Finding, Item, SeenBatch, SeenRecord, Severity
from glasslog.log.inspection.record_walk import expand, walk_records
from glasslog.log.records import NewRecord, decode_fast, encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = "/d/t-0/00000000000000000000.log"
blobs = st.none() | st.binary(max_size=60)
records = st.tuples(
    st.integers(0, 1 << 45),
    blobs,
    blobs,
    st.lists(st.tuples(st.text(max_size=5), blobs), max_size=3).map(tuple),
)


def batch(base_offset: int, count: int = 2, *, epoch: int = 0) -> bytes:
    made: list[NewRecord] = [(1000 + number, b"k", b"value", ()) for number in range(count)]
    return bytes(encode_batch(made, base_offset=base_offset, leader_epoch=epoch))


def dump(data: bytes, options: DumpOptions | None = None, path: str = PATH) -> list[Item]:
    files = MemoryFileSystem()
    files.make_dirs("/d/t-0")
    files.write_atomic(path, data)
    return list(dump_file(files, path, options or DumpOptions(records=True)))


def findings(items: list[Item]) -> list[Finding]:
    return [item for item in items if isinstance(item, Finding)]


def offsets(items: list[Item]) -> list[int]:
    return [item.header.base_offset for item in items if isinstance(item, SeenBatch)]


@given(st.lists(records, min_size=1, max_size=20), st.sampled_from(Compression), st.integers(0, 1 << 40))
@settings(max_examples=60, deadline=None)
def test_records_are_what_the_codec_decodes(
    made: list[NewRecord], compression: Compression, base_offset: int
) -> None:
    data = bytes(encode_batch(made, base_offset=base_offset, compression=compression))
    header = parse_header(data)
    seen = list(walk_records(header, expand(header, data, max_bytes=1 << 20)))
    assert [
        (each.offset, each.timestamp, each.key, each.value, each.headers) for each in seen
    ] == decode_fast(data)


def test_a_sound_segment_is_seen_whole() -> None:
    items = dump(batch(0) + batch(2) + batch(7, 1))
    assert offsets(items) == [0, 2, 7]
    assert [item.offset for item in items if isinstance(item, SeenRecord)] == [0, 1, 2, 3, 7]
    assert not findings(items)
    end = items[-1]
    assert isinstance(end, FileEnd)
    assert end.counts == {"batches": 3, "records": 5, "bytes": len(batch(0) * 2 + batch(7, 1))}
    assert end.facts == {"first_offset": 0, "last_offset": 7}


def test_a_flipped_bit_is_found_at_its_batch_and_nothing_else_is() -> None:
    data = bytearray(batch(0) + batch(2) + batch(4))
    data[len(batch(0)) + HEADER_BYTES + 3] ^= 1
    items = dump(bytes(data))
    assert offsets(items) == [0, 2, 4]
    (found,) = findings(items)
    assert (found.path, found.position, found.offset) == (PATH, len(batch(0)), 2)
    assert "the checksum is 0x" in found.text


def test_behind_a_broken_frame_the_next_sound_batch_is_found() -> None:
    first = batch(0)
    items = dump(first + b"\x02" * 100 + batch(2) + batch(4))
    assert offsets(items) == [0, 2, 4]
    (found,) = findings(items)
    assert (found.position, found.offset, found.severity) == (len(first), 2, Severity.DAMAGE)
    assert (
        f"100 bytes can not be read, the next sound batch begins at position {len(first) + 100}" in found.text
    )


def test_a_torn_tail_is_told_from_damage() -> None:
    first, second = batch(0), batch(2)
    for cut in (1, 60, 61, len(second) - 1):
        items = dump(first + second[:cut])
        assert offsets(items) == [0]
        (found,) = findings(items)
        assert (found.position, found.offset, found.severity) == (len(first), 2, Severity.TORN)
        assert f"the last {cut} bytes hold no whole batch" in found.text


def test_offsets_and_epochs_must_not_go_back() -> None:
    found = findings(dump(batch(0, epoch=3) + batch(1, epoch=2)))
    assert [each.text for each in found] == [
        "begins at offset 1, although offsets below 2 are taken",
        "leader epoch 2 comes after 3",
    ]
    (below,) = findings(dump(batch(5), path="/d/t-0/00000000000000000006.log"))
    assert below.text == "begins at offset 5, although offsets below 6 are taken"


def test_a_count_that_lies_is_found_by_looking_at_the_records() -> None:
    data = bytearray(batch(0, 3))
    data[57:61] = (2).to_bytes(4, "big")
    write_crc(data, 0, len(data))
    (found,) = findings(dump(bytes(data)))
    assert found.text.endswith("bytes after the last record")
    assert findings(dump(bytes(data), DumpOptions())) == []


def test_only_what_was_asked_for_is_handed_out() -> None:
    data = b"".join(batch(offset) for offset in range(0, 20, 2))
    assert offsets(dump(data, DumpOptions(from_offset=5, max_batches=3))) == [4, 6, 8]


def test_a_batch_too_large_to_look_into_is_checked_all_the_same() -> None:
    data = bytes(encode_batch([(0, None, bytes(5000), ())]))
    (found,) = findings(dump(data, DumpOptions(records=True, max_body_bytes=4000)))
    assert "bytes are more than this looks into" in found.text
    assert offsets(dump(data, DumpOptions(max_body_bytes=4000))) == [0]
