"""Hostile and broken files: whatever the bytes, a clear answer, for bounded work and bounded memory.

A seeded mutator goes over the recorded files; ``GLASSLOG_FUZZ_ROUNDS`` asks for more than the usual rounds.
"""

import json
import os
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
from glasslog.client.cli.log.decoders import decoder_for
from glasslog.client.cli.log.shown import Showing, as_json, as_text
from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import (
    COMPRESSION_MASK,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    Compression,
    CorruptBatch,
    iterate_batches,
    parse_header,
    write_crc,
)
from glasslog.log.compression import compress
from glasslog.log.inspection.directories import find_directories
from glasslog.log.inspection.dump import DumpOptions, dump_file
from glasslog.log.inspection.items import FileEnd, FileStart, Finding, Item
from glasslog.log.inspection.partition_check import verify_partition
from glasslog.log.pure_codec import encode_varint
from glasslog.log.records import decode_fast, encode_batch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.golden.kafka_files import CLEAN, FOLDER, OURS, in_memory, recorded_files

ROUNDS = int(os.environ.get("GLASSLOG_FUZZ_ROUNDS", "12"))
MIB = 1024 * 1024
EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 62,
    (1 << 64) - 1,
)
SHOWING = Showing(records=True, max_bytes=16)

RECORDED = [path for path in [*recorded_files(), *recorded_files(OURS / "t-0")] if path.stat().st_size]


# --- the mutator ------------------------------------------------------------------------------------------


def flip(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def overwrite(data: bytearray, random: Random) -> None:
    width = random.choice((1, 2, 4, 8))
    at = random.randrange(len(data))
    number = random.choice(EXTREMES) & ((1 << 8 * width) - 1)
    data[at : at + width] = number.to_bytes(width, "big")


def cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def drop(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randrange(1, 40)]


def repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = data[at : at + random.randrange(1, 300)]


def pour(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = bytes([random.choice((0, 2, 0xFF))]) * random.randrange(1, 200)


MUTATIONS: tuple[Callable[[bytearray, Random], None], ...] = (
    flip,
    overwrite,
    overwrite,
    cut,
    drop,
    repeat,
    pour,
)


def renew_checksums(data: bytearray) -> None:
    """Give every batch whose frame still makes sense its right checksum: now its records are looked into."""
    position = 0
    while position + HEADER_BYTES <= len(data):
        size_bytes = parse_header(data, position).batch_length + LENGTH_PREFIX_BYTES
        if not HEADER_BYTES <= size_bytes <= len(data) - position:
            return
        write_crc(data, position, size_bytes)
        position += size_bytes


def mutated(data: bytes, random: Random, *, renews_checksums: bool = True) -> bytes:
    broken = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        if broken:
            random.choice(MUTATIONS)(broken, random)
    if renews_checksums and random.randrange(3):
        renew_checksums(broken)
    return bytes(broken)


# --- what must hold ---------------------------------------------------------------------------------------


class CountedFiles(MemoryFileSystem):
    """Counts how often files are read: the measure of work that is the same on every machine."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.on_operation = self._count

    def _count(self, operation: str, path: str) -> None:
        self.reads += operation in ("pread", "read")


def dump(name: str, folder: str, data: bytes, *, max_body_bytes: int = MIB) -> list[Item]:
    """Everything there is to see, shown both ways; no more reads than the file's size may ask for."""
    files = CountedFiles()
    files.make_dirs(f"/{folder}")
    files.write_atomic(f"/{folder}/{name}", data)
    options = DumpOptions(records=True, decoder=decoder_for(f"/{folder}"), max_body_bytes=max_body_bytes)
    items = list(dump_file(files, f"/{folder}/{name}", options))
    assert isinstance(items[0], FileStart)
    assert isinstance(items[-1], FileEnd)
    for item in items:
        assert "\n" not in (as_text(item, SHOWING) or "")
        json.dumps(as_json(item, SHOWING)).encode()
    assert files.reads <= 50 + len(data) // 10
    return items


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.relative_to(FOLDER.parent).as_posix())
def test_mutated_files_get_a_clear_answer(path: Path) -> None:
    data = path.read_bytes()
    for round_number in range(ROUNDS):
        random = Random(f"{path.name} {round_number}")
        dump(path.name, path.parent.name, mutated(data, random))


def test_a_mutated_directory_is_verified_to_its_end() -> None:
    names = [path.relative_to(CLEAN).as_posix() for path in recorded_files(CLEAN)]
    for round_number in range(ROUNDS * 2):
        random = Random(f"directory {round_number}")
        files = in_memory(CLEAN)
        for name in random.sample(names, 6):
            data = files.read(f"/data/{name}")
            files.write_atomic(f"/data/{name}", mutated(data, random) if data else b"\1")
        (directory,) = find_directories(files, "/data")
        for folder in directory.partitions:
            report = verify_partition(files, folder, directory.claims_of(folder), DumpOptions(records=True))
            assert all(str(finding) for finding in report.findings)


@given(
    st.binary(max_size=400),
    st.sampled_from(
        [
            "00000000000000000000" + suffix
            for suffix in (".log", ".index", ".timeindex", ".txnindex", ".snapshot")
        ]
        + ["quorum-state", "meta.properties"]
    ),
)
@settings(max_examples=150, deadline=None)
@example(b"[" * 100_000, "quorum-state")
@example(b'{"a": "\\ud800"}', "quorum-state")
@example(b"9" * 400, "recovery-point-limit")
def test_random_bytes_get_a_clear_answer(data: bytes, name: str) -> None:
    dump(name, "__consumer_offsets-0", data)


@given(st.binary(max_size=300), st.sampled_from(Compression), st.integers(-1, 20))
@settings(max_examples=200, deadline=None)
def test_the_codec_only_ever_says_that_a_batch_is_corrupt(
    body: bytes, compression: Compression, count: int
) -> None:
    """Any bytes in place of the records, under a header and a checksum that hold."""
    batch = bytearray(encode_batch([(0, b"k", b"v", ())]))
    batch[HEADER_BYTES:] = body
    batch[8:12] = (len(batch) - LENGTH_PREFIX_BYTES).to_bytes(4, "big")
    batch[22] = batch[22] & ~COMPRESSION_MASK | compression
    batch[23:27] = max(0, count - 1).to_bytes(4, "big")
    batch[57:61] = count.to_bytes(4, "big", signed=True)
    write_crc(batch, 0, len(batch))
    for parse in (decode_fast, lambda data: list(iterate_batches(data))):
        try:
            parse(bytes(batch))
        except CorruptBatch:
            continue
    dump("00000000000000000000.log", "t-0", bytes(batch))


# --- memory -----------------------------------------------------------------------------------------------


def framed(body: bytes, *, count: int, compression: Compression = Compression.NONE) -> bytes:
    """A batch around bytes that are not what they should be."""
    batch = bytearray(encode_batch([(0, b"k", b"v", ())]))
    batch[HEADER_BYTES:] = compress(compression, body)
    batch[8:12] = (len(batch) - LENGTH_PREFIX_BYTES).to_bytes(4, "big")
    batch[22] = compression
    batch[23:27] = (count - 1).to_bytes(4, "big")
    batch[57:61] = count.to_bytes(4, "big")
    write_crc(batch, 0, len(batch))
    return bytes(batch)


def record(key: bytes, tail: bytes) -> bytes:
    """An empty record at delta 0 but for its key, and ``tail`` where its headers are."""
    body = b"\0\0\0" + encode_varint(len(key)) + key + b"\1" + tail
    return encode_varint(len(body)) + body


OFFSET_KEY = b"\0\2\0\1g"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a zstd bomb": partial(framed, bytes(64 * MIB), count=1, compression=Compression.ZSTD),
    "a gzip bomb": partial(framed, bytes(64 * MIB), count=1, compression=Compression.GZIP),
    "an lz4 bomb": partial(framed, bytes(64 * MIB), count=1, compression=Compression.LZ4),
    "a snappy bomb": partial(framed, bytes(64 * MIB), count=1, compression=Compression.SNAPPY),
    "a count of two thousand million": partial(framed, b"\x0c" + bytes(6), count=(1 << 31) - 1),
    "as many headers as there are bytes": lambda: framed(
        record(b"", encode_varint(80_000) + b"\4ab\4cd" * 80_000), count=1
    ),
    "a key of many gigabytes": lambda: framed(record(b"", b"")[:4] + encode_varint(1 << 40), count=1),
    "a batch larger than is looked into": lambda: framed(bytes(3 * MIB), count=1),
    "nothing but the magic": lambda: b"\2" * (MIB // 2),
    "nothing but zeros": lambda: bytes(2 * MIB),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_is_bounded_whatever_a_segment_claims(name: str) -> None:
    data = HOSTILE[name]()
    files = MemoryFileSystem()
    files.make_dirs("/__consumer_offsets-0")
    path = "/__consumer_offsets-0/00000000000000000000.log"
    files.write_atomic(path, data)
    options = DumpOptions(records=True, decoder=decoder_for("/__consumer_offsets-0"), max_body_bytes=MIB)
    del data
    tracemalloc.start()
    try:
        problems = sum(isinstance(item, Finding) for item in dump_file(files, path, options))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problems
    assert peak_bytes < 12 * MIB


def test_a_directory_of_nothing_but_damage_does_not_fill_the_memory() -> None:
    files = MemoryFileSystem()
    files.make_dirs("/t-0")
    one = bytes(encode_batch([(0, None, b"", ())]))
    files.write_atomic("/t-0/00000000000000000000.log", one * 5_000)
    (directory,) = find_directories(files, "/t-0")
    report = verify_partition(files, "/t-0", directory.claims_of("/t-0"), DumpOptions())
    assert report.findings.damage == 4_999
    assert len(list(report.findings)) == 1_000


def test_a_file_that_can_not_be_read_is_named() -> None:
    files = MemoryFileSystem()
    files.make_dirs("/t-0")
    files.write_atomic("/t-0/00000000000000000000.log", b"x")
    files.fail_next("pread", "*.log", OSError(5, "Input/output error"))
    with pytest.raises(StorageError, match=r"/t-0/0+\.log: can not be read: Input/output error"):
        list(dump_file(files, "/t-0/00000000000000000000.log", DumpOptions()))


def test_decoys_can_not_make_the_search_for_batches_long() -> None:
    """Each sound batch hides behind a header that claims the rest of the file: each search sums that up."""
    sound = bytes(encode_batch([(0, None, b"", ())]))
    count, junk, parts = 2_000, b"\xff" * 16, bytearray()
    for left in range(count, 0, -1):
        rest = left * (len(junk) + HEADER_BYTES + len(sound)) - len(junk) - LENGTH_PREFIX_BYTES
        parts += junk + sound[:8] + rest.to_bytes(4, "big") + sound[12:HEADER_BYTES] + sound
    found = [
        item for item in dump("00000000000000000000.log", "t-0", bytes(parts)) if isinstance(item, Finding)
    ]
    assert "the next sound batch begins at position 77" in found[0].text
    assert "hold no whole batch" in found[-1].text
    assert len(found) < 100
