"""A log of Kafka's opened by us, and a log of ours read by Kafka's own tools."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.batch import parse_header
from glasslog.log.config import LogConfig
from glasslog.log.directory import LogDirectory
from glasslog.log.inspection.dump import DumpOptions, dump_file
from glasslog.log.inspection.items import SeenRecord
from glasslog.log.log import Log
from glasslog.log.records import decode_records, encode_batch

from tests.golden.kafka_files import CLEAN, LIVE, in_memory
from tests.golden.kafka_tools import dump_log_segments
from tests.golden.our_log import write_our_log

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
FOLDERS = sorted(path.name for path in CLEAN.iterdir() if path.is_dir())


def records_in(files: MemoryFileSystem, folder: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Straight from the files, without a log."""
    return [
        (item.offset, item.key, item.value)
        for name in files.list(folder)
        if name.endswith(".log")
        for item in dump_file(files, f"{folder}/{name}", DumpOptions(records=True))
        if isinstance(item, SeenRecord)
    ]


def read_all(log: Log) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        batch = log.read(offset, max_bytes=1)
        yield from ((record.offset, record.key, record.value) for record in decode_records(batch))
        # Not the last record's: compaction may have taken records from the end of the batch.
        offset = parse_header(batch).next_offset


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("clean", [True, False])
def test_our_log_opens_what_kafka_wrote(folder: str, clean: bool) -> None:
    files = in_memory(CLEAN)
    path = f"/data/{folder}"
    expected = records_in(files, path)
    log = Log.open(files=files, directory=path, config=LogConfig(), clean_shutdown=clean)
    assert log.recovery.problem is None
    assert list(read_all(log)) == expected
    assert log.log_end_offset == expected[-1][0] + 1 or folder == "compacted-0"


def test_our_log_recovers_what_a_running_kafka_left() -> None:
    """Its active indexes are preallocated and end in zeros."""
    files = in_memory(LIVE)
    expected = records_in(files, "/data/plain-0")
    log = Log.open(files=files, directory="/data/plain-0", config=LogConfig(), clean_shutdown=False)
    assert list(read_all(log)) == expected
    log.append_as_leader(encode_batch([(0, b"k", b"more", ())]), leader_epoch=1, now_ms=0)
    assert log.log_end_offset == 37


def test_a_data_directory_of_kafka_becomes_ours() -> None:
    files = in_memory(CLEAN)
    directory = LogDirectory.open(
        files=files, path="/data", cluster_id=CLUSTER_ID, node_id=1, new_directory_id=bytes(16)
    )
    assert directory.clean_shutdown
    assert directory.previous_broker_epoch == 7
    assert [str(partition) for partition in directory.partitions()] == FOLDERS
    assert directory.read_recovery_points()[TopicPartition("plain", 0)] == 36
    assert directory.read_log_start_offsets() == {TopicPartition("plain", 0): 2}
    assert directory.topic_id_of(TopicPartition("plain", 0)) is not None


def test_the_producers_of_kafka_are_known_to_us() -> None:
    files = in_memory(CLEAN)
    log = Log.open(files=files, directory="/data/codecs-0", config=LogConfig(), clean_shutdown=True)
    assert len(log.producers) == 5
    last = {producer: entry.batches[-1] for producer, entry in log.producers.entries.items()}
    assert sorted(batch.last_offset for batch in last.values()) == [5, 11, 17, 23, 29]


# --- the other way round ----------------------------------------------------------------------------------


@pytest.fixture
def our_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "t-0"
    folder.mkdir()
    write_our_log(OsFileSystem(), str(folder))
    return folder


def of_suffix(folder: Path, *suffixes: str) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in suffixes]


def test_kafka_reads_our_segments(our_folder: Path) -> None:
    text = dump_log_segments(of_suffix(our_folder, ".log"), "--deep-iteration", "--print-data-log")
    assert "isvalid: false" not in text
    assert len(re.findall(r"^baseOffset: .* isvalid: true", text, re.MULTILINE)) == 19
    assert [int(offset) for offset in re.findall(r"^\| offset: (\d+)", text, re.MULTILINE)] == list(range(64))
    assert text.count("headerKeys: [trace,none]") == 15
    assert "endTxnMarker: COMMIT coordinatorEpoch: 7" in text
    assert "endTxnMarker: ABORT coordinatorEpoch: 7" in text
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        assert f"compresscodec: {codec}" in text


@pytest.mark.parametrize("option", ["--index-sanity-check", "--verify-index-only"])
def test_kafka_finds_our_indexes_sound(our_folder: Path, option: str) -> None:
    text = dump_log_segments(of_suffix(our_folder, ".index", ".timeindex"), option)
    assert "mismatch" not in text.lower()
    assert "out of order" not in text.lower()
    if option == "--index-sanity-check":
        assert text.count("passed sanity check") == len(of_suffix(our_folder, ".index", ".timeindex"))


def test_kafka_reads_our_producer_snapshots(our_folder: Path) -> None:
    text = dump_log_segments(of_suffix(our_folder, ".snapshot"))
    assert "producerId: 5 producerEpoch: 0" in text
    assert "firstSequence: 56 lastSequence: 59 lastOffset: 59 offsetDelta: 3" in text
    assert "firstSequence: 1 lastSequence: 1 lastOffset: 62 offsetDelta: 0" in text


def test_kafka_reads_our_transaction_index(our_folder: Path) -> None:
    text = dump_log_segments(of_suffix(our_folder, ".txnindex"))
    assert re.findall(r"(\w+): (\d+)", text.partition("version")[2]) == [
        ("producerId", "9"),
        ("firstOffset", "62"),
        ("lastOffset", "63"),
        ("lastStableOffset", "64"),
    ]
